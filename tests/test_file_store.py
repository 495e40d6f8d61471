"""The file store of clients/runfolio_client over HTTP, without OpenHands (issue 6, point 3)."""

import sys
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.conftest import ROOT, eventually, web_server

sys.path.insert(0, str(ROOT / "clients"))

from runfolio_client import AnswerError
from runfolio_client._http_files import HttpFiles, Keeper, Lease

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
