"""agentevals' forms and streams, and a worker that works while a request waits for it."""

import json
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client

from tests.conftest import ROOT

TRACE = (ROOT / "samples" / "trace.json").read_bytes()
EVAL_SET = (ROOT / "samples" / "eval_set.json").read_bytes()
CONFIG = {
    "evaluators": [
        {"type": "builtin", "name": "tool_trajectory_avg_score"},
        {"type": "builtin", "name": "response_match_score", "threshold": 0.5},
    ]
}


def file(name: str, content: bytes | Any) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content if isinstance(content, bytes) else json.dumps(content).encode())


class AgentEvals:
    """Posts forms and JSON with a token; answers are (status, JSON), of a stream its events."""

    def __init__(self, secret: str) -> None:
        self.client = Client(raise_request_exception=False)
        self.headers = {"Authorization": f"Bearer {secret}"}

    def form(self, path: str, **fields: Any) -> tuple[int, Any]:
        return self._read(self.client.post(path, fields, headers=self.headers))

    def json(self, path: str, body: Any) -> tuple[int, Any]:
        sent = body if isinstance(body, bytes) else json.dumps(body)
        return self._read(self.client.post(path, sent, content_type="application/json", headers=self.headers))

    def get(self, path: str) -> tuple[int, Any]:
        return self._read(self.client.get(path, headers=self.headers))

    def _read(self, response: HttpResponse) -> tuple[int, Any]:
        if response.streaming:
            return response.status_code, events_in(response.getvalue().decode())
        return response.status_code, json.loads(response.content)


def events_in(stream: str) -> list[dict[str, Any]]:
    """The data of each event; a comment is none, and an event with a name has it under `event`."""
    events = []
    for block in stream.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            named = {"event": fields["event"]} if "event" in fields else {}
            events.append(json.loads(fields["data"]) | named)
    return events
