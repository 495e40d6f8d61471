"""What frameworks put whole into one attribute: an agent's input and output, a tool's arguments and result.

`input.value`, `traceloop.entity.input`, `gen_ai.prompt` and their like hold a text, the JSON of a list of
messages, of a graph's state, or of a function's arguments. Messages are believed; other values only
where one field plainly is the question or the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runs.traces.messages import Message, is_message, last_answer, messages_from, text_of
from runs.traces.model import Json
from runs.traces.parts import response_part, text_part
from runs.traces.values import items, json_or_text, json_value, mapping, python_value, word

_ENVELOPES = ("inputs", "outputs", "output", "input", "kwargs", "data", "return_values", "update")
_QUESTIONS = ("question", "query", "task", "user_msg", "user_input", "user_message", "prompt", "message")
_ANSWERS = ("answer", "result", "response", "final_output", "final_answer", "raw", "text", "content")
_CALL_KEYS = frozenset({"args", "kwargs", "sanitize_inputs_outputs"})
_MAX_ENVELOPES = 4


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool's result out of its wrapping, with what the wrapping says of the call."""

    value: Json
    call_id: str | None
    failed: bool


def asked_in(payload: Any) -> list[Message]:
    """What was asked: the messages in the payload, or the one text that is plainly the question."""
    value = json_or_text(payload)
    if messages := _conversation(value):
        return messages
    return _said("user", value, (*_QUESTIONS, "input"))


def answered_in(payload: Any) -> list[Message]:
    """The last thing that the agent says in the payload."""
    value = json_or_text(payload)
    if messages := _conversation(value):
        return last_answer(messages)
    return _said("assistant", value, (*_ANSWERS, "output"))


def told_in(payload: Any, speaker: str = "user") -> list[Message]:
    """The messages in a payload of a model call; `speaker`'s text when it is nothing but text."""
    value = json_or_text(payload)
    return _conversation(value) or (_message(speaker, value) if isinstance(value, str) else [])


def arguments_in(payload: Any) -> Json:
    """A tool's arguments: an object wherever the payload has them by name, else what there is."""
    value = json_value(payload)
    if value is None:
        parsed = python_value(payload)
        return payload if parsed is None else parsed
    if not isinstance(value, dict):
        return value
    if "input_str" in value or ("inputs" in value and "metadata" in value):  # OpenLLMetry's LangChain
        inputs = value.get("inputs")
        return inputs if isinstance(inputs, dict) else arguments_in(value.get("input_str"))
    if (
        set(value) == {"input"} and (inner := python_value(value["input"])) is not None
    ):  # LangSmith's LangChain
        return inner
    if "kwargs" in value and set(value) <= _CALL_KEYS:  # a Python function's own arguments
        return (
            value["kwargs"] if not value.get("args") else {"args": value["args"], **mapping(value["kwargs"])}
        )
    return value


def result_in(payload: Any) -> ToolResult:
    """A tool's result, out of LangChain's message or Google's function response where it is in one."""
    value = _out_of_output(json_or_text(payload))
    if isinstance(value, dict) and is_message(value):
        for message in messages_from(value):
            for part in message.parts:
                if part.kind == "tool_response":
                    return ToolResult(part.data, part.call_id, part.failed)
    if (
        isinstance(value, dict)
        and "response" in value
        and set(value) <= {"id", "name", "response", "scheduling"}
    ):
        return ToolResult(value["response"], word(value.get("id")) or None, failed=False)
    return ToolResult(None if value == "" else response_part(value).data, None, failed=False)


def _out_of_output(value: Json) -> Json:
    """OpenLLMetry's LangChain puts a tool's result under `output`, beside its own `kwargs`."""
    if isinstance(value, dict) and "output" in value and set(value) <= {"output", "kwargs"}:
        return json_or_text(value["output"])
    return value


def _conversation(value: Json, envelopes: int = _MAX_ENVELOPES) -> list[Message]:
    """The messages in a value, out of at most so many envelopes."""
    if isinstance(value, dict):
        return _messages_of(value, envelopes)
    listed = items(value)
    if len(listed) == 1 and isinstance(listed[0], list) and not is_message(listed[0]):  # a batch of one
        listed = listed[0]
    return messages_from(listed) if listed and all(is_message(item) for item in listed) else []


def _messages_of(value: Mapping[str, Any], envelopes: int) -> list[Message]:
    if is_message(value):
        return messages_from(value)
    if isinstance(value.get("new_message"), dict):  # google-adk's runner
        return messages_from(value["new_message"])
    if isinstance(value.get("content"), dict) and "parts" in value["content"]:  # an event of google-adk
        return messages_from({"role": "model", **value["content"]})
    for key in ("messages", "generations", "choices", *_ENVELOPES):
        inner = json_value(value.get(key))
        if envelopes and isinstance(inner, (dict, list)) and (found := _conversation(inner, envelopes - 1)):
            return _instructed(value, found)
    return []


def _instructed(value: Mapping[str, Any], messages: list[Message]) -> list[Message]:
    """With the instructions that stand beside the messages (Anthropic, the AI SDK)."""
    parts = text_part(value.get("system")) if isinstance(value.get("system"), str) else []
    return [Message("system", tuple(parts)), *messages] if parts else messages


def _said(role: str, value: Json, keys: tuple[str, ...]) -> list[Message]:
    if isinstance(value, str):
        return _message(role, value)
    found = mapping(value)
    for _ in range(_MAX_ENVELOPES):
        texts = [found[key] for key in keys if isinstance(found.get(key), str)]
        if texts:
            return _message(role, texts[0])
        found = next((found[key] for key in _ENVELOPES if isinstance(found.get(key), dict)), {})
    return []


def _message(role: str, text: str) -> list[Message]:
    message = Message(role, tuple(text_part(text)))
    return [message] if text_of([message]) else []
