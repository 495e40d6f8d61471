"""`Idempotency-Key`: a write that is sent again is done once (issue 6, point 1)."""

from datetime import timedelta

import pytest
from django.utils import timezone

from runs.models import Event, KeptAnswer, Run
from runs.models.deletion import purge
from runs.models.idempotency import forget_answers
from tests.api.rest import message, submission
from tests.api.test_tasks import ARTIFACT, new_task


def test_a_submission_that_is_sent_again_is_done_once(rest):
    said = submission(metadata={"a": "\x00", "n": 2**70})

    first = rest.post("/tasks", said, key="k")
    again = rest.post("/tasks", said, key="k")

    assert first == again
    assert first[0] == 201
    assert Event.objects.filter(kind="message").count() == 1


def test_the_answer_is_that_of_then(rest):
    task_id = new_task(rest)
    path, step = f"/tasks/{task_id}/updates", {"messages": [message("a\x00")], "artifacts": [ARTIFACT]}
    first = rest.post(path, step, key="k")
    rest.post(path, {"state": "working", "messages": [message("b")], "artifacts": [ARTIFACT] * 2})

    assert rest.post(path, step, key="k") == first


@pytest.mark.parametrize("path", ["transition", "cancel", "feedback"])
def test_every_write_is_done_once(rest, path):
    task_id = new_task(rest)
    body = {"transition": {"from": "submitted", "to": "working"}}.get(path, {})

    answers = [rest.post(f"/tasks/{task_id}/{path}", body, key="k") for _ in range(2)]

    assert answers[0] == answers[1]
    assert len(rest.get(f"/tasks/{task_id}/feedback")[1]["data"]) == (path == "feedback")


def test_clearing_is_done_once(rest):
    context_id = rest.post("/tasks", submission())[1]["data"]["context_id"]

    answers = [rest.delete(f"/contexts/{context_id}", key="k") for _ in range(2)]

    assert answers == [(200, {"data": {"tasks": 1}})] * 2


def test_another_request_with_the_same_key_is_refused(rest):
    task_id = new_task(rest)
    path = f"/tasks/{task_id}/updates"
    rest.post(path, {"state": "working"}, key="k")

    for body, query in (({"state": "completed"}, {}), ({"state": "working"}, {"caller": "x"})):
        status, answer = rest.post(path, body, key="k", **query)
        assert (status, answer["error"]["code"]) == (422, "idempotency_key_reused")
        assert answer["error"]["field"] == "Idempotency-Key"


def test_a_key_is_its_owners(rest, strangers_rest):
    said = submission()

    assert [client.post("/tasks", said, key="k")[0] for client in (rest, strangers_rest)] == [201, 201]


def test_a_refusal_is_not_kept(rest):
    said = submission()
    path = f"/tasks/{said['message']['task_id']}/updates"

    assert rest.post(path, {"state": "working"}, key="k")[0] == 404
    rest.post("/tasks", said)

    assert rest.post(path, {"state": "working"}, key="k")[0] == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_key_that_is_none_is_refused(rest, key):
    status, answer = rest.post("/tasks", submission(), key=key)

    assert (status, answer["error"]["field"]) == (422, "Idempotency-Key")
    assert not Run.objects.exists()


def test_answers_are_kept_for_a_day(rest):
    task_id = new_task(rest)
    path, step = f"/tasks/{task_id}/updates", {"messages": [message()]}
    for key in ("old", "new"):
        rest.post(path, step, key=key)
    KeptAnswer.objects.filter(key="old").update(created_at=timezone.now() - timedelta(hours=25))

    assert forget_answers() == 1
    assert KeptAnswer.objects.get().key == "new"


def test_a_key_that_is_older_than_a_day_is_as_new(rest):
    task_id = new_task(rest)
    path, step = f"/tasks/{task_id}/updates", {"messages": [message()]}
    rest.post(path, step, key="k")
    KeptAnswer.objects.update(created_at=timezone.now() - timedelta(hours=25))

    rest.post(path, step, key="k")

    assert len(rest.get(f"/tasks/{task_id}")[1]["data"]["history"]) == 3


def test_the_answer_goes_with_its_run(rest):
    rest.post("/tasks", submission(), key="k")

    purge(Run.objects.all(), "retention", "why")

    assert not KeptAnswer.objects.exists()
    assert not Run.objects.exists()
