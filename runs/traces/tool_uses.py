"""Model calls and tool uses, and what the messages tell of the tools.

A tool use shows in two places: as a span of its own, and in the messages: the model's output asks
for it, a later call's input has the result. Spans may lack arguments or results, messages may tell
of tools that have no span (those that ran on the client, say).
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runs.traces.dialects import Usage
from runs.traces.messages import Message, calls_in, responses_in
from runs.traces.model import Json
from runs.traces.parts import Part
from runs.traces.values import as_text

FAILED_BY_RESULT = "its result says that it failed"


@dataclass(slots=True)
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
    finish: str
    start: int
    end: int


@dataclass(slots=True)
class ToolUse:
    """One use of a tool. `span_id` is empty and `end` 0 when only messages tell of it.

    `input` are the arguments for want of better. `loose` says that no convention orders such spans by
    their start (CONTRACTS 1.3 does so for those of OpenTelemetry's).
    """

    name: str
    call_id: str | None
    arguments: Json
    result: Json
    error: str | None
    agent_name: str
    span_id: str
    start: int
    end: int
    input: Json = None
    loose: bool = False


def complete_from_messages(
    span_uses: Sequence[ToolUse], calls: Sequence[ModelCall], warnings: list[str]
) -> list[ToolUse]:
    """The tool uses of a turn in order: those with spans, completed from the messages without replacing
    anything, and after each the ones that the model asked for next and that have no span."""
    told = _told_by(calls, warnings)
    span_uses, claims = _as_asked(span_uses, told, _claims(span_uses, told))
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
        if span_use.arguments is None:
            span_use.arguments = span_use.input
    return uses


def _told_by(calls: Sequence[ModelCall], warnings: list[str]) -> list[ToolUse]:
    """The tool uses that the messages tell of, in the order in which the model asked for them."""
    asked = [(index, call, part) for index, call in enumerate(calls) for part in calls_in(call.outputs)]
    if not asked:
        return []
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
                error=FAILED_BY_RESULT if response and response.failed else None,
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
    Ids and answers may occur again in a later turn (ADK numbers calls anew), so occurrences count.
    """

    def __init__(self, calls: Sequence[ModelCall], known_ids: set[str]) -> None:
        self._by_id: dict[str, deque[tuple[int, int, Part]]] = defaultdict(deque)
        self._by_name: dict[str, deque[tuple[int, int, Part]]] = defaultdict(deque)
        seen: Counter[str] = Counter()
        order = 0
        for index, call in enumerate(calls):
            here: Counter[str] = Counter()
            for part in responses_in(call.inputs):
                key = part.call_id or f"{part.name}\n{part.data!r}"
                here[key] += 1
                if here[key] <= seen[key]:  # later calls repeat the history
                    continue
                seen[key] += 1
                order += 1
                known = bool(part.call_id) and part.call_id in known_ids
                queue = self._by_id[part.call_id or ""] if known else self._by_name[part.name]
                queue.append((order, index, part))

    def take(self, asked: Part, call_index: int) -> tuple[Part | None, bool]:
        """The response to `asked`, and whether it was found by order instead of by id."""
        if asked.call_id and (queue := _later(self._by_id[asked.call_id], call_index)):
            return queue.popleft()[2], False
        queues = [_later(self._by_name[name], call_index) for name in ("", asked.name)]
        first = min((queue for queue in queues if queue), key=lambda queue: queue[0][0], default=None)
        return (first.popleft()[2], True) if first else (None, False)


def _later(queue: deque[tuple[int, int, Part]], call_index: int) -> deque[tuple[int, int, Part]]:
    while queue and queue[0][1] <= call_index:
        queue.popleft()
    return queue


def _claims(span_uses: Sequence[ToolUse], told: Sequence[ToolUse]) -> dict[int, int]:
    """Which told use is which span's: by call id, else by name and arguments, else the next of its name."""
    claims: dict[int, int] = {}
    if not told:
        return claims
    claimed: set[int] = set()
    keys: tuple[Callable[[ToolUse], str | None], ...] = (
        lambda use: use.call_id,
        _name_and_arguments,
        lambda use: use.name,
    )
    for key_of in keys:
        told_by_key: dict[str | None, deque[int]] = defaultdict(deque)
        for index, use in enumerate(told):
            if index not in claims:
                told_by_key[key_of(use)].append(index)
        for number, span_use in enumerate(span_uses):
            key = key_of(span_use)
            if number not in claimed and key and told_by_key[key]:
                claims[told_by_key[key].popleft()] = number
                claimed.add(number)
    return claims


def _as_asked(
    span_uses: Sequence[ToolUse], told: Sequence[ToolUse], claims: dict[int, int]
) -> tuple[list[ToolUse], dict[int, int]]:
    """Tools that one model call asked for and that ran side by side, in the order of asking: started at
    the same time, or by threads that overtook each other."""
    asked_together: dict[int, list[int]] = defaultdict(list)
    for index in sorted(claims):
        asked_together[told[index].start].append(index)
    uses, places = list(span_uses), dict(claims)
    for indexes in asked_together.values():
        group = [span_uses[claims[index]] for index in indexes]
        if all(use.loose for use in group) or len({use.start for use in group}) == 1:
            for index, use, place in zip(indexes, group, sorted(claims[i] for i in indexes), strict=True):
                uses[place], places[index] = use, place
    return uses, places


def _name_and_arguments(use: ToolUse) -> str:
    return "" if _is_empty(use.arguments) else f"{use.name}\n{as_text(use.arguments)}"


def _complete(span_use: ToolUse, told: ToolUse) -> None:
    if _is_empty(span_use.arguments):
        span_use.arguments = told.arguments if told.arguments is not None else span_use.arguments
    if _is_empty(span_use.result):
        span_use.result = told.result if told.result is not None else span_use.result
    span_use.error = span_use.error or told.error
    span_use.call_id = span_use.call_id or told.call_id


def _is_empty(value: Json) -> bool:
    return value is None or value in ("", {}, [])
