"""What was said: messages of text, tool calls and tool results, from every shape they are written in.

The shapes: OpenTelemetry's `{"role", "parts": [{"type", ...}]}`, OpenAI's `{"role", "content",
"tool_calls"}` and Google's `{"role", "parts": [{"text"}, {"function_call"}, ...]}`. Nothing in here
raises; what cannot be used is left out.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runs.traces.model import Json
from runs.traces.values import as_text, items, json_or_text, json_value, mapping

# Written in place of what was said when content is not recorded.
_PLACEHOLDERS = frozenset({"", "<REDACTED>", "<elided>"})


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message. `data` is the text, the call's arguments or the tool's response."""

    kind: Literal["text", "tool_call", "tool_response", "other"]
    data: Json = None
    name: str = ""
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    parts: tuple[Part, ...]


def messages_from(value: Any) -> list[Message]:
    """A list of messages, one message, or the JSON text of either; empty when nothing is said in them.

    Messages that have been read already pass through.
    """
    data = json_value(value)
    raw = [data] if isinstance(data, dict) else items(data)
    found = [
        item if isinstance(item, Message) else _message(item)
        for item in raw
        if isinstance(item, (Message, dict))
    ]
    return found if any(message.parts for message in found) else []


def parts_from(value: Any) -> list[Part]:
    """The parts of a system instruction: a list of parts, its JSON text, or simply a text.

    Parts that have been read already pass through.
    """
    data = json_or_text(value)
    if isinstance(data, str):
        return text_part(data)
    raw = [data] if isinstance(data, dict) else items(data)
    return [part for item in raw for part in ([item] if isinstance(item, Part) else _standard_part(item))]


def text_part(value: Any) -> list[Part]:
    """A part with this text, or none when there is no text in it."""
    text = as_text(value)
    return [] if text.strip() in _PLACEHOLDERS else [Part("text", text)]


def content_parts(content: Any) -> list[Part]:
    """OpenAI's `content` (a text or a list of typed items), or a whole Google content."""
    if isinstance(content, dict) and isinstance(content.get("parts"), list):
        return google_parts(content["parts"])
    if not isinstance(content, list):
        return text_part(content)
    return [part for item in content for part in _content_item(item)]


def openai_calls(tool_calls: Any) -> list[Part]:
    """OpenAI's `tool_calls`, with or without their `function` envelope."""
    found = []
    for raw in items(tool_calls):
        call = mapping(raw)
        function = call.get("function")
        found += _call(function if isinstance(function, dict) else call, call.get("id"), "arguments")
    return found


def google_parts(raw: Any) -> list[Part]:
    """Google's parts, in the field names of its Python SDK, as ADK records them."""
    return [part for item in items(raw) if isinstance(item, dict) for part in _google_part(item)]


def google_message(content: Any, role: str = "user") -> list[Message]:
    """A Google content as a message; none when it is empty."""
    content = mapping(content)
    parts = tuple(google_parts(content.get("parts")))
    if isinstance(content.get("role"), str):
        role = content["role"]
    if parts and all(part.kind == "tool_response" for part in parts):
        role = "tool"
    return [Message("assistant" if role == "model" else role, parts)] if parts else []


def response_part(response: Any, call_id: Any = None, name: Any = None) -> Part:
    return Part("tool_response", json_or_text(response), _name(name), _id(call_id))


def text_of(messages: Iterable[Message]) -> str:
    """Everything said in the messages, without reasoning, tool calls and tool results."""
    return "".join(part.data for part in _parts(messages, "text"))


def has_text(message: Message) -> bool:
    return any(part.kind == "text" for part in message.parts)


def calls_in(messages: Iterable[Message]) -> list[Part]:
    return [part for part in _parts(messages, "tool_call") if part.name]


def responses_in(messages: Iterable[Message]) -> list[Part]:
    return list(_parts(messages, "tool_response"))


def last_question(messages: Sequence[Message]) -> list[Message]:
    """The last run of user messages that say something. What follows them (the agent's own messages,
    tool results) does not count, and what precedes them is history."""
    found: list[Message] = []
    for message in reversed(messages):
        if message.role == "user" and has_text(message):
            found.append(message)
        elif found:
            break
    return found[::-1]


def ends_with_tool_response(messages: Sequence[Message]) -> bool:
    """Whether the model was asked to go on after a tool had answered."""
    if not messages:
        return False
    last = messages[-1]
    only_responses = bool(last.parts) and all(part.kind == "tool_response" for part in last.parts)
    return last.role == "tool" or only_responses


def _parts(messages: Iterable[Message], kind: str) -> Iterator[Part]:
    return (part for message in messages for part in message.parts if part.kind == kind)


def _message(raw: dict[str, Any]) -> Message:
    role = raw.get("role")
    if isinstance(raw.get("parts"), list):
        parts = [part for item in raw["parts"] for part in _standard_part(item)]
    else:
        parts = content_parts(raw.get("content")) + openai_calls(raw.get("tool_calls"))
    return Message(role if isinstance(role, str) and role else "user", tuple(parts))


def _standard_part(raw: Any) -> list[Part]:
    """A part as OpenTelemetry's conventions have it."""
    raw = mapping(raw)
    kind = raw.get("type")
    if kind == "text":
        return text_part(raw["content"] if "content" in raw else raw.get("text"))
    if kind == "tool_call":
        return _call(raw, raw.get("id"), "arguments") or [Part("other")]
    if kind == "tool_call_response":
        return [response_part(raw.get("response"), raw.get("id"), raw.get("name"))]
    return [Part("other")] if kind else []


def _content_item(raw: Any) -> list[Part]:
    if isinstance(raw, str):
        return text_part(raw)
    raw = mapping(raw)
    return _standard_part({"type": "text", **raw} if "text" in raw else raw)


def _google_part(raw: dict[str, Any]) -> list[Part]:
    call, response = raw.get("function_call"), raw.get("function_response")
    if raw.get("text") is not None:
        return [Part("other")] if raw.get("thought") else text_part(raw["text"])
    if isinstance(call, dict):
        return _call(call, call.get("id"), "args") or [Part("other")]
    if isinstance(response, dict):
        return [response_part(response.get("response"), response.get("id"), response.get("name"))]
    return [Part("other")] if any(value is not None for value in raw.values()) else []


def _call(raw: Any, call_id: Any, arguments_key: str) -> list[Part]:
    name = _name(raw.get("name"))
    return [Part("tool_call", json_or_text(raw.get(arguments_key)), name, _id(call_id))] if name else []


def _name(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _id(value: Any) -> str | None:
    return as_text(value) if value else None
