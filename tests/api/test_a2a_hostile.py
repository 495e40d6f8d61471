"""/a2a: what cannot be read, and errors that no method made, are JSON-RPC too (DESIGN.md 3.14)."""

import json
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError
from django.test import Client

from runs.models.task import task_feedback
from tests.api.a2a import Rpc, completed
from tests.api.test_a2a import METHODS, params_of

UNREADABLE = {
    "nothing": b"",
    "null": b"null",
    "a number": b"1",
    "half": b'{"jsonrpc": "2.0", "id',
    "NaN": b'{"jsonrpc": "2.0", "id": 1, "method": "tasks/list", "params": {"a": NaN}}',
    "1e400": b'{"jsonrpc": "2.0", "id": 1, "method": "tasks/list", "params": {"a": 1e400}}',
    "deep": b'{"jsonrpc": "2.0", "id": 1, "method": "tasks/list", "params": ' + b"[" * 100_000,
    "invalid UTF-8": b'{"jsonrpc": "\xff"}',
    "an empty batch": b"[]",
    "a batch": b'[{"jsonrpc": "2.0", "id": 1, "method": "tasks/list"}]',
    "no version": b'{"id": 1, "method": "tasks/list", "params": {}}',
    "another version": b'{"jsonrpc": "1.0", "id": 1, "method": "tasks/list", "params": {}}',
    "a notification": b'{"jsonrpc": "2.0", "method": "tasks/list", "params": {}}',
    "an id of null": b'{"jsonrpc": "2.0", "id": null, "method": "tasks/list", "params": {}}',
    "an id of true": b'{"jsonrpc": "2.0", "id": true, "method": "tasks/list", "params": {}}',
    "an id of 1.5": b'{"jsonrpc": "2.0", "id": 1.5, "method": "tasks/list", "params": {}}',
    "no method": b'{"jsonrpc": "2.0", "id": 1, "params": {}}',
    "a method of 7": b'{"jsonrpc": "2.0", "id": 1, "method": 7, "params": {}}',
    "an unknown method": b'{"jsonrpc": "2.0", "id": 1, "method": "tasks/burn\\u0000", "params": {}}',
    "params in a list": b'{"jsonrpc": "2.0", "id": 1, "method": "tasks/list", "params": [1]}',
}


@pytest.fixture
def rpc(token: str) -> Rpc:
    return Rpc(token)


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_request_is_refused_without_an_id(rpc, body):
    status, answer = rpc.send(body)
    assert (status, answer["error"]["code"]) == (400, -32700)
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", None)
    assert answer["error"]["message"].startswith("This request cannot be read: ")


def test_params_may_be_left_out(rpc):
    assert rpc.send(b'{"jsonrpc": "2.0", "id": 1, "method": "tasks/list"}') == (
        200,
        {"jsonrpc": "2.0", "id": 1, "result": []},
    )


@pytest.mark.parametrize(
    ("method", "params", "named"),
    [
        ("tasks/get", {}, "params.taskId must be a UUID"),
        ("tasks/get", {"taskId": "zz"}, "params.taskId must be a UUID"),
        ("tasks/get", {"taskId": str(uuid4()), "historyLength": "2"}, "params.historyLength"),
        ("tasks/get", {"taskId": str(uuid4()), "historyLength": -1}, "params.historyLength"),
        ("tasks/list", {"limit": 2**40}, "params.limit"),
        ("tasks/list", {"offset": 10**20}, "params.offset"),
        ("tasks/list", {"length": True}, "params.length"),
        ("tasks/list", {"cursor": "x"}, "params.cursor"),
        ("tasks/list", {"contextId": "x"}, "params.contextId"),
        ("tasks/list", {"state": 1}, "params.state"),
        ("tasks/feedback", {"taskId": str(uuid4())}, "params.feedback must be a text"),
        ("tasks/feedback", {"taskId": str(uuid4()), "feedback": "x", "rating": "5"}, "params.rating"),
        ("tasks/feedback", {"taskId": str(uuid4()), "feedback": "x", "rating": 2.5}, "params.rating"),
        ("tasks/feedback", {"taskId": str(uuid4()), "feedback": "x", "metadata": []}, "params.metadata"),
        ("contexts/clear", {"contextId": None}, "params.contextId"),
    ],
)
def test_a_wrong_parameter_is_named(rpc, owner, method, params, named):
    task = completed(owner)
    known = {"taskId": str(task.task_id)} if len(params) > 1 and "taskId" in params else {}
    status, answer = rpc.call(method, {**params, **known})
    assert (status, answer["error"]["code"], answer["id"]) == (400, -32700, None)
    assert named in answer["error"]["message"]


VALUES: list[Any] = [
    *(None, [], {}, 0, -1, 1.5, True, "", "a\x00", "\ud800", 2**64, 10**400, str(uuid4()), [[]]),
    {"id": str(uuid4()), "url": "http://\ud800/"},
]


PAGE = ("limit", "length", "offset", "cursor")
READ = {
    "tasks/get": ("historyLength",),
    "tasks/list": (*PAGE, "historyLength", "contextId", "state"),
    "tasks/feedback": ("feedback", "rating", "metadata"),
    "contexts/list": (*PAGE, "historyLength"),
    "tasks/pushNotificationConfig/set": ("pushNotificationConfig",),
    "tasks/pushNotificationConfig/delete": ("pushNotificationConfigId",),
}


@pytest.mark.parametrize("method", METHODS)
def test_no_value_of_any_parameter_breaks_it(rpc, owner, method):
    task = completed(owner)
    names = {METHODS[method][1], *READ.get(method, ())} - {None}
    for name in names:
        for value in VALUES:
            status, _ = rpc.call(method, {**params_of(method, task), name: value})
            assert status in (200, 400), (name, value)


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "😀", "x" * 2**20])
def test_any_text_of_feedback_is_kept_exactly(rpc, owner, text):
    task = completed(owner)
    given = {"feedback": text, "metadata": {text: [text]}}
    rpc.result("tasks/feedback", taskId=str(task.task_id), **given)
    (kept,) = task_feedback(task)
    assert {name: kept[name] for name in given} == given


def test_a_rating_of_any_size_is_kept(rpc, owner):
    task = completed(owner)
    for rating in (-1, 9, 2**64):
        rpc.result("tasks/feedback", taskId=str(task.task_id), feedback="x", rating=rating)
    assert [kept["rating"] for kept in task_feedback(task)] == [-1, 9, 2**64]


# ── Errors that no method made ─────────────────────────────────────────────
def _is_json_rpc(response: Any, status: int, code: int) -> bool:
    answer = json.loads(response.content)
    told = (answer["jsonrpc"], answer["id"], answer["error"]["code"])
    return response.status_code == status and told == ("2.0", None, code) and answer["error"]["message"] != ""


def test_404_405_413_and_503_have_the_same_shape(token, settings, monkeypatch):
    client = Client(raise_request_exception=False, headers={"Authorization": f"Bearer {token}"})

    assert _is_json_rpc(client.get("/a2a/nowhere"), 404, -32601)
    assert _is_json_rpc(client.get("/a2a"), 405, -32600)
    assert _is_json_rpc(client.post("/a2a/.well-known/agent.json"), 405, -32600)
    assert _is_json_rpc(client.get("/a2a?x=%00"), 400, -32700)
    settings.MAX_BODY_BYTES = 10
    too_large = client.post("/a2a", "x" * 20, content_type="application/json")
    assert _is_json_rpc(too_large, 413, -32600)
    settings.MAX_BODY_BYTES = 1000
    monkeypatch.setattr("runs.api.a2a.view.read_request", _raise(OperationalError("away")))
    away = client.post("/a2a", "{}", content_type="application/json")
    assert _is_json_rpc(away, 503, -32603)
    assert away["Retry-After"]


def test_what_breaks_here_is_an_internal_error(token, monkeypatch):
    monkeypatch.setattr("runs.api.a2a.view.read_request", _raise(ZeroDivisionError()))
    client = Client(raise_request_exception=False, headers={"Authorization": f"Bearer {token}"})
    assert _is_json_rpc(client.post("/a2a", "{}", content_type="application/json"), 500, -32603)


def _raise(error: Exception) -> Any:
    def broken(body: bytes) -> None:
        raise error

    return broken
