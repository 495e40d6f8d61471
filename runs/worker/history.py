"""The traces of an evaluation as events of its run, so that people can read what was judged.

The evaluation's process tells them as JSON, the shapes of docs/events.md; the worker writes them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from runs.exact import Json
from runs.traces import Group, Step, Turn

_LONGEST = 500  # characters of an event's id

type Told = dict[str, Any]
"""What models.NewEvent takes, with its time as ISO 8601 and its tokens beside it."""


def events_of(groups: Sequence[Group]) -> Iterator[Told]:
    """The steps of all turns, in order; their ids make a second attempt's appending harmless."""
    for group in groups:
        for turn in group.turns:
            yield from _of_turn(turn)


def _of_turn(turn: Turn) -> list[Told]:
    """What the turn used counts with its last step, since not every call of a model is one."""
    events = [_event(turn, number, step) for number, step in enumerate(turn.steps)]
    used = {"input_tokens": turn.input_tokens, "output_tokens": turn.output_tokens}
    if not any(used.values()):
        return events
    if not events:
        return [{"kind": "usage", "payload": {}, "event_id": _id(turn, "usage"), **used}]
    return [*events[:-1], {**events[-1], **used}]


def _id(turn: Turn, what: object) -> str:
    """The same in every attempt; a trace may have ids of any length."""
    text = f"{turn.trace_id}/{turn.invocation_id}/{what}"
    return (
        text if len(text) <= _LONGEST else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    )


def _event(turn: Turn, number: int, step: Step) -> Told:
    kind, payload = _told(step)
    return {
        "kind": kind,
        "role": step.role,
        "payload": {key: value for key, value in payload.items() if value not in (None, "")},
        "event_id": _id(turn, number),
        "occurred_at": step.at and step.at.isoformat(),
    }


def _told(step: Step) -> tuple[str, dict[str, Json]]:
    about = {"name": step.name, "call_id": step.call_id, "duration_ms": step.duration_ms}
    if step.kind == "tool_call":
        return "tool_call", {**about, "arguments": step.data}
    if step.kind == "tool_result":
        return "tool_result", {**about, "result": step.data, "is_error": False}
    if step.role == "tool":
        return "tool_result", {**about, "result": step.text, "is_error": True}
    if step.kind == "error":
        return "error", {**about, "message": step.text, "model": step.model}
    parts = [{"kind": "text", "text": step.text}]
    return "message", {**about, "parts": parts, "model": step.model, "tokens": step.tokens}
