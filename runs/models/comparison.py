"""Comparisons: what evaluators said of the same items in several runs, or in sets of them (issue 5, point 7).

The first side is the base. Sides are read by columns alone; what was said is read of the items that are
shown.
"""

import json
import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Case, F, Func, IntegerField, When
from django.db.models.lookups import LessThanOrEqual

from runs.exact import Json
from runs.models.result import Result
from runs.models.run import Run

MOST_RUNS = 1_000  # of a set
MOST_RESULTS = 20_000  # of a run
MOST_OF_SET = 100_000  # results
WITHIN = 0.005 + 1e-9  # a score that moves no more is the same; floats are a little off

_TITLE = 200  # characters of a question that tells an item
_DETAILS = 100_000  # bytes, packed; larger ones are not compared
_EVENT = 200_000  # bytes
_SPEC = 500_000  # bytes, packed
_CALLS = 500
_LOOKED_AT = 5_000  # events of a run among which its calls are looked for

# Ids of traces and runs: other ones in every run, whatever the item.
_OF_MACHINES = re.compile("[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(slots=True)
class Cell:
    """One evaluator's word on one item: of a run its result, of a set the average of `count` results.

    `rate` is the share that passed, None where all were skipped; `status` is empty in a set.
    """

    status: str
    score: float | None
    rate: float | None
    count: int = 1


@dataclass(slots=True)
class Item:
    """What was judged on one side."""

    id: str
    case: str = ""
    name: str = ""
    question: str = ""
    trace: str = ""
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def known_as(self) -> str:
        """By what the eval set knows it; empty where only this run knows its id."""
        return self.case or ("" if _OF_MACHINES.fullmatch(self.id) else self.id)

    @property
    def called(self) -> str:
        return self.name if self.name and self.name != self.id else self.question


@dataclass(slots=True)
class Row:
    """An item with what there is of it on every side; `nth` counts those of the same name from 1.

    `worse` and `better` are the evaluators by which it is so on some side; `delta` is how far the mean score
    is from the base where that is farthest, and `means` are those scores by side.
    """

    number: int
    items: list[Item | None]
    nth: int = 1
    worse: frozenset[str] = frozenset()
    better: frozenset[str] = frozenset()
    otherwise: frozenset[str] = frozenset()
    delta: float | None = None
    means: list[float | None] = field(default_factory=list)

    @property
    def some(self) -> Item:
        """The item on the first side that has it."""
        return next(item for item in self.items if item is not None)

    @property
    def is_missing(self) -> bool:
        return None in self.items

    @property
    def differs(self) -> bool:
        return bool(self.worse or self.better or self.otherwise) or self.is_missing

    def note(self, change: str, evaluator: str) -> None:
        """That the evaluator says so; `change` is what `difference` gives."""
        if change == "worse":
            self.worse |= {evaluator}
        elif change == "better":
            self.better |= {evaluator}
        else:
            self.otherwise |= {evaluator}

    def cell(self, side: int, evaluator: str) -> Cell | None:
        item = self.items[side]
        return item.cells.get(evaluator) if item else None


@dataclass(frozen=True, slots=True)
class Judge:
    """An evaluator: its mean score and the share that passed by side, and of how many items it says what."""

    name: str
    means: list[float | None]
    rates: list[float | None]
    worse: int
    better: int


@dataclass(frozen=True, slots=True)
class Said:
    """What one evaluator gave for one item of one run, with its reason in words."""

    result: Result
    reason: str


# ── Sides ──────────────────────────────────────────────────────────────────
def items_of_runs(run_ids: Sequence[UUID]) -> list[list[Item]]:
    """The items of each run in their order, at most MOST_RESULTS results of each; the caller may see them."""
    sides: dict[UUID, dict[str, Item]] = {run_id: {} for run_id in run_ids}
    for run_id, item_id, case, name, question, trace, evaluator, status, score in _fetched(
        _RESULTS, {"runs": list(run_ids), "most": MOST_RESULTS}
    ):
        items = sides[run_id]
        item = items.get(item_id)
        if item is None:
            item = items[item_id] = Item(item_id, case, name, question, trace or "")
        rate = None if status == "skipped" else float(status == "passed")
        item.cells[evaluator] = Cell(status, score, rate)
    return [list(items.values()) for items in sides.values()]


def items_of_set(run_ids: Sequence[UUID]) -> list[Item]:
    """The items of all these runs, each evaluator's results averaged. The caller may see the runs."""
    items: dict[str, Item] = {}
    found = _fetched(_AVERAGES, {"runs": list(run_ids)}) if run_ids else []
    for key, question, evaluator, score, passed, judged, count in found:
        item = items.setdefault(key, Item(key, case=key, question=question))
        item.cells[evaluator] = Cell("", score, passed / judged if judged else None, count)
    return list(items.values())


def within_bounds(runs: Sequence[Run]) -> list[Run]:
    """The newest of a set that have MOST_OF_SET results together."""
    left, kept = MOST_OF_SET, list[Run]()
    for run in runs:
        left -= run.passed_count + run.failed_count + run.errored_count + run.skipped_count
        if left < 0 and kept:
            break
        kept.append(run)
    return kept


# ── Which item is which ────────────────────────────────────────────────────
def align(sides: Sequence[Sequence[Item]]) -> list[Row]:
    """A row for every item: those of the base in their order, then what others have beside."""
    rows = [_row(item, 0, number, len(sides)) for number, item in enumerate(sides[0], 1)]
    for side, items in enumerate(sides[1:], 1):
        left = list(items)
        for way in _WAYS:
            left = _placed(rows, side, left, way) if left else left
        rows += [_row(item, side, number, len(sides)) for number, item in enumerate(left, len(rows) + 1)]
    seen: Counter[str] = Counter()
    for row in rows:
        title = row.some.known_as or row.some.called
        seen[title] += 1
        row.nth = seen[title]
    return rows


def _row(item: Item, side: int, number: int, sides: int) -> Row:
    items: list[Item | None] = [None] * sides
    items[side] = item
    return Row(number, items)


def _placed(rows: Sequence[Row], side: int, items: Sequence[Item], way: Callable[[Item], str]) -> list[Item]:
    """Puts items into the rows that go by the same, in order; gives those for which there is none."""
    free: dict[str, deque[Row]] = defaultdict(deque)
    for row in rows:
        if row.items[side] is None and (key := way(row.some)):
            free[key].append(row)
    left = []
    for item in items:
        if (key := way(item)) and free[key]:
            free[key].popleft().items[side] = item
        else:
            left.append(item)
    return left


# By its id in the eval set; by the id of the very same trace; by its name or question; by its place.
_WAYS: tuple[Callable[[Item], str], ...] = (
    lambda item: item.known_as,
    lambda item: "" if item.known_as else item.id,
    lambda item: "" if item.known_as else item.called,
    lambda item: "" if item.known_as or item.called else "nameless",
)


# ── Better and worse ───────────────────────────────────────────────────────
def judge(rows: Sequence[Row], evaluator: str = "") -> list[Judge]:
    """Marks in every row what became better or worse, and gives all evaluators; one alone counts if named."""
    sides = len(rows[0].items) if rows else 0
    said: dict[str, list[list[Cell]]] = {}  # by evaluator and side
    for row in rows:
        for side, item in enumerate(row.items):
            for name, cell in item.cells.items() if item else ():
                if name not in said:
                    said[name] = [[] for _ in range(sides)]
                said[name][side].append(cell)
    names = [evaluator] if evaluator in said else list(said)
    for row in rows:
        _judge_row(row, names)
    return [
        Judge(
            name,
            [_mean(cell.score for cell in cells) for cells in by_side],
            [_mean(cell.rate for cell in cells) for cells in by_side],
            sum(name in row.worse for row in rows),
            sum(name in row.better for row in rows),
        )
        for name, by_side in said.items()
    ]


def _judge_row(row: Row, names: Iterable[str]) -> None:
    """The means are by the evaluators that scored the item on all sides that have it; if none did, by any."""
    there = [(side, item.cells) for side, item in enumerate(row.items) if item is not None]
    shared: list[list[float]] = []  # the scores of an evaluator on the sides that are there
    every: list[list[float]] = [[] for _ in there]
    for name in names:
        cells = [cells.get(name) for _, cells in there]
        base = cells[0] if there[0][0] == 0 else None
        for other in cells[1:]:
            if base is not None and other is not None and (change := difference(base, other)):
                row.note(change, name)
        scores = [cell.score for cell in cells if cell is not None and cell.score is not None]
        if len(scores) == len(there):
            shared.append(scores)
        elif not shared:
            for at, cell in enumerate(cells):
                if cell is not None and cell.score is not None:
                    every[at].append(cell.score)
    by_side = list(zip(*shared, strict=True)) if shared else every
    row.means = [None] * len(row.items)
    for (side, _), known in zip(there, by_side, strict=True):
        row.means[side] = sum(known) / len(known) if known else None
    base_mean = row.means[0]
    deltas = [mean - base_mean for mean in row.means[1:] if mean is not None] if base_mean is not None else []
    row.delta = max(deltas, key=abs) if deltas else None


def difference(base: Cell, other: Cell) -> str:
    """ "worse", "better", "otherwise", or "" where it is the same: by what passed, else by the score."""
    if base.rate is not None and other.rate is not None and abs(other.rate - base.rate) > WITHIN:
        return "better" if other.rate > base.rate else "worse"
    if base.score is not None and other.score is not None and abs(other.score - base.score) > WITHIN:
        return "better" if other.score > base.score else "worse"
    return "otherwise" if base.status != other.status else ""


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def worst_first(rows: Iterable[Row]) -> list[Row]:
    """What became worse, the farthest first, what became better, what differs otherwise, what is the same."""
    return sorted(rows, key=_rank)


def _rank(row: Row) -> tuple[int, float, int]:
    if row.worse:
        return 0, row.delta or 0, row.number
    if row.better:
        return 1, -(row.delta or 0), row.number
    return (2 if row.otherwise else 3 if row.is_missing else 4), 0, row.number


# ── What was said ──────────────────────────────────────────────────────────
def said_of(run_ids: Sequence[UUID], rows: Sequence[Row]) -> dict[tuple[UUID, str], list[Said]]:
    """What the evaluators of these runs, one a side, said of the items of these rows."""
    ids = {item.id for row in rows for item in row.items if item}
    results = (
        Result.objects.filter(run__in=run_ids, item_id__in=ids)
        .annotate(told=Case(When(_IS_SMALL, then="details")))
        .only("run_id", "item_id", "evaluator_name", "status", "score", "threshold", "error")
        .order_by("position")
    )
    said: dict[tuple[UUID, str], list[Said]] = defaultdict(list)
    for result in results:
        said[result.run_id, result.item_id].append(Said(result, _reason(result, result.told)))
    return said


def answers_of(run_ids: Sequence[UUID], rows: Sequence[Row]) -> dict[tuple[UUID, str], Json]:
    """What the agent answered last to each item, as its message's payload: an evaluation keeps the traces
    that it judged, and names their events by their traces."""
    wanted = [
        (run_id, item.trace)
        for row in rows
        for run_id, item in zip(run_ids, row.items, strict=True)
        if item and item.trace
    ]
    values = {
        "all": list(run_ids),
        "runs": [run_id for run_id, _ in wanted],
        "starts": [f"{trace}/" for _, trace in wanted],
        "ends": [f"{trace}0" for _, trace in wanted],  # 0 comes after /
        "size": _EVENT,
    }
    found = _fetched(_ANSWERS, values) if wanted else []
    return {(run_id, start.removesuffix("/")): json.loads(payload) for run_id, start, payload in found}


def last_words_of(run_ids: Sequence[UUID]) -> dict[UUID, Json]:
    """The last message of each run's agent, as its payload."""
    found = _fetched(_LAST_WORDS, {"runs": list(run_ids), "size": _EVENT})
    return {run_id: json.loads(payload) for run_id, payload in found}


def calls_of(run_ids: Sequence[UUID]) -> dict[UUID, list[tuple[str, str]]]:
    """The tools that each run called, in order, with their arguments as JSON; the first ones of many."""
    values = {"runs": list(run_ids), "size": _EVENT, "most": _CALLS, "last": _LOOKED_AT}
    calls: dict[UUID, list[tuple[str, str]]] = {run_id: [] for run_id in run_ids}
    for run_id, name, arguments in _fetched(_TOOL_CALLS, values):
        calls[run_id].append((name or "tool", arguments or ""))
    return calls


def specs_of(run_ids: Sequence[UUID]) -> dict[UUID, Json]:
    """The specs without their secrets, their traces by a fingerprint; None for one that is too large."""
    found = _fetched(_SPECS, {"runs": list(run_ids), "size": _SPEC})
    return {run_id: json.loads(spec) if spec else None for run_id, spec in found}


def _reason(result: Result, details: Json) -> str:
    if result.error:
        return result.error
    if not isinstance(details, dict):
        return ""
    reason, comparisons = details.get("reason"), details.get("comparisons")
    if isinstance(reason, str):
        return reason
    if not isinstance(comparisons, list):
        return ""
    called = [_called(one.get("actual")) for one in comparisons if isinstance(one, dict)]
    return f"Called {'; '.join(called)}." if called else ""


def _called(calls: Json) -> str:
    names = (
        [str(call.get("name", "?")) for call in calls if isinstance(call, dict)]
        if isinstance(calls, list)
        else []
    )
    return ", ".join(names) or "no tool"


def _fetched(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    if not values["runs"]:
        return []
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


_IS_SMALL = LessThanOrEqual(
    Func(F("details"), function="pg_column_size", output_field=IntegerField()), _DETAILS
)
# By hand: of thousands of results Django would make objects first.
_RESULTS = f"""
    SELECT run_id, item_id, case_id, item_name, left(question, {_TITLE}), trace_id, evaluator_name, status,
        score
    FROM unnest(%(runs)s::uuid[]) AS side (id) CROSS JOIN LATERAL (SELECT * FROM result
        WHERE run_id = ANY(%(runs)s) AND run_id = side.id ORDER BY created_at, position LIMIT %(most)s
    ) AS found
"""
_AVERAGES = f"""
    SELECT CASE WHEN case_id <> '' THEN case_id
            WHEN item_id ~ '^({_OF_MACHINES.pattern})$' AND question <> '' THEN left(question, {_TITLE})
            ELSE item_id END AS item,
        left(max(question), {_TITLE}), evaluator_name, avg(score), sum((status = 'passed')::int),
        sum((status <> 'skipped')::int), count(*)
    FROM result WHERE run_id = ANY(%(runs)s) GROUP BY item, evaluator_name ORDER BY min(position), item
"""
_ANSWERS = """
    SELECT side.run_id, side.start, found.payload
    FROM unnest(%(runs)s::uuid[], %(starts)s::text[], %(ends)s::text[]) AS side (run_id, start, until)
    CROSS JOIN LATERAL (SELECT payload FROM event
        WHERE run_id = ANY(%(all)s) AND run_id = side.run_id AND event_id >= side.start
        AND event_id < side.until AND kind = 'message' AND role = 'agent' AND size <= %(size)s
        ORDER BY seq DESC LIMIT 1
    ) AS found
"""
_LAST_WORDS = """
    SELECT run_id, payload
    FROM unnest(%(runs)s::uuid[]) AS side (id) CROSS JOIN LATERAL (SELECT run_id, payload FROM event
        WHERE run_id = ANY(%(runs)s) AND run_id = side.id AND kind = 'message' AND role = 'agent'
        AND size <= %(size)s ORDER BY seq DESC LIMIT 1
    ) AS found
"""
_TOOL_CALLS = """
    SELECT run_id, payload ->> 'name', left(payload ->> 'arguments', 300)
    FROM unnest(%(runs)s::uuid[]) AS side (id) CROSS JOIN LATERAL (SELECT run_id, seq, payload FROM event
        WHERE run_id = ANY(%(runs)s) AND run_id = side.id AND seq <= %(last)s AND kind = 'tool_call'
        AND size <= %(size)s ORDER BY seq LIMIT %(most)s
    ) AS found
    ORDER BY run_id, seq
"""
_SPECS = """
    SELECT id, CASE WHEN pg_column_size(spec) <= %(size)s THEN jsonb_set(
        spec, '{target,inline}', coalesce(to_jsonb(md5(spec #>> '{target,inline}')), 'null'), false) END
    FROM run WHERE id = ANY(%(runs)s)
"""
