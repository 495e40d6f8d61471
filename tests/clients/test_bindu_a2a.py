"""Bindu's own types read what /a2a answers, and a real agent tells of its tasks (docs/a2a.md)."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from runs.models import Artifact, Event, Owner
from runs.models.task import Task
from tests.api.a2a import completed, submitted
from tests.clients.environments import run_script
from tests.clients.test_bindu import Agent, access, start_agent  # noqa: F401  start_agent is a fixture
from tests.conftest import eventually


def test_bindus_types_read_the_card_and_every_answer(site: str, tmp_path: Path, settings: Any) -> None:
    settings.OUTGOING_ALLOW = ["loopback"]
    token = access(site)["RUNFOLIO_TOKEN"]
    owner = Owner.objects.get(name="platform")
    done, open_task = completed(owner), submitted(owner)
    one = {"taskId": str(open_task.task_id)}
    config = {"id": str(uuid4()), "url": "http://127.0.0.1:9000/hook", "token": "tok"}
    push = {"id": one["taskId"], "pushNotificationConfig": config}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("tasks/get", {"taskId": str(done.task_id), "historyLength": 1}),
        ("tasks/list", {}),
        ("tasks/feedback", {"taskId": str(done.task_id), "feedback": "great", "rating": 5, "metadata": {}}),
        ("tasks/pushNotificationConfig/set", push),
        ("tasks/pushNotificationConfig/get", one),
        ("tasks/cancel", one),
    ]
    requests = [
        {"jsonrpc": "2.0", "id": str(uuid4()), "method": method, "params": params} for method, params in asked
    ]
    answers = {request["method"]: _posted(site, token, request) for request in requests}
    card = json.loads(urllib.request.urlopen(f"{site}/a2a/.well-known/agent.json", timeout=20).read())
    told = tmp_path / "told.json"
    told.write_text(json.dumps({"card": card, "requests": requests, "answers": answers}))

    assert run_script("bindu", "bindu_types", str(told)).splitlines()[-1] == f"read {len(asked)}"


def test_an_agent_in_memory_is_seen_through_its_push_notifications(
    start_agent: Callable[..., Agent],  # noqa: F811
    site: str,
) -> None:
    where = f"{site}/api/push?namespace=helper&agent=helper"
    agent = start_agent(PUSH_URL=where, PUSH_TOKEN=access(site)["RUNFOLIO_TOKEN"])
    task_id, context_id = str(uuid4()), str(uuid4())

    agent.send("ask", task_id, context_id)
    eventually(lambda: _state(task_id) == "input-required", seconds=60)
    agent.send("Oslo", task_id, context_id)
    eventually(lambda: _state(task_id) == "completed", seconds=60)

    task = Task.objects.select_related("run", "context").get(task_id=task_id)
    (question,) = Event.objects.filter(run=task.run, kind="message")
    assert (task.namespace, task.run.agent, str(task.context.context_id)) == ("helper", "helper", context_id)
    assert question.payload["parts"] == [{"kind": "text", "text": "Which city?"}]
    assert [one.full_parts[0]["text"] for one in Artifact.objects.filter(run=task.run)] == [
        part["text"] for made in agent.task(task_id)["artifacts"] for part in made["parts"]
    ]


def _state(task_id: str) -> str | None:
    return Task.objects.filter(task_id=task_id).values_list("state", flat=True).first()


def _posted(site: str, token: str, body: dict[str, Any]) -> Any:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{site}/a2a", json.dumps(body).encode(), headers)
    return json.loads(urllib.request.urlopen(request, timeout=60).read())
