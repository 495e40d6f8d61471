"""LangSmith's OpenTelemetry export: `langsmith.span.kind`, with inputs and outputs as whole JSON texts
under `gen_ai.prompt` and `gen_ai.completion`."""

from collections.abc import Iterator

from runs.traces.dialects.names import (
    CACHE_READ_TOKENS,
    CACHE_WRITE_TOKENS,
    HEARD,
    INPUT,
    KIND,
    OUTPUT,
    TOLD,
    Kind,
    Source,
)
from runs.traces.dialects.tools import tool_use
from runs.traces.model import Attributes, Span
from runs.traces.payloads import answered_in, asked_in, told_in
from runs.traces.values import json_value, mapping, word

_KINDS: dict[str, Kind] = {"llm": "model", "tool": "tool", "chain": "chain", "agent": "agent"}


def sources(span: Span) -> Iterator[Source]:
    own = span.attributes
    given, made = own.get("gen_ai.prompt"), own.get("gen_ai.completion")
    said = word(own.get("langsmith.span.kind"))
    kind = _KINDS.get(said, "other") if said else None
    if kind:
        yield {KIND: kind, **_cached(own)}
    if kind == "tool":
        yield tool_use(own.get("langsmith.trace.name") or span.name, None, given, made)
    elif kind in ("chain", "agent"):
        yield {HEARD: asked_in(given), TOLD: answered_in(made)}
    elif given is not None or made is not None:
        yield {INPUT: told_in(given), OUTPUT: told_in(made, "assistant")}


def _cached(own: Attributes) -> Source:
    usage = mapping(json_value(own.get("langsmith.metadata.usage_metadata")))
    details = mapping(
        json_value(own.get("gen_ai.usage.input_token_details")) or usage.get("input_token_details")
    )
    return {CACHE_READ_TOKENS: details.get("cache_read"), CACHE_WRITE_TOKENS: details.get("cache_creation")}
