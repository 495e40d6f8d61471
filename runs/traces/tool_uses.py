"""Model calls and tool uses, and what the messages tell of the tools.

A tool use shows in two places: as a span of its own, and in the messages: the model's output asks
for it, a later call's input has the result. Spans may lack arguments or results, messages may tell
of tools that have no span (those that ran on the client, say).
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from runs.traces.dialects import Usage
from runs.traces.messages import Message, Part, calls_in, responses_in
from runs.traces.model import Json


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of a model. Times are nanoseconds since 1970."""

    span_id: str
    agent_name: str
    model: str
    usage: Usage | None
    system: list[Part]
    inputs: list[Message]
    outputs: list[Message]
    delegated: bool
    error: str | None
    start: int
    end: int


@dataclass(slots=True)
class ToolUse:
    """One use of a tool. `span_id` is empty and `end` 0 when only messages tell of it."""

    name: str
    call_id: str | None
    arguments: Json
    result: Json
    error: str | None
    agent_name: str
    span_id: str
    start: int
    end: int


def complete_from_messages(
    span_uses: Sequence[ToolUse], calls: Sequence[ModelCall], warnings: list[str]
) -> list[ToolUse]:
    """The tool uses of a turn in order: those with spans, completed from the messages without replacing
    anything, and after each the ones that the model asked for next and that have no span."""
    told = _told_by(calls, warnings)
    claims = _claims(span_uses, told)
    followers: dict[int, list[ToolUse]] = defaultdict(list)
    latest = -1  # the span use that was asked for last; -1 before the first
    for index, use in enumerate(told):
        if index in claims:
            latest = claims[index]
            _complete(span_uses[latest], use)
        else:
            followers[latest].append(use)
            if span_uses:
                warnings.append(f"tool {use.name}: only messages tell of it, it has no span")
    uses = followers[-1]
    for index, span_use in enumerate(span_uses):
        uses += [span_use, *followers[index]]
    return uses


def _told_by(calls: Sequence[ModelCall], warnings: list[str]) -> list[ToolUse]:
    """The tool uses that the messages tell of, in the order in which the model asked for them."""
    asked = [(index, call, part) for index, call in enumerate(calls) for part in calls_in(call.outputs)]
    responses = _Responses(calls, known_ids={part.call_id for _, _, part in asked if part.call_id})
    uses = []
    for index, call, part in asked:
        response, by_order = responses.take(part, index)
        if by_order and response and response.call_id:
            warnings.append(f"tool {part.name}: joined with response {response.call_id!r} by its order")
        uses.append(
            ToolUse(
                name=part.name,
                call_id=part.call_id,
                arguments=None if part.data == "" else part.data,
                result=response.data if response else None,
                error=None,
                agent_name=call.agent_name,
                span_id="",
                start=call.end,
                end=0,
            )
        )
    return uses


class _Responses:
    """The tool responses in the inputs of a turn's calls, each to be taken once.

    A response answers the call with its id. One whose id nobody asked with (some producers number
    calls and responses separately) answers the next call of its name, or any when it has no name.
    Either way it must first appear in a later call's input than the one that asked: what is there
    already answers something earlier. As calls come in order, what is too early is dropped for good.
    """

    def __init__(self, calls: Sequence[ModelCall], known_ids: set[str]) -> None:
        self._by_id: dict[str, tuple[int, Part]] = {}
        self._by_name: dict[str, deque[tuple[int, int, Part]]] = defaultdict(deque)
        seen: set[str] = set()
        for index, call in enumerate(calls):
            for part in responses_in(call.inputs):
                key = part.call_id or f"{part.name}\n{part.data!r}"
                if key in seen:  # later calls repeat the history
                    continue
                seen.add(key)
                if part.call_id and part.call_id in known_ids:
                    self._by_id[part.call_id] = (index, part)
                else:
                    self._by_name[part.name].append((len(seen), index, part))

    def take(self, asked: Part, call_index: int) -> tuple[Part | None, bool]:
        """The response to `asked`, and whether it was found by order instead of by id."""
        index, part = self._by_id.get(asked.call_id or "", (-1, None))
        if part and index > call_index:
            del self._by_id[part.call_id or ""]
            return part, False
        queues = [self._later(name, call_index) for name in ("", asked.name)]
        queue = min((queue for queue in queues if queue), key=lambda queue: queue[0][0], default=None)
        return (queue.popleft()[2], True) if queue else (None, False)

    def _later(self, name: str, call_index: int) -> deque[tuple[int, int, Part]]:
        queue = self._by_name[name]
        while queue and queue[0][1] <= call_index:
            queue.popleft()
        return queue


def _claims(span_uses: Sequence[ToolUse], told: Sequence[ToolUse]) -> dict[int, int]:
    """Which told use is which span's: by call id, else the next one of the same name."""
    by_id: dict[str | None, deque[int]] = defaultdict(deque)
    by_name: dict[str, deque[int]] = defaultdict(deque)
    for index, use in enumerate(told):
        by_id[use.call_id].append(index)
        by_name[use.name].append(index)
    claims: dict[int, int] = {}
    for number, span_use in enumerate(span_uses):
        claimed = _next(by_id[span_use.call_id], claims) if span_use.call_id else None
        if claimed is None:
            claimed = _next(by_name[span_use.name], claims)
        if claimed is not None:
            claims[claimed] = number
    return claims


def _next(indexes: deque[int], claims: dict[int, int]) -> int | None:
    while indexes:
        index = indexes.popleft()
        if index not in claims:
            return index
    return None


def _complete(span_use: ToolUse, told: ToolUse) -> None:
    if _is_empty(span_use.arguments):
        span_use.arguments = told.arguments if told.arguments is not None else span_use.arguments
    if _is_empty(span_use.result):
        span_use.result = told.result if told.result is not None else span_use.result


def _is_empty(value: Json) -> bool:
    return value is None or value in ("", {}, [])
