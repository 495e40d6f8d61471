"""What a trace is to us (CONTRACTS 1.7): spans as they were sent, and the turns read out of them.

Span, Trace and their parts are OTLP's words. Turn, Step and Group are ours: a turn is one exchange
with the user, a group is what one evaluation judges (one trace, or the traces of one conversation).

Nobody changes them once they are made. What there is many of is not frozen all the same: that takes three
times as long to make.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Json = Any  # what json.loads gives: dict, list, str, int, float, bool or None
Attributes = Mapping[str, Json]

SpanStatus = Literal["unset", "ok", "error"]


class TraceError(ValueError):
    """The document is no trace that we can read. The message is one sentence, fit to be shown."""


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """An event on a span. `at` is in nanoseconds since 1970, 0 when unknown."""

    name: str
    at: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class LogRecord:
    """An OTLP log record, which is where some instrumentations put what was said."""

    name: str
    at: int
    body: Json
    attributes: Attributes
    trace_id: str
    span_id: str
    resource: Attributes = field(default_factory=dict)


@dataclass(slots=True)
class Span:
    """One span. Times are nanoseconds since 1970, 0 when unknown; `end` may lie before `start`."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start: int
    end: int
    attributes: Attributes
    resource: Attributes
    scope: str = ""
    status: SpanStatus = "unset"
    status_message: str = ""
    events: tuple[SpanEvent, ...] = ()

    @property
    def duration_ms(self) -> float:
        return max(0, self.end - self.start) / 1e6


@dataclass(slots=True)
class Trace:
    """The spans of one trace as a forest: every span is reachable from exactly one root.

    A parent that is not in the trace, or that would close a circle, does not count: such a span is a
    root. `warnings` says where that was done.
    """

    trace_id: str
    spans: dict[str, Span] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)
    roots: list[str] = field(default_factory=list)
    logs: dict[str, list[LogRecord]] = field(default_factory=dict)
    loose_logs: list[LogRecord] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def start(self) -> int:
        return min((span.start for span in self.spans.values()), default=0)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that was called. `args` is always an object; a bare value sits under the key `value`."""

    name: str
    args: dict[str, Json]
    id: str | None


@dataclass(frozen=True, slots=True)
class ToolResponse:
    """What a tool gave back. `response` is always an object; a bare value sits under the key `result`."""

    name: str
    response: dict[str, Json]
    id: str | None
    is_error: bool


@dataclass(slots=True)
class Step:
    """One entry of a turn's transcript.

    `kind` is message, tool_call, tool_result or error; `role` is user, agent, tool or system.
    Messages and errors have `text`, tool calls and results have `data`. `name` is the tool's or the
    speaking agent's. `tokens` is input plus output of the model call, which stand beside it as well;
    `duration_ms` milliseconds.
    """

    kind: Literal["message", "tool_call", "tool_result", "error"]
    role: Literal["user", "agent", "tool", "system"]
    text: str = ""
    data: Json = None
    name: str = ""
    call_id: str | None = None
    model: str = ""
    tokens: int | None = None
    at: datetime | None = None
    duration_ms: float | None = None
    span_id: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(slots=True)
class Turn:
    """One exchange with the user: the question, what the agent did, its last answer.

    `invocation_id` is the id that results use (the anchor span's, as agentevals has it). Tokens are
    sums over the model calls, 0 when none were reported. `duration_ms` is milliseconds from the first
    span's start to the last one's end, never negative. `error` is None unless the turn itself failed.
    `user` is the user's id; `finish_reason` is why the last model call stopped, as its producer calls it.
    `cost` is US dollars, None where nobody said.
    """

    trace_id: str
    span_id: str
    invocation_id: str
    started_at: datetime | None
    ended_at: datetime | None
    user_text: str
    final_text: str
    tool_calls: list[ToolCall]
    tool_responses: list[ToolResponse]
    models: list[str]
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    llm_calls: int
    duration_ms: float
    error: str | None
    agent_name: str
    conversation_id: str | None
    steps: list[Step]
    user: str = ""
    finish_reason: str = ""
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """What one evaluation item is made of. `trace_ids` is in order of start, never empty.

    `key` is the item id (CONTRACTS 1.3): the trace id, or the conversation's key. `case_id` is the
    eval case that the trace itself names, else None. `latency_ms` is the median of the turns, or of
    the root spans where there is no turn; None when there is neither.
    """

    key: str
    trace_ids: list[str]
    conversation_id: str | None
    case_id: str | None
    turns: list[Turn]
    agent_name: str
    service_name: str
    latency_ms: float | None
    warnings: list[str]
