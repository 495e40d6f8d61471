"""What one span says, whichever of the dialects it says it in.

Several sources can tell the same thing. They are asked in this order and the first that has an
answer gives it whole, so that no message list is a mixture:

1. OpenTelemetry's GenAI attributes on the span (`gen_ai.input.messages`), then their older names
2. events and log records, the current before the older ones (`events`)
3. Google ADK's own attributes (`adk`)
4. OpenLLMetry's (`openllmetry`), OpenInference's (`openinference`), the AI SDK's (`ai_sdk`),
   Pydantic AI's (`pydantic_ai`) and LangSmith's (`langsmith`)

A module's `sources(span)` translates its dialect into the words of `names`. Nothing is decided by a
span's name, except for ADK's two spans that have no operation name.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from runs.traces.dialects import (
    adk,
    ai_sdk,
    events,
    langsmith,
    openinference,
    openllmetry,
    pydantic_ai,
)
from runs.traces.dialects.names import (
    AGENT_NAME,
    CACHE_READ_TOKENS,
    CACHE_WRITE_TOKENS,
    CONVERSATION_ID,
    FINISH,
    HEARD,
    INPUT,
    INPUT_TOKENS,
    KIND,
    OPERATION,
    OUTPUT,
    OUTPUT_TOKENS,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    SYSTEM,
    TOLD,
    TOOL_ARGUMENTS,
    TOOL_CALL_ID,
    TOOL_FAILED,
    TOOL_INPUT,
    TOOL_NAME,
    TOOL_RESULT,
    USER,
    Kind,
    Source,
)
from runs.traces.messages import Message, calls_in, messages_from, responses_in, system_in
from runs.traces.model import Attributes, Json, LogRecord, Span
from runs.traces.parts import Part, parts_from
from runs.traces.values import count_of, items, json_or_text, json_value, scalar_text

__all__ = ["CONVERSATION_ID", "USER", "Kind", "Usage", "View", "view_of"]

_KINDS: dict[str, Kind] = {
    "chat": "model",
    "generate_content": "model",
    "text_completion": "model",
    "chat.completions": "model",  # Semantic Kernel's words for the same
    "text.completions": "model",
    "invoke_agent": "agent",
    "invoke_workflow": "workflow",
    "execute_tool": "tool",
}
_OLDER_NAMES = {
    "gen_ai.usage.prompt_tokens": INPUT_TOKENS,
    "gen_ai.usage.completion_tokens": OUTPUT_TOKENS,
    "gen_ai.usage.cache_creation.input_tokens": CACHE_WRITE_TOKENS,
    "gen_ai.response.finish_reason": FINISH,
}
_TOOL_PLACEHOLDER = "<not specified>"
_CALL_PREFIXES = ("gen_ai.usage.", "gen_ai.prompt.", "gen_ai.completion.")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call. None means not reported, which is not 0."""

    input: int | None
    output: int | None
    cache_read: int | None
    cache_write: int | None


@dataclass(frozen=True, slots=True)
class View:
    """A span in one vocabulary. Texts are empty and values None where the span does not say.

    `heard` and `told` are a framework's own input and output, for want of better; `tool_input` likewise.
    """

    span: Span
    kind: Kind
    agent_name: str
    conversation_id: str
    user: str
    error_type: str
    exception: str
    model_failed: bool
    request_model: str
    response_model: str
    finish: str
    inputs: list[Message]
    outputs: list[Message]
    heard: list[Message]
    told: list[Message]
    system: list[Part]
    usage: Usage | None
    tool_name: str
    tool_call_id: str
    tool_arguments: Json
    tool_input: Json
    tool_result: Json
    tool_failed: bool

    @property
    def failed(self) -> bool:
        return self.span.status == "error" or bool(self.error_type)


def view_of(span: Span, logs: Sequence[LogRecord] = ()) -> View:
    """Read a span together with the log records that belong to it."""
    own = span.attributes
    sources = list(_sources(span, logs))
    inputs = _first(sources, INPUT, messages_from) or []
    inputs = adk.as_spoken(inputs) if adk.is_adk(span) else inputs
    outputs = _first(sources, OUTPUT, messages_from) or []
    kind = _kind(span, sources)
    return View(
        span=span,
        kind=kind,
        agent_name=_first(sources, AGENT_NAME, scalar_text) or "",
        conversation_id=scalar_text(own.get(CONVERSATION_ID)),
        user=_first(sources, USER, scalar_text) or "",
        error_type=scalar_text(own.get("error.type")),
        exception=_exception(span, logs),
        model_failed=events.has_event(span, logs, events.EXCEPTION_EVENTS[0]),
        request_model=_first(sources, REQUEST_MODEL, scalar_text) or "",
        response_model=_first(sources, RESPONSE_MODEL, scalar_text) or "",
        finish=_first(sources, FINISH, _finish) or "",
        inputs=inputs,
        outputs=outputs,
        heard=_first(sources, HEARD, messages_from) or [],
        told=_first(sources, TOLD, messages_from) or [],
        system=_first(sources, SYSTEM, parts_from) or system_in(inputs),
        usage=_usage(sources),
        tool_name=_first(sources, TOOL_NAME, _specified) or "",
        tool_call_id=_first(sources, TOOL_CALL_ID, _specified) or "",
        tool_arguments=_tool_value(kind, sources, TOOL_ARGUMENTS, calls_in(inputs)),
        tool_input=_first(sources, TOOL_INPUT, json_or_text),
        tool_result=_tool_value(kind, sources, TOOL_RESULT, responses_in(outputs)),
        tool_failed=_first(sources, TOOL_FAILED, bool) is True,
    )


def _first(sources: Sequence[Source], key: str, read: Callable[[Any], Any]) -> Any:
    """What the first source with an answer says of `key`; None when none has one."""
    for source in sources:
        value = source.get(key)
        if value is not None and (found := read(value)) not in (None, "", []):
            return found
    return None


def _sources(span: Span, logs: Sequence[LogRecord]) -> Iterator[Source]:
    yield openllmetry.unpacked(span)
    yield span.attributes
    yield {_OLDER_NAMES[key]: value for key, value in span.attributes.items() if key in _OLDER_NAMES}
    yield from events.sources(span, logs)
    for dialect in (adk, openllmetry, openinference, ai_sdk, pydantic_ai, langsmith):
        yield from dialect.sources(span)


# What kind of span it is


def _kind(span: Span, sources: Sequence[Source]) -> Kind:
    if adk.is_summary(span):
        return "none"
    if operation := scalar_text(span.attributes.get(OPERATION)):
        return _KINDS.get(operation) or _first(sources, KIND, scalar_text) or "other"
    kind: Kind | None = _first(sources, KIND, scalar_text)
    return kind or ("model" if _is_a_call(span.attributes) else "none")


def _is_a_call(own: Attributes) -> bool:
    """Model and provider alone do not make a model call: some producers stamp them on every span."""
    named = own.get(REQUEST_MODEL) and (own.get("gen_ai.system") or own.get("gen_ai.provider.name"))
    return bool(named) and any(key in (INPUT, OUTPUT) or key.startswith(_CALL_PREFIXES) for key in own)


# Scalars


def _usage(sources: Sequence[Source]) -> Usage | None:
    keys = (INPUT_TOKENS, OUTPUT_TOKENS, CACHE_READ_TOKENS, CACHE_WRITE_TOKENS)
    usage = Usage(*(_first(sources, key, count_of) for key in keys))
    return None if usage.input is None and usage.output is None else usage


def _finish(value: Any) -> str:
    """Why the model stopped: of several choices, the first one's reason."""
    listed = json_value(value)
    return next((text for item in items(listed) if (text := scalar_text(item))), "") or scalar_text(value)


def _specified(value: Any) -> str:
    text = scalar_text(value)
    return "" if text == _TOOL_PLACEHOLDER else text


def _tool_value(kind: Kind, sources: Sequence[Source], key: str, parts: Sequence[Part]) -> Json:
    """Arguments or result: as an attribute, or as the one part of a tool span's messages."""
    found = _first(sources, key, json_or_text)
    return parts[0].data if found is None and kind == "tool" and len(parts) == 1 else found


def _exception(span: Span, logs: Sequence[LogRecord]) -> str:
    """The last exception's message: it is the one that ended the span."""
    said = [event.attributes for event in span.events if event.name in events.EXCEPTION_EVENTS]
    said += [record.attributes for record in logs if record.name in events.EXCEPTION_EVENTS]
    keys = ("exception.message", "exception.type")
    return next((text for a in reversed(said) for key in keys if (text := scalar_text(a.get(key)))), "")
