"""/a2a: reading, rating, cancelling and clearing by JSON-RPC in Bindu's wire format (CONTRACTS.md 2.5)."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from django.db import connections
from django.test import Client

from runs.models import Event, Feedback, NewEvent, Run, Session, append_events, put_artifact, restore_runs
from runs.models.context import Context
from runs.models.deletion import delete_runs
from runs.models.task import Task, Update, task_feedback
from tests.api.a2a import Rpc, artifact, completed, message, reported, rpc_of, submitted
from tests.pages.helpers import make_task, said


@pytest.fixture
def rpc(token: str) -> Rpc:
    return Rpc(token)


# ── tasks/get ──────────────────────────────────────────────────────────────
def test_a_task_comes_back_as_bindu_writes_it(rpc, owner):
    first, answer, made = message("hello"), message("echo: hello", "agent"), artifact("echo: hello")
    task = submitted(owner, namespace="did_echo")
    reported(task, Update("working"), Update("completed", [made], [answer], {"a": 1}))

    result = rpc.result("tasks/get", taskId=str(task.task_id))

    ids = {"task_id": str(task.task_id), "context_id": str(task.context.context_id)}
    assert result.keys() == {"id", "context_id", "kind", "status", "history", "artifacts", "metadata"}
    assert (result["id"], result["context_id"], result["kind"]) == (*ids.values(), "task")
    assert result["status"] == {"state": "completed", "timestamp": result["status"]["timestamp"]}
    assert result["status"]["timestamp"].endswith("+00:00")
    assert [one["parts"] for one in result["history"]] == [first["parts"], answer["parts"]]
    assert result["history"][1] == {**answer, **ids}
    assert result["artifacts"] == [made]
    assert result["metadata"] == {"a": 1}


@pytest.mark.parametrize("params", ["taskId", "task_id"])
def test_both_spellings_of_a_parameter_are_read(rpc, owner, params):
    task = completed(owner)
    assert rpc.result("tasks/get", **{params: str(task.task_id)})["id"] == str(task.task_id)


@pytest.mark.parametrize(
    ("length", "texts"), [(1, ["3"]), (2, ["2", "3"]), (0, ["1", "2", "3"]), (9, ["1", "2", "3"])]
)
def test_history_length_gives_the_last_messages(rpc, owner, length, texts):
    task = submitted(owner, "1")
    reported(task, Update("working", (), [message("2", "agent"), message("3", "agent")]))

    history = rpc.result("tasks/get", taskId=str(task.task_id), historyLength=length)["history"]

    assert [one["parts"][0]["text"] for one in history] == texts


def test_any_text_comes_back_exactly(rpc, owner):
    text = "a\x00b\ud800c 😀 <script>"
    task = submitted(owner, text, metadata={text: [text, 2**64, 1e300]})
    reported(task, Update("completed", [artifact(text)]))

    result = rpc.result("tasks/get", taskId=str(task.task_id))

    assert result["history"][0]["parts"][0]["text"] == text
    assert result["artifacts"][0]["parts"][0]["text"] == text
    assert result["metadata"] == {text: [text, 2**64, 1e300]}


@pytest.mark.parametrize("request_id", ["aa4075ca-3056-47e1-aab5-ccb020127272", 7, "seven", 2**70, "\ud800"])
def test_the_id_of_the_request_comes_back(rpc, owner, request_id):
    answer = rpc.call("tasks/list", request_id=request_id)[1]
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", request_id)


def test_an_unknown_task_is_not_found(rpc):
    assert rpc.error("tasks/get", taskId=str(uuid4())) == (200, -32001, "Task not found")


def test_the_address_may_end_with_a_slash(token, owner):
    task = completed(owner)
    assert Rpc(token, "/a2a/").result("tasks/get", taskId=str(task.task_id))["id"] == str(task.task_id)


# ── Rooms of agents ────────────────────────────────────────────────────────
def test_the_tasks_of_every_agent_are_served_and_namespace_narrows(token, rpc, owner):
    ids = {str(completed(owner, namespace=room).task_id) for room in ("one", "two", "")}
    only = Rpc(token, "/a2a?namespace=one")

    assert {task["id"] for task in rpc.result("tasks/list")} == ids
    assert len(only.result("tasks/list")) == len(only.result("contexts/list")) == 1


def test_an_id_that_two_agents_have_asks_for_the_namespace(token, rpc, owner):
    task_id = uuid4()
    for room in ("one", "two"):
        submitted(owner, room, task_id=task_id, namespace=room)

    status, code, text = rpc.error("tasks/get", taskId=str(task_id))
    task = Rpc(token, "/a2a?namespace=two").result("tasks/get", taskId=str(task_id))

    assert (status, code) == (400, -32700)
    assert "?namespace=" in text
    assert task["history"][0]["parts"][0]["text"] == "two"


# ── What came by other ways ────────────────────────────────────────────────
def test_a_task_of_another_way_in_is_an_a2a_task(rpc, owner):
    session = Session.objects.open(owner, "otlp", "conversation-7")
    run = make_task(owner, said("hi", "user"), said("hello", "assistant"), session=session, status="running")
    append_events(run, [NewEvent(Event.Kind.TOOL_CALL, {"name": "search"})])
    put_artifact(run, "report", "report.csv", [{"kind": "data", "data": {"rows": 2}}])
    put_artifact(run, "scan", "scan.bin", content=b"\x00\x01", media_type="application/octet-stream")

    task = rpc.result("tasks/get", taskId=str(run.pk))

    assert (task["id"], task["context_id"]) == (str(run.pk), str(session.pk))
    assert task["status"]["state"] == "working"
    assert [(one["role"], one["parts"][0]["text"]) for one in task["history"]] == [
        ("user", "hi"),
        ("agent", "hello"),
    ]
    assert all(UUID(one["message_id"]) and one["task_id"] == task["id"] for one in task["history"])
    assert task["artifacts"] == [
        {
            "artifact_id": "report",
            "name": "report.csv",
            "parts": [{"kind": "data", "text": "", "data": {"rows": 2}}],
        },
        {
            "artifact_id": "scan",
            "name": "scan.bin",
            "parts": [
                {
                    "kind": "file",
                    "text": "",
                    "file": {"name": "scan.bin", "mimeType": "application/octet-stream", "bytes": "AAE="},
                }
            ],
        },
    ]
    assert rpc.result("tasks/list")[0] == task
    assert rpc.result("contexts/list") == [
        {"context_id": str(session.pk), "task_count": 1, "task_ids": [str(run.pk)]}
    ]


@pytest.mark.parametrize(
    ("status", "raw", "state"),
    [
        ("queued", "", "submitted"),
        ("running", "running", "working"),
        ("input_required", "waiting_for_confirmation", "input-required"),
        ("paused", "", "suspended"),
        ("succeeded", "finished", "completed"),
        ("failed", "stuck", "failed"),
        ("cancelled", "deleting", "canceled"),
    ],
)
def test_its_state_is_in_a2as_words(rpc, owner, status, raw, state):
    ended = "now" if status in ("succeeded", "failed", "cancelled") else None
    fields = {"finished_at": "2026-01-01T00:00:00Z"} if ended else {}
    run = make_task(owner, status=status, raw_status=raw, **fields)
    assert rpc.result("tasks/get", taskId=str(run.pk))["status"]["state"] == state


def test_an_evaluation_is_no_task(rpc, make_run):
    run = make_run()
    assert rpc.error("tasks/get", taskId=str(run.pk))[1] == -32001
    assert rpc.result("tasks/list") == []


# ── tasks/list ─────────────────────────────────────────────────────────────
@pytest.fixture
def five(owner) -> list[str]:
    """The ids of five tasks, newest first."""
    return [str(completed(owner, str(number)).task_id) for number in range(5)][::-1]


def test_a_list_is_everything_newest_first_with_its_history(rpc, five):
    tasks = rpc.result("tasks/list")
    assert [task["id"] for task in tasks] == five
    assert all(len(task["history"]) == 2 for task in tasks)
    assert rpc.next_cursor is None


def test_a_task_that_was_begun_anew_is_listed_once_when_the_one_before_is_restored(rpc, owner):
    before = submitted(owner)
    delete_runs(Run.objects.filter(pk=before.run_id), "alice", "why")
    submitted(owner, "anew", before.context.context_id, task_id=before.task_id)
    restore_runs(Run.objects.filter(pk=before.run_id), "alice", "why")

    (task,), (context,) = rpc.result("tasks/list"), rpc.result("contexts/list")

    assert task["history"][0]["parts"][0]["text"] == "anew"
    assert context["task_ids"] == [str(before.task_id)]


@pytest.mark.parametrize("name", ["limit", "length"])
def test_a_limit_works_and_the_cursor_leads_on(rpc, five, name):
    pages, more = [], {}
    while True:
        pages.append([task["id"] for task in rpc.result("tasks/list", **{name: 2}, **more)])
        if rpc.next_cursor is None:
            break
        more = {"cursor": rpc.next_cursor}
    assert pages == [five[:2], five[2:4], five[4:]]


def test_length_and_offset_page_as_well(rpc, five):
    assert [task["id"] for task in rpc.result("tasks/list", length=2, offset=3)] == five[3:]
    assert rpc.result("tasks/list", length=0) == []


def test_a_list_honours_history_length(rpc, five):
    assert [len(task["history"]) for task in rpc.result("tasks/list", historyLength=1)] == [1] * 5


def test_a_list_narrows_to_a_state_and_a_context(rpc, owner, five):
    context_id = uuid4()
    open_task = submitted(owner, "more", context_id)
    asking = submitted(owner, "ask", context_id)
    reported(asking, Update("auth-required"))
    rejected = submitted(owner, "no")
    reported(rejected, Update("rejected"))

    def ids(**params: str) -> list[str]:
        return [task["id"] for task in rpc.result("tasks/list", **params)]

    assert ids(state="completed") == ids(state="succeeded") == five
    assert ids(state="submitted") == [str(open_task.task_id)]
    assert ids(state="auth-required") == [str(asking.task_id)]
    assert ids(state="rejected") == [str(rejected.task_id)]
    assert ids(state="failed") == ids(state="input-required") == ids(state="no such word") == []
    assert ids(contextId=str(context_id)) == [str(asking.task_id), str(open_task.task_id)]
    assert ids(contextId=str(uuid4())) == []


def test_a_list_without_a_limit_ends_where_the_answer_would_be_too_large(rpc, five, monkeypatch):
    monkeypatch.setattr("runs.api.a2a.tasks.LARGEST", 1)
    assert [task["id"] for task in rpc.result("tasks/list")] == five[:1]
    assert rpc.next_cursor
    assert [task["id"] for task in rpc.result("tasks/list", cursor=rpc.next_cursor)] == five[1:2]


# ── tasks/cancel ───────────────────────────────────────────────────────────
@pytest.mark.parametrize("state", ["submitted", "working", "input-required", "auth-required"])
def test_cancel_ends_an_open_task_at_once_and_says_so(rpc, owner, state):
    task = submitted(owner)
    reported(task, Update(state))

    answer = rpc.result("tasks/cancel", taskId=str(task.task_id))

    run = Run.objects.get(pk=task.run_id)
    assert answer["status"]["state"] == "canceled"
    assert (run.status, run.cancel_requested_by) == ("cancelled", "token tests")
    assert run.cancel_requested_at is not None
    assert run.cancel_acknowledged_at is None  # the agent has not heard of it yet
    assert not Event.objects.filter(run=run, kind="late_write").exists()


def test_what_the_agent_still_says_of_a_cancelled_task_is_late(rpc, owner):
    task = submitted(owner)
    reported(task, Update("working"))
    rpc.result("tasks/cancel", taskId=str(task.task_id))

    assert reported(task, Update("completed", [artifact("done")], [message("done", "agent")])) is False

    after = rpc.result("tasks/get", taskId=str(task.task_id))
    assert (after["status"]["state"], len(after["history"]), after["artifacts"]) == ("canceled", 1, [])


@pytest.mark.parametrize("state", ["completed", "failed", "rejected", "canceled"])
def test_a_task_that_has_ended_cannot_be_cancelled(rpc, owner, state):
    task = submitted(owner)
    reported(task, Update(state))

    assert rpc.error("tasks/cancel", taskId=str(task.task_id)) == (
        200,
        -32001,
        f"Task cannot be canceled in '{state}' state. Tasks can only be canceled while pending or running.",
    )


def test_a_task_of_another_way_in_is_cancelled_alike(rpc, owner):
    run = make_task(owner, said("hi"))
    assert rpc.result("tasks/cancel", taskId=str(run.pk))["status"]["state"] == "canceled"
    run.refresh_from_db()
    assert run.status == "cancelled"


# ── tasks/feedback ─────────────────────────────────────────────────────────
def test_feedback_is_kept_as_bindu_keeps_it(rpc, owner):
    task = completed(owner)

    answer = rpc.result(
        "tasks/feedback", taskId=str(task.task_id), feedback="great", rating=5, metadata={"a": 1}
    )

    (kept,) = task_feedback(task)
    assert answer == {"message": "Feedback submitted successfully", "task_id": str(task.task_id)}
    assert kept == {
        "task_id": str(task.task_id),
        "feedback": "great",
        "rating": 5,
        "metadata": {"a": 1},
        "timestamp": kept["timestamp"],
    }
    assert Feedback.objects.get(run=task.run_id).rating == 5


def test_rating_and_metadata_may_be_left_out(rpc, owner):
    task = completed(owner)
    rpc.result("tasks/feedback", taskId=str(task.task_id), feedback="fine")
    (kept,) = task_feedback(task)
    assert kept.keys() == {"task_id", "feedback", "timestamp"}


def test_a_rating_outside_of_1_to_5_is_kept_and_counts_as_none(rpc, owner):
    task = completed(owner)
    rpc.result("tasks/feedback", taskId=str(task.task_id), feedback="wow", rating=9)
    assert task_feedback(task)[0]["rating"] == 9
    assert Feedback.objects.get(run=task.run_id).rating is None


def test_feedback_on_a_task_of_another_way_in_counts(rpc, owner):
    run = make_task(owner, said("hi"))
    rpc.result("tasks/feedback", taskId=str(run.pk), feedback="ok", rating=4)
    assert Feedback.objects.get(run=run).rating == 4


# ── Contexts ───────────────────────────────────────────────────────────────
def test_contexts_are_listed_newest_first_with_their_tasks_in_order(rpc, owner):
    contexts = [uuid4(), uuid4(), uuid4()]
    tasks = [[str(submitted(owner, "x", one).task_id) for _ in range(2)] for one in contexts]

    listed = rpc.result("contexts/list")

    assert (
        listed
        == [
            {"context_id": str(one), "task_count": 2, "task_ids": ids}
            for one, ids in zip(contexts, tasks, strict=True)
        ][::-1]
    )
    assert rpc.result("contexts/list", historyLength=1) == listed[:1]
    assert rpc.result("contexts/list", length=1, offset=1) == listed[1:2]
    assert rpc.result("contexts/list", limit=2) == listed[:2]
    assert rpc.result("contexts/list", cursor=rpc.next_cursor) == listed[2:]


def test_a_session_of_evaluations_alone_is_no_context(rpc, owner, make_run):
    make_run(session=Session.objects.open(owner, "api", "nightly"))
    assert rpc.result("contexts/list") == []


def test_clear_takes_a_context_and_its_tasks_away(rpc, owner):
    task, other = completed(owner), completed(owner)
    context_id = str(task.context.context_id)

    answer = rpc.result("contexts/clear", contextId=context_id)

    assert answer == {"message": f"Context {context_id} and all associated tasks cleared successfully"}
    assert rpc.error("tasks/get", taskId=str(task.task_id))[1] == -32001
    assert [one["id"] for one in rpc.result("tasks/list")] == [str(other.task_id)]
    assert [one["task_ids"] for one in rpc.result("contexts/list")] == [[str(other.task_id)]]
    assert Run.objects.get(pk=task.run_id).deleted_at is not None  # and can be restored


def test_a_session_of_another_way_in_is_cleared_alike(rpc, owner):
    session = Session.objects.open(owner, "otlp", "conversation-7")
    run = make_task(owner, said("hi"), session=session)
    rpc.result("contexts/clear", contextId=str(session.pk))
    assert rpc.error("tasks/get", taskId=str(run.pk))[1] == -32001


def test_an_unknown_context_is_named_in_the_refusal(rpc):
    context_id = str(uuid4())
    found = rpc.error("contexts/clear", contextId=context_id)
    assert found == (200, -32001, f"Context {context_id} not found")


# ── What is not done here ──────────────────────────────────────────────────
@pytest.mark.parametrize("method", ["message/send", "message/stream"])
def test_messages_are_refused_with_what_to_do_instead(rpc, method):
    params = {"message": message("hi"), "configuration": {"acceptedOutputModes": []}}
    status, answer = rpc.call(method, params)
    assert (status, answer["error"]["code"]) == (200, -32004)
    assert "Send the message to the agent itself" in answer["error"]["message"]


def test_resubscribing_is_not_implemented(rpc):
    assert rpc.error("tasks/resubscribe", taskId=str(uuid4()))[:2] == (404, -32601)


# ── The card ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize("address", ["/a2a/.well-known/agent.json", "/.well-known/agent.json"])
def test_the_card_says_what_runfolio_is_and_where(db, settings, address):
    settings.PUBLIC_URL = "https://runs.example.com"

    card = json.loads(Client().get(address).content)

    assert (card["name"], card["url"]) == ("Runfolio", "https://runs.example.com/a2a")
    assert card["capabilities"]["pushNotifications"] is True
    assert card["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert all({"id", "name", "description", "tags"} <= skill.keys() for skill in card["skills"])
    assert {"protocolVersion", "defaultInputModes", "agentTrust"} <= card.keys()


# ── Who may ────────────────────────────────────────────────────────────────
METHODS = {
    "tasks/get": ("read", "taskId"),
    "tasks/list": ("read", None),
    "tasks/cancel": ("write", "taskId"),
    "tasks/feedback": ("write", "taskId"),
    "contexts/list": ("read", None),
    "contexts/clear": ("write", "contextId"),
    "tasks/pushNotificationConfig/set": ("write", "id"),
    "tasks/pushNotificationConfig/get": ("write", "taskId"),
    "tasks/pushNotificationConfig/list": ("write", "id"),
    "tasks/pushNotificationConfig/delete": ("write", "id"),
}


def params_of(method: str, task: Task) -> dict:
    ids = {"contextId": task.context.context_id, "taskId": task.task_id, "id": task.task_id}
    name = METHODS[method][1]
    config = {"id": str(uuid4()), "url": "https://93.184.216.34/hook"}
    return {
        **({name: str(ids[name])} if name else {}),
        "feedback": "x",
        "pushNotificationConfigId": config["id"],
        "pushNotificationConfig": config,
    }


@pytest.mark.parametrize("secret", ["", "rf_wrong", "\xe9"])
def test_without_a_good_token_it_is_401(db, secret):
    rpc = Rpc(secret)
    status, answer = rpc.call("tasks/list")
    assert (status, answer["error"]["code"], answer["id"]) == (401, -32009, None)


def test_the_session_cookie_is_no_token(signed_in):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tasks/list", "params": {}})
    answer = signed_in.post("/a2a", body, content_type="application/json")
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("method", METHODS)
def test_each_method_needs_its_scope(owner, method):
    needed = METHODS[method][0]
    task = submitted(owner)
    other = "read" if needed == "write" else "write"

    status, code, text = rpc_of(owner, other).error(method, **params_of(method, task))

    assert (status, code) == (403, -32013)
    assert f"scope {needed}" in text
    assert rpc_of(owner, needed).call(method, params_of(method, task))[0] == 200


@pytest.mark.parametrize("method", [name for name, (_, param) in METHODS.items() if param])
def test_what_is_anothers_looks_as_what_is_missing(owner, stranger, method):
    task = submitted(owner)
    theirs = make_task(owner, said("hi"), session=Session.objects.open(owner, "otlp", "x"))
    foreign = rpc_of(stranger.memberships.get().owner)

    found = [
        foreign.call(method, params_of(method, one))
        for one in (task, _like(theirs), Task(task_id=uuid4(), context=_context(uuid4())))
    ]

    answers = [
        (status, answer["error"]["code"], _plain(answer["error"]["message"])) for status, answer in found
    ]
    assert answers[0] == answers[1] == answers[2]
    assert Run.objects.filter(status="cancelled").count() == Feedback.objects.count() == 0


def _like(run: Run) -> Task:
    return Task(task_id=run.pk, context=_context(run.session_id))


def _context(context_id: UUID) -> Context:
    return Context(context_id=context_id)


def _plain(text: str) -> str:
    return " ".join(word for word in text.split() if len(word) != 36)


def test_lists_hold_nothing_of_others(owner, stranger):
    completed(owner)
    make_task(owner, said("hi"), session=Session.objects.open(owner, "otlp", "x"))
    foreign = rpc_of(stranger.memberships.get().owner)
    assert foreign.result("tasks/list") == foreign.result("contexts/list") == []


# ── Several at once ────────────────────────────────────────────────────────
def test_of_many_cancels_at_once_one_cancels(committed_db, owner, token):
    task = submitted(owner)
    reported(task, Update("working"))
    together = Barrier(8)

    def cancel(_: int) -> bool:
        together.wait()
        answer = Rpc(token).call("tasks/cancel", {"taskId": str(task.task_id)})[1]
        connections.close_all()
        return "result" in answer

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(cancel, range(8))) == 1
    assert Event.objects.filter(run=task.run_id, kind="late_write").count() == 0
