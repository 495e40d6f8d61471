"""Vercel's AI SDK: `ai.operationId`, `ai.prompt.messages`, `ai.response.text`, `ai.toolCall.*`.

`ai.generateText` and its like run the whole loop, so that their spans are agents; what they report of
tokens is the sum, or only the last step's.
"""

from collections.abc import Iterator
from typing import Any

from runs.traces.dialects.names import (
    AGENT_NAME,
    CACHE_READ_TOKENS,
    CACHE_WRITE_TOKENS,
    FINISH,
    INPUT,
    INPUT_TOKENS,
    KIND,
    OUTPUT,
    OUTPUT_TOKENS,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    TOOL_ARGUMENTS,
    TOOL_CALL_ID,
    TOOL_NAME,
    TOOL_RESULT,
    USER,
    Kind,
    Source,
)
from runs.traces.messages import Message, messages_from
from runs.traces.model import Attributes, Span
from runs.traces.parts import openai_calls, text_part
from runs.traces.payloads import asked_in
from runs.traces.values import json_value, word

_LOOPS = ("ai.generateText", "ai.streamText", "ai.generateObject", "ai.streamObject")
_CALLS = (".doGenerate", ".doStream")
_USAGE = (
    {
        "ai.usage.inputTokens": INPUT_TOKENS,
        "ai.usage.outputTokens": OUTPUT_TOKENS,
        "ai.usage.cachedInputTokens": CACHE_READ_TOKENS,
        "ai.usage.inputTokenDetails.cacheWriteTokens": CACHE_WRITE_TOKENS,
    },
    {
        "ai.usage.promptTokens": INPUT_TOKENS,
        "ai.usage.completionTokens": OUTPUT_TOKENS,
        "ai.usage.inputTokenDetails.cacheReadTokens": CACHE_READ_TOKENS,
    },
)
_TEXTS = ("ai.response.text", "ai.response.object", "ai.result.text", "ai.result.object")
_TOOL_CALLS = ("ai.response.toolCalls", "ai.result.toolCalls")


def sources(span: Span) -> Iterator[Source]:
    own = span.attributes
    if not (operation := word(own.get("ai.operationId"))):
        return
    kind = _kind(operation)
    yield {KIND: kind, USER: own.get("ai.telemetry.metadata.userId")}
    yield from ({ours: own[name] for name, ours in usage.items() if name in own} for usage in _USAGE)
    if kind == "tool":
        yield {
            TOOL_NAME: own.get("ai.toolCall.name"),
            TOOL_CALL_ID: own.get("ai.toolCall.id"),
            TOOL_ARGUMENTS: own.get("ai.toolCall.args"),
            TOOL_RESULT: own.get("ai.toolCall.result"),
        }
    elif kind in ("model", "agent"):
        yield _said(own)
        yield {AGENT_NAME: own.get("ai.telemetry.functionId")} if kind == "agent" else {}


def _kind(operation: str) -> Kind:
    if operation == "ai.toolCall":
        return "tool"
    if operation in _LOOPS:
        return "agent"
    return "model" if operation.endswith(_CALLS) else "other"


def _said(own: Attributes) -> Source:
    return {
        INPUT: messages_from(own.get("ai.prompt.messages")) or asked_in(own.get("ai.prompt")),
        OUTPUT: _answer(own),
        REQUEST_MODEL: own.get("ai.model.id"),
        RESPONSE_MODEL: own.get("ai.response.model"),
        FINISH: own.get("ai.response.finishReason") or own.get("ai.finishReason"),
    }


def _answer(own: Attributes) -> list[Message]:
    parts = text_part(_first(own, _TEXTS)) + openai_calls(json_value(_first(own, _TOOL_CALLS)))
    return [Message("assistant", tuple(parts))] if parts else []


def _first(own: Attributes, names: tuple[str, ...]) -> Any:
    return next((own[name] for name in names if own.get(name) not in (None, "")), None)
