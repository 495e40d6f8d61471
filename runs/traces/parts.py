"""Pieces of messages, from every shape that they are written in. Nothing in here raises.

A piece may be OpenTelemetry's (`{"type": "tool_call", ...}`), OpenAI's (chat and responses), Anthropic's
(`tool_use`), Bedrock's (`{"toolUse": ...}`), Google's (`{"function_call": ...}`), LangChain's (`args`) or
the AI SDK's (`tool-call`). What cannot be used becomes a piece of kind "other".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runs.traces.model import Json
from runs.traces.values import as_text, items, json_or_text, json_value, mapping, word

# Written in place of what was said when content is not recorded.
_PLACEHOLDERS = frozenset({"", "<REDACTED>", "<elided>", "__REDACTED__"})

_TEXTS = frozenset({"text", "input_text", "output_text"})
_CALLS = frozenset({"tool_call", "tool_use", "server_tool_use", "mcp_tool_use", "tool-call", "function_call"})
_RESPONSES = frozenset({"tool_call_response", "tool_result", "tool-result", "function_call_output"})
_CALL_IDS = ("toolUseId", "toolCallId", "call_id", "id")
_RESPONSE_IDS = ("tool_use_id", "toolUseId", "toolCallId", "tool_call_id", "call_id", "id")
_ARGUMENTS = ("arguments", "args", "input")
_RESULTS = ("response", "result", "output", "content")
_VALUE_TYPES = frozenset({"text", "json", "content", "error-text", "error-json"})  # the AI SDK's outputs


@dataclass(slots=True)
class Part:
    """A piece of a message. `data` is the text, the call's arguments or the tool's response.

    `failed` says that the response itself tells of a failure.
    """

    kind: Literal["text", "tool_call", "tool_response", "other"]
    data: Json = None
    name: str = ""
    call_id: str | None = None
    failed: bool = False


def parts_from(value: Any) -> list[Part]:
    """The parts of a system instruction: a list of parts, its JSON text, or simply a text.

    Parts that have been read already pass through.
    """
    data = json_or_text(value)
    if isinstance(data, str):
        return text_part(data)
    raw = [data] if isinstance(data, dict) else items(data)
    return [part for item in raw for part in ([item] if isinstance(item, Part) else block_parts(item))]


def text_part(value: Any) -> list[Part]:
    """A part with this text, or none when there is no text in it."""
    text = as_text(value)
    return [] if text.strip() in _PLACEHOLDERS else [Part("text", text)]


def content_parts(content: Any) -> list[Part]:
    """A message's `content`: a text, a list of typed pieces, or a whole Google content."""
    if isinstance(content, dict) and isinstance(content.get("parts"), list):
        return google_parts(content["parts"])
    if not isinstance(content, list):
        return text_part(content)
    pieces = (text_part(item) if isinstance(item, str) else block_parts(item) for item in content)
    return [part for piece in pieces for part in piece]


def recorded_parts(content: Any) -> list[Part]:
    """As `content_parts`, of content that may have been recorded as the JSON text of its pieces."""
    blocks = json_value(content) if isinstance(content, str) and content.startswith("[") else None
    return content_parts(blocks if _are_blocks(blocks) else content)


def openai_calls(tool_calls: Any) -> list[Part]:
    """OpenAI's `tool_calls`, with or without their `function` envelope; LangChain's and the AI SDK's."""
    return [part for raw in items(tool_calls) for part in call_part(_function_of(mapping(raw)))]


def with_calls(parts: list[Part], calls: Iterable[Part]) -> list[Part]:
    """`parts` and the `calls` that are not among them: some tell of a call in content and beside it."""
    told = {part.call_id for part in parts if part.kind == "tool_call" and part.call_id}
    return parts + [call for call in calls if call.call_id not in told]


def google_parts(raw: Any) -> list[Part]:
    """Google's parts, in the field names of its Python SDK, as ADK records them, or of its REST API."""
    return [part for item in items(raw) if isinstance(item, dict) for part in _google_part(item)]


def block_parts(raw: Any) -> list[Part]:
    """One typed piece of content, whoever's it is."""
    raw = mapping(raw)
    kind = word(raw.get("type"))
    if kind in _TEXTS or (not kind and "text" in raw):
        return text_part(raw["content"] if "content" in raw else raw.get("text"))
    if kind in _CALLS or kind == "function":
        return call_part(_function_of(raw)) or [Part("other")]
    if kind in _RESPONSES:
        return [_response(raw)]
    return _untyped(raw) or ([Part("other")] if kind else [])


def call_part(raw: Mapping[str, Any]) -> list[Part]:
    """A tool call; none when it does not name the tool."""
    name = word(raw.get("name")) or word(raw.get("toolName"))
    if not name:
        return []
    return [Part("tool_call", json_or_text(_first_of(raw, _ARGUMENTS)), name, _id(_first_of(raw, _CALL_IDS)))]


def response_part(response: Any, call_id: Any = None, name: Any = None, failed: bool = False) -> Part:
    return Part("tool_response", _unwrapped(json_or_text(response)), word(name), _id(call_id), failed)


def _untyped(raw: Mapping[str, Any]) -> list[Part]:
    """Bedrock's and Google's pieces, which a field names instead of a type."""
    if isinstance(raw.get("toolUse"), dict):
        return call_part(raw["toolUse"])
    if isinstance(raw.get("toolResult"), dict):
        return [_response(raw["toolResult"])]
    names = ("function_call", "functionCall", "function_response", "functionResponse")
    return _google_part(dict(raw)) if any(name in raw for name in names) else []


def _response(raw: Mapping[str, Any]) -> Part:
    value = _first_of(raw, _RESULTS)
    failed = raw.get("is_error") is True or raw.get("isError") is True or raw.get("status") == "error"
    if isinstance(value, dict) and set(value) == {"type", "value"} and word(value["type"]) in _VALUE_TYPES:
        failed = failed or value["type"].startswith("error")
        value = value["value"]
    return response_part(value, _first_of(raw, _RESPONSE_IDS), raw.get("name") or raw.get("toolName"), failed)


def _function_of(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """A call with what OpenAI puts into its `function`."""
    function = raw.get("function")
    return {"id": raw.get("id"), **function} if isinstance(function, dict) else raw


def _google_part(raw: dict[str, Any]) -> list[Part]:
    call = raw.get("function_call") or raw.get("functionCall")
    response = raw.get("function_response") or raw.get("functionResponse")
    if raw.get("text") is not None:
        return [Part("other")] if raw.get("thought") else text_part(raw["text"])
    if isinstance(call, dict):
        return call_part(call) or [Part("other")]
    if isinstance(response, dict):
        return [response_part(response.get("response"), response.get("id"), response.get("name"))]
    return [Part("other")] if any(value is not None for value in raw.values()) else []


def _are_blocks(value: Any) -> bool:
    keys = ("type", "text", "toolUse", "toolResult")
    return bool(value) and all(
        isinstance(item, dict) and any(k in item for k in keys) for item in items(value)
    )


def _unwrapped(response: Json) -> Json:
    """What is in Bedrock's, Anthropic's or MCP's wrapping of a result: its JSON, or its text."""
    blocks = items(response)
    if not blocks or not all(isinstance(block, dict) for block in blocks):
        return response
    if len(blocks) == 1 and set(blocks[0]) == {"json"}:
        return blocks[0]["json"]
    if all(set(block) - {"type", "text"} == set() and isinstance(block.get("text"), str) for block in blocks):
        return json_or_text("".join(block["text"] for block in blocks))
    return response


def _first_of(raw: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((raw[key] for key in keys if raw.get(key) is not None), None)


def _id(value: Any) -> str | None:
    return as_text(value) if value else None
