"""`/api/tasks`: what an agent reports of its work (issue 6, point 1; CONTRACTS.md 2.3)."""

from uuid import UUID, uuid4

import pytest

from runs.models import Event, Owner, Run, Task, Token, force_cancel, request_cancel, restore_runs, transition
from runs.models.deletion import delete_runs
from runs.models.task import state_of
from tests.api.rest import Rest, message, submission
from tests.api.test_hostile_input import TEXTS

ARTIFACT = {"artifact_id": "a-1", "name": "result", "parts": [{"kind": "text", "text": "hi"}]}


def new_task(rest: Rest, **fields: object) -> str:
    status, answer = rest.post("/tasks", submission(**fields))
    assert status == 201
    return answer["data"]["id"]


# ── Submitting ─────────────────────────────────────────────────────────────
def test_a_submission_makes_a_task_with_its_message(rest):
    said = submission()
    status, answer = rest.post("/tasks", said)

    task = answer.pop("data")
    assert status == 201
    assert answer == {"cancel_requested": None, "late": False, "cleared": False}
    assert task.pop("status")["state"] == "submitted"
    assert task == {
        "id": said["message"]["task_id"],
        "context_id": said["message"]["context_id"],
        "kind": "task",
        "history": [said["message"]],
        "artifacts": [],
        "metadata": {},
    }
    assert rest.get(f"/tasks/{task['id']}")[1]["data"]["history"] == [said["message"]]


def test_it_is_a_run_on_the_pages(rest, owner):
    task_id = new_task(rest, text="What is the weather?", agent="helm")

    run = Run.objects.get(pk=task_id)

    assert (run.owner, run.kind, run.status, run.agent) == (owner, "task", "queued", "helm")
    assert (run.title, run.session.source, run.event_count) == ("What is the weather?", "a2a", 1)


def test_ids_that_nobody_gave_are_made(rest):
    status, answer = rest.post("/tasks", {"message": message()})

    assert status == 201
    assert answer["data"]["history"][0]["task_id"] == answer["data"]["id"] == str(UUID(answer["data"]["id"]))


def test_names_may_be_in_camel_case(rest):
    task_id, context_id = str(uuid4()), str(uuid4())
    said = {"kind": "message", "role": "user", "parts": [], "messageId": "m", "taskId": task_id}

    status, answer = rest.post("/tasks", {"message": said, "contextId": context_id})

    kept = {"kind": "message", "role": "user", "parts": [], "message_id": "m"}
    assert status == 201
    assert answer["data"]["history"] == [{**kept, "task_id": task_id, "context_id": context_id}]


def test_a_further_message_continues_an_open_task_and_submits_it_again(rest):
    task_id = new_task(rest)
    context_id = rest.post(f"/tasks/{task_id}/updates", {"state": "input-required"})[1]["data"]["context_id"]

    status, answer = rest.post("/tasks", submission("more", task_id=task_id, context_id=context_id))

    assert (status, answer["data"]["status"]["state"]) == (200, "submitted")
    assert [one["parts"][0]["text"] for one in answer["data"]["history"]] == ["hello", "more"]


def test_the_same_message_sent_twice_is_twice_in_the_history(rest):
    said = submission()
    rest.post("/tasks", said)

    assert rest.post("/tasks", said)[1]["data"]["history"] == [said["message"]] * 2


def test_a_task_keeps_its_context(rest):
    said = submission()
    rest.post("/tasks", said)
    elsewhere = submission(task_id=said["message"]["task_id"])

    _, answer = rest.post("/tasks", elsewhere)

    assert answer["data"]["context_id"] == said["message"]["context_id"]
    missing, _ = rest.get(f"/contexts/{elsewhere['message']['context_id']}")
    assert missing == 404


@pytest.mark.parametrize("state", ["completed", "failed", "canceled", "rejected", "succeeded", "cancelled"])
def test_a_task_that_has_ended_takes_no_further_message(rest, state):
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"state": state})

    status, answer = rest.post("/tasks", submission(task_id=task_id))

    assert (status, answer["error"]["code"], answer["error"]["field"]) == (409, "task_final", "task_id")
    assert answer["error"]["message"] == (
        f"Cannot continue task {task_id}: Task is in terminal state '{state}' and is immutable. "
        "Create a new task with referenceTaskIds to continue the conversation."
    )
    assert len(rest.get(f"/tasks/{task_id}")[1]["data"]["history"]) == 1


# ── Updating ───────────────────────────────────────────────────────────────
def test_an_update_appends_and_moves(rest):
    said = submission(metadata={"a": 1})
    task_id, context_id = said["message"]["task_id"], said["message"]["context_id"]
    rest.post("/tasks", said)
    answer = message("hi", "agent")

    status, given = rest.post(
        f"/tasks/{task_id}/updates",
        {"state": "completed", "messages": [answer], "artifacts": [ARTIFACT], "metadata": {"b": 2}},
    )

    stamped = {**answer, "task_id": task_id, "context_id": context_id}
    assert (status, given["data"]["status"]["state"]) == (200, "completed")
    assert given["data"]["history"] == [said["message"], stamped]
    assert given["data"]["artifacts"] == [ARTIFACT]
    assert given["data"]["metadata"] == {"a": 1, "b": 2}
    assert rest.get(f"/tasks/{task_id}")[1]["data"] == given["data"]


def test_many_updates_in_one_request_are_one(rest):
    task_id = new_task(rest)
    steps = [{"state": "working", "messages": [message(str(number), "agent")]} for number in range(20)]

    _, answer = rest.post(f"/tasks/{task_id}/updates", {"updates": steps})
    refused, _ = rest.post(f"/tasks/{task_id}/updates", {"updates": [*steps, {"messages": ["no object"]}]})

    assert [one["parts"][0]["text"] for one in answer["data"]["history"][1:]] == list(map(str, range(20)))
    assert refused == 422
    assert len(rest.get(f"/tasks/{task_id}")[1]["data"]["history"]) == 21


def test_an_update_may_answer_without_what_was_said(rest):
    task_id = new_task(rest)

    _, answer = rest.post(f"/tasks/{task_id}/updates", {"state": "working"}, **{"return": "minimal"})

    assert set(answer["data"]) == {"id", "context_id", "kind", "status", "metadata"}


STATES = {
    "submitted": "queued",
    "pending": "queued",
    "working": "running",
    "resumed": "running",
    "input-required": "input_required",
    "auth-required": "input_required",
    "payment-required": "input_required",
    "trust-verification-required": "input_required",
    "suspended": "paused",
    "completed": "succeeded",
    "failed": "failed",
    "rejected": "failed",
    "canceled": "cancelled",
    "cancelled": "cancelled",
    "input_required": "input_required",
}


@pytest.mark.parametrize(("state", "status"), STATES.items())
def test_a_state_of_any_dialect_is_kept_as_it_came(rest, state, status):
    task_id = new_task(rest)

    rest.post(f"/tasks/{task_id}/updates", {"state": state})

    assert rest.get(f"/tasks/{task_id}")[1]["data"]["status"]["state"] == state
    assert Run.objects.get(pk=task_id).status == status


@pytest.mark.parametrize("state", ["unknown", "negotiation-bid-won", "something of its own"])
def test_a_state_of_no_meaning_leaves_the_run_where_it_is(rest, state):
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"state": "working"})

    rest.post(f"/tasks/{task_id}/updates", {"state": state})

    assert rest.get(f"/tasks/{task_id}")[1]["data"]["status"]["state"] == state
    assert Run.objects.get(pk=task_id).status == "running"


def test_each_change_of_state_is_an_event(rest):
    task_id = new_task(rest)
    for state in ("working", "working", "input-required"):
        rest.post(f"/tasks/{task_id}/updates", {"state": state})

    steps = Event.objects.filter(run_id=task_id, kind="state").values_list("payload__raw", flat=True)

    assert list(steps) == ["working", "input-required"]


def test_artifacts_come_back_as_they_came_and_in_order(rest):
    odd = [
        {**ARTIFACT, "metadata": {"did.message.signature": "x"}, "append": True, "last_chunk": False},
        ARTIFACT,
        {"artifact_id": "a-2", "parts": [{"kind": "text", "text": "a\x00b"}], "name": None},
        {"name": "no id and no parts"},
        {"parts": "no list"},
        {},
    ]
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"artifacts": odd[:2]})

    _, answer = rest.post(f"/tasks/{task_id}/updates", {"artifacts": odd[2:]})

    assert answer["data"]["artifacts"] == odd
    assert rest.get(f"/tasks/{task_id}")[1]["data"]["artifacts"] == odd
    assert Run.objects.get(pk=task_id).artifact_count == len(odd)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_any_text_comes_back_exactly(rest, text):
    said = submission(text, metadata={text: [text]})
    task_id = said["message"]["task_id"]
    rest.post("/tasks", said)
    rest.post(f"/tasks/{task_id}/updates", {"metadata": {"more": text}, "artifacts": [{"artifact_id": text}]})
    rest.post(f"/tasks/{task_id}/feedback", {"feedback": text})

    _, answer = rest.get(f"/tasks/{task_id}")

    assert answer["data"]["history"] == [said["message"]]
    assert answer["data"]["metadata"] == {text: [text], "more": text}
    assert answer["data"]["artifacts"] == [{"artifact_id": text}]
    assert rest.get(f"/tasks/{task_id}/feedback")[1]["data"] == [{"feedback": text}]


@pytest.mark.parametrize("number", [2**64, -(2**64), 1e300, -0.0, 1.0, 10**18])
def test_any_number_comes_back_exactly(rest, number):
    said = submission(metadata={"n": number})
    said["message"]["metadata"] = {"n": [number]}
    _, answer = rest.post("/tasks", said)

    assert repr(answer["data"]["metadata"]) == repr({"n": number})
    assert repr(answer["data"]["history"][0]["metadata"]) == repr({"n": [number]})


def test_why_a_task_failed_is_its_error(rest):
    task_id = new_task(rest)

    rest.post(
        f"/tasks/{task_id}/updates", {"state": "failed", "messages": [message("no such city", "agent")]}
    )

    assert Run.objects.get(pk=task_id).error == "no such city"


# ── After the end ──────────────────────────────────────────────────────────
def test_what_comes_after_the_end_changes_nothing_and_is_kept(rest):
    task_id = new_task(rest)
    _, before = rest.post(f"/tasks/{task_id}/updates", {"state": "canceled"})

    status, late = rest.post(
        f"/tasks/{task_id}/updates",
        {
            "state": "completed",
            "messages": [message("a\x00b", "agent")],
            "artifacts": [ARTIFACT],
            "metadata": {"a": 1},
        },
    )

    assert (status, late["late"], late["data"]) == (200, True, before["data"])
    kept = Event.objects.filter(run_id=task_id, kind="late_write").order_by("seq")
    assert [one.payload["kind"] for one in kept] == ["message", "artifact", "state", "state"]
    assert kept[0].full_payload["payload"]["parts"][0]["text"] == "a\x00b"


def test_what_follows_the_end_in_one_request_is_late_as_well(rest):
    task_id = new_task(rest)
    steps = [
        {"state": "completed", "messages": [message("a")]},
        {"state": "working", "messages": [message("b")]},
    ]

    _, answer = rest.post(f"/tasks/{task_id}/updates", {"updates": steps})

    assert answer["data"]["status"]["state"] == "completed"
    assert len(answer["data"]["history"]) == 2
    assert Event.objects.filter(run_id=task_id, kind="late_write").exists()


def test_a_step_back_after_the_end_is_late_in_the_same_request_too(rest):
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"state": "working"})

    rest.post(f"/tasks/{task_id}/updates", {"updates": [{"state": "completed"}, {"state": "working"}]})

    late = Event.objects.get(run_id=task_id, kind="late_write")
    assert late.payload["payload"] == {"to": "working", "raw": "working"}


@pytest.mark.parametrize("requests", [1, 2])
def test_the_same_end_said_again_is_nothing_new(rest, requests):
    task_id = new_task(rest)
    ends = [{"state": "canceled"}] * (2 // requests)
    for _ in range(requests):
        rest.post(f"/tasks/{task_id}/updates", {"updates": ends})

    assert not Event.objects.filter(run_id=task_id, kind="late_write").exists()


# ── Compare and swap ───────────────────────────────────────────────────────
def test_a_transition_moves_what_is_in_its_state(rest):
    task_id = new_task(rest)
    step = {"from": "submitted", "to": "working"}

    answers = [rest.post(f"/tasks/{task_id}/transition", step) for _ in range(2)]

    assert [answer["data"] for _, answer in answers] == [{"moved": True}, {"moved": False}]
    assert rest.get(f"/tasks/{task_id}")[1]["data"]["status"]["state"] == "working"


def test_a_transition_compares_the_state_and_not_our_status(rest):
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"state": "auth-required"})

    _, answer = rest.post(f"/tasks/{task_id}/transition", {"from": "input-required", "to": "working"})

    assert answer["data"] == {"moved": False}


def test_nothing_leaves_an_end(rest):
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"state": "completed"})

    _, answer = rest.post(f"/tasks/{task_id}/transition", {"from": "completed", "to": "working"})

    assert answer["data"] == {"moved": False}


# ── Cancelling ─────────────────────────────────────────────────────────────
def test_the_answer_to_a_write_says_that_a_cancel_was_asked_for(rest, alice):
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"state": "working"})
    request_cancel(Run.objects.get(pk=task_id), by="alice", reason="too slow")

    answers = [
        rest.post(f"/tasks/{task_id}/updates", {"messages": [message("still", "agent")]}),
        rest.post(f"/tasks/{task_id}/transition", {"from": "x", "to": "y"}),
        rest.post("/tasks", submission(task_id=task_id)),
    ]

    for _, answer in answers:
        asked = answer["cancel_requested"]
        assert (asked["by"], asked["reason"]) == ("alice", "too slow")


def test_an_agent_that_cancels_what_it_was_asked_to_has_acknowledged_it(rest):
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"state": "working"})
    rest.post(f"/tasks/{task_id}/cancel", {"reason": "enough"})

    _, answer = rest.post(f"/tasks/{task_id}/transition", {"from": "working", "to": "canceled"})

    run = Run.objects.get(pk=task_id)
    assert answer["data"] == {"moved": True}
    assert (run.status, run.cancel_reason) == ("cancelled", "enough")
    assert run.cancel_acknowledged_at is not None


def test_a_task_that_nobody_has_begun_is_cancelled_at_once(rest):
    task_id = new_task(rest)

    status, answer = rest.post(f"/tasks/{task_id}/cancel", b"")

    assert (status, answer["data"]["status"]["state"]) == (200, "canceled")
    assert answer["cancel_requested"]["by"] == "token tests"


def test_a_task_that_is_worked_at_goes_on_until_its_agent_ends_it(rest):
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"state": "working"})

    _, answer = rest.post(f"/tasks/{task_id}/cancel", {})

    assert answer["data"]["status"]["state"] == "working"
    assert answer["cancel_requested"]


# ── Whoever moves the run, the task says so ────────────────────────────────
def test_a_run_that_a_person_ends_is_a_task_that_has_ended(rest):
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"state": "working"})

    force_cancel(Run.objects.get(pk=task_id), by="alice", reason="hangs")

    assert rest.get(f"/tasks/{task_id}")[1]["data"]["status"]["state"] == "canceled"
    assert rest.get("/tasks/count", state="canceled")[1]["data"] == {"count": 1}


@pytest.mark.parametrize(
    ("to", "raw"),
    [
        *(("running", ""), ("running", "resumed"), ("running", "negotiation-x"), ("paused", "")),
        *(("input_required", "auth-required"), ("failed", "rejected"), ("failed", "")),
    ],
)
def test_the_row_and_the_run_say_the_same_state_whoever_moves_it(rest, to, raw):
    run = Run.objects.get(pk=new_task(rest))

    transition(run, Run.Status(to), raw_status=raw)
    run.refresh_from_db()
    assert state_of(run) == Task.objects.get(pk=run.pk).state

    force_cancel(run, by="x", reason="y")
    run.refresh_from_db()
    assert state_of(run) == Task.objects.get(pk=run.pk).state


def test_a_run_that_is_deleted_is_no_task_until_it_is_restored(rest):
    task_id = new_task(rest)
    runs = Run.objects.filter(pk=task_id)

    delete_runs(runs, "alice", "why")
    gone = rest.get(f"/tasks/{task_id}")[0], rest.get("/tasks")[1]["data"]
    restore_runs(runs, "alice", "why")

    assert gone == (404, [])
    assert rest.get(f"/tasks/{task_id}")[0] == 200


def test_a_task_that_was_begun_anew_stays_when_the_one_before_is_restored(rest):
    said = submission()
    task_id = said["message"]["task_id"]
    rest.post("/tasks", said)
    delete_runs(Run.objects.filter(pk=task_id), "alice", "why")
    rest.post("/tasks", submission("anew", task_id=task_id))

    restore_runs(Run.objects.filter(pk=task_id), "alice", "why")

    history = rest.get(f"/tasks/{task_id}")[1]["data"]["history"]
    assert [one["parts"][0]["text"] for one in history] == ["anew"]
    delete_runs(Run.objects.all(), "alice", "why")
    assert rest.get(f"/tasks/{task_id}")[0] == 404


# ── Reading ────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ["history_length", "historyLength"])
def test_the_last_messages_are_given_where_so_many_are_asked_for(rest, name):
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"messages": [message(str(number)) for number in range(5)]})

    def said(**query: int) -> list[str]:
        history = rest.get(f"/tasks/{task_id}", **query)[1]["data"]["history"]
        return [one["parts"][0]["text"] for one in history]

    assert said(**{name: 2}) == ["3", "4"]
    assert said(**{name: 0}) == said() == ["hello", "0", "1", "2", "3", "4"]


def test_tasks_are_listed_newest_first_page_by_page(rest):
    made = [new_task(rest) for _ in range(5)]
    _, first = rest.get("/tasks", limit=2)
    _, second = rest.get("/tasks", limit=2, cursor=first["next_cursor"])
    _, third = rest.get("/tasks", limit=2, cursor=second["next_cursor"])

    listed = [one["id"] for page in (first, second, third) for one in page["data"]]

    assert listed == made[::-1]
    assert third["next_cursor"] is None


def test_tasks_are_listed_oldest_first_page_by_page(rest):
    made = [new_task(rest) for _ in range(3)]
    _, first = rest.get("/tasks", limit=2, order="oldest")
    _, second = rest.get("/tasks", limit=2, order="oldest", cursor=first["next_cursor"])

    assert [one["id"] for page in (first, second) for one in page["data"]] == made


def test_tasks_are_listed_by_length_and_offset(rest):
    made = [new_task(rest) for _ in range(4)]

    def listed(**query: object) -> list[str]:
        return [one["id"] for one in rest.get("/tasks", order="oldest", **query)[1]["data"]]

    assert listed(length=2) == made[:2]
    assert listed(length=2, offset=1) == made[1:3]
    assert listed(offset=3) == made[3:]
    assert listed(length=0) == []


def test_a_list_has_what_was_said_and_made_or_the_last_of_it(rest):
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"messages": [message("b")], "artifacts": [ARTIFACT]})
    new_task(rest)

    _, whole = rest.get("/tasks")
    _, last = rest.get("/tasks", history_length=1)

    assert [len(one["history"]) for one in whole["data"]] == [1, 2]
    assert [len(one["history"]) for one in last["data"]] == [1, 1]
    assert whole["data"][1]["artifacts"] == [ARTIFACT]


def test_a_page_of_long_histories_ends_before_its_limit(rest, monkeypatch):
    monkeypatch.setattr("runs.api.tasks.PAGE_BYTES", 1000)
    made = [new_task(rest, text="x" * 400) for _ in range(4)]
    pages = [rest.get("/tasks")[1]]
    while cursor := pages[-1]["next_cursor"]:
        pages.append(rest.get("/tasks", cursor=cursor)[1])

    assert 1 < len(pages) <= 4
    assert [one["id"] for page in pages for one in page["data"]] == made[::-1]


def test_tasks_are_found_by_state_context_and_caller(rest):
    first = rest.post("/tasks", submission(caller="did:a"))[1]["data"]
    second = rest.post("/tasks", submission(caller="did:b"))[1]["data"]
    rest.post(f"/tasks/{second['id']}/updates", {"state": "completed"})

    def found(**query: str) -> list[str]:
        return [one["id"] for one in rest.get("/tasks", **query)[1]["data"]]

    assert found(state="submitted") == found(state="pending") == [first["id"]]
    assert found(state="completed") == found(state="succeeded") == [second["id"]]
    assert found(context_id=second["context_id"]) == [second["id"]]
    assert found(caller="did:a") == [first["id"]]
    assert rest.get("/tasks/count")[1]["data"] == {"count": 2}
    assert rest.get("/tasks/count", state="completed")[1]["data"] == {"count": 1}


# ── Whose it is ────────────────────────────────────────────────────────────
def test_another_callers_context_is_refused(rest):
    said = submission(caller="did:alice")
    rest.post("/tasks", said)

    status, answer = rest.post(
        "/tasks", submission(context_id=said["message"]["context_id"], caller="did:bob")
    )

    assert (status, answer["error"]["code"], answer["error"]["field"]) == (403, "owned_by_another", "caller")


@pytest.mark.parametrize("context", ["the task's", "a new one", "their own"])
@pytest.mark.parametrize("caller", ["did:bob", None])
def test_nobody_continues_another_callers_task_whatever_context_they_name(rest, caller, context):
    """CONTRACTS.md 2.4, the hole."""
    said = submission(caller="did:alice")
    task_id = said["message"]["task_id"]
    rest.post("/tasks", said)
    rest.post(f"/tasks/{task_id}/updates", {"state": "input-required"})
    theirs = submission(caller=caller)
    rest.post("/tasks", theirs)
    named = {
        "the task's": said["message"]["context_id"],
        "a new one": str(uuid4()),
        "their own": theirs["message"]["context_id"],
    }[context]

    status, answer = rest.post("/tasks", submission(task_id=task_id, context_id=named, caller=caller))

    assert (status, answer["error"]["code"]) == (403, "owned_by_another")
    task = rest.get(f"/tasks/{task_id}")[1]["data"]
    assert (task["status"]["state"], len(task["history"])) == ("input-required", 1)


def test_whose_a_task_is(rest):
    owned, unowned = new_task(rest, caller="did:a"), new_task(rest)

    assert rest.get(f"/tasks/{owned}/owner") == (200, {"data": {"caller": "did:a"}})
    assert rest.get(f"/tasks/{unowned}/owner") == (200, {"data": {"caller": None}})
    assert rest.get(f"/tasks/{uuid4()}/owner")[0] == 404


def test_a_named_caller_finds_their_own_tasks_alone(rest):
    task_id = new_task(rest, caller="did:a")

    assert rest.get(f"/tasks/{task_id}", caller="did:a")[0] == 200
    assert rest.get(f"/tasks/{task_id}", caller="did:b")[0] == 404
    assert rest.post(f"/tasks/{task_id}/updates", {"state": "working"}, caller="did:b")[0] == 404


def test_two_agents_use_the_same_ids_and_see_nothing_of_each_other(rest):
    said = submission()
    task_id, context_id = said["message"]["task_id"], said["message"]["context_id"]
    for room in ("one", "two"):
        assert rest.post("/tasks", said, namespace=room)[0] == 201

    rest.post(f"/tasks/{task_id}/updates", {"state": "completed"}, namespace="one")
    rest.delete(f"/contexts/{context_id}", namespace="one")

    assert rest.get(f"/tasks/{task_id}", namespace="one")[0] == 404
    assert rest.get(f"/tasks/{task_id}", namespace="two")[1]["data"]["status"]["state"] == "submitted"
    assert rest.get(f"/tasks/{task_id}")[0] == 404
    assert len(rest.get("/tasks", namespace="two")[1]["data"]) == 1
    assert Run.objects.filter(kind="task").count() == 2


def test_two_owners_use_the_same_ids_and_see_nothing_of_each_other(rest, strangers_rest):
    said = submission()
    path = f"/tasks/{said['message']['task_id']}"
    assert rest.post("/tasks", said)[0] == 201

    assert strangers_rest.get(path)[0] == 404
    assert strangers_rest.post("/tasks", said)[0] == 201
    strangers_rest.post(f"{path}/updates", {"state": "completed"})

    assert rest.get(path)[1]["data"]["status"]["state"] == "submitted"
    assert strangers_rest.get(path)[1]["data"]["status"]["state"] == "completed"


def test_a_token_that_may_only_read_writes_nothing(owner, rest):
    reader = Rest(Token.objects.issue(owner, "reader", ["read"])[1])
    task_id = new_task(rest)

    status, answer = reader.post(f"/tasks/{task_id}/updates", {"state": "working"})

    assert (status, answer["error"]["code"]) == (403, "not_allowed")
    assert reader.get(f"/tasks/{task_id}")[0] == 200


# ── Feedback ───────────────────────────────────────────────────────────────
def test_feedback_is_kept_as_it_came_and_counts_where_it_is_a_rating(rest):
    task_id = new_task(rest)
    given = [
        {"task_id": task_id, "feedback": "great", "rating": 5, "metadata": {"a": 1}, "timestamp": "x"},
        {"rating": 9, "feedback": "over the top"},
        {"rating": "4"},
        {"rating": True},
        {},
        {"rating": 2},
    ]

    for one in given:
        assert rest.post(f"/tasks/{task_id}/feedback", one) == (201, {"data": one})

    assert rest.get(f"/tasks/{task_id}/feedback")[1]["data"] == given
    assert Run.objects.get(pk=task_id).rating == 2


def test_a_rating_out_of_range_is_no_rating(rest):
    task_id = new_task(rest)

    rest.post(f"/tasks/{task_id}/feedback", {"rating": 9})

    run = Run.objects.get(pk=task_id)
    assert (run.rating, run.feedback.get().raw) == (None, {"rating": 9})


def test_feedback_may_come_after_the_end(rest):
    task_id = new_task(rest)
    rest.post(f"/tasks/{task_id}/updates", {"state": "completed"})

    assert rest.post(f"/tasks/{task_id}/feedback", {"rating": 3})[0] == 201


# ── Push configuration ─────────────────────────────────────────────────────
CONFIG = {"id": "6226507c", "url": "http://127.0.0.1:18557/push2?x=1", "token": "t\x00k", "own": [1]}


def test_a_push_configuration_is_kept_sealed_and_given_back(rest):
    task_id = new_task(rest)
    path = f"/tasks/{task_id}/push-config"

    assert rest.get(path)[0] == 404
    assert rest.put(path, {"id": "another"})[0] == 200
    assert rest.put(path, CONFIG)[0] == 200

    assert rest.get(path) == (200, {"data": CONFIG})
    assert rest.get("/tasks/push-configs")[1]["data"] == {task_id: CONFIG}
    assert b"18557" not in bytes(Task.objects.get(pk=task_id).push_config)


def test_a_deleted_push_configuration_is_gone(rest):
    task_id = new_task(rest)
    path = f"/tasks/{task_id}/push-config"
    rest.put(path, CONFIG)

    assert [rest.delete(path)[0] for _ in range(2)] == [200, 200]

    assert rest.get(path)[0] == 404
    assert rest.get("/tasks/push-configs")[1]["data"] == {}


def test_one_that_another_key_sealed_says_so_and_hides_no_other(rest, settings):
    lost, kept = new_task(rest), new_task(rest)
    rest.put(f"/tasks/{lost}/push-config", CONFIG)
    settings.SECRET_KEY = "another one"
    rest.put(f"/tasks/{kept}/push-config", CONFIG)

    status, answer = rest.get(f"/tasks/{lost}/push-config")

    assert (status, answer["error"]["code"]) == (409, "unsealable")
    assert "SECRET_KEY_FALLBACKS" in answer["error"]["message"]
    assert rest.get("/tasks/push-configs") == (200, {"data": {kept: CONFIG}})


def test_what_is_secret_in_it_is_in_no_page_and_no_kept_answer(rest, signed_in, owner):
    task_id = new_task(rest)

    _, answer = rest.put(f"/tasks/{task_id}/push-config", CONFIG, key="k")

    assert "18557" not in str(answer)
    assert "18557" not in owner.kept_answers.get().body
    for tab in ("transcript", "metadata", "raw", "deliveries"):
        assert "18557" not in signed_in.get(f"/runs/{task_id}?tab={tab}").content.decode()


# ── What is refused ────────────────────────────────────────────────────────
def test_what_is_unknown_is_404_in_our_own_shape(rest):
    unknown = str(uuid4())
    for status, answer in (
        rest.get(f"/tasks/{unknown}"),
        rest.post(f"/tasks/{unknown}/updates", {"state": "working"}),
        rest.post(f"/tasks/{unknown}/transition", {"from": "a", "to": "b"}),
        rest.post(f"/tasks/{unknown}/cancel", {}),
        rest.post(f"/tasks/{unknown}/feedback", {}),
        rest.get(f"/tasks/{unknown}/feedback"),
        rest.put(f"/tasks/{unknown}/push-config", {}),
        rest.delete(f"/tasks/{unknown}/push-config"),
    ):
        error = answer["error"]
        assert (status, error["code"], error["field"]) == (404, "not_found", "task_id")
        assert error["message"] == f"Task {unknown} not found"
        assert error["request_id"]


BAD = {
    "no message": ({}, "message"),
    "a message that is no object": ({"message": "hello"}, "message"),
    "a bad task id": ({"message": {"task_id": "zz"}}, "message.task_id"),
    "a number for an id": ({"message": {"context_id": 7}}, "message.context_id"),
    "two task ids": ({"message": {"task_id": str(uuid4())}, "task_id": str(uuid4())}, "task_id"),
    "a caller with a NUL": ({"message": {}, "caller": "a\x00b"}, "caller"),
    "a caller that is too long": ({"message": {}, "caller": "x" * 256}, "caller"),
    "an agent that is no text": ({"message": {}, "agent": 5}, "agent"),
    "metadata that is a list": ({"message": {}, "metadata": []}, "metadata"),
}


@pytest.mark.parametrize(("body", "field"), BAD.values(), ids=BAD)
def test_a_bad_submission_is_refused_and_names_its_field(rest, body, field):
    status, answer = rest.post("/tasks", body)

    assert (status, answer["error"]["code"], answer["error"]["field"]) == (422, "invalid", field)
    assert not Run.objects.exists()


BAD_UPDATES = {
    "a state that is a number": ({"state": 5}, "state"),
    "an empty state": ({"state": ""}, "state"),
    "a state with a NUL": ({"state": "a\x00"}, "state"),
    "a state that is too long": ({"state": "x" * 101}, "state"),
    "messages that are no list": ({"messages": {}}, "messages"),
    "a message that is no object": ({"messages": [{}, 5]}, "messages.1"),
    "an artifact that is no object": ({"artifacts": ["x"]}, "artifacts.0"),
    "one bad of several": ({"updates": [{}, {"state": 7}]}, "updates.1.state"),
}


@pytest.mark.parametrize(("body", "field"), BAD_UPDATES.values(), ids=BAD_UPDATES)
def test_a_bad_update_is_refused_and_names_its_field(rest, body, field):
    task_id = new_task(rest)

    status, answer = rest.post(f"/tasks/{task_id}/updates", body)

    assert (status, answer["error"]["field"]) == (422, field)
    assert Run.objects.get(pk=task_id).event_count == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"nul", b"\xff", b'{"message": {"n": 1e400}}', b"[" * 1000, b'{"message": NaN}'],
    ids=["nothing", "half", "no word", "no UTF-8", "1e400", "deep", "NaN"],
)
def test_what_is_no_json_is_refused(rest, data):
    status, answer = rest.post("/tasks", data)

    assert (status, answer["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/tasks/zz", {}, "task_id"),
        ("/tasks", {"cursor": "zz"}, "cursor"),
        ("/tasks", {"limit": 0}, "limit"),
        ("/tasks", {"length": -1}, "length"),
        ("/tasks", {"offset": 2**64}, "offset"),
        ("/tasks", {"order": "best"}, "order"),
        ("/tasks", {"context_id": "zz"}, "context_id"),
        ("/tasks", {"namespace": "x" * 256}, "namespace"),
    ],
)
def test_a_bad_address_is_refused_and_names_its_field(rest, path, query, field):
    status, answer = rest.get(path, **query)

    assert (status, answer["error"]["code"], answer["error"]["field"]) == (422, "invalid", field)


def test_every_refusal_has_our_own_shape(rest):
    nobody = Rest("no token")
    for status, answer in (
        nobody.get("/tasks"),
        rest.put("/tasks", {}),
        rest.get("/tasks/zz"),
        rest.post("/tasks", b"{"),
    ):
        assert status >= 400
        assert set(answer["error"]) == {"code", "message", "field", "request_id"}


# ── Names of the run ───────────────────────────────────────────────────────
def test_a_task_whose_id_is_another_runs_has_a_run_of_its_own(rest, make_run):
    other = make_run()

    status, answer = rest.post("/tasks", submission(task_id=str(other.pk)))

    assert (status, answer["data"]["id"]) == (201, str(other.pk))
    assert Task.objects.get(task_id=other.pk).run_id != other.pk


def test_nothing_is_told_of_who_has_an_id(strangers_rest, make_run, rest):
    other = make_run()
    said = submission(task_id=str(other.pk))

    theirs, mine = strangers_rest.post("/tasks", said), strangers_rest.post("/tasks", submission())

    assert theirs[0] == mine[0] == 201
    assert Owner.objects.count() == 2
