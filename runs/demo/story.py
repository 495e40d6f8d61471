"""How a run is told: what was asked, which tools were used, what was answered, what came of it."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from runs.exact import Json
from runs.models import Status

type Chance = random.Random


@dataclass(frozen=True, slots=True)
class Step:
    """One event, in the shape of docs/events.md, and the seconds that it took."""

    kind: str
    role: str
    payload: dict[str, Json]
    seconds: float


@dataclass(frozen=True, slots=True)
class Made:
    """An artifact: parts, or the bytes of a file."""

    name: str
    parts: list[dict[str, Json]] = field(default_factory=list)
    content: bytes | None = None
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """A run from beginning to end."""

    title: str
    steps: list[Step]
    made: Sequence[Made] = ()
    status: Status = Status.SUCCEEDED
    error: str | None = None
    metadata: dict[str, Json] = field(default_factory=dict)

    @property
    def question(self) -> str:
        return next((text_of(step) for step in self.steps if step.role == "user"), self.title)

    @property
    def answer(self) -> str:
        said = [text_of(step) for step in self.steps if step.kind == "message" and step.role == "agent"]
        return said[-1] if said else ""

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)


type Scenario = Callable[[Chance], Told]


@dataclass(frozen=True, slots=True)
class Agent:
    """Who does the work.

    source: the system that its sessions come from.
    raw: what that system calls our statuses; empty where it has no words of its own.
    """

    name: str
    model: str
    source: str
    instructions: str
    scenarios: Sequence[Scenario]
    raw: dict[str, str] = field(default_factory=dict)


A2A = {
    "queued": "submitted",
    "running": "working",
    "input_required": "input-required",
    "paused": "suspended",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "canceled",
}
OPENHANDS = {
    "queued": "idle",
    "running": "running",
    "input_required": "waiting_for_confirmation",
    "paused": "paused",
    "succeeded": "finished",
    "failed": "error",
    "cancelled": "deleting",
}


def told(title: str, *steps: Step | Iterable[Step], **about: Any) -> Told:
    """A run of these steps; a tool's use is several."""
    flat = [one for step in steps for one in ([step] if isinstance(step, Step) else step)]
    return Told(title, flat, **about)


def asks(text: str, *more: dict[str, Json]) -> Step:
    return Step("message", "user", {"parts": [text_part(text), *more]}, 0.4)


def says(text: str, *more: dict[str, Json]) -> Step:
    return Step("message", "agent", {"parts": [text_part(text), *more]}, 1.2 + len(text) / 160)


def uses(name: str, arguments: Json, result: Json, seconds: float = 0.8) -> list[Step]:
    return [
        Step("tool_call", "agent", {"name": name, "arguments": arguments}, 0.7),
        Step("tool_result", "tool", {"name": name, "result": result, "is_error": False}, seconds),
    ]


def fails(name: str, arguments: Json, message: Json, seconds: float = 2.0) -> list[Step]:
    return [
        Step("tool_call", "agent", {"name": name, "arguments": arguments}, 0.7),
        Step("tool_result", "tool", {"name": name, "result": message, "is_error": True}, seconds),
    ]


def breaks(message: str, code: str) -> Step:
    return Step("error", "agent", {"message": message, "code": code}, 0.1)


def text_part(text: str) -> dict[str, Json]:
    return {"kind": "text", "text": text}


def data_part(data: Json) -> dict[str, Json]:
    return {"kind": "data", "data": data}


def text_of(step: Step) -> str:
    return "\n".join(part["text"] for part in step.payload.get("parts", ()) if part["kind"] == "text")


def markdown(name: str, text: str) -> Made:
    return Made(
        name, [{**text_part(text), "metadata": {"mimeType": "text/markdown"}}], media_type="text/markdown"
    )


def text_file(name: str, text: str, media_type: str = "text/plain") -> Made:
    return Made(name, [text_part(text)], media_type=media_type)


def json_data(name: str, data: Json) -> Made:
    return Made(name, [data_part(data)], media_type="application/json")


def binary(name: str, content: bytes, media_type: str) -> Made:
    return Made(name, content=content, media_type=media_type)
