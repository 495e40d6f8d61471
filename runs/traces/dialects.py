"""What one span says, whichever of the dialects it says it in.

Several sources can tell the same thing. They are asked in this order and the first that has an
answer gives it whole, so that no message list is a mixture:

1. OpenTelemetry's GenAI attributes on the span (`gen_ai.input.messages`), then their older names
2. the event `gen_ai.client.inference.operation.details`, on the span or as a log record
3. the older events, one for each message (`gen_ai.user.message`, `gen_ai.choice`), likewise
4. Google ADK's own attributes (`gcp.vertex.agent.llm_request`)
5. OpenLLMetry's numbered attributes (`gen_ai.prompt.0.content`)

Nothing is decided by a span's name, except for ADK's two spans that have no operation name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runs.traces.messages import (
    Message,
    Part,
    content_parts,
    google_message,
    google_parts,
    messages_from,
    openai_calls,
    parts_from,
    response_part,
    text_part,
)
from runs.traces.model import Attributes, Json, LogRecord, Span
from runs.traces.values import count_of, items, json_or_text, json_value, mapping, scalar_text

Kind = Literal["model", "agent", "workflow", "tool", "other", "none"]

INPUT = "gen_ai.input.messages"
OUTPUT = "gen_ai.output.messages"
SYSTEM = "gen_ai.system_instructions"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
CONVERSATION_ID = "gen_ai.conversation.id"

_KINDS: dict[str, Kind] = {
    "chat": "model",
    "generate_content": "model",
    "text_completion": "model",
    "invoke_agent": "agent",
    "invoke_workflow": "workflow",
    "execute_tool": "tool",
}
_OLDER_NAMES = {
    "gen_ai.usage.prompt_tokens": INPUT_TOKENS,
    "gen_ai.usage.completion_tokens": OUTPUT_TOKENS,
    "gen_ai.usage.cache_creation.input_tokens": CACHE_WRITE_TOKENS,
}
_DETAILS_EVENT = "gen_ai.client.inference.operation.details"
_EXCEPTION_EVENTS = ("gen_ai.client.operation.exception", "exception")
_MESSAGE_EVENT = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": "choice",
}
_ADK = "gcp.vertex.agent"
_ADK_NAMES = {"call_llm": "generate_content", "invocation": "invoke_workflow"}
_ADK_USAGE = {
    "prompt_token_count": INPUT_TOKENS,
    "candidates_token_count": OUTPUT_TOKENS,
    "cached_content_token_count": CACHE_READ_TOKENS,
}
_TOOL_PLACEHOLDER = "<not specified>"
_CALL_PREFIXES = ("gen_ai.usage.", "gen_ai.prompt.", "gen_ai.completion.")
_INDEXED = (("gen_ai.prompt.", INPUT), ("gen_ai.completion.", OUTPUT))
_MAX_INDEX_DIGITS = 9

Source = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call. None means not reported, which is not 0."""

    input: int | None
    output: int | None
    cache_read: int | None
    cache_write: int | None


@dataclass(frozen=True, slots=True)
class View:
    """A span in one vocabulary. Texts are empty and values None where the span does not say."""

    span: Span
    kind: Kind
    agent_name: str
    conversation_id: str
    error_type: str
    exception: str
    model_failed: bool
    request_model: str
    response_model: str
    inputs: list[Message]
    outputs: list[Message]
    system: list[Part]
    usage: Usage | None
    tool_name: str
    tool_call_id: str
    tool_arguments: Json
    tool_result: Json

    @property
    def failed(self) -> bool:
        return self.span.status == "error" or bool(self.error_type)


def view_of(span: Span, logs: Sequence[LogRecord] = ()) -> View:
    """Read a span together with the log records that belong to it."""
    own = span.attributes
    sources = list(_sources(span, logs))
    return View(
        span=span,
        kind=_kind(span),
        agent_name=scalar_text(own.get("gen_ai.agent.name")),
        conversation_id=scalar_text(own.get(CONVERSATION_ID)),
        error_type=scalar_text(own.get("error.type")),
        exception=_exception(span, logs),
        model_failed=_has_event(span, logs, _EXCEPTION_EVENTS[0]),
        request_model=_first(sources, REQUEST_MODEL, scalar_text) or "",
        response_model=_first(sources, RESPONSE_MODEL, scalar_text) or "",
        inputs=_first(sources, INPUT, messages_from) or [],
        outputs=_first(sources, OUTPUT, messages_from) or [],
        system=_first(sources, SYSTEM, parts_from) or [],
        usage=_usage(sources),
        tool_name=_specified(own.get("gen_ai.tool.name")),
        tool_call_id=_specified(own.get("gen_ai.tool.call.id")),
        tool_arguments=_first(sources, TOOL_ARGUMENTS, json_or_text),
        tool_result=_first(sources, TOOL_RESULT, json_or_text),
    )


def _first(sources: Sequence[Source], key: str, read: Callable[[Any], Any]) -> Any:
    """What the first source with an answer says of `key`; None when none has one."""
    for source in sources:
        value = source.get(key)
        if value is not None and (found := read(value)) not in (None, "", []):
            return found
    return None


def _sources(span: Span, logs: Sequence[LogRecord]) -> Iterator[Source]:
    yield span.attributes
    yield {_OLDER_NAMES[key]: value for key, value in span.attributes.items() if key in _OLDER_NAMES}
    yield from (event.attributes for event in span.events if event.name == _DETAILS_EVENT)
    yield from (record.attributes for record in logs if record.name == _DETAILS_EVENT)
    yield _message_events(span, logs)
    if _is_adk(span):
        yield _adk(span.attributes)
    yield {key: _indexed(span.attributes, prefix) for prefix, key in _INDEXED}


# What kind of span it is


def _kind(span: Span) -> Kind:
    if span.name == "execute_tool (merged)" or span.attributes.get("gen_ai.tool.name") == "(merged tools)":
        return "none"  # ADK's summary of parallel tool calls, each of which has a span of its own
    operation = scalar_text(span.attributes.get("gen_ai.operation.name")) or _implied_operation(span)
    return _KINDS.get(operation, "other") if operation else "none"


def _implied_operation(span: Span) -> str:
    own = span.attributes
    if _is_adk(span) and span.name in _ADK_NAMES:
        return _ADK_NAMES[span.name]
    named = own.get(REQUEST_MODEL) and (own.get("gen_ai.system") or own.get("gen_ai.provider.name"))
    return "chat" if named and _records_a_call(own) else ""


def _records_a_call(own: Attributes) -> bool:
    """Model and provider alone do not make a model call: some producers stamp them on every span."""
    return any(key in (INPUT, OUTPUT) or key.startswith(_CALL_PREFIXES) for key in own)


def _is_adk(span: Span) -> bool:
    return span.scope == _ADK or any(key.startswith(f"{_ADK}.") for key in span.attributes)


# Scalars


def _usage(sources: Sequence[Source]) -> Usage | None:
    keys = (INPUT_TOKENS, OUTPUT_TOKENS, CACHE_READ_TOKENS, CACHE_WRITE_TOKENS)
    usage = Usage(*(_first(sources, key, count_of) for key in keys))
    return None if usage.input is None and usage.output is None else usage


def _specified(value: Any) -> str:
    text = scalar_text(value)
    return "" if text == _TOOL_PLACEHOLDER else text


def _has_event(span: Span, logs: Sequence[LogRecord], name: str) -> bool:
    return any(event.name == name for event in span.events) or any(record.name == name for record in logs)


def _exception(span: Span, logs: Sequence[LogRecord]) -> str:
    """The last exception's message: it is the one that ended the span."""
    said = [event.attributes for event in span.events if event.name in _EXCEPTION_EVENTS]
    said += [record.attributes for record in logs if record.name in _EXCEPTION_EVENTS]
    keys = ("exception.message", "exception.type")
    return next((text for a in reversed(said) for key in keys if (text := scalar_text(a.get(key)))), "")


# One event for each message


def _message_events(span: Span, logs: Sequence[LogRecord]) -> Source:
    """On the span, or else in log records: those in order of time, as exporters mix them up."""
    found = [(event.name, event.attributes) for event in span.events if event.name in _MESSAGE_EVENT]
    if not found:
        records = sorted((record for record in logs if record.name in _MESSAGE_EVENT), key=lambda r: r.at)
        found = [(record.name, _body(record.body)) for record in records]
    system: list[Part] = []
    inputs: list[Message] = []
    outputs: list[Message] = []
    for name, body in found:
        role = _MESSAGE_EVENT[name]
        if role == "system":
            system += content_parts(body.get("content"))
        elif role == "choice":
            outputs += _choice(body)
        else:
            inputs += _event_message(role, body)
    return {SYSTEM: system, INPUT: inputs, OUTPUT: outputs}


def _body(value: Any) -> Mapping[str, Any]:
    data = json_value(value)
    return data if isinstance(data, Mapping) else {"content": value}


def _event_message(role: str, body: Mapping[str, Any]) -> list[Message]:
    content = body.get("content")
    if role == "tool":
        return [Message("tool", (response_part(content, body.get("id")),))]
    if role == "user" and isinstance(content, dict) and "parts" in content:
        return google_message(content)
    parts = content_parts(content) + (openai_calls(body.get("tool_calls")) if role == "assistant" else [])
    return [Message(role, tuple(parts))] if parts else []


def _choice(body: Mapping[str, Any]) -> list[Message]:
    message = body.get("message")
    said = message if isinstance(message, Mapping) else body
    calls = openai_calls(said.get("tool_calls")) if said is message else []
    parts = tuple(content_parts(said.get("content")) + calls)
    return [Message("assistant", parts)] if parts else []


# Google ADK


def _adk(own: Attributes) -> Source:
    request = mapping(json_value(own.get(f"{_ADK}.llm_request")))
    response = mapping(json_value(own.get(f"{_ADK}.llm_response")))
    usage = mapping(response.get("usage_metadata"))
    arguments = own.get(f"{_ADK}.tool_call_args")
    return {
        INPUT: [m for content in items(request.get("contents")) for m in google_message(content)],
        OUTPUT: google_message(response.get("content"), role="assistant"),
        SYSTEM: _adk_instruction(mapping(request.get("config")).get("system_instruction")),
        REQUEST_MODEL: request.get("model"),
        RESPONSE_MODEL: response.get("model_version"),
        TOOL_ARGUMENTS: None if arguments == "N/A" else arguments,
        TOOL_RESULT: _adk_result(own.get(f"{_ADK}.tool_response")),
        **{key: usage.get(name) for name, key in _ADK_USAGE.items()},
    }


def _adk_instruction(value: Any) -> list[Part]:
    return google_parts(value.get("parts")) if isinstance(value, dict) else text_part(value)


def _adk_result(value: Any) -> Json:
    """None where ADK wrote that there is no response yet (long-running tools)."""
    result = json_or_text(value)
    inner = result.get("result") if isinstance(result, dict) and set(result) == {"result"} else result
    return None if inner == _TOOL_PLACEHOLDER else result


# OpenLLMetry


def _indexed(own: Attributes, prefix: str) -> list[Message]:
    """Messages spread over attributes: `gen_ai.prompt.0.role`, `gen_ai.prompt.0.tool_calls.0.name`."""
    entries: dict[int, dict[str, Any]] = {}
    for key, value in own.items():
        if key.startswith(prefix):
            index, rest = _split_index(key[len(prefix) :])
            if index is not None and rest:
                entries.setdefault(index, {})[rest] = value
    return [_indexed_message(entries[index]) for index in sorted(entries)]


def _split_index(key: str) -> tuple[int | None, str]:
    number, _, rest = key.partition(".")
    usable = number.isascii() and number.isdecimal() and len(number) <= _MAX_INDEX_DIGITS
    return (int(number) if usable else None), rest


def _indexed_message(entry: Mapping[str, Any]) -> Message:
    role = entry.get("role") if isinstance(entry.get("role"), str) else "user"
    content = entry.get("content")
    if role == "tool":
        parts = [response_part(content, entry.get("tool_call_id"))]
    else:
        parts = content_parts(content) + openai_calls(_indexed_calls(entry))
    return Message(str(role), tuple(parts))


def _indexed_calls(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    calls: dict[int, dict[str, Any]] = {}
    for key, value in entry.items():
        if key.startswith("tool_calls."):
            index, name = _split_index(key.removeprefix("tool_calls."))
            if index is not None and name:
                calls.setdefault(index, {})[name] = value
    return [calls[index] for index in sorted(calls)]
