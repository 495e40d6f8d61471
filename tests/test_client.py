"""clients/runfolio_client: both clients, their tries and deadlines, and docs/client.md."""

import asyncio
import json
import re
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import pytest

from runs.models import Run
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "clients"))

from runfolio_client import AnswerError, AsyncClient, BrokenOff, Client, NotFound, OperationTimeout

PAGE = (ROOT / "docs" / "client.md").read_text()
TASK = "99a6097b-0000-4000-8000-000000000001"


# ── A server that does as it is told ───────────────────────────────────────
class Server:
    """Gives the answers in turn, the last one for ever: (status, body, headers), or None to hang up."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    def next(self) -> Any:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@contextmanager
def serving(*replies: Any) -> Iterator[tuple[str, Server]]:
    server = Server(*replies)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server.seen.append((self.command, self.path, dict(self.headers), body))
            reply = server.next()
            if callable(reply):
                reply = reply()
            if reply is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, answer, *more = reply
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**(more[0] if more else {}), "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def log_message(self, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", server
    finally:
        http.shutdown()
        http.server_close()


@contextmanager
def losing_an_answer(site: str) -> Iterator[tuple[str, Server]]:
    """Passes everything on to `site`, and loses the first answer."""

    def passed_on(*, and_lost: bool) -> Any:
        method, path, headers, body = server.seen[-1]
        asked = urllib.request.Request(site + path, body, headers, method=method)
        with urllib.request.urlopen(asked) as answer:
            content = answer.read()
        return None if and_lost else (answer.status, content)

    with serving(partial(passed_on, and_lost=True), partial(passed_on, and_lost=False)) as (url, server):
        yield url, server


def beside(function: Callable[..., Any], *args: Any) -> Any:
    """Calls it in a thread of its own: a test in a browser may have left an event loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *args).result()


@pytest.fixture(params=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Calls a method by its name on a client of either kind."""

    def call(
        url: str, verb: str, *args: Any, token: str = "secret", within: float = 20, **kwargs: Any
    ) -> Any:
        if request.param == "Client":
            with Client(url, token, within) as client:
                return getattr(client, verb)(*args, **kwargs)

        async def main() -> Any:
            async with AsyncClient(url, token, within) as client:
                return await getattr(client, verb)(*args, **kwargs)

        return beside(asyncio.run, main())

    return call


def written(state: str = "working", **more: Any) -> tuple[int, Any]:
    task = {"id": TASK, "status": {"state": state}}
    return 200, {"data": task, "cancel_requested": None, **more}


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")} - {"close", "aclose"}

    assert methods(Client) == methods(AsyncClient)
    assert {"submit_run", "submit_task", "clear_context"} <= methods(Client)


def test_every_method_says_what_it_does() -> None:
    for kind in (Client, AsyncClient):
        assert [name for name in dir(kind) if name[0] != "_" and not getattr(kind, name).__doc__] == []


def test_a_lost_connection_is_tried_again_and_a_write_by_the_same_key(ask: Any) -> None:
    with serving(None, (503, {}, {"Retry-After": "0"}), (502, b"bad gateway"), written()) as (url, server):
        answer = ask(url, "update_task", TASK, "working")

    assert answer.task["status"]["state"] == "working"
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in server.seen]
    assert len(keys) == 4
    assert len(set(keys)) == 1


def test_each_call_has_a_key_of_its_own(ask: Any) -> None:
    with serving(written()) as (url, server):
        for _ in range(2):
            ask(url, "update_task", TASK, "working")
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in server.seen}) == 2


def test_it_waits_as_long_as_it_is_told(ask: Any) -> None:
    with serving((503, {}, {"Retry-After": "1"}), (200, {"data": {"count": 3}})) as (url, _):
        began = time.monotonic()
        assert ask(url, "count_tasks") == 3
    assert time.monotonic() - began >= 1


def test_a_timeout_names_the_operation_and_what_it_was_about(ask: Any) -> None:
    with serving((503, {})) as (url, _), pytest.raises(OperationTimeout) as caught:
        ask(url, "submit_task", {"task_id": UUID(TASK)}, within=0.3)
    assert str(caught.value) == f"submit_task of {TASK} timed out after 0.3 s: Runfolio answers 503"


def test_nobody_there_is_a_timeout_as_well(ask: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    told = rf"get_task of 1 timed out after 0\.2 s: .+ \(http://127\.0\.0\.1:{port}\)"
    with pytest.raises(TimeoutError, match=told):
        ask(f"http://127.0.0.1:{port}", "get_task", "1", within=0.2)


def test_a_server_that_never_answers_is_left_in_time(ask: Any) -> None:
    done = threading.Event()
    with serving(lambda: done.wait(30) and None) as (url, _):
        began = time.monotonic()
        with pytest.raises(OperationTimeout, match=r"clear_context of abc timed out after 0\.5 s"):
            ask(url, "clear_context", "abc", within=0.5)
        assert time.monotonic() - began < 5
        done.set()


def test_a_retry_after_beyond_the_deadline_is_not_waited_for(ask: Any) -> None:
    with serving((503, {}, {"Retry-After": "3600"})) as (url, server), pytest.raises(OperationTimeout):
        ask(url, "count_tasks", within=20)
    assert len(server.seen) == 1


def test_what_breaks_off_each_time_though_runfolio_is_there_is_given_up(ask: Any) -> None:
    def reply() -> Any:
        return (200, b"ok") if server.seen[-1][1] == "/healthz" else None

    with (
        serving(reply) as (url, server),
        pytest.raises(BrokenOff, match=f"update_task of {TASK} broke off 3"),
    ):
        ask(url, "update_task", TASK, "working")


def test_what_breaks_off_because_runfolio_is_away_is_tried_on(ask: Any) -> None:
    replies = [None] * 8
    with serving(*replies, written()) as (url, server):
        assert ask(url, "update_task", TASK, "working").late is False
    assert "/healthz" in {path for _, path, _, _ in server.seen}


def test_a_refusal_says_all_that_the_answer_says(ask: Any) -> None:
    error = {"code": "task_final", "message": "It has ended.", "field": "task_id", "request_id": "r-1"}
    with serving((409, {"error": error})) as (url, server), pytest.raises(AnswerError) as caught:
        ask(url, "submit_task", {"task_id": TASK})
    told = caught.value
    assert (told.status, told.code, told.field, told.request_id) == (409, "task_final", "task_id", "r-1")
    assert str(told) == f"submit_task of {TASK}: It has ended. (HTTP 409, task_final)"
    assert len(server.seen) == 1


def test_refusals_in_agentevals_shapes_are_read_too(ask: Any) -> None:
    problems = [{"loc": ["body", "spec"], "msg": "Field required"}]
    for detail, wanted in (
        ("run 1 not found", "run 1 not found"),
        (problems, "body.spec: Field required"),
        ({"message": "differs"}, "differs"),
    ):
        with serving((404, {"detail": detail})) as (url, _), pytest.raises(NotFound) as caught:
            ask(url, "get_run", "1")
        assert caught.value.message == wanted


def test_an_answer_of_something_else_is_told_and_the_token_not_sent_on(ask: Any) -> None:
    elsewhere = (302, b"<html>", {"Location": "https://elsewhere.example/sign-in"})
    told = r"no answer of Runfolio, it leads to https://elsewhere"
    with serving(elsewhere) as (url, server), pytest.raises(AnswerError, match=told):
        ask(url, "count_tasks")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "page"),
    [(200, b"<html>Sign in</html>"), (200, b"[]"), (200, b'{"ready": true}'), (404, b"404 page not found")],
)
def test_a_page_of_something_else_is_told_with_its_place(ask: Any, status: int, page: bytes) -> None:
    with serving((status, page)) as (url, _), pytest.raises(AnswerError) as caught:
        ask(url, "count_tasks")
    assert not isinstance(caught.value, NotFound)
    assert caught.value.message == f"This is no answer of Runfolio: is it at {url}?"


def test_what_json_cannot_say_is_refused_before_it_is_sent(ask: Any) -> None:
    with serving(written()) as (url, server):
        with pytest.raises(ValueError, match="JSON"):
            ask(url, "update_task", TASK, "working", metadata={"score": float("nan")})
        with pytest.raises(TypeError, match="object cannot be said in JSON"):
            ask(url, "update_task", TASK, "working", metadata={"score": object()})
    assert server.seen == []


def test_address_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    secret = tmp_path / "token"
    secret.write_text("from a file\n")
    with serving((200, {"data": {"count": 1}})) as (url, server):
        monkeypatch.setenv("RUNFOLIO_URL", url + "/")
        monkeypatch.setenv("RUNFOLIO_TOKEN", "from the environment")
        Client().count_tasks()
        monkeypatch.setenv("RUNFOLIO_TOKEN_FILE", str(secret))
        Client().count_tasks()
        Client(token="given").count_tasks()
    assert [headers["Authorization"] for _, _, headers, _ in server.seen] == [
        "Bearer from the environment",
        "Bearer from a file",
        "Bearer given",
    ]


def test_without_a_token_or_an_address_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNFOLIO_TOKEN", raising=False)
    with pytest.raises(ValueError, match="set RUNFOLIO_TOKEN or RUNFOLIO_TOKEN_FILE"):
        Client()
    with pytest.raises(ValueError, match=r"runs\.example\.com is not an address of Runfolio"):
        Client("runs.example.com", "secret")


def test_an_async_client_may_be_used_in_one_loop_after_another() -> None:
    with serving((200, {"data": {"count": 1}})) as (url, _):
        client = AsyncClient(url, "secret")
        assert [beside(asyncio.run, client.count_tasks()) for _ in range(2)] == [1, 1]


# ── The product itself ─────────────────────────────────────────────────────
def test_runs_are_submitted_found_cancelled_and_waited_for(
    ask: Any, site: str, token: str, sample: Any
) -> None:
    run = ask(site, "submit_run", sample["spec"], token=token)

    assert ask(site, "get_run", run["runId"], token=token)["status"] == "queued"
    assert [one["runId"] for one in ask(site, "list_runs", status=["queued"], token=token)] == [run["runId"]]
    assert ask(site, "list_runs", "rating:5", token=token) == []
    with pytest.raises(OperationTimeout, match=f"wait_for_run of {run['runId']}: still queued after 0.3 s"):
        ask(site, "wait_for_run", run["runId"], timeout=0.3, token=token)
    assert ask(site, "cancel_run", run["runId"], token=token)["status"] == "cancelled"
    assert ask(site, "wait_for_run", run["runId"], token=token)["status"] == "cancelled"
    assert ask(site, "run_results", run["runId"], token=token) == []


def test_runs_are_listed_page_by_page(ask: Any, site: str, token: str, make_run: Any) -> None:
    made = [make_run() for _ in range(3)]
    first = ask(site, "list_runs", limit=2, token=token)
    rest = ask(site, "list_runs", limit=2, cursor=first.next_cursor, token=token)

    assert [len(first), len(rest), rest.next_cursor] == [2, 1, None]
    assert {run["runId"] for run in first + rest} == {str(run.pk) for run in made}


def test_a_task_goes_its_way(ask: Any, site: str, token: str) -> None:
    def do(verb: str, *args: Any, **kwargs: Any) -> Any:
        return ask(site, verb, *args, token=token, **kwargs)

    task_id, context_id = str(uuid4()), str(uuid4())
    said = {"role": "user", "kind": "message", "parts": [{"kind": "text", "text": "hello\x00\ud800"}]}
    new = do("submit_task", said, task_id=task_id, context_id=context_id, caller="did:alice", agent="helper")
    assert (new.task["id"], new.cancel_requested, new.late) == (task_id, None, False)

    steps = [{"state": "working", "messages": [said]}, {"state": "working", "metadata": {"step": 2}}]
    assert len(do("update_task_often", task_id, steps).task["history"]) == 2
    assert do("move_task", task_id, "working", "input-required") is True
    assert do("move_task", task_id, "working", "completed") is False
    assert do("get_task", task_id, history_length=1)["history"][0]["parts"] == said["parts"]
    assert do("task_owner", task_id) == do("context_owner", context_id) == "did:alice"
    assert [one["id"] for one in do("list_tasks", state="input-required")] == [task_id]
    assert do("list_tasks", caller="did:bob") == []
    assert [one["id"] for one in do("context_tasks", context_id)] == [task_id]
    assert do("list_contexts")[0]["task_ids"] == [task_id]
    assert do("count_tasks", "input-required") == 1

    do("give_task_feedback", task_id, {"rating": 9, "feedback": "odd"})
    assert do("task_feedback", task_id) == [{"rating": 9, "feedback": "odd"}]
    do("put_push_config", task_id, {"id": "1", "url": "http://127.0.0.1:9"})
    assert do("push_config", task_id) == {"id": "1", "url": "http://127.0.0.1:9"}
    do("delete_push_config", task_id)
    with pytest.raises(NotFound):
        do("push_config", task_id)

    do("put_context", context_id, {"mood": "good"})
    do("append_to_context", context_id, [said])
    assert do("get_context", context_id)["data"] == {"mood": "good"}

    do("cancel_task", task_id, "Not needed")
    told = do("update_task", task_id, "working", minimal=True)
    assert told.cancel_requested["reason"] == "Not needed"
    assert do("update_task", task_id, "canceled").task["status"]["state"] == "canceled"
    assert do("update_task", task_id, "completed").late is True
    with pytest.raises(AnswerError) as caught:
        do("submit_task", said, task_id=task_id, context_id=context_id, caller="did:alice")
    assert caught.value.code == "task_final"

    do("clear_context", context_id)
    with pytest.raises(NotFound):
        do("get_task", task_id)
    do("clear_tasks")


def test_bulk_gives_an_outcome_for_each_line(ask: Any, site: str, token: str) -> None:
    task_id, context_id = str(uuid4()), str(uuid4())
    message = {"role": "user", "parts": [], "task_id": task_id, "context_id": context_id}
    lines = [
        {"op": "submit", "message": message},
        {"op": "update", "task_id": str(uuid4()), "state": "working"},
        {"op": "update", "task_id": task_id, "state": "working"},
    ]
    outcomes = ask(site, "bulk", lines, token=token)

    assert ["error" in one for one in outcomes] == [False, True, False]
    assert Run.objects.get(task__task_id=task_id).status == "running"


def test_a_write_whose_answer_got_lost_is_done_once(ask: Any, site: str, token: str) -> None:
    task_id, message = str(uuid4()), {"role": "user", "parts": []}
    with losing_an_answer(site) as (url, server):
        task = ask(url, "submit_task", message, task_id=task_id, context_id=uuid4(), token=token).task

    assert len(server.seen) == 2
    assert len(task["history"]) == len(ask(site, "get_task", task_id, token=token)["history"]) == 1


def test_a_run_whose_answer_got_lost_is_submitted_once(ask: Any, site: str, token: str, sample: Any) -> None:
    with losing_an_answer(site) as (url, server):
        run = ask(url, "submit_run", sample["spec"], token=token)

    assert len(server.seen) == 2
    assert [one["runId"] for one in ask(site, "list_runs", token=token)] == [run["runId"]]


def test_the_examples_of_the_page_work(site: str, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNFOLIO_URL", str(site))
    monkeypatch.setenv("RUNFOLIO_TOKEN", token)
    names: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        beside(exec, code, names)
    assert Run.objects.filter(kind="task").count() >= 1
