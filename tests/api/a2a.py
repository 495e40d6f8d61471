"""A client of /a2a, and tasks as an agent reports them."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.test import Client

from runs.models import Owner, Token
from runs.models.task import Task, Update, find_task, submit_task, update_task


class Rpc:
    """Calls methods with a token; answers are (HTTP status, JSON)."""

    def __init__(self, secret: str, address: str = "/a2a") -> None:
        self.client = Client(raise_request_exception=False)
        self.headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self.address = address
        self.next_cursor: str | None = None

    def call(self, method: str, params: Any = None, request_id: Any = None) -> tuple[int, Any]:
        asked_id = str(uuid4()) if request_id is None else request_id
        status, answer = self.send(
            json.dumps({"jsonrpc": "2.0", "id": asked_id, "method": method, "params": params or {}})
        )
        assert answer["id"] in (asked_id, None)
        return status, answer

    def result(self, method: str, **params: Any) -> Any:
        """What a call that goes well gives."""
        status, answer = self.call(method, params)
        assert (status, answer.get("error")) == (200, None)
        return answer["result"]

    def error(self, method: str, **params: Any) -> tuple[int, int, str]:
        """HTTP status, number and text of a refusal."""
        status, answer = self.call(method, params)
        assert "result" not in answer
        return status, answer["error"]["code"], answer["error"]["message"]

    def send(self, body: str | bytes) -> tuple[int, Any]:
        response = self.client.post(self.address, body, content_type="application/json", headers=self.headers)
        self.next_cursor = response.get("X-Next-Cursor")
        return response.status_code, json.loads(response.content)


def message(text: str, role: str = "user", **more: Any) -> dict[str, Any]:
    parts = [{"kind": "text", "text": text}]
    return {"kind": "message", "role": role, "message_id": str(uuid4()), "parts": parts, **more}


def artifact(text: str, artifact_id: str | None = None) -> dict[str, Any]:
    parts = [{"kind": "text", "text": text, "metadata": {"did.message.signature": "349XSq"}}]
    return {"artifact_id": artifact_id or str(uuid4()), "name": "result", "parts": parts}


def submitted(owner: Owner, text: str = "hello", context_id: UUID | None = None, **more: Any) -> Task:
    said, task_id = message(text), more.pop("task_id", None) or uuid4()
    return submit_task(owner, said, task_id, context_id or uuid4(), **more)[0]


def reported(task: Task, *updates: Update) -> bool:
    """What its agent reports."""
    with transaction.atomic():
        held = find_task([task.owner_id], task.namespace, task.task_id, hold=True)
        assert held is not None
        return update_task(held, updates)


def completed(owner: Owner, text: str = "hello", **more: Any) -> Task:
    task = submitted(owner, text, **more)
    answer = f"echo: {text}"
    reported(task, Update("working"))
    reported(task, Update("completed", [artifact(answer)], [message(answer, "agent")]))
    return task


type MakeTask = Callable[..., Task]


def rpc_of(owner: Owner, *scopes: str, address: str = "/a2a") -> Rpc:
    return Rpc(Token.objects.issue(owner, "tests", scopes or None)[1], address)
