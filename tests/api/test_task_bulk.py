"""`/api/tasks/bulk`: many operations, one a line (issue 6, point 1)."""

import json
from uuid import uuid4

from runs.models import Run
from tests.api.rest import message, submission
from tests.api.test_tasks import new_task


def submit(**fields):
    return {"op": "submit", **submission(**fields)}


def test_each_line_is_done_and_answered(rest):
    first = submit()
    task_id = first["message"]["task_id"]
    lines = [
        first,
        {"op": "update", "task_id": task_id, "state": "working", "messages": [message("a", "agent")]},
        {"op": "transition", "taskId": task_id, "from": "working", "to": "completed"},
        {"op": "feedback", "task_id": task_id, "feedback": {"rating": 4}},
    ]

    answers = rest.bulk(lines)

    assert [(one["line"], one["status"]) for one in answers] == [(1, 201), (2, 200), (3, 200), (4, 201)]
    assert answers[1]["data"]["status"]["state"] == "working"
    assert answers[2]["data"] == {"moved": True}
    _, task = rest.get(f"/tasks/{task_id}")
    assert (task["data"]["status"]["state"], len(task["data"]["history"])) == ("completed", 2)
    assert rest.get(f"/tasks/{task_id}/feedback")[1]["data"] == [{"rating": 4}]


def test_a_broken_line_does_not_stop_the_rest(rest):
    good = submit()
    broken = [
        b"{",
        b"5",
        b'{"op": "drop"}',
        b'{"op": "update"}',
        b'{"op": "update", "task_id": "%s"}' % str(uuid4()).encode(),
        b'{"op": "submit", "message": "\xff"}',
    ]
    text = b"\n".join([*broken, b"", json.dumps(good).encode(), json.dumps(submit()).encode()])

    answers = rest.bulk(text)

    assert [one["status"] for one in answers] == [400, 422, 422, 422, 404, 400, 201, 201]
    assert [one["line"] for one in answers] == [1, 2, 3, 4, 5, 6, 8, 9]
    assert answers[3]["error"]["field"] == "task_id"


def test_a_line_that_is_too_long_is_refused_alone(rest, monkeypatch):
    monkeypatch.setattr("runs.api.tasks.LONGEST_LINE", 1000)

    answers = rest.bulk([submit(text="x" * 5000), submit()])

    assert [one["status"] for one in answers] == [413, 201]


def test_a_line_may_have_a_room_and_a_caller_of_its_own(rest):
    rest.bulk([submit(), submit(namespace="two", caller="did:a")], namespace="one")

    assert rest.get("/tasks/count", namespace="one")[1]["data"] == {"count": 1}
    assert rest.get("/tasks/count", namespace="two", caller="did:a")[1]["data"] == {"count": 1}


def test_what_is_sent_again_with_its_key_is_not_done_again(rest):
    task_id = new_task(rest)
    lines = [{"op": "update", "task_id": task_id, "messages": [message(str(number))]} for number in range(3)]
    first = rest.bulk(lines[:2], key="k")

    again = rest.bulk(lines, key="k")

    assert again[:2] == first
    assert len(rest.get(f"/tasks/{task_id}")[1]["data"]["history"]) == 4


def test_strangers_tasks_are_not_to_be_had_by_bulk(rest, strangers_rest):
    task_id = new_task(rest)

    answers = strangers_rest.bulk([{"op": "update", "task_id": task_id, "state": "completed"}])

    assert answers[0]["status"] == 404
    assert Run.objects.get(pk=task_id).status == "queued"


def test_a_key_of_a_bulk_is_as_long_as_any_other(rest):
    answers = [rest.bulk([submit()], key=key)[0] for key in ("k" * 255, "k" * 256, "")]

    assert [one["status"] for one in answers] == [201, 422, 422]
