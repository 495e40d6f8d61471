"""Google ADK's own attributes: `gcp.vertex.agent.llm_request`, `.tool_response` and the like."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from runs.traces.dialects.names import (
    CACHE_READ_TOKENS,
    INPUT,
    INPUT_TOKENS,
    KIND,
    OUTPUT,
    OUTPUT_TOKENS,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    SYSTEM,
    TOOL_ARGUMENTS,
    TOOL_RESULT,
    Kind,
    Source,
)
from runs.traces.messages import Message, google_message, text_of
from runs.traces.model import Attributes, Json, Span
from runs.traces.parts import Part, google_parts, text_part
from runs.traces.values import items, json_or_text, json_value, mapping

SCOPE = _ADK = "gcp.vertex.agent"
_PREFIX = f"{_ADK}."
_KINDS: dict[str, Kind] = {"call_llm": "model", "invocation": "workflow"}  # spans without an operation name
_USAGE = {
    "prompt_token_count": INPUT_TOKENS,
    "candidates_token_count": OUTPUT_TOKENS,
    "cached_content_token_count": CACHE_READ_TOKENS,
}
_OTHER_AGENTS = "For context:"
_TOOL_PLACEHOLDER = "<not specified>"


def is_adk(span: Span) -> bool:
    return span.scope == _ADK or any(key.startswith(_PREFIX) for key in span.attributes)


def sources(span: Span) -> Iterator[Source]:
    if is_adk(span):
        yield _said(span.attributes)
        if span.name in _KINDS:
            yield {KIND: _KINDS[span.name]}


def is_summary(span: Span) -> bool:
    """Whether this is ADK's summary of parallel tool calls, each of which has a span of its own."""
    merged = span.attributes.get("gen_ai.tool.name") == "(merged tools)"
    return merged or span.name == "execute_tool (merged)"


def as_spoken(messages: list[Message]) -> list[Message]:
    """ADK tells one agent what another one said or did in the user's name, after these words."""
    return [
        replace(message, role="assistant")
        if message.role == "user" and text_of([message]).startswith(_OTHER_AGENTS)
        else message
        for message in messages
    ]


def _said(own: Attributes) -> Source:
    request = mapping(json_value(own.get(f"{_ADK}.llm_request")))
    response = mapping(json_value(own.get(f"{_ADK}.llm_response")))
    usage = mapping(response.get("usage_metadata"))
    arguments = own.get(f"{_ADK}.tool_call_args")
    return {
        INPUT: [m for content in items(request.get("contents")) for m in google_message(content)],
        OUTPUT: google_message(response.get("content"), role="assistant"),
        SYSTEM: _instruction(mapping(request.get("config")).get("system_instruction")),
        REQUEST_MODEL: request.get("model"),
        RESPONSE_MODEL: response.get("model_version"),
        TOOL_ARGUMENTS: None if arguments == "N/A" else arguments,
        TOOL_RESULT: _result(own.get(f"{_ADK}.tool_response")),
        **{key: usage.get(name) for name, key in _USAGE.items()},
    }


def _instruction(value: Any) -> list[Part]:
    return google_parts(value.get("parts")) if isinstance(value, dict) else text_part(value)


def _result(value: Any) -> Json:
    """None where ADK wrote that there is no response yet (long-running tools)."""
    result = json_or_text(value)
    inner = result.get("result") if isinstance(result, dict) and set(result) == {"result"} else result
    return None if inner == _TOOL_PLACEHOLDER else result
