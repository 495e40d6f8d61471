"""Pydantic AI and Logfire: `events`, `all_messages_events`, `pydantic_ai.all_messages`, `tool_arguments`.

Its newer versions write what the conventions say, beside these.
"""

from collections.abc import Iterator

from runs.traces.dialects import events
from runs.traces.dialects.names import (
    AGENT_NAME,
    CACHE_READ_TOKENS,
    CACHE_WRITE_TOKENS,
    INPUT,
    INPUT_TOKENS,
    KIND,
    OUTPUT,
    OUTPUT_TOKENS,
    TOOL_ARGUMENTS,
    TOOL_RESULT,
    Source,
)
from runs.traces.messages import Message, messages_from
from runs.traces.model import Attributes, Span
from runs.traces.parts import text_part

_HISTORIES = ("pydantic_ai.all_messages", "all_messages_events")
_USAGE = {
    "gen_ai.aggregated_usage.input_tokens": INPUT_TOKENS,
    "gen_ai.aggregated_usage.output_tokens": OUTPUT_TOKENS,
    "gen_ai.aggregated_usage.cache_read.input_tokens": CACHE_READ_TOKENS,
    "gen_ai.aggregated_usage.cache_creation.input_tokens": CACHE_WRITE_TOKENS,
    "gen_ai.usage.details.cache_read_tokens": CACHE_READ_TOKENS,
    "gen_ai.usage.details.cache_write_tokens": CACHE_WRITE_TOKENS,
}


def sources(span: Span) -> Iterator[Source]:
    own = span.attributes
    if "events" in own:
        yield events.told_by(events.listed_events(own["events"]))
    yield {ours: own[name] for name, ours in _USAGE.items() if name in own}
    if any(name in own for name in _HISTORIES):
        yield {KIND: "agent", AGENT_NAME: own.get("agent_name"), **_run(own)}
    if "gen_ai.tool.name" in own and ("tool_arguments" in own or "tool_response" in own):
        arguments, response = own.get("tool_arguments"), own.get("tool_response")
        yield {KIND: "tool", TOOL_ARGUMENTS: arguments, TOOL_RESULT: response}


def _run(own: Attributes) -> Source:
    """The history ends with this run's exchange: its last question is the one that was asked."""
    history = messages_from(own.get("pydantic_ai.all_messages"))
    if not history:
        history = events.told_by(events.listed_events(own.get("all_messages_events")))[INPUT]
    answer = Message("assistant", tuple(text_part(own.get("final_result"))))
    return {INPUT: history, OUTPUT: [answer] if answer.parts else []}
