"""What is in the files that are submitted: how much, of which agent, and what it would be compared with."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings

from runs.api.strict_json import JsonError, read_json
from runs.evaluators import EvalSet, EvalSetError, parse_eval_set
from runs.evaluators.eval_sets import choose_case
from runs.exact import Json
from runs.traces import (
    Group,
    Trace,
    TraceError,
    as_one_document,
    group_turns,
    read_document,
    read_traces,
)

SHOWN = 20  # items of one file
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Source:
    """Traces that become a run: a file, or what another run was submitted with. `key` is the kept file's."""

    name: str
    document: Json
    traces: Sequence[Trace]
    key: UUID | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """What one result would be of. `compared` is its eval case, or empty with `reason` why there is none."""

    key: str
    question: str
    turns: int
    calls: int
    compared: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a check says of one source."""

    name: str
    traces: int
    turns: int
    calls: int
    agents: Sequence[str]
    items: Sequence[Item]
    more: int
    matched: int
    warnings: Sequence[str]


def read_source(name: str, content: bytes, key: UUID | None = None) -> Source:
    """The traces in a file, plain or compressed. Raises ValidationError with the file's name."""
    document = _read(name, content, lambda data: as_one_document(read_document(data, read_json)))
    try:
        traces = read_traces(document)
    except TraceError as error:
        raise forms.ValidationError(f"{name}: {error}") from None
    if not traces:
        raise forms.ValidationError(f"{name}: there is no trace in it")
    return Source(name, document, traces, key)


def read_eval_set(name: str, content: bytes) -> Json:
    """An eval set as it was written. Raises ValidationError where it is none."""
    raw = _read(name, content, read_json)
    try:
        parse_eval_set(raw)
    except EvalSetError as error:
        raise forms.ValidationError(f"{name} is {error}.") from None
    return raw


def report_of(source: Source, eval_set: EvalSet | None, group_by: str = "auto") -> Report:
    """What the evaluation of this source would find. Raises TraceError for another `group_by`."""
    multi_turn = eval_set is not None and eval_set.multi_turn
    groups = group_turns(list(source.traces), group_by, multi_turn=multi_turn)
    items = [_item(group, eval_set, only_group=len(groups) == 1) for group in groups]
    return Report(
        name=source.name,
        traces=len(source.traces),
        turns=sum(item.turns for item in items),
        calls=sum(item.calls for item in items),
        agents=sorted({group.agent_name for group in groups if group.agent_name}),
        items=items[:SHOWN],
        more=max(0, len(items) - SHOWN),
        matched=sum(bool(item.compared) for item in items),
        warnings=list(_warnings(items, groups, eval_set)),
    )


def _item(group: Group, eval_set: EvalSet | None, *, only_group: bool) -> Item:
    match = choose_case(group, eval_set, only_group=only_group)
    return Item(
        key=group.key,
        question=group.turns[0].user_text if group.turns else "",
        turns=len(group.turns),
        calls=sum(len(turn.tool_calls) for turn in group.turns),
        compared=match.case.id if match.case else "",
        reason=match.reason,
    )


def _warnings(items: Sequence[Item], groups: Sequence[Group], eval_set: EvalSet | None) -> Iterator[str]:
    empty = sum(not item.turns for item in items)
    if empty:
        yield f"{_count(empty, 'item')} without a turn: no agent or model call was found there."
    lonely = sum(not item.compared for item in items)
    if eval_set is not None and lonely:
        yield f"{_count(lonely, 'item')} without an eval case: what needs one skips it."
    if eval_set is not None:
        used = {item.compared for item in items}
        unused = [case.id for case in eval_set.cases if case.id not in used]
        if unused:
            yield f"{_count(len(unused), 'eval case')} that no trace is for: {', '.join(unused[:5])}."
    yield from dict.fromkeys(warning for group in groups for warning in group.warnings)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# ── Files ──────────────────────────────────────────────────────────────────
def _read(name: str, content: bytes, read: Any) -> Json:
    try:
        value = read(_unpacked(name, content))
    except (JsonError, TraceError) as error:
        raise forms.ValidationError(f"{name} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise forms.ValidationError(f"{name} is not a JSON object.")
    return value


def _unpacked(name: str, content: bytes) -> bytes:
    """As much as could be sent unpacked, and no more."""
    if not content.startswith(_GZIP):
        return content
    reader = zlib.decompressobj(wbits=31)
    try:
        data = reader.decompress(content, settings.MAX_BODY_BYTES)
    except zlib.error:
        raise forms.ValidationError(f"{name} is damaged: it cannot be unpacked.") from None
    if reader.unconsumed_tail:
        limit = settings.MAX_BODY_BYTES // 2**20
        raise forms.ValidationError(f"{name} has more than {limit} MB when it is unpacked.")
    if not reader.eof:
        raise forms.ValidationError(f"{name} is damaged: its end is missing.")
    return data
