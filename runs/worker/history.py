"""The traces of an evaluation as events of its run, so that people can read what was judged."""

from collections.abc import Sequence
from dataclasses import replace

from runs.exact import Json
from runs.models import Event, NewEvent, Usage
from runs.traces import Group, Step, Turn


def events_of(groups: Sequence[Group]) -> list[NewEvent]:
    """The steps of all turns, in order; their ids make a second attempt's appending harmless."""
    return [event for group in groups for turn in group.turns for event in _of_turn(turn)]


def _of_turn(turn: Turn) -> list[NewEvent]:
    """What the turn used counts with its last step, since not every call of a model is one."""
    events = [_event(turn, number, step) for number, step in enumerate(turn.steps)]
    used = Usage(turn.input_tokens, turn.output_tokens)
    if used == Usage():
        return events
    if not events:
        return [NewEvent("usage", {}, event_id=f"{turn.trace_id}/{turn.invocation_id}/usage", usage=used)]
    return [*events[:-1], replace(events[-1], usage=used)]


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
