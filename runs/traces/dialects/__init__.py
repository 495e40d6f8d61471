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

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
# What only the dialects' attributes are called: most spans have none of them, and need not be asked for each.
_OF_A_DIALECT = re.compile(
    r"^(?:gen_ai\.(?:prompt|completion|aggregated_usage|usage\.(?:details|cache_(?:read|creation|write)_))"
    r"|gcp\.vertex\.agent\.|llm\.|traceloop\.|openinference\.|ai\.|langsmith\.|pydantic_ai\."
    r"|(?:events|all_messages_events|tool_arguments|tool_response)$)",
    re.MULTILINE,
)
_NOTHING: tuple[Any, ...] = (None, "", [])
_USUAL = 100  # attributes of a span, of 50 characters: what has more is not kept in mind
_CALL_PREFIXES = ("gen_ai.usage.", "gen_ai.prompt.", "gen_ai.completion.")


@dataclass(frozen=True, slots=True)
class _Names:
    """What the names of a span's attributes say: which are `own` to `_READ`, with how these are read, and
    which are `older`."""

    own: dict[str, Callable[[Any], Any]]
    older: tuple[str, ...]
    of_a_dialect: bool


@lru_cache(1024)
def _names_in(found: tuple[str, ...]) -> _Names:
    """Kept, since programs have few kinds of spans, with the same names each."""
    return _Names(
        own={name: _READ[name] for name in found if name in _READ},
        older=tuple(name for name in found if name in _OLDER_NAMES),
        of_a_dialect=_OF_A_DIALECT.search("\n".join(found)) is not None,
    )


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call. None means not reported, which is not 0."""

    input: int | None
    output: int | None
    cache_read: int | None
    cache_write: int | None


@dataclass(slots=True)  # not frozen: that takes twice as long, and there is one for each span
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
    said = _said(span, logs)
    inputs, outputs = said.get(INPUT) or [], said.get(OUTPUT) or []
    inputs = adk.as_spoken(inputs) if inputs and adk.is_adk(span) else inputs
    kind, has_events = _kind(span, said.get(KIND)), bool(span.events or logs)
    return View(
        span=span,
        kind=kind,
        agent_name=said.get(AGENT_NAME) or "",
        conversation_id=scalar_text(own.get(CONVERSATION_ID)),
        user=said.get(USER) or "",
        error_type=scalar_text(own.get("error.type")),
        exception=_exception(span, logs) if has_events else "",
        model_failed=has_events and events.has_event(span, logs, events.EXCEPTION_EVENTS[0]),
        request_model=said.get(REQUEST_MODEL) or "",
        response_model=said.get(RESPONSE_MODEL) or "",
        finish=said.get(FINISH) or "",
        inputs=inputs,
        outputs=outputs,
        heard=said.get(HEARD) or [],
        told=said.get(TOLD) or [],
        system=said.get(SYSTEM) or system_in(inputs),
        usage=_usage(said),
        tool_name=said.get(TOOL_NAME) or "",
        tool_call_id=said.get(TOOL_CALL_ID) or "",
        tool_arguments=_tool_value(kind, said.get(TOOL_ARGUMENTS), calls_in, inputs),
        tool_input=said.get(TOOL_INPUT),
        tool_result=_tool_value(kind, said.get(TOOL_RESULT), responses_in, outputs),
        tool_failed=said.get(TOOL_FAILED) is True,
    )


def _said(span: Span, logs: Sequence[LogRecord]) -> dict[str, Any]:
    """Of all that could be said, what the span says."""
    found = tuple(span.attributes)
    usual = len(found) <= _USUAL and sum(map(len, found)) <= _USUAL * 50
    names = _names_in(found) if usual else _names_in.__wrapped__(found)
    sources = [source for source in _sources(span, logs, names) if source]
    if len(sources) == 1 and sources[0] is span.attributes:
        said = ((key, read(sources[0][key])) for key, read in names.own.items())
        return {key: value for key, value in said if value or value not in _NOTHING}
    asked_for = _READ.keys() & set().union(*sources)
    return {key: _first(sources, key, _READ[key]) for key in asked_for}


def _first(sources: Sequence[Source], key: str, read: Callable[[Any], Any]) -> Any:
    """What the first source with an answer says of `key`; None when none has one."""
    for source in sources:
        value = source.get(key)
        if value is not None and (found := read(value)) not in _NOTHING:
            return found
    return None


def _sources(span: Span, logs: Sequence[LogRecord], names: _Names) -> Iterator[Source]:
    yield openllmetry.unpacked(span)
    yield span.attributes
    yield {_OLDER_NAMES[key]: span.attributes[key] for key in names.older}
    if span.events or logs:
        yield from events.sources(span, logs)
    if span.scope != adk.SCOPE and not names.of_a_dialect:
        return
    for dialect in (adk, openllmetry, openinference, ai_sdk, pydantic_ai, langsmith):
        yield from dialect.sources(span)


# What kind of span it is


def _kind(span: Span, told: Kind | None) -> Kind:
    """`told` is what a dialect calls it."""
    if adk.is_summary(span):
        return "none"
    if operation := scalar_text(span.attributes.get(OPERATION)):
        return _KINDS.get(operation) or told or "other"
    return told or ("model" if _is_a_call(span.attributes) else "none")


def _is_a_call(own: Attributes) -> bool:
    """Model and provider alone do not make a model call: some producers stamp them on every span."""
    named = own.get(REQUEST_MODEL) and (own.get("gen_ai.system") or own.get("gen_ai.provider.name"))
    return bool(named) and any(key in (INPUT, OUTPUT) or key.startswith(_CALL_PREFIXES) for key in own)


# Scalars


def _usage(said: Mapping[str, Any]) -> Usage | None:
    read, written = said.get(INPUT_TOKENS), said.get(OUTPUT_TOKENS)
    if read is None and written is None:
        return None
    return Usage(read, written, said.get(CACHE_READ_TOKENS), said.get(CACHE_WRITE_TOKENS))


def _finish(value: Any) -> str:
    """Why the model stopped: of several choices, the first one's reason."""
    listed = json_value(value)
    return next((text for item in items(listed) if (text := scalar_text(item))), "") or scalar_text(value)


def _specified(value: Any) -> str:
    text = scalar_text(value)
    return "" if text == _TOOL_PLACEHOLDER else text


def _tool_value(
    kind: Kind, found: Json, parts_in: Callable[[list[Message]], list[Part]], messages: list[Message]
) -> Json:
    """Arguments or result: as an attribute, or as the one part of a tool span's messages."""
    if found is not None or kind != "tool":
        return found
    parts = parts_in(messages)
    return parts[0].data if len(parts) == 1 else None


def _exception(span: Span, logs: Sequence[LogRecord]) -> str:
    """The last exception's message: it is the one that ended the span."""
    said = [event.attributes for event in span.events if event.name in events.EXCEPTION_EVENTS]
    said += [record.attributes for record in logs if record.name in events.EXCEPTION_EVENTS]
    keys = ("exception.message", "exception.type")
    return next((text for a in reversed(said) for key in keys if (text := scalar_text(a.get(key)))), "")


# What is read of the sources, and how.
_READ: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys((KIND, AGENT_NAME, USER, REQUEST_MODEL, RESPONSE_MODEL), scalar_text),
    **dict.fromkeys((INPUT, OUTPUT, HEARD, TOLD), messages_from),
    **dict.fromkeys((INPUT_TOKENS, OUTPUT_TOKENS, CACHE_READ_TOKENS, CACHE_WRITE_TOKENS), count_of),
    **dict.fromkeys((TOOL_NAME, TOOL_CALL_ID), _specified),
    **dict.fromkeys((TOOL_ARGUMENTS, TOOL_INPUT, TOOL_RESULT), json_or_text),
    SYSTEM: parts_from,
    FINISH: _finish,
    TOOL_FAILED: bool,
}
