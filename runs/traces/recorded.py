"""What was recorded here, of any source, as the turns that evaluators judge (issue 4, point 6).

A turn begins with what the user says. The shapes are those of docs/events.md; of an entry in any other
shape, only what is said of its tokens and cost is used.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from runs.traces.model import Group, Json, ToolCall, ToolResponse, Turn
from runs.traces.transcript import as_object

type Entry = Mapping[str, Any]
"""kind, role, payload, event_id, at (ISO 8601), input_tokens, output_tokens, cost (US dollars)"""


@dataclass(slots=True)
class _Draft:
    entries: list[Entry] = field(default_factory=list)

    def of(self, kind: str, *roles: str) -> list[Entry]:
        return [one for one in self.entries if one["kind"] == kind and (not roles or one["role"] in roles)]


def group_of(key: str, history: Iterable[Entry], agent: str = "", models: Sequence[str] = ()) -> Group:
    """The item `key`, with the turns of its history; it has none where nobody said or did anything."""
    turns = [_turn(key, number, draft, agent, models) for number, draft in enumerate(_drafts(history), 1)]
    return Group(
        key=key,
        trace_ids=[key],
        conversation_id=None,
        case_id=None,
        turns=turns,
        agent_name=agent,
        service_name="",
        latency_ms=sum(turn.duration_ms for turn in turns) if turns else None,
        warnings=[],
    )


def _drafts(history: Iterable[Entry]) -> list[_Draft]:
    """What stands before the first question belongs to the first turn."""
    drafts: list[_Draft] = []
    asked = False
    for entry in history:
        question = entry["kind"] == "message" and entry["role"] == "user"
        if not drafts or (question and asked):
            drafts.append(_Draft())
        asked = asked or question
        drafts[-1].entries.append(entry)
    return [draft for draft in drafts if draft.of("message") or draft.of("tool_call") or draft.of("error")]


def _turn(key: str, number: int, draft: _Draft, agent: str, models: Sequence[str]) -> Turn:
    said = draft.of("message", "agent", "assistant", "model")
    errors = [_text(_payload(one).get("message")) for one in draft.of("error")]
    used = [one for one in draft.entries if one.get("input_tokens") or one.get("output_tokens")]
    begun, ended = _time(draft.entries[0]), _time(draft.entries[-1])
    names = [_text(_payload(one).get("model")) for one in draft.entries]
    costs = [one["cost"] for one in draft.entries if one.get("cost") is not None]
    return Turn(
        trace_id=key,
        span_id="",
        invocation_id=str(draft.entries[0].get("event_id") or f"{key}/{number}"),
        started_at=begun,
        ended_at=ended,
        user_text="\n".join(map(_said, draft.of("message", "user"))),
        final_text=_said(said[-1]) if said else "",
        tool_calls=[_call(one) for one in draft.of("tool_call")],
        tool_responses=[_response(one) for one in draft.of("tool_result")],
        models=list(dict.fromkeys(name for name in names if name)) or list(models),
        input_tokens=sum(one.get("input_tokens") or 0 for one in draft.entries),
        output_tokens=sum(one.get("output_tokens") or 0 for one in draft.entries),
        cache_read_tokens=0,
        cache_write_tokens=0,
        llm_calls=len(used) or len(said),
        duration_ms=max(0.0, (ended - begun).total_seconds() * 1000) if begun and ended else 0.0,
        error=errors[-1] if errors else None,
        agent_name=agent,
        conversation_id=None,
        steps=[],
        cost=sum(costs) if costs else None,
    )


def _call(entry: Entry) -> ToolCall:
    payload = _payload(entry)
    return ToolCall(
        _text(payload.get("name")), as_object(payload.get("arguments"), "value"), _id(payload.get("call_id"))
    )


def _response(entry: Entry) -> ToolResponse:
    payload = _payload(entry)
    return ToolResponse(
        _text(payload.get("name")),
        as_object(payload.get("result"), "result"),
        _id(payload.get("call_id")),
        payload.get("is_error") is True,
    )


def _payload(entry: Entry) -> Mapping[str, Json]:
    payload = entry.get("payload")
    return payload if isinstance(payload, dict) else {}


def _said(entry: Entry) -> str:
    parts = _payload(entry).get("parts")
    texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return "\n".join(text for text in texts if isinstance(text, str))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _id(value: Json) -> str | None:
    return None if value is None else str(value)


def _time(entry: Entry) -> datetime | None:
    at = entry.get("at")
    return datetime.fromisoformat(at) if isinstance(at, str) else None
