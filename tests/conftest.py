"""Fixtures: the same three callers throughout - alice, who belongs to the owner, a stranger, and nobody."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections
from django.test import Client
from playwright.sync_api import Browser, Page, sync_playwright

from runs.models import Claim, Membership, Owner, Run, Token, User, claim_next
from runs.models.queue import sweep
from runs.worker.job import Launcher
from tests import environment
from tests.serving import PASSWORD, served

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT.parent / "shared" / "samples"
CHROMIUM_ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not SAMPLES.is_dir():
        left_out = pytest.mark.skip(
            reason="../shared/samples is not here: others' data, not in this repository"
        )
        for item in items:
            if item.get_closest_marker("samples"):
                item.add_marker(left_out)


@pytest.fixture(scope="session")
def django_db_setup() -> None:
    """tests.environment has made the database already."""


@pytest.fixture
def committed_db(django_db_blocker: Any) -> Iterator[dict[str, str]]:
    """A database of its own, for what commits: threads, other processes, browsers. Gives its environment."""
    with own_database(django_db_blocker) as settings:
        yield settings


@contextmanager
def own_database(blocker: Any) -> Iterator[dict[str, str]]:
    """The same for as long as somebody wants it, such as a module."""
    name = environment.create_database(f"test_{uuid4().hex}")
    aliases = ("default", "owner")
    before = {alias: connections.settings[alias]["NAME"] for alias in aliases}
    _use(dict.fromkeys(aliases, name))
    with blocker.unblock():
        yield environment.environment_of(name)
        _use(before)
    environment.drop_database(name)


def _use(names: dict[str, str]) -> None:
    for alias, name in names.items():
        connections[alias].close()
        connections.settings[alias]["NAME"] = name
        connections[alias].settings_dict["NAME"] = name


# ── Callers ────────────────────────────────────────────────────────────────
@pytest.fixture
def owner(request: pytest.FixtureRequest) -> Owner:
    _database(request)
    return Owner.objects.create(name="platform")


@pytest.fixture
def alice(owner: Owner) -> User:
    """A person who belongs to the owner."""
    user = User.objects.create_user("alice", password=PASSWORD)
    Membership.objects.create(user=user, owner=owner, role="admin")
    return user


@pytest.fixture
def stranger(request: pytest.FixtureRequest) -> User:
    """A person who belongs to another owner."""
    _database(request)
    user = User.objects.create_user("stranger", password="battery staple")
    Membership.objects.create(user=user, owner=Owner.objects.create(name="elsewhere"), role="admin")
    return user


@pytest.fixture
def admin(request: pytest.FixtureRequest) -> User:
    _database(request)
    return User.objects.create_superuser("root", password="staple battery")


@pytest.fixture
def signed_in(alice: User) -> Client:
    return _client_of(alice)


@pytest.fixture
def strangers_client(stranger: User) -> Client:
    return _client_of(stranger)


@pytest.fixture
def admin_client(admin: User) -> Client:
    return _client_of(admin)


def _client_of(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def _database(request: pytest.FixtureRequest) -> None:
    """The test's database: its own where it asked for one, else the one that is rolled back."""
    if "committed_db" in request.fixturenames:
        request.getfixturevalue("committed_db")
    else:
        request.getfixturevalue("db")


# ── The API ────────────────────────────────────────────────────────────────
class Api:
    """A client of /api/runs with a token. Answers are (status, JSON)."""

    def __init__(self, secret: str) -> None:
        self.client = Client(raise_request_exception=False)
        self.headers = {"Authorization": f"Bearer {secret}"}

    def get(self, path: str, **query: Any) -> tuple[int, Any]:
        return self._answer(self.client.get(f"/api/runs{path}", query, headers=self.headers))

    def post(self, path: str = "", body: Any = None) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body)
        return self._answer(
            self.client.post(f"/api/runs{path}", data, content_type="application/json", headers=self.headers)
        )

    @staticmethod
    def _answer(response: Any) -> tuple[int, Any]:
        return response.status_code, json.loads(response.content)


@pytest.fixture
def token(owner: Owner) -> str:
    return Token.objects.issue(owner, "tests")[1]


@pytest.fixture
def api(token: str) -> Api:
    return Api(token)


@pytest.fixture
def strangers_api(stranger: User) -> Api:
    return Api(Token.objects.issue(stranger.memberships.get().owner, "tests")[1])


# ── Runs ───────────────────────────────────────────────────────────────────
@pytest.fixture
def sample() -> dict[str, Any]:
    """The body that submits the project's own sample."""
    return json.loads((ROOT / "samples" / "run.json").read_text())


@pytest.fixture
def make_run(owner: Owner) -> Callable[..., Run]:
    """Makes a queued evaluation of the sample's spec, or of another one."""
    sample = json.loads((ROOT / "samples" / "run.json").read_text())
    defaults = {"context": {}, "sinks": [], "credentialRefs": None, "evalSet": None, "evalConfig": {}}
    target = {"traceId": None, "traceFormat": None, "baseUrl": None, "traceCount": None, "traceFiles": None}
    spec = {**defaults, **sample["spec"], "target": {**target, **sample["spec"]["target"]}}

    def make(spec: dict[str, Any] = spec, owner: Owner = owner, **fields: Any) -> Run:
        session = fields.pop("session", None)
        run = Run.objects.submit(owner, spec, title=fields.pop("title", "A run"), session=session)
        if fields:
            Run.objects.filter(pk=run.pk).update(**fields)
            run.refresh_from_db()
        return run

    return make


@pytest.fixture
def claim() -> Callable[[], tuple[Run, Claim]]:
    """Claims the next run as some worker does."""

    def take(worker: str = "tests/1", lease: timedelta = timedelta(seconds=30), attempts: int = 3) -> Any:
        sweep(attempts)
        run = claim_next(worker, lease)
        assert run is not None
        return run, Claim(run.pk, str(run.worker_id), run.attempt)

    return take


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    """Starts the processes of evaluations."""
    launcher = Launcher()
    yield launcher
    launcher.stop()


# ── Processes ──────────────────────────────────────────────────────────────
@pytest.fixture
def start_worker(committed_db: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts real workers on the test's own database; they are killed at the end."""
    processes = []

    def start(**settings: str) -> subprocess.Popen[bytes]:
        env = {**os.environ, **committed_db, "WORKER_POLL": "0.05", "WORKER_HEARTBEAT": "0.2", **settings}
        process = subprocess.Popen([sys.executable, "manage.py", "worker"], cwd=ROOT, env=env)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def eventually(check: Callable[[], Any], seconds: float = 20) -> Any:
    """What `check` gives once it is true; fails after `seconds`."""
    until = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
    return found


class Site(str):
    """The address of a server of this process."""

    @property
    def url(self) -> str:
        return str(self)


@pytest.fixture
def site(committed_db: dict[str, str]) -> Iterator[Site]:
    """Serves the application from a thread, on the test's own database."""
    with served() as url:
        yield Site(url)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        chromium = playwright.chromium.launch(executable_path=found, args=CHROMIUM_ARGS)
        yield chromium
        chromium.close()


@pytest.fixture
def browser_page(browser: Browser) -> Iterator[Page]:
    """A page in a browser of its own; an error or a CSP violation in its console fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None,
    )
    yield page
    context.close()
    assert problems == []


@pytest.fixture
def gunicorn(committed_db: dict[str, str]) -> Iterator[int]:
    """A real web server on the test's own database; gives its port."""
    with web_server(committed_db) as port:
        yield port


@contextmanager
def web_server(settings: dict[str, str]) -> Iterator[int]:
    """The same on any database; `settings` are its environment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "project.wsgi", "--worker-class=gthread", "--threads=4"]
    process = subprocess.Popen(
        [*command, f"--bind=127.0.0.1:{port}", "--no-control-socket", "--log-level=warning"],
        cwd=ROOT,
        env={**os.environ, **settings},
    )
    try:
        eventually(lambda: answers(port))
        yield port
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
