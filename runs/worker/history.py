"""The traces of an evaluation as events of its run, so that people can read what was judged."""

from collections.abc import Sequence

from runs.exact import Json
from runs.models import Event, NewEvent
from runs.traces import Group, Step, Turn


def events_of(groups: Sequence[Group]) -> list[NewEvent]:
    """The steps of all turns, in order; their ids make a second attempt's appending harmless."""
    return [
        _event(turn, number, step)
        for group in groups
        for turn in group.turns
        for number, step in enumerate(turn.steps)
    ]


def _event(turn: Turn, number: int, step: Step) -> NewEvent:
    kind, payload = _told(step)
    return NewEvent(
        kind=kind,
        role=step.role,
        payload={key: value for key, value in payload.items() if value not in (None, "")},
        event_id=f"{turn.trace_id}/{turn.invocation_id}/{number}",
        occurred_at=step.at,
    )


def _told(step: Step) -> tuple[str, dict[str, Json]]:
    """Kind and payload, in the shapes of docs/events.md."""
    about = {"name": step.name, "call_id": step.call_id, "duration_ms": step.duration_ms}
    if step.kind == "tool_call":
        return Event.Kind.TOOL_CALL, {**about, "arguments": step.data}
    if step.kind == "tool_result":
        return Event.Kind.TOOL_RESULT, {**about, "result": step.data, "is_error": False}
    if step.role == "tool":
        return Event.Kind.TOOL_RESULT, {**about, "result": step.text, "is_error": True}
    if step.kind == "error":
        return Event.Kind.ERROR, {**about, "message": step.text, "model": step.model}
    parts = [{"kind": "text", "text": step.text}]
    return Event.Kind.MESSAGE, {**about, "parts": parts, "model": step.model, "tokens": step.tokens}
