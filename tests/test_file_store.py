"""The file stores of clients/runfolio_client, without OpenHands (issue 6, point 3)."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from runs.models import Owner
from tests.conftest import ROOT, eventually, web_server
from tests.test_client import serving

sys.path.insert(0, str(ROOT / "clients"))

from runfolio_client import AnswerError
from runfolio_client._connections import LeanClient
from runfolio_client._http_files import HttpFiles, Keeper, Lease
from runfolio_client._postgres_files import PostgresFiles

LOCK = "events/.eventlog.lock"


@pytest.fixture
def store(gunicorn: int, token: str) -> Iterator[HttpFiles]:
    with HttpFiles(f"http://127.0.0.1:{gunicorn}", token, str(uuid4()), timeout=30) as made:
        yield made


# ── Files ──────────────────────────────────────────────────────────────────
def test_a_path_of_a_thousand_letters_of_two_bytes_is_kept(store: HttpFiles) -> None:
    path = "ü" * 1000
    store.write(path, "x")
    assert store.read(path) == "x"
    assert store.list("") == [path]


def test_a_file_over_the_limit_is_refused_by_its_size(committed_db: dict[str, str], token: str) -> None:
    with web_server({**committed_db, "MAX_BODY_BYTES": "65536"}) as port:
        store = HttpFiles(f"http://127.0.0.1:{port}", token, "room", timeout=30)
        with store, pytest.raises(AnswerError, match="MAX_BODY_BYTES") as refused:
            store.write("a", "x" * 2**24)
    assert refused.value.status == 413


def test_whatever_holds_bytes_is_written_as_text(store: HttpFiles) -> None:
    store.write("a", memoryview("é".encode()))  # type: ignore[arg-type]  # wider than it promises
    assert store.read("a") == "é"
    with pytest.raises(UnicodeDecodeError):
        store.write("a", bytearray(b"\xff"))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        store.write("a", 5)  # type: ignore[arg-type]


def test_the_id_of_a_conversation_is_its_namespace() -> None:
    conversation = uuid4()
    assert HttpFiles("http://127.0.0.1:1", "t", conversation, timeout=1).namespace == str(conversation)


# ── Connections ────────────────────────────────────────────────────────────
def test_an_event_whose_answer_got_lost_is_written_once(
    store: HttpFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, lost = LeanClient._sent, []

    def answered(client: LeanClient, step: Any, connection: Any) -> Any:
        answer = sent(client, step, connection)
        if "event" in step.request.query and not lost:
            lost.append(step.request.query["event"])
            raise ConnectionResetError
        return answer

    store.write("events/.eventlog-len-1.marker", "")
    monkeypatch.setattr(LeanClient, "_sent", answered)
    with store.lock(LOCK):
        assert store.exists("events/.eventlog-len-1.marker")
        store.write("events/event-00001-aaaaaaaa.json", "one")
    assert lost == [1]
    assert set(store.list("events")) == {"events/event-00001-aaaaaaaa.json", "events/.eventlog-len-2.marker"}


def test_nobody_there_is_not_taken_for_what_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back between a try and the question whether it is there."""
    sent, tries = LeanClient._sent, []

    def refused(client: LeanClient, step: Any, connection: Any) -> Any:
        tries.append(step)
        if len(tries) <= 3:
            raise ConnectionRefusedError(111, "Connection refused")
        return sent(client, step, connection)

    monkeypatch.setattr(LeanClient, "_sent", refused)
    with serving((200, {"data": True})) as (url, _):
        assert HttpFiles(url, "t", "room", timeout=20).exists("a")


type Open = Callable[..., PostgresFiles]


@pytest.fixture
def by_dsn(committed_db: dict[str, str], owner: Owner) -> Open:
    def opened(more: str = "", timeout: float = 20, owner_name: str = owner.name) -> PostgresFiles:
        dsn = psycopg.conninfo.make_conninfo(committed_db["DATABASE_URL"], options=more)
        return PostgresFiles(dsn, "room", owner=owner_name, schema=None, timeout=timeout)

    return opened


def test_a_connection_that_was_idle_for_too_long_is_replaced(by_dsn: Open) -> None:
    with by_dsn("-c idle_session_timeout=100") as files:
        files.write("a", "x")
        time.sleep(0.4)
        files.write("a", "y")
        assert files.read("a") == "y"


def test_a_store_of_nobody_gives_its_connection_back(by_dsn: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    made, connect = [], psycopg.connect
    monkeypatch.setattr(psycopg, "connect", lambda *a, **k: made.append(connect(*a, **k)) or made[-1])
    with pytest.raises(ValueError, match="name the owner"):
        by_dsn(owner_name="nobody")
    assert [connection.closed for connection in made] == [True]


def test_who_waits_for_ever_waits(by_dsn: Open) -> None:
    with by_dsn() as one, by_dsn(timeout=float("inf")) as other:
        for timeout in (1e9, float("inf"), -1):
            held = threading.Event()
            holder = threading.Thread(target=_hold, args=(one, held, 0.2))
            holder.start()
            assert held.wait(20)
            with other.lock(LOCK, timeout):
                pass
            holder.join()


def test_who_waits_for_a_lock_longer_than_for_the_rest_goes_on_after_a_break(
    by_dsn: Open, committed_db: dict[str, str]
) -> None:
    with by_dsn() as one, by_dsn(timeout=0.5) as other:
        held, breaking = threading.Event(), threading.Timer(1.0, _break_waiting, [committed_db])
        holder = threading.Thread(target=_hold, args=(one, held, 2.0))
        holder.start()
        assert held.wait(20)
        breaking.start()
        with other.lock(LOCK, 20):
            assert not held.is_set()
        breaking.join()
        holder.join()


def _hold(files: PostgresFiles, held: threading.Event, seconds: float) -> None:
    """`held` is set while it has the lock."""
    with files.lock(LOCK):
        held.set()
        time.sleep(seconds)
        held.clear()


def _break_waiting(database: dict[str, str]) -> None:
    with psycopg.connect(database["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE locktype = 'advisory' AND NOT granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        )


# ── Locks ──────────────────────────────────────────────────────────────────
class Releases:
    """Gives leases back no sooner than `go` is set."""

    def __init__(self) -> None:
        self.begun: list[UUID] = []
        self.go = threading.Event()

    def __call__(self, at: str, key: UUID) -> None:
        self.begun.append(key)
        self.go.wait(30)


@pytest.fixture
def releases() -> Iterator[Releases]:
    made = Releases()
    yield made
    made.go.set()


def test_a_lock_on_its_way_back_is_passed_on_without_what_it_knew(releases: Releases) -> None:
    keeper = Keeper(lambda at, key: None, releases)
    lease = Lease(uuid4(), 0.0, {3})
    keeper.keep(LOCK, lease)
    keeper.drop(LOCK, lease)
    eventually(lambda: releases.begun == [lease.key])

    assert keeper.passed_on(LOCK) == Lease(lease.key, 0.0, None)
    assert keeper.passed_on(LOCK) is None


def test_a_lock_that_was_given_back_is_passed_on_no_more(releases: Releases) -> None:
    releases.go.set()
    keeper = Keeper(lambda at, key: None, releases)
    lease = Lease(uuid4(), 0.0, {3})
    keeper.keep(LOCK, lease)
    keeper.drop(LOCK, lease)
    eventually(lambda: not keeper._left)
    assert keeper.passed_on(LOCK) is None


def test_a_lock_is_taken_at_the_end_of_the_process_too(gunicorn: int, token: str, store: HttpFiles) -> None:
    address = (f"http://127.0.0.1:{gunicorn}", token, store.namespace)
    subprocess.run([sys.executable, "-c", AT_EXIT, *address], cwd=ROOT / "clients", check=True)
    assert store.read("events/a") == "x"
    with store.lock(LOCK, timeout=0):
        pass


AT_EXIT = f"""
import atexit, sys
from runfolio_client._http_files import HttpFiles

def write():
    with store.lock("{LOCK}"):
        store.write("events/a", "x")

store = HttpFiles(*sys.argv[1:], timeout=20)
atexit.register(write)
"""


def test_the_next_holder_is_not_held_up_by_the_giving_back_of_the_last(
    store: HttpFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old lease goes with the request for a new one, even where its own is still under way."""
    refused: list[Any] = []
    release, lease = store._keeper._release, store._lease
    under_way, go = threading.Event(), threading.Event()

    def slowly(at: str, key: UUID) -> None:
        under_way.set()
        go.wait(30)
        release(at, key)

    def taken(at: str, key: UUID, instead_of: UUID | None = None) -> list[int] | None:
        marks = lease(at, key, instead_of)
        refused.extend([at] if marks is None else [])
        return marks

    monkeypatch.setattr(store._keeper, "_release", slowly)
    monkeypatch.setattr(store, "_lease", taken)
    with store.lock(LOCK):
        pass
    assert under_way.wait(30)
    with store.lock(LOCK, timeout=30):
        go.set()
        store.write("events/a", "x")
    assert refused == []
