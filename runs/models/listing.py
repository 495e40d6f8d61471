"""Lists of runs, newest first: a page costs what it shows, whatever the filter (issue 3, "Lists").

Three ways, by what a plan asks. What indexes answer is one statement that merges their ranges. What the
search index answers is read block by block. What must be looked at row by row is, in growing steps. The
latter two stop when their time is up and say how far they came, instead of keeping the reader waiting.
"""

import heapq
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q
from django.db.models.base import ModelState

from runs.models.access import Caller
from runs.models.finding import ALL_KINDS, ALL_STATUSES, COMPUTED, Plan, plan_of
from runs.models.lookup import block_of, candidate_blocks, runs_with
from runs.models.paging import Cursor
from runs.models.run import PAYLOADS, Run, RunQuerySet
from runs.models.search import SearchBlock
from runs.models.session import Session
from runs.models.status import OPEN
from runs.query import Query

PATIENCE = 2.0  # seconds
MOST_RANGES = 120  # of an index that one statement merges
STEPS = (200, 500, 1_000, 2_000, 5_000)  # rows looked at in one go
type Place = tuple[datetime, UUID]


@dataclass(frozen=True, slots=True)
class Found:
    """A page of runs, and where the next one begins; None at the end.

    Where `is_cut`, time was up before the page was full: there may be more from `older` on.
    """

    runs: list[Run]
    older: Cursor | None
    is_cut: bool = False


def find_runs(
    query: Query, caller: Caller, after: Cursor | None = None, size: int = 50, patience: float | None = None
) -> Found:
    """A page of what `caller` may see of what `query` asks for, newest first.

    Raises QueryError for a query that asks for words and has none.
    """
    plan = plan_of(query, caller)
    if plan.is_hopeless:
        return Found([], None)
    if not (plan.rows or plan.sought or plan.shunned) and len(_ranges(plan)) <= MOST_RANGES:
        return _page(_listed(plan, after, size + 1), size)
    return _searched(plan, after, size, time.monotonic() + (PATIENCE if patience is None else patience))


def runs_of(session: Session, after: Cursor | None = None, size: int = 50) -> Found:
    """A page of a session's runs, newest first. The caller has made sure that the session may be seen."""
    plan = Plan(owners=frozenset({session.owner_id}), sessions=frozenset({session.pk}))
    return _page(_listed(plan, after, size + 1), size)


def _page(runs: list[Run], size: int) -> Found:
    shown = runs[:size]
    return Found(shown, _place(shown[-1]) if len(runs) > size else None)


def _place(run: Run) -> Cursor:
    return Cursor(run.created_at, run.pk)


# ── By indexes alone ───────────────────────────────────────────────────────
type _Range = dict[str, Any]  # column: value


def _ranges(plan: Plan) -> list[_Range]:
    """The ranges of one index that together hold the plan's runs, each in order of time.

    Which index is that of the most telling filter (Run.Meta.indexes); "open" is that of open runs.
    """
    if plan.sessions is not None:
        return [{"session_id": session} for session in sorted(plan.sessions)]
    owners: list[_Range] = [{"owner_id": owner} for owner in sorted(plan.owners)]
    if plan.ratings is not None:
        return _times(owners, "rating", plan.ratings)
    if plan.agents is not None:
        owners = _times(owners, "agent", plan.agents)
        return _times(owners, "status", plan.statuses) if plan.statuses != ALL_STATUSES else owners
    if plan.statuses != ALL_STATUSES:
        still_open = [{**one, "open": True} for one in owners] if plan.statuses & OPEN else []
        return still_open + _times(_times(owners, "kind", plan.kinds), "status", plan.statuses - OPEN)
    return _times(owners, "kind", plan.kinds) if plan.kinds != ALL_KINDS else owners


def _times(ranges: list[_Range], column: str, values: Iterable[Any]) -> list[_Range]:
    return [{**one, column: value} for one in ranges for value in sorted(values)]


def _listed(plan: Plan, after: Cursor | None, most: int) -> list[Run]:
    """The plan's newest runs by one statement, in which PostgreSQL merges the ranges and stops in time.

    Written by hand: Django would take longer to write it than PostgreSQL to answer it.
    """
    return [_run(row) for row in _rows(_LIST_COLUMNS, plan, after, most, _ranges(plan))]


def _run(row: Sequence[Any]) -> Run:
    """The run of a row, without what lists do not read; Django's own way takes longer than the query."""
    run = Run.__new__(Run)
    run.__dict__.update(zip(_LIST_NAMES, row, strict=True), _state=ModelState())
    run._state.db, run._state.adding = connection.alias, False
    return run


def _rows(
    columns: str, plan: Plan, after: Cursor | None, most: int, ranges: Sequence[_Range]
) -> list[tuple[Any, ...]]:
    parts, parameters = [], []
    for one in ranges:
        conditions, values = _conditions(plan, after, one)
        wanted = f"SELECT {columns} FROM run WHERE deleted_at IS NULL AND {conditions}"
        parts.append(f"{wanted} {_NEWEST_FIRST} LIMIT {most:d}")
        parameters += values
    # Each part in order and with the limit, so that PostgreSQL merges them as it reads, and stops.
    merged = " UNION ALL ".join(f"({part})" for part in parts)
    statement = f"SELECT * FROM ({merged}) AS merged {_NEWEST_FIRST} LIMIT {most:d}"
    with connection.cursor() as cursor:
        cursor.execute(statement if len(parts) > 1 else parts[0], parameters)
        return cursor.fetchall()


def _conditions(plan: Plan, after: Cursor | None, one: _Range) -> tuple[str, list[Any]]:
    """SQL for a range, with what the plan asks beyond it."""
    said: dict[str, Any] = {f"{column} = %s": value for column, value in one.items() if column != "open"}
    for column, wanted in _sets(plan).items():
        if column not in one:
            said[f"{column} = ANY(%s)"] = sorted(wanted)
    until = plan.until if after is None or plan.until is None or plan.until < after.created_at else None
    bounds = {"created_at >= %s": plan.since, "created_at < %s": until}
    said |= {condition: at for condition, at in bounds.items() if at is not None}
    conditions, values = list(said), list(said.values())
    if "open" in one:
        conditions.append(_IS_OPEN)
    if after is not None:
        conditions.append("(created_at, id) < (%s, %s)")
        values += [after.created_at, after.id]
    return " AND ".join(conditions), values


def _sets(plan: Plan) -> dict[str, frozenset[Any]]:
    """The columns of which the plan names values."""
    sets: dict[str, frozenset[Any] | None] = {
        "owner_id": plan.owners,
        "session_id": plan.sessions,
        "rating": plan.ratings,
        "agent": plan.agents,
        "kind": None if plan.kinds == ALL_KINDS else plan.kinds,
        "status": None if plan.statuses == ALL_STATUSES else plan.statuses,
    }
    return {column: values for column, values in sets.items() if values is not None}


_IS_OPEN = f"status IN ({', '.join(repr(str(status)) for status in sorted(OPEN))})"
_NEWEST_FIRST = "ORDER BY created_at DESC, id DESC"
# Their columns are called the same.
_LIST_NAMES = [field.attname for field in Run._meta.concrete_fields if field.name not in PAYLOADS]
_LIST_COLUMNS = ", ".join(_LIST_NAMES)


# ── By searching, and by looking ───────────────────────────────────────────
# When and which, and whether it is no run but where its stream ran out of time.
type _Item = tuple[datetime, UUID, bool]


def _searched(plan: Plan, after: Cursor | None, size: int, until: float) -> Found:
    each = [replace(plan, owners=frozenset({owner})) for owner in sorted(plan.owners)]
    streams = [_by_blocks(one, after, until) if one.sought else _by_rows(one, after, until) for one in each]
    found: list[Place] = []
    for at, run_id, is_end in heapq.merge(*streams, reverse=True):
        if is_end:  # what other owners have up to here has come before it
            return Found(_loaded(found), Cursor(at, run_id), is_cut=True)
        found.append((at, run_id))
        if len(found) > size:
            break
    return _page(_loaded(found), size)


def _loaded(places: Sequence[Place]) -> list[Run]:
    with connection.cursor() as cursor:
        ids = [run_id for _, run_id in places]
        cursor.execute(f"SELECT {_LIST_COLUMNS} FROM run WHERE id = ANY(%s) {_NEWEST_FIRST}", [ids])
        return [_run(row) for row in cursor.fetchall()]


def _by_blocks(plan: Plan, after: Cursor | None, until: float) -> Iterator[_Item]:
    (owner,) = plan.owners
    newest = block_of(owner, after.created_at if after else plan.until)
    oldest = block_of(owner, plan.since) if plan.since else 0
    for blocks in candidate_blocks(owner, plan.sought, newest, oldest):
        ids = set.intersection(*(runs_with(one, blocks) for one in plan.sought))
        for shunned in plan.shunned:
            if ids:
                ids -= runs_with(shunned, blocks)
        yield from _among(plan, after, ids)
        if time.monotonic() > until:
            reached = SearchBlock.objects.filter(pk=blocks[-1]).first()
            if reached is not None:  # one that is emptied meanwhile goes
                yield reached.from_at, UUID(int=0), True
                return


def _by_rows(plan: Plan, after: Cursor | None, until: float) -> Iterator[_Item]:
    steps, step = iter(STEPS), STEPS[0]
    plain = replace(plan, rows=(), sought=(), shunned=())
    while True:
        step = next(steps, step)
        rows = _places(plain, after, step)
        blocks = {block for _, _, block in rows}
        without = set().union(*(runs_with(shunned, sorted(blocks)) for shunned in plan.shunned))
        kept: list[_Item] = [(at, run_id, False) for at, run_id, _ in rows if run_id not in without]
        if plan.rows:
            wanted = _looked_at(plan, [run_id for _, run_id, _ in kept])
            kept = [item for item in kept if item[1] in wanted]
        yield from kept
        if len(rows) < step:
            return
        after = Cursor(*rows[-1][:2])
        if time.monotonic() > until:
            yield after.created_at, after.id, True
            return


def _places(plan: Plan, after: Cursor | None, most: int) -> list[tuple[datetime, UUID, int]]:
    ranges = _ranges(plan)
    if len(ranges) > MOST_RANGES:
        ranges = [{"owner_id": owner} for owner in sorted(plan.owners)]
    return _rows("created_at, id, search_block", plan, after, most, ranges)


def _among(plan: Plan, after: Cursor | None, ids: set[UUID]) -> list[_Item]:
    """The places of those of `ids` that are the plan's in every respect, newest first."""
    if not ids:
        return []
    conditions, values = _conditions(plan, after, {})
    statement = f"SELECT created_at, id FROM run WHERE id = ANY(%s) AND deleted_at IS NULL AND {conditions}"
    with connection.cursor() as cursor:
        cursor.execute(f"{statement} {_NEWEST_FIRST}", [list(ids), *values])
        found = cursor.fetchall()
    if plan.rows:
        wanted = _looked_at(plan, [run_id for _, run_id in found])
        found = [place for place in found if place[1] in wanted]
    return [(at, run_id, False) for at, run_id in found]


def _looked_at(plan: Plan, ids: list[UUID]) -> set[UUID]:
    """Those of `ids` for which the conditions hold that must be looked at row by row."""
    runs = Run.objects.filter(pk__in=ids)
    for condition in plan.rows:
        runs = _with_computed(runs, condition).filter(condition)
    return set(runs.values_list("pk", flat=True))


def _with_computed(runs: RunQuerySet, condition: Q) -> RunQuerySet:
    names = {name for name in COMPUTED if name in str(condition)}
    return runs.alias(**{name: COMPUTED[name] for name in names})
