"""What was said: messages of text, tool calls and tool results, from every shape they are written in.

The shapes: OpenTelemetry's `{"role", "parts"}`, OpenAI's `{"role", "content", "tool_calls"}` and its
responses' items, Google's `{"role", "parts": [{"text"}, ...]}`, LangChain's three ways of writing a
message, and `["user", "text"]`. Nothing in here raises; what cannot be used is left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runs.traces.parts import (
    Part,
    block_parts,
    content_parts,
    google_parts,
    openai_calls,
    response_part,
    with_calls,
)
from runs.traces.values import items, json_value, mapping, word

_ROLES = {
    "human": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "model": "assistant",
    "tool-call": "assistant",
    "function": "tool",
    "tool-response": "tool",
    "developer": "system",
    "HumanMessage": "user",
    "AIMessage": "assistant",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "FunctionMessage": "tool",
}
_SPEAKERS = frozenset({*_ROLES, "user", "assistant", "system", "tool"})
_ITEM_ROLES = {"function_call": "assistant", "reasoning": "assistant", "function_call_output": "tool"}


@dataclass(slots=True)
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
        message
        for item in raw
        for message in ([item] if isinstance(item, Message) else _message(_as_object(item)))
    ]
    return found if any(message.parts for message in found) else []


def is_message(value: Any) -> bool:
    """Whether this is a message and not some other object."""
    raw = _as_object(value)
    return _role(_unwrapped(raw)) in _SPEAKERS or word(raw.get("type")) in _ITEM_ROLES


def role_of(name: Any) -> str:
    """The role in OpenTelemetry's words: user, assistant, system or tool; other words stay."""
    name = word(name) or "user"
    return _ROLES.get(name, name)


def google_message(content: Any, role: str = "user") -> list[Message]:
    """A Google content as a message; none when it is empty."""
    content = mapping(content)
    parts = tuple(google_parts(content.get("parts")))
    if isinstance(content.get("role"), str):
        role = content["role"]
    if parts and all(part.kind == "tool_response" for part in parts):
        role = "tool"
    return [Message(role_of(role), parts)] if parts else []


def text_of(messages: Iterable[Message]) -> str:
    """Everything said in the messages, without reasoning, tool calls and tool results."""
    return "".join([part.data for part in _parts(messages, "text")])


def has_text(message: Message) -> bool:
    return "text" in [part.kind for part in message.parts]


def calls_in(messages: Iterable[Message]) -> list[Part]:
    return [part for part in _parts(messages, "tool_call") if part.name]


def responses_in(messages: Iterable[Message]) -> list[Part]:
    return _parts(messages, "tool_response")


def system_in(messages: Iterable[Message]) -> list[Part]:
    """The instructions that are given as messages."""
    return [part for message in messages if message.role == "system" for part in message.parts]


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


def last_answer(messages: Sequence[Message]) -> list[Message]:
    """The last message of the agent that says something."""
    spoken = (m for m in reversed(messages) if m.role == "assistant" and has_text(m))
    return [message] if (message := next(spoken, None)) else []


def ends_with_tool_response(messages: Sequence[Message]) -> bool:
    """Whether the model was asked to go on after a tool had answered."""
    if not messages:
        return False
    last = messages[-1]
    only_responses = bool(last.parts) and all(part.kind == "tool_response" for part in last.parts)
    return last.role == "tool" or only_responses


def _parts(messages: Iterable[Message], kind: str) -> list[Part]:
    return [part for message in messages for part in message.parts if part.kind == kind]


def _as_object(raw: Any) -> Mapping[str, Any]:
    """`["user", "text"]` is how LangChain lets people write a message."""
    if _is_pair(raw) and raw[0] in _SPEAKERS:
        return {"role": raw[0], "content": raw[1]}
    return mapping(raw)


def _is_pair(raw: Any) -> bool:
    return isinstance(raw, list) and len(raw) == 2 and all(isinstance(item, str) for item in raw)


def _message(raw: Mapping[str, Any]) -> list[Message]:
    raw = _unwrapped(raw)
    if word(raw.get("type")) in _ITEM_ROLES:
        return [Message(_ITEM_ROLES[raw["type"]], tuple(block_parts(raw)))]
    role = role_of(_role(raw))
    if isinstance(raw.get("parts"), list):
        parts = [part for item in raw["parts"] for part in block_parts(item)]
    elif role == "tool" and raw.get("tool_call_id"):
        failed = raw.get("status") == "error"
        parts = [response_part(raw.get("content"), raw["tool_call_id"], raw.get("name"), failed)]
    else:
        parts = with_calls(content_parts(raw.get("content")), _calls(raw))
    return [Message(role, tuple(parts))] if raw else []


def _unwrapped(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """A LangChain message out of its serialised forms, with its class or type as its role."""
    if isinstance(raw.get("kwargs"), dict) and isinstance(raw.get("id"), list) and raw["id"]:
        return {"role": raw["id"][-1], **raw["kwargs"]}
    if isinstance(raw.get("data"), dict) and word(raw.get("type")) in _SPEAKERS:
        return {"role": raw["type"], **raw["data"]}
    if isinstance(raw.get("message"), dict) and "role" not in raw:  # the AI SDK's steps, OpenAI's choices
        return _unwrapped(raw["message"])
    return raw


def _role(raw: Mapping[str, Any]) -> str:
    kind = word(raw.get("type"))
    return word(raw.get("role")) or (kind if kind in _SPEAKERS else "")


def _calls(raw: Mapping[str, Any]) -> list[Part]:
    more = mapping(raw.get("additional_kwargs")).get("tool_calls")
    return openai_calls(raw.get("tool_calls")) or openai_calls(raw.get("toolCalls")) or openai_calls(more)
