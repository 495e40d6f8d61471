"""POST /api/push: push notifications of agents that keep their tasks elsewhere (CONTRACTS.md 2.6)."""

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from runs.models import Event, Run, Token
from runs.models.context import Context, clear_context
from runs.models.task import Task, Update
from tests.api.a2a import Rpc, artifact, message, reported, submitted

START = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)
TASK, CONTEXT = str(uuid4()), str(uuid4())


class Agent:
    """Sends notifications with a token; each comes a second after the one before."""

    def __init__(self, secret: str, query: str = "") -> None:
        self.client = Client(raise_request_exception=False)
        self.headers = {"Authorization": f"Bearer {secret}"}
        self.address = f"/api/push{query}"
        self.rpc = Rpc(secret)

    def send(self, body: Any) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body)
        response = self.client.post(self.address, data, content_type="application/json", headers=self.headers)
        return response.status_code, json.loads(response.content)

    def take(self, *bodies: Any) -> Any:
        """Sends them all and gives the last answer's data."""
        for body in bodies:
            status, answer = self.send(body)
            assert (status, answer.get("error")) == (200, None)
        return answer["data"]

    def task(self, task_id: str = TASK) -> Any:
        return self.rpc.result("tasks/get", taskId=task_id)


@pytest.fixture
def agent(token: str) -> Agent:
    return Agent(token, "?namespace=did_echo&agent=echo")


def update(state: str, second: int, text: str = "", **more: Any) -> dict[str, Any]:
    """As Bindu writes it."""
    at = (START + timedelta(seconds=second)).isoformat()
    status: dict[str, Any] = {"state": state, "timestamp": at}
    if text:
        parts = [{"kind": "text", "text": text}]
        status["message"] = {"role": "agent", "kind": "message", "parts": parts}
    final = state in ("completed", "failed", "canceled")
    return _event("status-update", second, at, status=status, final=final, **more)


def made(text: str, second: int, **more: Any) -> dict[str, Any]:
    at = (START + timedelta(seconds=second)).isoformat()
    return _event("artifact-update", second, at, artifact=artifact(text), **more)


def _event(kind: str, sequence: int, at: str, **more: Any) -> dict[str, Any]:
    ids = {"event_id": str(uuid4()), "task_id": TASK, "context_id": CONTEXT}
    return {**ids, "sequence": sequence, "timestamp": at, "kind": kind, **more}


def said(task: Any) -> list[str]:
    return [one["parts"][0]["text"] for one in task["history"]]


# ── What it builds ─────────────────────────────────────────────────────────
def test_a_task_that_is_not_known_is_made(agent, owner):
    last = made("42", 3)
    told = agent.take(update("working", 1), update("input-required", 2, "Which city?"), last)
    assert told["state"] == "input-required"

    agent.take(update("completed", 4))

    task, run = agent.task(), Run.objects.get()
    assert task["status"] == {"state": "completed", "timestamp": "2026-11-20T23:00:04.000000+00:00"}
    assert (task["context_id"], said(task), task["artifacts"]) == (
        CONTEXT,
        ["Which city?"],
        [last["artifact"]],
    )
    assert (run.owner, run.agent, run.status, run.task.namespace) == (owner, "echo", "succeeded", "did_echo")


def test_a_notification_that_comes_again_is_taken_once(agent):
    bodies = [update("input-required", 1, "Which city?"), made("42", 2)]
    first = [agent.send(body) for body in bodies]

    assert [agent.send(body) for body in bodies] == first

    task = agent.task()
    assert (len(task["history"]), len(task["artifacts"])) == (1, 1)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_any_order_makes_the_same_task(agent, order):
    bodies = [
        update("working", 1),
        update("input-required", 2, "Sure?"),
        made("42", 3),
        update("completed", 4),
    ]

    agent.take(*(bodies[place] for place in order))

    task = agent.task()
    assert task["status"] == {"state": "completed", "timestamp": "2026-11-20T23:00:04.000000+00:00"}
    assert (said(task), task["artifacts"]) == (["Sure?"], [bodies[2]["artifact"]])
    assert not Event.objects.filter(kind="late_write").exists()


def test_a_sequence_that_begins_anew_is_no_step_back(agent):
    agent.take(update("working", 5), {**update("input-required", 6), "sequence": 1})
    assert agent.task()["status"]["state"] == "input-required"


def test_an_agent_may_ask_the_same_twice(agent):
    agent.take(
        update("input-required", 1, "Sure?"), update("working", 2), update("input-required", 3, "Sure?")
    )
    assert said(agent.task()) == ["Sure?", "Sure?"]


def test_a_final_state_stays_and_what_comes_after_it_is_late(agent):
    agent.take(update("canceled", 1))

    assert agent.take(update("completed", 2, "done"))["late"] is True
    assert agent.take(made("42", 3))["late"] is True

    task = agent.task()
    assert (task["status"]["state"], task["history"], task["artifacts"]) == ("canceled", [], [])
    assert Event.objects.filter(kind="late_write").count() == 3


def test_any_text_is_kept_exactly(agent):
    text = "a\x00b\ud800c"
    body = made(text, 2)
    agent.take(update("input-required", 1, text), body)
    assert (said(agent.task()), agent.task()["artifacts"]) == ([text], [body["artifact"]])


def test_an_agent_learns_that_its_task_is_to_be_cancelled(agent):
    agent.take(update("working", 1))
    agent.rpc.result("tasks/cancel", taskId=TASK)

    status, answer = agent.send(update("working", 2))

    assert (status, answer["data"]["state"]) == (200, "canceled")
    assert answer["cancel_requested"]["by"] == "token tests"


# ── Agents that also write here ────────────────────────────────────────────
def test_what_the_agent_wrote_here_itself_is_not_added_again(agent, owner):
    task = submitted(owner, namespace="did_echo")
    question, result = message("Sure?", "agent"), artifact("42")
    reported(task, Update("input-required", [result], [question]))
    ids = {"task_id": str(task.task_id), "context_id": str(task.context.context_id)}
    now = (datetime.now(UTC) + timedelta(seconds=1) - START).total_seconds()

    agent.take(
        update("input-required", now, "Sure?", **ids), {**made("", now + 1, **ids), "artifact": result}
    )

    after = agent.task(ids["task_id"])
    assert (said(after), after["artifacts"]) == (["hello", "Sure?"], [result])


def test_nothing_comes_back_of_a_task_that_was_cleared(agent, owner):
    agent.take(update("working", 1))
    clear_context(Context.objects.get(), "alice", "done with")

    agent.take(update("completed", 2, "done"), made("42", 3))

    assert agent.rpc.result("tasks/list") == []
    assert Task.objects.count() == 1


# ── Whose they are ─────────────────────────────────────────────────────────
def test_two_agents_may_have_the_same_ids(token):
    for room in ("one", "two"):
        Agent(token, f"?namespace={room}").take(update("working", 1))
    assert sorted(Task.objects.values_list("namespace", flat=True)) == ["one", "two"]


def test_two_agents_may_number_their_events_alike(token):
    for room in ("one", "two"):
        Agent(token, f"?namespace={room}").take(update("working", 1) | {"event_id": "1"})
    assert list(Task.objects.values_list("state", flat=True)) == ["working"] * 2


def test_another_owners_task_of_the_same_id_is_left_alone(agent, stranger):
    other = Agent(Token.objects.issue(stranger.memberships.get().owner, "theirs")[1])
    agent.take(update("working", 1))
    other.take(update("completed", 2))
    assert agent.task()["status"]["state"] == "working"
    assert other.task()["status"]["state"] == "completed"


@pytest.mark.parametrize(("secret", "status"), [("wrong", 401), ("read", 403)])
def test_it_needs_a_token_that_may_write(owner, secret, status):
    if secret == "read":
        secret = Token.objects.issue(owner, "reads", ["read"])[1]
    assert Agent(secret).send(update("working", 1))[0] == status
    assert not Task.objects.exists()


# ── What is refused ────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"event_id": None}, "event_id"),
        ({"event_id": "a\x00"}, "event_id"),
        ({"event_id": "x" * 300}, "event_id"),
        ({"kind": "task"}, "kind"),
        ({"task_id": "zz"}, "task_id"),
        ({"context_id": 7}, "context_id"),
        ({"timestamp": "9999-12-31T23:59:59-23:00"}, "timestamp"),
        ({"timestamp": "soon"}, "timestamp"),
        ({"status": None}, None),
        ({"status": {}}, "status.state"),
        ({"status": {"state": "a\x00"}}, "status.state"),
        ({"status": {"state": "x" * 101}}, "status.state"),
        ({"status": {"state": "working", "message": []}}, "status.message"),
        ({"status": {"state": "working", "timestamp": 1e30}}, "status.timestamp"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_field(agent, changes, field):
    status, answer = agent.send({**update("working", 1), **changes})

    assert (status, answer["error"]["code"], answer["error"]["field"]) == (422, "invalid", field)
    assert not Task.objects.exists()


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b'{"a": NaN}', b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(agent, body):
    status, answer = agent.send(body)
    assert status in (400, 422)
    assert answer["error"]["message"]


@pytest.mark.parametrize(
    "told",
    [{}, {"artifact_id": 7, "parts": "x"}, {"parts": [None, 1]}, {"name": []}, {"artifact_id": "a\x00"}],
)
def test_no_artifact_breaks_it(agent, told):
    agent.take({**made("", 1), "artifact": told})
    assert agent.task()["artifacts"] == [told]
