"""tasks/pushNotificationConfig/*: clients of /a2a are told how a task goes on (CONTRACTS.md 2.5 and 2.6)."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction

from runs.models import Delivery, Event, Webhook, correction, put_artifact, transition
from runs.models.push import forget_push, push_of
from runs.models.task import Task, Update
from runs.models.webhook import claim_delivery
from runs.worker.deliver import deliver
from tests.api.a2a import Rpc, artifact, message, reported, submitted
from tests.local_server import LocalServer, Reply, local_server
from tests.pages.helpers import make_task, said
from tests.worker.test_deliver import LEASE

SET, GET, LIST, DELETE = (f"tasks/pushNotificationConfig/{verb}" for verb in ("set", "get", "list", "delete"))


@pytest.fixture
def rpc(token: str) -> Rpc:
    return Rpc(token)


@pytest.fixture
def receiver(settings: Any) -> Iterator[LocalServer]:
    """A client's own server, which takes everything."""
    settings.OUTGOING_ALLOW = ["127.0.0.1"]
    with local_server() as server:
        server.replies = [Reply(b"", 200)]
        yield server


@pytest.fixture
def task(owner: Any) -> Task:
    return submitted(owner)


def config(receiver: LocalServer, **more: Any) -> dict[str, Any]:
    return {"id": str(uuid4()), "url": f"{receiver.url}/inbox?x=1", "token": "tok", **more}


def subscribe(rpc: Rpc, task_id: Any, push: dict[str, Any]) -> Any:
    return rpc.result(SET, id=str(task_id), pushNotificationConfig=push, longRunning=True)


def told(receiver: LocalServer) -> list[Any]:
    """Delivers all that waits and gives the bodies."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what a commit would do
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    before = len(receiver.asked)
    while (delivery := claim_delivery([], LEASE)) is not None:
        deliver(delivery)
    return [asked.json for asked in receiver.asked[before:]]


# ── The configuration ──────────────────────────────────────────────────────
def test_it_comes_back_from_set_get_and_list(rpc, task, receiver):
    push = config(receiver)
    shown = {"id": str(task.task_id), "push_notification_config": push}

    assert subscribe(rpc, task.task_id, push) == shown
    assert rpc.result(GET, taskId=str(task.task_id)) == shown
    assert rpc.result(LIST, id=str(task.task_id)) == shown


def test_a_second_one_takes_the_place_of_the_first(rpc, task, receiver):
    subscribe(rpc, task.task_id, config(receiver))
    second = config(receiver, url=f"{receiver.url}/elsewhere")
    subscribe(rpc, task.task_id, second)

    reported(task, Update("working"))

    assert rpc.result(GET, taskId=str(task.task_id))["push_notification_config"] == second
    assert len(told(receiver)) == 1
    assert receiver.asked[0].path == "/elsewhere"


def test_delete_gives_it_back_once_and_it_stays_away(rpc, task, receiver):
    push = config(receiver)
    subscribe(rpc, task.task_id, push)
    reported(task, Update("working"))
    ids = {"id": str(task.task_id), "pushNotificationConfigId": push["id"]}

    assert rpc.result(DELETE, **ids) == {"id": ids["id"], "push_notification_config": push}

    missing = (200, -32001, "Push notification configuration not found for task.")
    assert (
        rpc.error(DELETE, **ids)
        == rpc.error(GET, taskId=ids["id"])
        == rpc.error(LIST, id=ids["id"])
        == missing
    )
    reported(task, Update("completed"))
    assert told(receiver) == []


def test_another_id_does_not_delete_it(rpc, task, receiver):
    subscribe(rpc, task.task_id, config(receiver))
    found = rpc.error(DELETE, id=str(task.task_id), pushNotificationConfigId=str(uuid4()))
    assert found == (200, -32001, "Push notification configuration identifier mismatch.")
    assert push_of(task.run)


def test_nothing_secret_of_it_stands_in_the_database(rpc, task, receiver):
    subscribe(rpc, task.task_id, config(receiver, token="very-secret"))
    hook = Webhook.objects.get()
    assert b"very-secret" not in bytes(hook.sealed)
    assert "x=1" not in hook.shown


def test_one_that_another_key_sealed_says_so_and_can_be_set_anew(rpc, task, receiver, settings):
    subscribe(rpc, task.task_id, config(receiver))
    settings.SECRET_KEY = "another one"
    status, code, text = rpc.error(GET, taskId=str(task.task_id))
    assert (status, code) == (200, -32001)
    assert "SECRET_KEY" in text
    subscribe(rpc, task.task_id, config(receiver))
    assert rpc.result(GET, taskId=str(task.task_id))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/x", "http"),
        ("http://169.254.169.254/latest/meta-data", "private or reserved"),
        ("http://127.0.0.1:9/hook", "private or reserved"),
        ("https://user@evil@example.com", "not an address"),
        ("", "http"),
        ("http://a\x00b/", "control character"),
    ],
)
def test_where_nothing_may_go_is_refused_at_once(rpc, task, url, why):
    push = {"id": str(uuid4()), "url": url}
    status, code, text = rpc.error(SET, id=str(task.task_id), pushNotificationConfig=push)
    assert (status, code) == (200, -32001)
    assert text.startswith("Invalid push notification configuration: ")
    assert why in text
    assert not Webhook.objects.exists()


def test_a_token_that_would_break_the_request_is_refused(rpc, task, receiver):
    push = config(receiver, token="a\r\nHost: evil")
    text = rpc.error(SET, id=str(task.task_id), pushNotificationConfig=push)[2]
    assert text.startswith("Invalid push notification configuration: ")
    assert "evil" not in text


@pytest.mark.parametrize(
    "push", [None, [], {}, {"id": "x", "url": "http://a.example"}, {"id": str(uuid4())}, {"id": 1, "url": 2}]
)
def test_what_is_no_configuration_cannot_be_read(rpc, task, push):
    status, answer = rpc.call(SET, {"id": str(task.task_id), "pushNotificationConfig": push})
    assert (status, answer["error"]["code"], answer["id"]) == (400, -32700, None)
    assert "params.pushNotificationConfig" in answer["error"]["message"]


def test_an_unknown_task_is_not_found(rpc, receiver):
    found = rpc.error(SET, id=str(uuid4()), pushNotificationConfig=config(receiver))
    assert found == (200, -32001, "Task not found")


# ── What is told ───────────────────────────────────────────────────────────
def test_a_tasks_way_is_told_as_bindu_tells_it(rpc, task, receiver):
    subscribe(rpc, task.task_id, config(receiver))
    question, made = message("Which city?", "agent"), artifact("done \x00 \ud800 é")
    reported(task, Update("working"))
    first = told(receiver)
    reported(task, Update("input-required", (), [question]))
    second = told(receiver)
    reported(task, Update("completed", [made], [message("done", "agent")]))
    last = told(receiver)

    (working,), (asking,), (thing, end) = first, second, last
    ids = {"task_id": str(task.task_id), "context_id": str(task.context.context_id)}
    bodies = [working, asking, thing, end]
    assert [body["sequence"] for body in bodies] == [1, 2, 3, 4]
    assert [body["kind"] for body in bodies] == [*["status-update"] * 2, "artifact-update", "status-update"]
    assert len({body["event_id"] for body in bodies}) == 4
    assert all(ids.items() <= body.items() and body["timestamp"].endswith("+00:00") for body in bodies)
    assert [body["status"]["state"] for body in (working, asking, end)] == [
        "working",
        "input-required",
        "completed",
    ]
    assert [body["final"] for body in (working, asking, end)] == [False, False, True]
    assert asking["status"]["message"] == {**question, **ids}
    assert "message" not in working["status"]
    assert thing["artifact"] == made
    sent = receiver.asked[0]
    assert (sent.method, sent.path) == ("POST", "/inbox?x=1")
    assert sent.headers["authorization"] == "Bearer tok"
    assert sent.headers["content-type"] == "application/json"


def test_the_event_id_is_that_of_the_delivery(rpc, task, receiver):
    subscribe(rpc, task.task_id, config(receiver))
    reported(task, Update("working"))
    (body,) = told(receiver)
    assert (
        body["event_id"] == str(Delivery.objects.get().message_id) == receiver.asked[0].headers["webhook-id"]
    )


def test_nothing_is_told_of_submitted_nor_of_what_does_not_change(rpc, task, receiver, owner):
    reported(task, Update("working"))
    told(receiver)
    subscribe(rpc, task.task_id, config(receiver))
    reported(task, Update("working", (), [message("still at it", "agent")]))
    reported(task, Update("submitted"))
    assert told(receiver) == []


def test_an_a2a_cancel_and_a_correction_are_told_as_well(rpc, task, receiver):
    subscribe(rpc, task.task_id, config(receiver))
    rpc.result("tasks/cancel", taskId=str(task.task_id))
    cancelled = told(receiver)
    with correction("user:1", "it had worked"):
        type(task.run).objects.filter(pk=task.run_id).update(status="succeeded")
    corrected = told(receiver)
    assert [body["status"]["state"] for body in cancelled] == ["canceled"]
    assert [body["status"]["state"] for body in corrected] == ["completed"]


def test_a_task_of_another_way_in_is_told_of_alike(rpc, owner, receiver):
    run = make_task(owner, said("hi"), status="queued")
    subscribe(rpc, run.pk, config(receiver))
    transition(run, "running", raw_status="running")
    put_artifact(run, "report", "report", [{"kind": "text", "text": "x"}])
    working, made = sorted(told(receiver), key=lambda body: body["kind"], reverse=True)
    assert (working["task_id"], working["context_id"]) == (str(run.pk), str(run.pk))
    assert working["status"]["state"] == "working"
    assert made["artifact"] == {
        "artifact_id": "report",
        "name": "report",
        "parts": [{"kind": "text", "text": "x"}],
    }


def test_it_is_told_once_it_is_committed(committed_db, owner, token, receiver):
    task, rpc = submitted(owner), Rpc(token)
    subscribe(rpc, task.task_id, config(receiver))
    reported(task, Update("input-required", (), [message("Which city?", "agent")]))

    deliver(claim_delivery([], LEASE))

    (asked,) = receiver.asked
    assert asked.json["status"]["message"]["parts"] == [{"kind": "text", "text": "Which city?"}]


def test_what_is_taken_back_is_not_told(rpc, task, receiver):
    subscribe(rpc, task.task_id, config(receiver))
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        reported(task, Update("working"))
        raise ZeroDivisionError
    assert told(receiver) == []
    assert not Event.objects.filter(kind="state").exists()


def test_a_receiver_that_is_broken_is_told_later(rpc, task, receiver):
    receiver.replies = [Reply(b"", 500), Reply(b"", 200)]
    subscribe(rpc, task.task_id, config(receiver))
    reported(task, Update("working"))
    told(receiver)
    assert Delivery.objects.get().state == "waiting"

    Delivery.objects.update(next_try_at="2026-01-01T00:00:00Z")
    told(receiver)

    assert Delivery.objects.get().state == "delivered"
    assert [asked.json["sequence"] for asked in receiver.asked] == [1, 1]


def test_forgetting_it_leaves_no_delivery_behind(rpc, task, receiver):
    subscribe(rpc, task.task_id, config(receiver))
    reported(task, Update("working"))
    forget_push(task.run)
    assert (Webhook.objects.count(), Delivery.objects.count()) == (0, 0)


def test_an_evaluations_sinks_know_nothing_of_it(make_run):
    make_run(spec={"target": {"kind": "inline", "inline": {}}, "sinks": [{"kind": "a2a_push", "url": "x"}]})
    assert not Webhook.objects.exists()
