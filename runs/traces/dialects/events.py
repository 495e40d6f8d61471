"""Messages told by events: on the span, in log records, or as a list in one attribute.

The current event (`gen_ai.client.inference.operation.details`) has the attributes of the conventions;
Strands splits it into several. The older ones are one event for each message (`gen_ai.user.message`,
`gen_ai.choice`), whose body is the log record's, or the event's attributes, or the JSON text that
Azure's libraries put under `gen_ai.event.content`. The oldest hold all messages as JSON text.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runs.traces.dialects.names import FINISH, INPUT, OUTPUT, SYSTEM, TOOL_ARGUMENTS, TOOL_RESULT, Source
from runs.traces.messages import Message, google_message, messages_from
from runs.traces.model import LogRecord, Span
from runs.traces.parts import Part, content_parts, openai_calls, recorded_parts, response_part, with_calls
from runs.traces.values import items, json_value, mapping, word

Event = tuple[str, Mapping[str, Any]]  # name and body

EXCEPTION_EVENTS = ("gen_ai.client.operation.exception", "exception")
DETAILS_EVENT = "gen_ai.client.inference.operation.details"
MESSAGE_EVENT = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": "choice",
}
_OLDEST_EVENTS = {
    "gen_ai.content.prompt": ("gen_ai.prompt", INPUT),
    "gen_ai.content.completion": ("gen_ai.completion", OUTPUT),
}
_AZURE_BODY = "gen_ai.event.content"


def sources(span: Span, logs: Sequence[LogRecord]) -> Iterator[Source]:
    yield from (event.attributes for event in span.events if event.name == DETAILS_EVENT)
    yield from (record.attributes for record in logs if record.name == DETAILS_EVENT)
    events = _on_span(span) or _in_logs(logs)
    yield told_by(events)
    if span.attributes.get("gen_ai.operation.name") == "execute_tool":
        yield _tool_use(events)
    for event in span.events:
        if event.name in _OLDEST_EVENTS:
            key, word_of_ours = _OLDEST_EVENTS[event.name]
            yield {word_of_ours: messages_from(event.attributes.get(key))}


def has_event(span: Span, logs: Sequence[LogRecord], name: str) -> bool:
    return any(event.name == name for event in span.events) or any(record.name == name for record in logs)


def listed_events(value: Any) -> list[Event]:
    """The events in an attribute that lists them, as pydantic-ai's `events` does."""
    listed = [mapping(item) for item in items(json_value(value))]
    return [(name, item) for item in listed if (name := word(item.get("event.name"))) in MESSAGE_EVENT]


def told_by(events: Sequence[Event]) -> Source:
    """What one event for each message tells; in the order in which they are given."""
    system: list[Part] = []
    inputs: list[Message] = []
    outputs: list[Message] = []
    for name, body in events:
        role = MESSAGE_EVENT[name]
        if role == "system":
            system += recorded_parts(body.get("content"))
        elif role == "choice":
            outputs += _choice(body)
        else:
            inputs += _message(role, body)
    finish = [body.get("finish_reason") for name, body in events if MESSAGE_EVENT[name] == "choice"]
    return {SYSTEM: system, INPUT: inputs, OUTPUT: outputs, FINISH: finish}


def _on_span(span: Span) -> list[Event]:
    return [
        (event.name, _attributes_body(event.attributes))
        for event in span.events
        if event.name in MESSAGE_EVENT
    ]


def _in_logs(logs: Sequence[LogRecord]) -> list[Event]:
    """In order of time, as exporters mix them up."""
    records = sorted((record for record in logs if record.name in MESSAGE_EVENT), key=lambda r: r.at)
    return [(record.name, _body(record)) for record in records]


def _body(record: LogRecord) -> Mapping[str, Any]:
    data = json_value(record.body)
    if isinstance(data, Mapping):
        return data
    return {"content": record.body} if record.body is not None else _attributes_body(record.attributes)


def _attributes_body(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    body = json_value(attributes.get(_AZURE_BODY))
    return {**attributes, **body} if isinstance(body, dict) else attributes


def _message(role: str, body: Mapping[str, Any]) -> list[Message]:
    content = body.get("content")
    parts = recorded_parts(content)
    if role == "tool" and not any(part.kind == "tool_response" for part in parts):
        return [Message("tool", (response_part(content, body.get("id"), body.get("name")),))]
    if role == "user" and isinstance(content, dict) and "parts" in content:
        return google_message(content)
    if role == "assistant":
        parts = with_calls(parts, openai_calls(body.get("tool_calls")))
    return [Message(role, tuple(parts))] if parts else []


def _choice(body: Mapping[str, Any]) -> list[Message]:
    """The calls stand in the message, or beside it (OpenLLMetry); Strands has content as the message."""
    message = json_value(body.get("message"))
    if isinstance(message, Mapping):
        calls = openai_calls(message.get("tool_calls")) or openai_calls(body.get("tool_calls"))
        parts = with_calls(content_parts(message.get("content")), calls)
    elif body.get("message") is not None:
        parts = recorded_parts(body["message"])
    else:
        parts = with_calls(content_parts(body.get("content")), openai_calls(body.get("tool_calls")))
    return [Message("assistant", tuple(parts))] if parts else []


def _tool_use(events: Sequence[Event]) -> Source:
    """On a tool's span Strands tells the arguments as the tool's message and the result as the choice."""
    said = dict(events)
    result = mapping(said.get("gen_ai.choice")).get("message")
    if result is None:
        return {}
    return {
        TOOL_ARGUMENTS: mapping(said.get("gen_ai.tool.message")).get("content"),
        TOOL_RESULT: response_part(result).data,
    }
