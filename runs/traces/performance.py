"""What one group took, and whose it is: the figures and the metadata that agentevals shows beside a group
before it is evaluated (CONTRACTS.md 1.9). Keys are in snake_case, times in milliseconds."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from runs.traces.grouping import drafts_of_group
from runs.traces.model import Json, Span, Trace
from runs.traces.tool_uses import ModelCall
from runs.traces.turns import Draft
from runs.traces.values import scalar_text

PREVIEW = 200  # characters

_PROVIDER = ("gen_ai.provider.name", "gen_ai.system")


def performance_of(traces: Sequence[Trace]) -> dict[str, Any]:
    """Latencies, tokens and counts of a group, given its traces in order of start."""
    drafts = drafts_of_group(traces)
    calls = [call for draft in drafts for call in draft.calls]
    tools = [use for draft in drafts for use in draft.tools]
    usages = [usage for draft in drafts for usage in _usages(draft)]
    totals = [(usage.input or 0) + (usage.output or 0) for usage in usages]
    turns = [_ms(draft.start, draft.end) for draft in drafts]
    roots = [trace.spans[root].duration_ms for trace in traces for root in trace.roots]
    return {
        "latency": {
            "overall": _figures(turns or roots),
            "llm_calls": _figures([_ms(call.start, call.end) for call in calls]),
            "tool_executions": _figures([_ms(use.start, use.end) for use in tools if use.span_id]),
        },
        "tokens": {
            "total_prompt": sum(usage.input or 0 for usage in usages),
            "total_output": sum(usage.output or 0 for usage in usages),
            "total": sum(totals),
            "per_llm_call": _figures([float(total) for total in totals]),
            "cache_creation_tokens": sum(usage.cache_write or 0 for usage in usages),
            "cache_read_tokens": sum(usage.cache_read or 0 for usage in usages),
        },
        "counts": {"llm_calls": len(calls), "tool_calls": len(tools), "invocations": len(drafts)},
        "models": sorted({call.model for call in calls if call.model}),
        "tool_names": sorted({use.name for use in tools}),
    }


def metadata_of(traces: Sequence[Trace]) -> dict[str, Json]:
    """Whose the group is and what its first turn was about; `start_time` is in microseconds since 1970.

    The schema's version is never known here: we keep no schema addresses of spans.
    """
    spans = {span_id: span for trace in traces for span_id, span in trace.spans.items()}
    drafts = drafts_of_group(traces)
    about: dict[str, Json] = dict.fromkeys(
        (
            *("agent_name", "agent_id", "service_name", "model", "response_model", "provider"),
            *("schema_version", "start_time", "user_input_preview", "final_output_preview"),
        )
    )
    resources = (span.resource for span in spans.values())
    about["service_name"] = _first(scalar_text(resource.get("service.name")) for resource in resources)
    if not drafts:
        return about
    first = drafts[0]
    about["agent_name"] = first.agent_name or None
    about["agent_id"] = _said(spans.get(first.span_id), "gen_ai.agent.id")
    about["start_time"] = first.start // 1000
    about["user_input_preview"] = preview(first.question)
    about["final_output_preview"] = preview(first.answer)
    if first.calls:
        about |= _of_call(first.calls[0], spans)
    return about


def preview(text: str | None) -> str | None:
    """The beginning of a text; None for none at all."""
    if not text:
        return None
    return text if len(text) <= PREVIEW else f"{text[:PREVIEW]}..."


def provider_of(call: ModelCall, spans: dict[str, Span]) -> str | None:
    """Whose model was called, as its span says it."""
    return _first(_said(spans.get(call.span_id), key) for key in _PROVIDER)


def _of_call(call: ModelCall, spans: dict[str, Span]) -> dict[str, Json]:
    return {
        "model": call.model or None,
        "response_model": _said(spans.get(call.span_id), "gen_ai.response.model"),
        "provider": provider_of(call, spans),
    }


def _said(span: Span | None, key: str) -> str | None:
    return (span and scalar_text(span.attributes.get(key))) or None


def _first(values: Any) -> str | None:
    return next((value for value in values if value), None)


def _usages(draft: Draft) -> list[Any]:
    """The calls' own; the turn's sum where no call reports any, so that nothing counts twice."""
    return [call.usage for call in draft.calls if call.usage] or ([draft.usage] if draft.usage else [])


def _ms(start: int, end: int) -> float:
    return max(0, end - start) / 1e6


def _figures(values: Sequence[float]) -> dict[str, float | int]:
    if not values:
        return dict.fromkeys(("min", "median", "max"), 0.0) | {"count": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0}
    ordered = sorted(values)
    middle = median(ordered)
    return {
        "min": ordered[0],
        "median": middle,
        "max": ordered[-1],
        "count": len(ordered),
        "p50": middle,
        "p95": ordered[int(len(ordered) * 0.95)],
        "p99": ordered[int(len(ordered) * 0.99)],
    }
