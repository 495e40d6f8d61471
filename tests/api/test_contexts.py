"""`/api/contexts`: conversations, what agents keep with them, and clearing (issue 6, point 1)."""

from uuid import uuid4

import pytest

from runs.models import Event, Run, Session, restore_session
from runs.models.context import SOURCE
from runs.models.deletion import delete_session
from tests.api.rest import Rest, message, submission
from tests.api.test_tasks import ARTIFACT, new_task


def new_context(rest: Rest, **fields: object) -> str:
    return rest.post("/tasks", submission(**fields))[1]["data"]["context_id"]


# ── What is kept with them ─────────────────────────────────────────────────
def test_data_is_kept_with_a_context(rest):
    context_id = str(uuid4())

    status, answer = rest.put(f"/contexts/{context_id}", {"data": {"a": "b\x00", "n": 2**64}})

    assert (status, answer["data"]["data"]) == (200, {"a": "b\x00", "n": 2**64})
    _, kept = rest.get(f"/contexts/{context_id}")
    assert kept["data"] == answer["data"]
    assert (kept["data"]["context_id"], kept["data"]["caller"]) == (context_id, None)


def test_new_data_is_there_instead_of_the_old(rest):
    context_id = new_context(rest, caller="did:a")
    for data in ({"a": "\x00"}, {"b": 2}):
        rest.put(f"/contexts/{context_id}", {"data": data})

    kept = rest.get(f"/contexts/{context_id}")[1]["data"]

    assert (kept["data"], kept["caller"]) == ({"b": 2}, "did:a")


def test_a_context_has_messages_of_its_own(rest):
    context_id = new_context(rest)
    said = [message("a\x00b"), message("c")]

    assert rest.post(f"/contexts/{context_id}/messages", {"messages": said[:1]})[1]["data"] == {"count": 1}
    rest.post(f"/contexts/{context_id}/messages", {"messages": said[1:]})

    assert rest.get(f"/contexts/{context_id}/messages")[1]["data"] == said


def test_whose_a_context_is(rest):
    context_id = new_context(rest, caller="did:a")

    assert rest.get(f"/contexts/{context_id}/owner") == (200, {"data": {"caller": "did:a"}})
    assert rest.get(f"/contexts/{context_id}", caller="did:b")[0] == 404
    assert rest.put(f"/contexts/{context_id}", {"data": {}, "caller": "did:b"})[0] == 404


# ── Lists ──────────────────────────────────────────────────────────────────
def test_contexts_are_listed_newest_first_with_their_tasks_oldest_first(rest):
    first, second = str(uuid4()), str(uuid4())
    tasks = [new_task(rest, context_id=context_id) for context_id in (first, first, second)]

    _, answer = rest.get("/contexts")

    assert answer == {
        "data": [
            {"context_id": second, "task_count": 1, "task_ids": tasks[2:]},
            {"context_id": first, "task_count": 2, "task_ids": tasks[:2]},
        ],
        "next_cursor": None,
    }


def test_contexts_are_listed_page_by_page(rest):
    made = [new_context(rest, caller="did:a") for _ in range(3)]
    _, first = rest.get("/contexts", limit=2)
    _, second = rest.get("/contexts", limit=2, cursor=first["next_cursor"])

    assert [one["context_id"] for page in (first, second) for one in page["data"]] == made[::-1]
    assert [one["context_id"] for one in rest.get("/contexts", length=1, offset=1)[1]["data"]] == made[1:2]
    assert len(rest.get("/contexts", caller="did:a")[1]["data"]) == 3
    assert rest.get("/contexts", caller="did:b")[1]["data"] == []


def test_the_tasks_of_a_context_are_listed_oldest_first(rest):
    context_id = str(uuid4())
    tasks = [new_task(rest, context_id=context_id) for _ in range(3)]
    new_task(rest)

    def listed(**query: object) -> list[str]:
        return [one["id"] for one in rest.get(f"/contexts/{context_id}/tasks", **query)[1]["data"]]

    assert listed() == tasks
    assert listed(length=1, offset=1) == tasks[1:2]
    assert rest.get(f"/contexts/{uuid4()}/tasks")[1]["data"] == []


# ── Clearing ───────────────────────────────────────────────────────────────
def test_a_cleared_context_is_gone_with_its_tasks(rest):
    said = submission()
    task_id, context_id = said["message"]["task_id"], said["message"]["context_id"]
    rest.post("/tasks", said)
    rest.put(f"/tasks/{task_id}/push-config", {"url": "x"})

    assert rest.delete(f"/contexts/{context_id}") == (200, {"data": {"tasks": 1}})

    gone = [f"/tasks/{task_id}", f"/tasks/{task_id}/feedback", f"/contexts/{context_id}"]
    assert [rest.get(path)[0] for path in gone] == [404] * 3
    assert rest.get("/tasks")[1]["data"] == rest.get("/contexts")[1]["data"] == []
    assert rest.get("/tasks/count")[1]["data"] == {"count": 0}
    assert rest.get("/tasks/push-configs")[1]["data"] == {}


def test_a_context_that_is_unknown_or_cleared_already_is_not_cleared(rest):
    context_id = new_context(rest)
    rest.delete(f"/contexts/{context_id}")

    for unknown in (context_id, str(uuid4())):
        status, answer = rest.delete(f"/contexts/{unknown}")
        assert (status, answer["error"]["message"]) == (404, f"Context {unknown} not found")


def test_an_agent_that_still_writes_to_a_cleared_task_is_answered_quietly(rest):
    said = submission()
    task_id, context_id = said["message"]["task_id"], said["message"]["context_id"]
    rest.post("/tasks", said)
    rest.post(f"/tasks/{task_id}/updates", {"state": "working"})
    rest.delete(f"/contexts/{context_id}")

    status, answer = rest.post(
        f"/tasks/{task_id}/updates",
        {"state": "completed", "messages": [message("hi", "agent")], "artifacts": [ARTIFACT]},
    )

    assert (status, answer["cleared"], answer["late"]) == (200, True, True)
    assert answer["data"]["status"]["state"] == "canceled"
    assert answer["data"]["history"] == [said["message"]]
    assert rest.get(f"/tasks/{task_id}")[0] == 404
    assert Event.objects.filter(run_id=task_id, kind="late_write").count() == 3
    moved = rest.post(f"/tasks/{task_id}/transition", {"from": "canceled", "to": "working"})
    assert moved[1]["data"] == {"moved": False}


def test_a_cleared_context_begins_anew_for_whoever_begins_it(rest):
    said = submission(caller="did:a")
    task_id, context_id = said["message"]["task_id"], said["message"]["context_id"]
    rest.post("/tasks", said)
    rest.put(f"/contexts/{context_id}", {"data": {"a": 1}})
    rest.post(f"/contexts/{context_id}/messages", {"messages": [message()]})
    rest.delete(f"/contexts/{context_id}")

    status, answer = rest.post("/tasks", submission(task_id=task_id, context_id=context_id, caller="did:b"))

    assert (status, len(answer["data"]["history"])) == (201, 1)
    context = rest.get(f"/contexts/{context_id}")[1]["data"]
    assert (context["caller"], context["data"]) == ("did:b", {})
    assert rest.get(f"/contexts/{context_id}/messages")[1]["data"] == []
    assert Run.objects.filter(kind="task").count() == 2


def test_what_was_cleared_can_be_restored(rest):
    said = submission(caller="did:a")
    context_id = said["message"]["context_id"]
    rest.post("/tasks", said)
    rest.put(f"/contexts/{context_id}", {"data": {"a": 1}})
    rest.delete(f"/contexts/{context_id}")

    restore_session(Session.objects.get(source=SOURCE, key=context_id), "alice", "by mistake")

    context = rest.get(f"/contexts/{context_id}")[1]["data"]
    assert (context["caller"], context["data"]) == ("did:a", {"a": 1})
    assert len(rest.get(f"/contexts/{context_id}/tasks")[1]["data"]) == 1


def test_a_session_that_a_person_deletes_is_a_cleared_context(rest):
    context_id = new_context(rest)

    delete_session(Session.objects.get(key=context_id), "alice", "why")

    assert rest.get(f"/contexts/{context_id}")[0] == 404


def test_all_of_a_namespace_is_cleared_and_nothing_else(rest, strangers_rest):
    for room in ("one", "one", "two"):
        rest.post("/tasks", submission(), namespace=room)
    strangers_rest.post("/tasks", submission(), namespace="one")

    assert rest.delete("/tasks", namespace="one") == (200, {"data": {"tasks": 2}})

    counts = [
        client.get("/tasks/count", namespace=room)[1]["data"]["count"]
        for client, room in ((rest, "one"), (rest, "two"), (strangers_rest, "one"))
    ]
    assert counts == [0, 1, 1]
    assert rest.get("/contexts", namespace="one")[1]["data"] == []


# ── What is refused ────────────────────────────────────────────────────────
BAD = {
    "data that is no object": ("put", "", {"data": []}, "data"),
    "no data": ("put", "", {}, "data"),
    "a caller that is a number": ("put", "", {"data": {}, "caller": 5}, "caller"),
    "messages that are no list": ("post", "/messages", {"messages": {}}, "messages"),
    "a message that is no object": ("post", "/messages", {"messages": [5]}, "messages.0"),
}


@pytest.mark.parametrize(("method", "path", "body", "field"), BAD.values(), ids=BAD)
def test_a_bad_body_is_refused_and_names_its_field(rest, method, path, body, field):
    status, answer = getattr(rest, method)(f"/contexts/{uuid4()}{path}", body)

    assert (status, answer["error"]["code"], answer["error"]["field"]) == (422, "invalid", field)


def test_an_id_that_is_no_uuid_is_refused(rest):
    status, answer = rest.get("/contexts/zz")

    assert (status, answer["error"]["field"]) == (422, "context_id")
