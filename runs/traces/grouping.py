"""What is judged together: each trace by itself, or the traces of one conversation."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from runs.traces.dialects import CONVERSATION_ID, Usage
from runs.traces.model import Attributes, Group, Span, ToolCall, ToolResponse, Trace, TraceError, Turn
from runs.traces.tool_uses import ToolUse
from runs.traces.transcript import as_object, steps_of
from runs.traces.turns import Draft, drafts_of, join_continuations
from runs.traces.values import moment, scalar_text

GROUP_BY = ("auto", "trace", "conversation")
SESSION_NAME = "agentevals.session_name"
SESSION_ID = "session.id"
CASE_ID = "agentevals.eval.case.id"

# What instrumentations call the session, in the order in which they are asked: CONTRACTS 1.10's first.
_SESSION_KEYS = (
    CONVERSATION_ID,
    SESSION_ID,
    *(f"traceloop.association.properties.{name}" for name in ("session_id", "conversation_id", "chat_id")),
    "traceloop.association.properties.thread_id",
    "gcp.vertex.agent.session_id",
    *(f"ai.telemetry.metadata.{name}" for name in ("sessionId", "session_id", "conversationId", "chatId")),
    "ai.telemetry.metadata.threadId",
    "langfuse.session.id",
    *(f"langsmith.metadata.{name}" for name in ("session_id", "conversation_id", "thread_id")),
    "gen_ai.thread.id",
)
_MAX_KEY_LENGTH = 256
_MAX_WARNINGS = 50


def group_turns(traces: list[Trace], group_by: str = "auto", *, multi_turn: bool = False) -> list[Group]:
    """The groups to evaluate, in order of first appearance, with their turns in order of start.

    `auto` takes conversations together when a trace names its session (`agentevals.session_name`) or
    `multi_turn` says that the eval set has a case of several turns, else each trace is a group.
    Raises TraceError for another `group_by`. (CONTRACTS 1.2, 1.3)
    """
    if group_by not in GROUP_BY:
        raise TraceError(f"unknown groupBy {group_by!r}: expected one of {', '.join(GROUP_BY)}")
    if group_by == "auto":
        by_conversation = multi_turn or any(session_name(trace) for trace in traces)
    else:
        by_conversation = group_by == "conversation"
    members: dict[str, list[Trace]] = {}
    for trace in traces:
        key = conversation_key(trace) if by_conversation else ""
        members.setdefault(key or trace.trace_id, []).append(trace)
    return [_group(key, sorted(found, key=lambda trace: trace.start)) for key, found in members.items()]


def drafts_of_group(traces: Sequence[Trace]) -> list[Draft]:
    """What the turns of these traces are made of, in order of start."""
    drafts = [draft for trace in traces for draft in drafts_of(trace)]
    return join_continuations(sorted(drafts, key=lambda draft: (draft.start, draft.span_id)))


def turns_of(trace: Trace) -> list[Turn]:
    """The turns of one trace, in order of start."""
    return [_turn(draft) for draft in drafts_of_group([trace])]


def service_name(traces: Sequence[Trace]) -> str:
    resources = (span.resource for trace in traces for span in trace.spans.values())
    return next((name for r in resources if (name := scalar_text(r.get("service.name")))), "")


def _group(key: str, traces: Sequence[Trace]) -> Group:
    drafts = drafts_of_group(traces)
    turns = [_turn(draft) for draft in drafts]
    return Group(
        key=key,
        trace_ids=[trace.trace_id for trace in traces],
        conversation_id=next((turn.conversation_id for turn in turns if turn.conversation_id), None),
        case_id=_first_value(_all_attributes(traces), CASE_ID) or None,
        turns=turns,
        agent_name=next((turn.agent_name for turn in turns if turn.agent_name), ""),
        service_name=service_name(traces),
        latency_ms=_latency(traces, turns),
        warnings=_warnings([w for t in traces for w in t.warnings] + [w for d in drafts for w in d.warnings]),
    )


def _turn(draft: Draft) -> Turn:
    usages = _usages(draft)
    return Turn(
        trace_id=draft.trace_id,
        span_id=draft.span_id,
        invocation_id=draft.span_id,
        started_at=moment(draft.start),
        ended_at=moment(draft.end),
        user_text=draft.question or "",
        final_text=draft.answer or "",
        tool_calls=[_call(use) for use in draft.tools],
        tool_responses=[_response(use) for use in draft.tools if use.result is not None],
        models=sorted({call.model for call in draft.calls if call.model}),
        input_tokens=sum([usage.input or 0 for usage in usages]),
        output_tokens=sum([usage.output or 0 for usage in usages]),
        cache_read_tokens=sum([usage.cache_read or 0 for usage in usages]),
        cache_write_tokens=sum([usage.cache_write or 0 for usage in usages]),
        llm_calls=len(draft.calls),
        duration_ms=max(0, draft.end - draft.start) / 1e6,
        error=draft.error,
        agent_name=draft.agent_name,
        conversation_id=draft.conversation_id or None,
        steps=steps_of(draft),
        user=draft.user,
        finish_reason=next((call.finish for call in reversed(draft.calls) if call.finish), ""),
    )


def _usages(draft: Draft) -> list[Usage]:
    """The calls' own; the turn's sum where no call reports any, so that nothing counts twice."""
    usages = [call.usage for call in draft.calls if call.usage]
    return usages or ([draft.usage] if draft.usage else [])


def _call(use: ToolUse) -> ToolCall:
    return ToolCall(use.name, as_object(use.arguments, "value"), use.call_id)


def _response(use: ToolUse) -> ToolResponse:
    return ToolResponse(use.name, as_object(use.result, "result"), use.call_id, use.error is not None)


def conversation_key(trace: Trace) -> str:
    """What names the session, as the first of CONTRACTS 1.10's keys and the dialects' own; else empty.

    Spans are asked in order of start, so that the outermost one's word counts: an agent called by
    another may have a conversation of its own."""
    spans = _by_start(trace)
    if name := _session_name(spans):
        return name
    for key in _SESSION_KEYS:
        own = _first_value([span.attributes for span in spans], key)
        if value := own or _first_value([span.resource for span in spans], key):
            return value
    return ""


def session_name(trace: Trace) -> str:
    """The name that its resource gives the session; empty where it gives none."""
    return _session_name(_by_start(trace))


def _session_name(spans: Sequence[Span]) -> str:
    return _first_value([span.resource for span in spans], SESSION_NAME)


def _by_start(trace: Trace) -> list[Span]:
    return sorted(trace.spans.values(), key=lambda span: (span.start, span.span_id))


def _all_attributes(traces: Sequence[Trace]) -> Iterable[Attributes]:
    for trace in traces:
        for span in trace.spans.values():
            yield span.attributes
            yield span.resource


def _first_value(sources: Iterable[Attributes], key: str) -> str:
    for source in sources:
        value = source.get(key)
        if value is not None and (text := _key(value)):
            return text
    return ""


def _key(value: Any) -> str:
    """A value fit to be an id: one line of printable text that is not too long, else nothing."""
    text = "" if isinstance(value, bool) else scalar_text(value).strip()
    return text if len(text) <= _MAX_KEY_LENGTH and text.isprintable() else ""


def _latency(traces: Sequence[Trace], turns: Sequence[Turn]) -> float | None:
    times = [turn.duration_ms for turn in turns]
    times = times or [trace.spans[root].duration_ms for trace in traces for root in trace.roots]
    return median(times) if times else None


def _warnings(found: list[str]) -> list[str]:
    distinct = sorted(set(found))
    more = len(distinct) - _MAX_WARNINGS
    return distinct if more <= 0 else [*distinct[:_MAX_WARNINGS], f"and {more} more"]
