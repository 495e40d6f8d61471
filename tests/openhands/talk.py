"""A small OpenHands conversation of our own making, written into the file store as the SDK writes its own."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from django.db.models.functions import Now

from runs.exact import Json
from runs.models import Conversation, Event, File, FileNamespace, Owner, Run, Session
from runs.worker.conversations import read_next

NAIVE = "2026-11-20T23:05:06.957619"  # as OpenHands writes times: by nobody knows which clock


class Talk:
    """Writes its files one by one; `state` is what base_state.json says."""

    def __init__(self, owner: Owner, name: str | None = None, key: str | None = None) -> None:
        self.key = key or str(uuid4())
        self.owner = owner
        self.namespace = FileNamespace.objects.create(owner=owner, name=name or self.key)
        self.count = 0
        self.calls: list[dict[str, Json]] = []
        self.state: dict[str, Json] = {
            "id": self.key,
            "agent": {"kind": "Agent", "llm": {"model": "gpt-4o", "api_key": "**********"}, "tools": []},
            "workspace": {"working_dir": "workspace/project", "kind": "LocalWorkspace"},
            "execution_status": "idle",
            "tags": {},
        }

    # ── Files ──────────────────────────────────────────────────────────────
    def write(self, path: str, content: bytes | Json) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        values = {"content": data, "updated_at": Now()}
        File.objects.update_or_create(namespace=self.namespace, path=path, defaults=values)

    def delete(self, path: str = "") -> None:
        File.objects.filter(namespace=self.namespace, path__startswith=path).delete()

    def save(self, status: str | None = None) -> None:
        self.state["execution_status"] = status or self.state["execution_status"]
        self.state["stats"] = {"usage_to_metrics": {"agent": _metrics(self.calls)}}
        self.write("base_state.json", self.state)

    def path(self, index: int, event_id: str) -> str:
        return f"events/event-{index:05d}-{event_id}.json"

    def add(self, kind: str, source: str, **fields: Any) -> str:
        """Appends an event; gives its id."""
        event_id = fields.pop("id", None) or str(uuid4())
        event = {"id": event_id, "timestamp": NAIVE, "source": source, **fields, "kind": kind}
        self.write(self.path(self.count, event_id), event)
        self.count += 1
        return event_id

    # ── What is said and done ──────────────────────────────────────────────
    def instruct(self) -> str:
        return self.add("SystemPromptEvent", "agent", system_prompt=words("You help with files."), tools=[])

    def ask(self, said: str = "Which file is the biggest?") -> str:
        return self.add("MessageEvent", "user", llm_message={"role": "user", "content": [words(said)]})

    def answer(self, said: str = "It is a.txt.", **fields: Any) -> str:
        message = {"role": "assistant", "content": [words(said)]}
        return self.add("MessageEvent", "agent", llm_message=message, **fields)

    def call(self, tool: str = "terminal", arguments: Json = None, call_id: str = "c1", **fields: Any) -> str:
        given = {"command": "ls -S"} if arguments is None else arguments
        call = {"id": call_id, "name": tool, "arguments": json.dumps(given), "origin": "completion"}
        fields.setdefault("thought", [words("I look at their sizes.")])
        return self.add(
            "ActionEvent",
            "agent",
            tool_name=tool,
            tool_call_id=call_id,
            tool_call=call,
            action={**given, "kind": f"{tool.title()}Action"},
            **fields,
        )

    def observe(self, said: str = "a.txt", tool: str = "terminal", call_id: str = "c1", **seen: Any) -> str:
        observation = {
            "content": [words(said)],
            "is_error": False,
            "kind": f"{tool.title()}Observation",
            **seen,
        }
        return self.add(
            "ObservationEvent",
            "environment",
            tool_name=tool,
            tool_call_id=call_id,
            observation=observation,
            action_id=str(uuid4()),
        )

    def finish(self, said: str = "It is **a.txt**.", call_id: str = "c9") -> str:
        self.call("finish", {"message": said}, call_id, thought=[])
        event_id = self.observe(said, "finish", call_id)
        self.save("finished")
        return event_id

    def work(self, said: str = "Which file is the biggest?") -> None:
        """A whole burst: asked, done and answered."""
        self.save("idle")
        if self.count == 0:
            self.instruct()
        self.ask(said)
        self.save("running")
        self.call()
        self.observe()
        self.finish()

    def use(self, response_id: str, tokens_in: int, tokens_out: int, cost: float) -> str:
        """A model was asked: what that used is in the state from now on."""
        self.calls.append({"response_id": response_id, "in": tokens_in, "out": tokens_out, "cost": cost})
        return response_id

    # ── What became of it ──────────────────────────────────────────────────
    @property
    def session(self) -> Session:
        return Session.objects.get(owner=self.owner, source="openhands", key=self.key)

    @property
    def runs(self) -> list[Run]:
        return list(Run.objects.filter(session=self.session, deleted_at=None).order_by("created_at", "id"))

    def events(self, *kinds: str) -> list[Event]:
        """Of all its runs, without what Runfolio notes of their states."""
        rows = Event.objects.filter(run__session=self.session).exclude(kind="state")
        found = rows.order_by("run__created_at", "seq")
        return list(found.filter(kind__in=kinds) if kinds else found)


def words(text: str) -> dict[str, Json]:
    return {"cache_prompt": False, "type": "text", "text": text}


def read_all() -> int:
    """Reads until nothing is left, as a worker does; gives how many batches that took."""
    batches, newest = 0, True
    while _now_due() and read_next(newest=newest):
        batches, newest = batches + 1, not newest
    return batches


def _now_due() -> bool:
    """Without the pause between two looks."""
    Conversation.objects.update(due_at=datetime.now(UTC) - timedelta(hours=1))
    return True


def _metrics(calls: list[dict[str, Json]]) -> dict[str, Json]:
    usages = [
        {
            "model": "gpt-4o",
            "prompt_tokens": c["in"],
            "completion_tokens": c["out"],
            "response_id": c["response_id"],
        }
        for c in calls
    ]
    return {
        "model_name": "gpt-4o",
        "accumulated_cost": sum(c["cost"] for c in calls),
        "accumulated_token_usage": {
            "prompt_tokens": sum(c["in"] for c in calls),
            "completion_tokens": sum(c["out"] for c in calls),
        },
        "costs": [{"model": "gpt-4o", "cost": c["cost"]} for c in calls],
        "token_usages": usages,
    }
