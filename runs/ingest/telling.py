"""What a trace tells of an agent's run: the run's columns and its history (docs/events.md)."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from runs.exact import clean_text, split_exact
from runs.ingest.arrivals import Arrival
from runs.models import Event, Usage
from runs.models.event import MOST_TOKENS, TITLE_LENGTH, tokens_of
from runs.models.run import AGENT_LENGTH
from runs.models.search import Doc, event_doc
from runs.models.span import EVAL_SET, GIVEN, INSTANCE, RUN_OF_SESSION
from runs.traces import Span, Step, Trace, Turn
from runs.traces.grouping import conversation_key, service_name, session_name, turns_of
from runs.traces.tool_uses import FAILED_BY_RESULT
from runs.traces.values import moment, scalar_text

type Json = Any

EARLIEST = 365 * 86_400 * 10**9  # nanoseconds since 1970: clocks that were never set begin there
AHEAD = timedelta(days=1)  # by which a client's clock may be wrong; what is later is no time at all
MOST_COST = 10**7  # US dollars, likewise
MOST_RAW = 200  # spans told as they are, where nothing else is told

_COSTS = (
    *("gen_ai.usage.cost", "gen_ai.usage.total_cost", "gen_ai.cost.total", "llm.cost.total"),
    *("llm.usage.total_cost", "operation.cost"),
)
_ANY_COST = frozenset(_COSTS)
_OF_SESSION = (INSTANCE, RUN_OF_SESSION, EVAL_SET)
# A number that a JSONB may not hold as it is, in JSON text. An expression that begins with a letter is found
# many times faster than one that begins with a digit.
_EXPONENT = re.compile(r"e(?<=\de)\+?\d+(?:[,\]}]|$)")


@dataclass(slots=True)
class ToldEvent:
    """An entry of the history as the table holds it: `text` is the payload's JSON."""

    event_id: str
    kind: str
    role: str
    payload: Json
    text: str
    exact: str | None
    size: int
    at: datetime | None
    usage: Usage

    @property
    def doc(self) -> Doc:
        return event_doc(self.payload)


@dataclass(slots=True)
class Told:
    """All that a trace tells.

    key: what names the session, if anything does; is_name: it names a run of the agent that may be run again.
    title: what was asked; name: what its root is called, for want of a title. service: likewise for an agent.
    """

    trace_id: str
    key: str
    is_name: bool
    title: str
    name: str
    agent: str
    service: str
    model: str
    failed: bool
    raw_status: str
    error: str | None
    started_at: datetime | None
    ended_at: datetime | None
    session_metadata: dict[str, Json]
    events: list[ToldEvent] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None

    @property
    def metadata(self) -> dict[str, Json]:
        named = {"service.name": self.service} if self.service else {}
        return {"trace_id": self.trace_id, **named}

    @property
    def size(self) -> int:
        return sum(event.size for event in self.events)


def tell(arrival: Arrival, now: datetime) -> Told:
    """Reads the trace as far as it is here. Nothing in here raises, whatever the spans hold."""
    trace = arrival.trace
    turns, service = turns_of(trace), service_name([trace])
    models = {model for turn in turns for model in turn.models}
    root = _root(trace, arrival)
    until = now + AHEAD
    name, latest = session_name(trace), _nanoseconds(until)
    starts = [span.start for span in trace.spans.values() if EARLIEST < span.start < latest]
    ends = [span.end for span in trace.spans.values() if EARLIEST < span.end < latest]
    told = Told(
        trace_id=arrival.trace_id,
        key=clean_text(name or conversation_key(trace)),
        is_name=bool(name),
        title=_line(next((turn.user_text for turn in turns if turn.user_text), "")),
        name=_line(root.name if root is not None else ""),
        agent=clean_text(next((turn.agent_name for turn in turns if turn.agent_name), ""))[:AGENT_LENGTH],
        service=clean_text(service)[:AGENT_LENGTH],
        model=clean_text(", ".join(sorted(models)))[:AGENT_LENGTH],
        failed=root is not None and root.status == "error",
        raw_status="" if root is None or root.status == "unset" else root.status,
        error=_error(root, turns) if root is not None and root.status == "error" else None,
        started_at=moment(min(starts, default=0)),
        ended_at=moment(max(ends, default=0)),
        session_metadata=_session_metadata(trace, service),
    )
    told.events = list(_events(turns, until)) or list(_raw_events(trace, until))
    _count(told, _cost(trace))
    return told


def _root(trace: Trace, arrival: Arrival) -> Span | None:
    """What stands for the whole: the span without a parent, else of those at the top the last to end."""
    tops = [trace.spans[root] for root in trace.roots]
    known = [key for top in tops for key in (top.span_id, *trace.children.get(top.span_id, ()))]
    here = [trace.spans[key] for key in known if key in arrival.spans] or tops
    whole = [span for span in tops if span.span_id in arrival.spans and not span.parent_id]
    return whole[0] if whole else max(here, key=lambda span: (span.end, span.span_id), default=None)


# ── The run ────────────────────────────────────────────────────────────────
def _line(text: str) -> str:
    """The beginning of a text, as one line."""
    return clean_text(" ".join(text[: TITLE_LENGTH * 4].split()))[:TITLE_LENGTH]


def _error(root: Span, turns: list[Turn]) -> str:
    said = next((turn.error for turn in turns if turn.error), None)
    return clean_text(root.status_message or said or "failed without a message")


def _session_metadata(trace: Trace, service: str) -> dict[str, Json]:
    """What the resource says of the session; agentevals shows it (CONTRACTS.md 1.10)."""
    resource = next((span.resource for span in trace.spans.values()), {})
    told: dict[str, Json] = {"service.name": clean_text(service)} if service else {}
    for key, value in resource.items():
        if key in _OF_SESSION or key.startswith(GIVEN):
            told[clean_text(key)] = clean_text(scalar_text(value))
    return told


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp()) * 10**9


def _believed(at: datetime | None, until: datetime) -> datetime | None:
    """A time that can be one: PostgreSQL and calendars know others, but nobody was there."""
    return None if at is None or at > until or at.year < 1971 else at


# ── Its history ────────────────────────────────────────────────────────────
def _events(turns: list[Turn], until: datetime) -> Iterator[ToldEvent]:
    numbers: dict[str, int] = {}
    for turn in turns:
        failed = {(step.span_id, step.call_id) for step in turn.steps if _is_tools_error(step)}
        events = [
            _event(step, _payload(step, (step.span_id, step.call_id) in failed), numbers, until)
            for step in turn.steps
            if not (_is_tools_error(step) and step.text == FAILED_BY_RESULT)
        ]
        if events:
            _add_rest(events[-1], turn, events)
        yield from events


def _is_tools_error(step: Step) -> bool:
    return step.kind == "error" and step.role == "tool"


def _payload(step: Step, failed: bool) -> dict[str, Json]:
    """As docs/events.md says it, without what is empty."""
    told: dict[str, Json]
    if step.kind == "message":
        parts = [{"kind": "text", "text": step.text}]
        told = {"parts": parts, "name": step.name, "model": step.model, "tokens": step.tokens}
    elif step.kind == "tool_call":
        told = {"name": step.name, "arguments": step.data, "call_id": step.call_id}
    elif step.kind == "tool_result":
        told = {"name": step.name, "call_id": step.call_id, "result": step.data, "is_error": failed or None}
    else:
        told = {"message": step.text, "name": step.name, "call_id": step.call_id}
    told["duration_ms"] = step.duration_ms
    return {key: value for key, value in told.items() if value is not None and value != ""}


def _event(step: Step, payload: dict[str, Json], numbers: dict[str, int], until: datetime) -> ToldEvent:
    number = numbers[step.span_id] = numbers.get(step.span_id, 0) + 1
    at = _believed(step.at, until)
    usage = Usage(tokens_of(step.input_tokens), tokens_of(step.output_tokens))
    return told_event(f"span:{step.span_id}:{number}", step.kind, step.role, payload, at, usage)


def told_event(
    event_id: str, kind: str, role: str, payload: Json, at: datetime | None, usage: Usage
) -> ToldEvent:
    """msgspec writes JSON fast, and refuses just the texts that PostgreSQL could not hold either. Where a
    JSONB may not hold the JSON as it is, split_exact looks closer."""
    exact = None
    try:
        data = msgspec.json.encode(payload)
    except UnicodeEncodeError:
        data = json.dumps(payload).encode()
    text = data.decode()
    if "\\u0000" in text or "\\ud" in text or "-0.0" in text or _EXPONENT.search(text):
        held, exact = split_exact(payload)
        text = json.dumps(held)
    return ToldEvent(event_id, kind, role, payload, text, exact, len(data), at, usage)


def _raw_events(trace: Trace, until: datetime) -> Iterator[ToldEvent]:
    """The spans themselves, where they tell of no turn: an embedding, a tool of a trace of its own."""
    inner = sorted(trace.spans.values(), key=lambda span: (span.start, span.span_id))
    for span in inner[:MOST_RAW]:
        payload = {"name": span.name, "attributes": dict(span.attributes), "duration_ms": span.duration_ms}
        at = _believed(moment(span.start), until)
        yield told_event(f"span:{span.span_id}:1", "span", "agent", payload, at, Usage())
        if span.status == "error":
            payload = {"message": span.status_message or "failed without a message"}
            yield told_event(f"span:{span.span_id}:2", Event.Kind.ERROR, "agent", payload, at, Usage())


# ── What it used ───────────────────────────────────────────────────────────
def _add_rest(last: ToldEvent, turn: Turn, events: list[ToldEvent]) -> None:
    """Tokens of calls that said nothing, so that the events add up to the turn."""
    own = last.usage
    last.usage = Usage(
        _topped_up(own.input_tokens, turn.input_tokens, [event.usage.input_tokens for event in events]),
        _topped_up(own.output_tokens, turn.output_tokens, [event.usage.output_tokens for event in events]),
    )


def _topped_up(own: int | None, whole: int, counted: list[int | None]) -> int | None:
    missing = min(whole, MOST_TOKENS) - sum(filter(None, counted))
    return (own or 0) + missing if missing > 0 else own


def _count(told: Told, cost: Decimal | None) -> None:
    if told.events and cost is not None:
        last = told.events[-1]
        last.usage = Usage(last.usage.input_tokens, last.usage.output_tokens, cost)
        told.cost = cost
    told.input_tokens = _sum([event.usage.input_tokens for event in told.events])
    told.output_tokens = _sum([event.usage.output_tokens for event in told.events])


def _sum(numbers: list[int | None]) -> int | None:
    given = [number for number in numbers if number is not None]
    return sum(given) if given else None


def _cost(trace: Trace) -> Decimal | None:
    """US dollars, of the innermost spans that say so: those around them say the sum."""
    costs = {key: cost for key, span in trace.spans.items() if (cost := _cost_of(span)) is not None}
    if not costs:
        return None
    around: set[str] = set()
    todo: list[tuple[str, list[str]]] = [(root, []) for root in trace.roots]
    while todo:
        key, above = todo.pop()
        if key in costs:
            around.update(above)
            above = [key]
        todo.extend((child, above) for child in trace.children.get(key, ()))
    total = sum((cost for key, cost in costs.items() if key not in around), Decimal(0))
    return min(total, Decimal(MOST_COST)).quantize(Decimal("0.000001"))


def _cost_of(span: Span) -> Decimal | None:
    if _ANY_COST.isdisjoint(span.attributes):
        return None
    for key in _COSTS:
        value = span.attributes.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_COST:
            return Decimal(str(value))
    return None
