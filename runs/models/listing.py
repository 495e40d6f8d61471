"""Lists of runs, newest first: a page costs what it shows, whatever the filter (issue 3, "Lists").

Three ways, by what a plan asks. What indexes answer is one statement that merges their ranges. What the
search index answers is read block by block. What must be looked at row by row is, in growing steps. The
latter two stop when their time is up and say how far they came, instead of keeping the reader waiting.
"""

import heapq
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Q

from runs.models.access import Caller
from runs.models.finding import COMPUTED, Plan, plan_of
from runs.models.lookup import block_of, candidate_blocks, runs_with
from runs.models.paging import Cursor
from runs.models.ranges import (
    LIST_COLUMNS,
    MOST_RANGES,
    NEWEST_FIRST,
    beyond,
    listed,
    ranges_of,
    rows_in,
    run_of,
)
from runs.models.run import Run, RunQuerySet
from runs.models.search import SearchBlock
from runs.models.session import Session
from runs.query import Query

PATIENCE = 2.0  # seconds
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
    query: Query,
    caller: Caller,
    after: Cursor | None = None,
    size: int = 50,
    patience: float | None = None,
    owners: frozenset[int] | None = None,
) -> Found:
    """A page of what `caller` may see of what `query` asks for, newest first.

    `owners` are those that they see, where that is known. Raises QueryError for a query that asks for words
    and has none.
    """
    plan = plan_of(query, caller, owners)
    if plan.is_hopeless:
        return Found([], None)
    if not (plan.rows or plan.sought or plan.shunned) and len(ranges_of(plan)) <= MOST_RANGES:
        return _page(listed(plan, after, size + 1), size)
    return _searched(plan, after, size, time.monotonic() + (PATIENCE if patience is None else patience))


def runs_of(session: Session, after: Cursor | None = None, size: int = 50) -> Found:
    """A page of a session's runs, newest first. The caller has made sure that the session may be seen."""
    plan = Plan(owners=frozenset({session.owner_id}), sessions=frozenset({session.pk}))
    return _page(listed(plan, after, size + 1), size)


def _page(runs: list[Run], size: int) -> Found:
    shown = runs[:size]
    return Found(shown, _place(shown[-1]) if len(runs) > size else None)


def _place(run: Run) -> Cursor:
    return Cursor(run.created_at, run.pk)


# When and which, and whether it is no run but where its stream ran out of time.
type _Item = tuple[datetime, UUID, bool]


def _searched(plan: Plan, after: Cursor | None, size: int, until: float) -> Found:
    found, end = places_of(plan, after, size, until)
    if end is not None:
        return Found(_loaded(found), end, is_cut=True)
    return _page(_loaded(found), size)


def places_of(plan: Plan, after: Cursor | None, size: int, until: float) -> tuple[list[Place], Cursor | None]:
    """Up to `size` + 1 of the plan's runs, newest first, by searching; and where time was up, if it was."""
    each = [replace(plan, owners=frozenset({owner})) for owner in sorted(plan.owners)]
    streams = [_by_blocks(one, after, until) if one.sought else _by_rows(one, after, until) for one in each]
    found: list[Place] = []
    for at, run_id, is_end in heapq.merge(*streams, reverse=True):
        if is_end:  # what other owners have up to here has come before it
            return found, Cursor(at, run_id)
        found.append((at, run_id))
        if len(found) > size:
            break
    return found, None


def _loaded(places: Sequence[Place]) -> list[Run]:
    with connection.cursor() as cursor:
        ids = [run_id for _, run_id in places]
        cursor.execute(f"SELECT {LIST_COLUMNS} FROM run WHERE id = ANY(%s) {NEWEST_FIRST}", [ids])
        return [run_of(row) for row in cursor.fetchall()]


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
    ranges = ranges_of(plan)
    if len(ranges) > MOST_RANGES:
        ranges = [{"owner_id": owner} for owner in sorted(plan.owners)]
    return rows_in("created_at, id, search_block", plan, after, most, ranges)


def _among(plan: Plan, after: Cursor | None, ids: set[UUID]) -> list[_Item]:
    """The places of those of `ids` that are the plan's in every respect, newest first."""
    if not ids:
        return []
    conditions, values = beyond(plan, after, {})
    statement = f"SELECT created_at, id FROM run WHERE {' AND '.join(conditions)} AND id = ANY(%s)"
    with connection.cursor() as cursor:
        cursor.execute(f"{statement} {NEWEST_FIRST}", [*values, list(ids)])
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
