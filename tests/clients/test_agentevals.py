"""The real agentevals 0.11: its server reports to us, and its page, MCP server and SDK work through the
gateway."""

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect
from psycopg.conninfo import conninfo_to_dict

from runs.errors import AGENTEVALS_PATHS
from runs.gateway.page import page_folder
from runs.gateway.server import Gateway, Passing
from runs.ingest import spans_in, take_in
from runs.models import Owner, Run
from runs.models.span import Trace, sessions
from tests import environment
from tests.api.agentevals import EVAL_SET, TRACE, AgentEvals, file
from tests.api.test_live import talk
from tests.clients.environments import environment_of, python_of, run_script
from tests.conftest import eventually

CONFIG = {
    "evaluators": [
        {"type": "builtin", "name": "tool_trajectory_avg_score"},
        {"type": "builtin", "name": "response_match_score"},
    ]
}
SLOW = 60.0  # seconds; what agentevals imports for its first evaluation takes long


@pytest.fixture
def gateway(gunicorn: int, token: str) -> Iterator[str]:
    """The address of page and API."""
    page = page_folder(python_of("agentevals"))
    assert page is not None
    yield from _serving(gunicorn, token, AGENTEVALS_PATHS, page)


@pytest.fixture
def otlp_gateway(gunicorn: int, token: str) -> Iterator[str]:
    yield from _serving(gunicorn, token, ("/v1/traces", "/v1/logs"))


def _serving(port: int, token: str, paths: tuple[str, ...], page: Path | None = None) -> Iterator[str]:
    passing = Passing(url=f"http://127.0.0.1:{port}", token=token, paths=paths, timeout=60, page=page)
    server = Gateway(0, passing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


# ── Its server ─────────────────────────────────────────────────────────────
@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of an agentevals server with a PostgreSQL of its own."""
    name = f"agentevals_{uuid4().hex}"
    environment.create_empty_database(name)
    port, spans = _free_ports(2)
    command = [str(Path(python_of("agentevals")).with_name("agentevals")), "serve", "--host", "127.0.0.1"]
    ports = ["--port", str(port), "--otlp-http-port", str(spans), "--api-grpc-port", "0"]
    settings = {
        "AGENTEVALS_STORAGE_BACKEND": "postgres",
        "AGENTEVALS_DATABASE_URL": _plain_url(environment.url("runfolio_owner", name)),
        "AGENTEVALS_WORKER_POLL_INTERVAL_S": "0.1",
        "AGENTEVALS_HEADLESS": "1",
    }
    process = subprocess.Popen(
        [*command, *ports, "--otlp-grpc-port", str(_free_ports(1)[0])],
        cwd=tmp_path,
        env=environment_of("agentevals", **settings),
    )
    try:
        eventually(lambda: _answers(f"http://127.0.0.1:{port}/api/health"), SLOW)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        environment.drop_database(name)


def test_a_run_of_its_server_appears_here_with_its_results(server: str, gunicorn: int, token: str) -> None:
    theirs = _submit(server, gunicorn, token, {"kind": "inline", "inline": json.loads(TRACE)})

    run = eventually(lambda: Run.objects.filter(pk=theirs, status="succeeded").first(), SLOW)

    told = eventually(lambda: _ended(server, theirs))
    results = {one["resultId"]: one for one in _get(f"{server}/api/runs/{theirs}/results")}
    assert run.summary == told["summary"]
    assert {result.pk for result in run.results.all()} == set(results)
    for result in run.results.all():
        one = results[result.pk]
        assert (result.status, result.score, result.full_details) == (
            *(one["status"], one["score"]),
            one["details"],
        )


def test_a_run_of_its_server_that_fails_fails_here(server: str, gunicorn: int, token: str) -> None:
    theirs = _submit(server, gunicorn, token, {"kind": "inline", "inline": {"nonsense": True}})

    run = eventually(lambda: Run.objects.filter(pk=theirs, status="failed").first(), SLOW)

    assert run.error == eventually(lambda: _ended(server, theirs))["error"]


def _submit(server: str, port: int, token: str, target: dict[str, Any]) -> str:
    sink = {
        "kind": "http_webhook",
        "url": f"http://127.0.0.1:{port}/api/sinks/agentevals",
        "headers": {"Authorization": f"Bearer {token}"},
    }
    spec = {"target": target, "evalSet": json.loads(EVAL_SET), "evalConfig": CONFIG, "sinks": [sink]}
    return str(_send(f"{server}/api/runs", {"spec": spec})["data"]["runId"])


def _ended(server: str, run_id: str) -> Any:
    run = _get(f"{server}/api/runs/{run_id}")
    return run if run["finishedAt"] else None


# ── Its API ────────────────────────────────────────────────────────────────
def test_we_answer_as_it_does(
    committed_db: dict[str, str], token: str, start_worker: Callable[..., Any], tmp_path: Path
) -> None:
    start_worker()
    paths = {"trace.json": TRACE, "set.json": EVAL_SET}
    for name, content in paths.items():
        (tmp_path / name).write_bytes(content)
    arguments = [str(tmp_path / name) for name in paths]

    theirs = json.loads(run_script("agentevals", "agentevals_reference", *arguments, json.dumps(CONFIG)))

    ours = AgentEvals(token)
    form = {"eval_set_file": file("set.json", EVAL_SET), "config": json.dumps(CONFIG)}
    whole = ours.form("/api/evaluate", trace_files=[file("trace.json", TRACE)], **form)[1]
    assert _comparable(whole) == _comparable(theirs["evaluate"])
    form["eval_set_file"].seek(0)
    stream = ours.form("/api/evaluate/stream", trace_files=[file("trace.json", TRACE)], **form)[1]
    assert _comparable(stream[0]) == _comparable(theirs["stream"][0]) | {"event": "performance_metrics"}
    assert _comparable(stream[-1]) == _comparable(theirs["stream"][-1])
    convert = ours.form("/api/convert", trace_files=[file("trace.json", TRACE)])[1]
    assert convert == theirs["convert"]


def _comparable(answer: Any) -> Any:
    """Without times and ids, which differ."""
    if isinstance(answer, dict):
        return {key: _comparable(one) for key, one in answer.items() if key not in ("durationMs", "runId")}
    return [_comparable(one) for one in answer] if isinstance(answer, list) else answer


# ── Its MCP server and its SDK, through the gateway ────────────────────────
def test_every_tool_of_its_mcp_server_works(
    gateway: str, owner: Owner, start_worker: Callable[..., Any]
) -> None:
    start_worker()
    _converse(owner, "golden", "At home.")
    _converse(owner, "other", "Nobody knows.", "b" * 32)

    answers = json.loads(run_script("agentevals", "agentevals_mcp", gateway, "golden"))

    assert "tool_trajectory_avg_score" in {metric["name"] for metric in answers["list_metrics"]}
    assert {one["session_id"] for one in answers["list_sessions"]} == {"golden", "other"}
    (turn,) = answers["summarize_session"]["invocations"]
    assert (turn["user"], turn["response"]) == ("where is it?", "At home.")
    assert turn["tool_calls"] == [{"tool": "look_up", "args": {"key": 1}}]
    scores = {
        one["session_id"]: {metric["metricName"]: metric["score"] for metric in one["metric_results"]}
        for one in answers["evaluate_sessions"]["results"]
    }
    assert scores == {
        "golden": {"tool_trajectory_avg_score": 1.0, "response_match_score": 1.0},
        "other": {"tool_trajectory_avg_score": 1.0, "response_match_score": 0.0},
    }


def test_its_sdk_needs_no_token(otlp_gateway: str, owner: Owner) -> None:
    _send(f"{otlp_gateway}/v1/traces", {})  # the first answer takes longer than the SDK waits
    run_script("agentevals", "agentevals_sdk", otlp_gateway)

    (live,) = eventually(lambda: sessions(owner))
    assert (live.key, live.span_count, live.eval_set_id) == ("sdk-session", 2, "from-the-sdk")
    assert Run.objects.get(session=live.session).agent == "helper"


# ── Its page, through the gateway ──────────────────────────────────────────
@pytest.fixture
def its_page(browser: Browser, gateway: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(gateway)
    yield page
    context.close()


def test_its_page_evaluates_files_and_shows_the_result(
    its_page: Page, start_worker: Callable[..., Any], tmp_path: Path
) -> None:
    start_worker()
    (tmp_path / "greenhouse.json").write_bytes(TRACE)
    (tmp_path / "set.json").write_bytes(EVAL_SET)
    its_page.get_by_role("button", name="Offline evaluations").click()
    its_page.locator("input[type=file][accept='.json,.jsonl']").set_input_files(tmp_path / "greenhouse.json")
    its_page.locator("input[type=file][accept='.json']").set_input_files(tmp_path / "set.json")
    its_page.get_by_role("button", name="Run Evaluation").click()

    run = eventually(lambda: Run.objects.filter(status="succeeded").first(), SLOW)

    assert run.shown_spec["target"]["traceFiles"] == ["greenhouse.json"]
    expect(its_page.get_by_text("Evaluation Results")).to_be_visible(timeout=SLOW * 1000)
    expect(its_page.get_by_text("greenhouse_agent").first).to_be_visible()
    expect(its_page.get_by_text("1.00", exact=True).first).to_be_visible()


def test_its_page_shows_the_runs_that_are_here(its_page: Page, make_run: Callable[..., Run]) -> None:
    make_run()
    its_page.get_by_role("button", name="Offline evaluations").click()
    its_page.get_by_role("button", name="Run History").click()
    row = its_page.get_by_role("row").filter(has_text="Greenhouse")
    expect(row).to_be_visible(timeout=SLOW * 1000)
    expect(row).to_contain_text("queued", ignore_case=True)


def test_its_page_shows_sessions_live(its_page: Page, owner: Owner) -> None:
    its_page.get_by_role("button", name="I am developing an agent locally").click()
    expect(its_page.get_by_text("Connected", exact=True)).to_be_visible(timeout=SLOW * 1000)
    _converse(owner, "nightly", "At home.")
    expect(its_page.get_by_text("nightly")).to_be_visible(timeout=SLOW * 1000)
    expect(its_page.get_by_text("Completed Sessions (1)")).to_be_visible()


# ── Helpers ────────────────────────────────────────────────────────────────
def _converse(owner: Owner, name: str, answer: str, trace: str = "a" * 32) -> None:
    """A session that is complete."""
    take_in(owner, spans_in(talk(name, answer, trace)))
    Trace.objects.update(last_span_at=timezone.now() - timedelta(minutes=5))


def _plain_url(url: str) -> str:
    """Without what asyncpg does not know."""
    about = conninfo_to_dict(url)
    where = urlencode({name: about[name] for name in ("host", "port", "password") if about.get(name)})
    return f"postgresql://{about['user']}@/{about['dbname']}?{where}"


def _free_ports(number: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def _get(url: str) -> Any:
    return json.load(urlopen(url, timeout=30))["data"]


def _send(url: str, body: Any) -> Any:
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urlopen(request, timeout=60))


def _answers(url: str) -> bool:
    try:
        return bool(_get(url))
    except OSError:
        return False
