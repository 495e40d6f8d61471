"""OpenLLMetry (Traceloop): numbered messages, and spans of workflows, tasks, agents and tools.

Its older releases write `gen_ai.prompt.0.content`, the oldest `llm.prompts.0.content`; the newer ones
write what the conventions say and need nothing of this.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from runs.traces.dialects.names import (
    AGENT_NAME,
    CACHE_READ_TOKENS,
    CACHE_WRITE_TOKENS,
    HEARD,
    INPUT,
    INPUT_TOKENS,
    KIND,
    OUTPUT,
    OUTPUT_TOKENS,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    TOLD,
    TOOL_ARGUMENTS,
    TOOL_RESULT,
    USER,
    Kind,
    Source,
)
from runs.traces.dialects.numbered import numbered
from runs.traces.dialects.tools import tool_use
from runs.traces.messages import Message, role_of
from runs.traces.model import Attributes, Span
from runs.traces.parts import openai_calls, recorded_parts, response_part, with_calls
from runs.traces.payloads import answered_in, asked_in
from runs.traces.values import word

_MESSAGES = (
    ("gen_ai.prompt.", INPUT),
    ("gen_ai.completion.", OUTPUT),
    ("llm.prompts.", INPUT),
    ("llm.completions.", OUTPUT),
)
_OLDER_NAMES = {
    "llm.request.model": REQUEST_MODEL,
    "llm.response.model": RESPONSE_MODEL,
    "llm.usage.prompt_tokens": INPUT_TOKENS,
    "llm.usage.completion_tokens": OUTPUT_TOKENS,
    "gen_ai.usage.cache_read_input_tokens": CACHE_READ_TOKENS,
    "gen_ai.usage.cache_creation_input_tokens": CACHE_WRITE_TOKENS,
    "gen_ai.usage.cache_write_input_tokens": CACHE_WRITE_TOKENS,
    "traceloop.association.properties.user_id": USER,
}
_KINDS: dict[str, Kind] = {"workflow": "workflow", "agent": "agent", "task": "chain", "tool": "tool"}
_MODEL_REQUESTS = ("chat", "completion")


def sources(span: Span) -> Iterator[Source]:
    own = span.attributes
    for prefix, key in _MESSAGES:
        yield {key: [_message(entry, key) for entry in numbered(own, prefix)]}
    yield {ours: own[name] for name, ours in _OLDER_NAMES.items() if name in own}
    if word(own.get("llm.request.type")) in _MODEL_REQUESTS:
        yield {KIND: "model"}
    if (kind := _KINDS.get(word(own.get("traceloop.span.kind")))) is not None:
        yield _entity(kind, own)


def unpacked(span: Span) -> Source:
    """A tool's arguments and result where LangChain's own packing is in OpenTelemetry's attributes."""
    given, made = span.attributes.get(TOOL_ARGUMENTS), span.attributes.get(TOOL_RESULT)
    if not (isinstance(given, str) and '"input_str"' in given):
        return {}
    return {key: value for key, value in tool_use(None, None, given, made).items() if value is not None}


def _message(entry: Mapping[str, Any], key: str) -> Message:
    role = role_of(entry.get("role") or ("assistant" if key == OUTPUT else "user"))
    parts = recorded_parts(entry.get("content"))
    if role == "tool" and not any(part.kind == "tool_response" for part in parts):
        return Message(role, (response_part(entry.get("content"), entry.get("tool_call_id")),))
    return Message(role, tuple(with_calls(parts, openai_calls(numbered(entry, "tool_calls.")))))


def _entity(kind: Kind, own: Attributes) -> Source:
    name = own.get("traceloop.entity.name")
    given, made = own.get("traceloop.entity.input"), own.get("traceloop.entity.output")
    if kind == "tool":
        return tool_use(name, None, given, made)
    agent = {AGENT_NAME: name} if kind == "agent" else {}
    return {KIND: kind, HEARD: asked_in(given), TOLD: answered_in(made), **agent}
