"""`/api/files`: OpenHands' files over HTTP (issue 6, point 3; CONTRACTS.md 3.1)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.db.models.functions import Now
from django.http import HttpResponse
from django.test import Client

from runs.models import File, FileLock, FileNamespace, Owner, Token

LOCK = "events/.eventlog.lock"


class Files:
    """A client of /api/files with a token."""

    def __init__(self, secret: str) -> None:
        self.client = Client(raise_request_exception=False)
        self.headers = {"Authorization": f"Bearer {secret}"} if secret else {}

    def __call__(
        self, method: str, what: str, path: str | None = None, body: bytes = b"", **query: Any
    ) -> HttpResponse:
        asked = {"namespace": "talk", **({} if path is None else {"path": path}), **query}
        address = f"/api/files/{what}?{urlencode(asked)}"
        sent = {"data": body, "content_type": "application/octet-stream"} if method == "put" else {}
        answer: HttpResponse = getattr(self.client, method)(address, **sent, headers=self.headers)
        return answer

    def write(self, path: str, body: bytes = b"x", **query: Any) -> HttpResponse:
        return self("put", "content", path, body, **query)


@pytest.fixture
def files(token: str) -> Files:
    return Files(token)


@pytest.fixture
def strangers_files(stranger: Any) -> Files:
    return Files(Token.objects.issue(stranger.memberships.get().owner, "tests")[1])


def data(answer: HttpResponse) -> Any:
    assert answer.status_code == 200, answer.content
    return answer.json()["data"]  # type: ignore[attr-defined]


def refused(answer: HttpResponse) -> tuple[int, str, str | None]:
    error = answer.json()["error"]  # type: ignore[attr-defined]
    assert set(error) == {"code", "message", "field", "request_id"}
    assert error["request_id"] == answer["X-Request-Id"]
    return answer.status_code, error["code"], error["field"]


# ── Files ──────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "body", [b'{"a":"\\u0000","b":1e5}', b"", b"\x00\xff\r\n", "\U0001f600".encode() * 1000]
)
def test_a_file_comes_back_byte_for_byte(files: Files, body: bytes) -> None:
    assert data(files.write("events/a.json", body)) == "written"
    answer = files("get", "content", "events/a.json")
    assert answer.content == body
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"] == "attachment"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_a_write_replaces_the_file(files: Files) -> None:
    files.write("a", b"long")
    files.write("a", b"x")
    assert files("get", "content", "a").content == b"x"
    assert File.objects.get().size == 1


def test_what_is_missing_is_404(files: Files) -> None:
    assert refused(files("get", "content", "a")) == (404, "not_found", "path")
    files.write("folder/a")
    assert refused(files("get", "content", "folder")) == (404, "not_found", "path")


def test_a_folder_lists_what_is_in_it(files: Files) -> None:
    for path in ("a/b/c", "a/b/d", "a/d", "ab", "é/x"):
        files.write(path)
    assert sorted(data(files("get", "names"))) == ["a/", "ab", "é/"]
    assert sorted(data(files("get", "names", "a"))) == ["b/", "d"]
    assert data(files("get", "names", "é")) == ["x"]
    assert data(files("get", "names", "ab")) == []
    assert data(files("get", "names", "nowhere")) == []


def test_files_and_folders_exist(files: Files) -> None:
    files.write("a/b")
    assert [data(files("get", "exists", path)) for path in ("a/b", "a", "", "b", "a/b/c")] == [
        *(True, True, True),
        *(False, False),
    ]


def test_a_folder_is_deleted_with_what_is_in_it(files: Files) -> None:
    for path in ("a/b", "a/c/d", "ab", "a.b"):
        files.write(path)
    assert data(files("delete", "content", "a")) == "deleted"
    assert data(files("delete", "content", "a")) == "deleted"
    assert sorted(data(files("get", "names"))) == ["a.b", "ab"]
    data(files("delete", "content", ""))
    assert data(files("get", "names")) == []


def test_a_file_is_no_folder(files: Files) -> None:
    files.write("a/b")
    assert refused(files.write("a")) == (409, "is_a_directory", "path")
    assert refused(files.write("")) == (409, "is_a_directory", "path")
    assert refused(files.write("a/b/c")) == (409, "not_a_directory", "path")


def test_an_event_moves_its_marker(files: Files) -> None:
    files.write("events/.eventlog-len-0.marker", b"")
    files.write(f"events/event-00000-{uuid4()}.json", b"{}", event=0)
    assert [name for name in data(files("get", "names", "events")) if "marker" in name] == [
        ".eventlog-len-1.marker"
    ]


def test_an_event_that_does_not_follow_the_marker_is_refused(files: Files) -> None:
    files.write("events/.eventlog-len-1.marker", b"")
    answer = files.write(f"events/event-00000-{uuid4()}.json", b"{}", event=0)
    assert refused(answer) == (409, "out_of_step", "path")
    assert data(files("get", "names", "events")) == [".eventlog-len-1.marker"]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("../a", {}),
        ("a/../b", {}),
        ("/a", {}),
        ("a/", {}),
        ("a//b", {}),
        ("./a", {}),
        ("a" * 1001, {}),
        ("\U0001f600" * 700, {}),
        ("a", {"namespace": ""}),
        ("a", {"namespace": "n" * 501}),
        ("a", {"event": -1}),
        ("a", {"event": "x"}),
        ("a", {"event": 10**20}),
        ("a", {"lock": "b"}),
        ("a", {"key": str(uuid4())}),
        ("a", {"lock": "b", "key": "no uuid"}),
    ],
)
def test_what_cannot_be_is_refused_by_name(files: Files, path: str, query: dict[str, Any]) -> None:
    status, code, field = refused(files.write(path, **query))
    assert (status, code) == (422, "invalid")
    assert field in ("path", *query, "lock", "key")
    assert not File.objects.exists()


def test_a_path_is_needed(files: Files) -> None:
    assert refused(files("put", "content")) == (422, "invalid", "path")


def test_a_nul_in_the_address_is_refused(files: Files) -> None:
    assert refused(files.write("a\x00b"))[0] == 400


def test_a_lone_surrogate_in_the_address_is_kept_as_a_mark(files: Files) -> None:
    answer = files.client.put("/api/files/content?namespace=talk&path=%ED%A0%80", b"x", headers=files.headers)
    assert answer.status_code == 200
    assert "\ufffd" in File.objects.get().path


def test_a_body_over_the_limit_is_413(files: Files, settings: Any) -> None:
    settings.MAX_BODY_BYTES = 1000
    assert refused(files.write("a", b"x" * 1001))[0] == 413
    assert not File.objects.exists()


# ── Locks ──────────────────────────────────────────────────────────────────
@pytest.fixture
def lock(files: Files) -> Callable[..., HttpResponse]:
    def take(key: Any, path: str = LOCK, **query: Any) -> HttpResponse:
        return files("post", "lock", path, key=key, **query)

    return take


def expire() -> None:
    FileLock.objects.update(until=Now() - timedelta(seconds=1))


def test_a_lock_has_one_holder(lock: Callable[..., HttpResponse], files: Files) -> None:
    mine, theirs = uuid4(), uuid4()
    assert data(lock(mine)) == {"marks": []}
    assert refused(lock(theirs)) == (423, "locked", "path")
    assert data(lock(theirs, path="other")) == {"marks": []}
    files("delete", "lock", LOCK, key=mine)
    assert data(lock(theirs)) == {"marks": []}


def test_a_lock_that_is_not_kept_goes_to_the_next(lock: Callable[..., HttpResponse]) -> None:
    lock(uuid4())
    expire()
    assert data(lock(uuid4())) == {"marks": []}


def test_a_lock_is_kept_by_its_key(lock: Callable[..., HttpResponse], files: Files) -> None:
    mine = uuid4()
    lock(mine)
    expire()
    assert data(files("put", "lock", LOCK, key=mine)) == "kept"
    assert refused(lock(uuid4()))[1] == "locked"


def test_a_lock_that_was_given_back_is_not_kept(lock: Callable[..., HttpResponse], files: Files) -> None:
    mine = uuid4()
    lock(mine)
    files("delete", "lock", LOCK, key=mine)
    assert refused(files("put", "lock", LOCK, key=mine)) == (409, "lock_lost", "key")
    assert data(lock(uuid4())) == {"marks": []}


def test_a_lock_may_be_asked_for_twice(lock: Callable[..., HttpResponse]) -> None:
    mine = uuid4()
    assert data(lock(mine)) == data(lock(mine)) == {"marks": []}


def test_whoever_waits_has_the_next_turn(lock: Callable[..., HttpResponse]) -> None:
    mine, theirs, again = uuid4(), uuid4(), uuid4()
    lock(mine)
    assert refused(lock(theirs))[1] == "locked"
    assert refused(lock(again, instead_of=mine))[1] == "locked"
    assert data(lock(theirs)) == {"marks": []}


def test_a_turn_that_nobody_takes_passes(lock: Callable[..., HttpResponse], files: Files) -> None:
    mine = uuid4()
    lock(mine)
    lock(uuid4())
    files("delete", "lock", LOCK, key=mine)
    FileLock.objects.update(next_until=Now() - timedelta(seconds=1))
    assert data(lock(uuid4())) == {"marks": []}


def test_a_lock_is_passed_on_in_one_request(lock: Callable[..., HttpResponse]) -> None:
    mine, next_one = uuid4(), uuid4()
    lock(mine)
    assert data(lock(next_one, instead_of=mine)) == {"marks": []}
    assert FileLock.objects.get().key == next_one


def test_a_lock_tells_the_marked_length(lock: Callable[..., HttpResponse], files: Files) -> None:
    for name in (
        ".eventlog-len-7.marker",
        ".eventlog-len-07.marker",
        ".eventlog-len-x.marker",
        "event-1.json",
    ):
        files.write(f"events/{name}", b"")
    assert data(lock(uuid4())) == {"marks": [7]}
    assert data(lock(uuid4(), path="other/.eventlog.lock")) == {"marks": []}


def test_what_is_written_under_a_lock_needs_its_key(lock: Callable[..., HttpResponse], files: Files) -> None:
    mine = uuid4()
    lock(mine)
    under = {"lock": LOCK, "key": mine}
    assert data(files.write("events/a", **under)) == "written"
    expire()
    assert data(files.write("events/a", **under)) == "written"  # nobody has taken it meanwhile
    lock(uuid4())
    assert refused(files.write("events/a", b"late", **under)) == (409, "lock_lost", "key")
    assert refused(files("delete", "content", "events", **under)) == (409, "lock_lost", "key")
    assert files("get", "content", "events/a").content == b"x"


@pytest.mark.parametrize("seconds", [0, -1, 61, "nan", "x"])
def test_a_lock_is_held_for_a_while(lock: Callable[..., HttpResponse], seconds: Any) -> None:
    assert refused(lock(uuid4(), seconds=seconds)) == (422, "invalid", "seconds")


# ── Whose ──────────────────────────────────────────────────────────────────
def test_another_owner_has_rooms_of_their_own(files: Files, strangers_files: Files) -> None:
    files.write("a", b"mine")
    assert refused(strangers_files("get", "content", "a"))[0] == 404
    assert data(strangers_files("get", "names")) == []
    assert data(strangers_files("get", "exists", "a")) is False
    data(strangers_files("delete", "content", ""))
    data(strangers_files.write("a", b"theirs"))
    data(strangers_files("post", "lock", LOCK, key=uuid4()))
    assert data(files("post", "lock", LOCK, key=uuid4())) == {"marks": []}
    assert files("get", "content", "a").content == b"mine"
    assert FileNamespace.objects.count() == 2


def test_reading_is_no_right_to_write(owner: Owner) -> None:
    reader = Files(Token.objects.issue(owner, "reads", ["read"])[1])
    assert data(reader("get", "names")) == []
    for answer in (
        reader.write("a"),
        reader("delete", "content", "a"),
        reader("post", "lock", "a", key=uuid4()),
        reader("delete", "lock", "a", key=uuid4()),
    ):
        assert refused(answer)[0] == 403
    assert not FileNamespace.objects.exists()


def test_without_a_token_nothing_is_told(db: None) -> None:
    answer = Files("")("get", "names")
    assert refused(answer)[0] == 401
    assert answer["WWW-Authenticate"] == "Bearer"
