"""OpenInference (Arize Phoenix): `openinference.span.kind`, `llm.*`, `tool.*`, `input.value`.

Its instrumentors fill `input.value` and `output.value` each in their own way, so that those are read
as payloads. Content hidden by its configuration is `__REDACTED__`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from runs.traces.dialects.names import (
    AGENT_NAME,
    CACHE_READ_TOKENS,
    CACHE_WRITE_TOKENS,
    FINISH,
    HEARD,
    INPUT,
    INPUT_TOKENS,
    KIND,
    OUTPUT,
    OUTPUT_TOKENS,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    TOLD,
    Kind,
    Source,
)
from runs.traces.dialects.numbered import entries_of, numbered
from runs.traces.dialects.tools import tool_use
from runs.traces.messages import Message, role_of
from runs.traces.model import Attributes, Span
from runs.traces.parts import Part, call_part, recorded_parts, response_part, text_part, with_calls
from runs.traces.payloads import answered_in, asked_in, told_in
from runs.traces.values import json_value, mapping, word

_KINDS: dict[str, Kind] = {"LLM": "model", "AGENT": "agent", "TOOL": "tool", "CHAIN": "chain"}
_USAGE = {
    "llm.token_count.prompt": INPUT_TOKENS,
    "llm.token_count.completion": OUTPUT_TOKENS,
    "llm.token_count.prompt_details.cache_read": CACHE_READ_TOKENS,
    "llm.token_count.prompt_details.cache_write": CACHE_WRITE_TOKENS,
}


def sources(span: Span) -> Iterator[Source]:
    own = span.attributes
    said = word(own.get("openinference.span.kind")).upper()
    if not said:
        return
    kind = _KINDS.get(said, "other")
    yield {KIND: kind, **{ours: own[name] for name, ours in _USAGE.items() if name in own}}
    if kind == "model":
        yield _call(own)
        yield {CACHE_READ_TOKENS: own.get("llm.token_count.prompt_details.cache_input")}
        yield {INPUT: told_in(own.get("input.value")), OUTPUT: told_in(own.get("output.value"), "assistant")}
    elif kind == "tool":
        call_id = own.get("tool_call.id") or own.get("tool.id")
        yield tool_use(own.get("tool.name"), call_id, own.get("input.value"), own.get("output.value"))
    elif kind in ("agent", "chain"):
        yield _step(kind, span)


def _call(own: Attributes) -> Source:
    # What was asked for is in the invocation's parameters; the name is what answered, where that is known.
    named = own.get("llm.model_name") or own.get("llm.response.model_name")
    asked = own.get("llm.request.model_name")
    parameters = mapping(json_value(own.get("llm.invocation_parameters"))) if not named and not asked else {}
    return {
        INPUT: [_message(entry, "user") for entry in entries_of(own, "llm.input_messages")],
        OUTPUT: [_message(entry, "assistant") for entry in entries_of(own, "llm.output_messages")],
        REQUEST_MODEL: asked or parameters.get("model") or parameters.get("model_name"),
        RESPONSE_MODEL: named,
        FINISH: own.get("llm.finish_reason"),
    }


def _step(kind: Kind, span: Span) -> Source:
    """An agent's input and output are its own words; a chain's are believed when no model call says more.

    An agent that says what it was asked is named by its span; others are the frame of a whole run.
    """
    own = span.attributes
    asked, answered = asked_in(own.get("input.value")), answered_in(own.get("output.value"))
    if kind == "chain":
        return {HEARD: asked, TOLD: answered}
    return {
        AGENT_NAME: own.get("agent.name") or (span.name if asked else None),
        INPUT: asked,
        OUTPUT: answered,
    }


def _message(entry: Mapping[str, Any], usual_role: str) -> Message:
    role = role_of(entry.get("message.role") or usual_role)
    content, call_id = entry.get("message.content"), entry.get("message.tool_call_id")
    contents = numbered(entry, "message.contents.")
    if call_id or entry.get("message.role") in ("tool", "function"):
        texts = "".join(word(piece.get("message_content.text")) for piece in contents)
        answer = texts if content is None else content
        return Message("tool", (response_part(answer, call_id, entry.get("message.name")),))
    said = recorded_parts(content) or [part for piece in contents for part in _content(piece)]
    return Message(role, tuple(with_calls(said, _calls(entry))))


def _content(piece: Mapping[str, Any]) -> list[Part]:
    if "tool_call.function.name" in piece:  # Anthropic's blocks, told once more under message.tool_calls
        return _tool_call(piece)
    kind = word(piece.get("message_content.type"))
    return text_part(piece.get("message_content.text")) if kind in ("", "text") else [Part("other")]


def _calls(entry: Mapping[str, Any]) -> list[Part]:
    calls = [part for call in numbered(entry, "message.tool_calls.") for part in _tool_call(call)]
    if calls or "message.function_call_name" not in entry:
        return calls
    arguments = entry.get("message.function_call_arguments_json")
    return call_part({"name": entry["message.function_call_name"], "arguments": arguments})


def _tool_call(call: Mapping[str, Any]) -> list[Part]:
    arguments = call.get("tool_call.function.arguments")
    name = call.get("tool_call.function.name")
    return call_part({"name": name, "arguments": arguments, "id": call.get("tool_call.id")})
