"""How many runs a query finds, over time and by status, at a bounded cost (issue 5, point 2).

What the rollup knows is added up, however many runs that are: filters by owner, agent, kind and status. What
indexes answer is read up to MOST runs, newest first. What must be searched is, for a moment. A tally says
how far back it reaches; nothing counts the whole table.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from typing import Any
from uuid import UUID

from django.db import OperationalError, connection, transaction
from psycopg.errors import QueryCanceled

from runs.models.access import Caller
from runs.models.finding import ALL_KINDS, Plan, plan_of
from runs.models.listing import places_of
from runs.models.paging import Cursor
from runs.models.ranges import MOST_RANGES, ranges_of, rows_in
from runs.models.status import FINAL, OPEN, Status
from runs.query import Query

MOST = 10_000  # runs that are counted one by one
SEARCHED = 2_000  # that are searched for
PATIENCE = 1.0  # seconds of searching, and of one statement
_FINE = timedelta(days=4)  # what is shorter is shown finer than by days

type Key = tuple[datetime, str]  # when, and the status


@dataclass(frozen=True, slots=True)
class Tally:
    """How many runs there are of each status, by when they were made.

    `by_day`: the times are days of UTC. `reaches` is set where older runs were not counted: from then on
    all are. None is it where everything was.
    """

    counts: Mapping[Key, int]
    by_day: bool = False
    reaches: datetime | None = None

    @property
    def by_status(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (_, status), count in self.counts.items():
            found[status] += count
        return found

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def is_whole(self) -> bool:
        return self.reaches is None


def tally(query: Query, caller: Caller, now: datetime) -> Tally:
    """Raises QueryError for a query that asks for words and has none."""
    plan = plan_of(query, caller)
    if plan.is_hopeless:
        return Tally({})
    if not is_plain(plan):
        return _searched(plan)
    if _is_rolled_up(plan) and _is_long(plan, now):
        days = _by_days(plan)
        if days.total > MOST:
            return days
    return _read(plan)


def is_plain(plan: Plan) -> bool:
    """Whether indexes alone answer it."""
    return not (plan.rows or plan.sought or plan.shunned) and len(ranges_of(plan)) <= MOST_RANGES


def newer_than(query: Query, caller: Caller, place: Cursor, most: int) -> int | None:
    """How many runs there are by now before this place of the list, counted up to `most` + 1.

    None where only a search could tell: nobody waits for that every few seconds.
    """
    plan = plan_of(query, caller)
    if plan.is_hopeless or not is_plain(plan):
        return None
    since = replace(plan, since=max(filter(None, (plan.since, place.created_at))))
    found = rows_in("created_at, id", since, None, most + 2, ranges_of(since))
    return sum((at, run_id) > (place.created_at, place.id) for at, run_id in found[: most + 1])


# ── One by one ─────────────────────────────────────────────────────────────
def _read(plan: Plan) -> Tally:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s", [int(PATIENCE * 1000)])
            rows = rows_in("created_at, id, status", plan, None, MOST + 1, ranges_of(plan))
    except OperationalError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
        return Tally({}, reaches=_NEVER)
    return _of_rows([(at, status) for at, _, status in rows], MOST)


def _searched(plan: Plan) -> Tally:
    places, end = places_of(plan, None, SEARCHED, time.monotonic() + PATIENCE)
    statuses = _statuses([run_id for _, run_id in places])
    found = _of_rows([(at, statuses[run_id]) for at, run_id in places if run_id in statuses], SEARCHED)
    return found if end is None or found.reaches else replace(found, reaches=end.created_at)


def _of_rows(rows: Sequence[Key], most: int) -> Tally:
    shown = rows[:most]
    return Tally(Counter(shown), reaches=shown[-1][0] if len(rows) > most else None)


def _statuses(ids: list[UUID]) -> dict[UUID, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, status FROM run WHERE id = ANY(%s)", [ids])
        return dict(cursor.fetchall())


# ── By days ────────────────────────────────────────────────────────────────
def _is_rolled_up(plan: Plan) -> bool:
    return plan.sessions is None and plan.ratings is None


def _is_long(plan: Plan, now: datetime) -> bool:
    return plan.since is None or (plan.until or now) - plan.since > _FINE


def _by_days(plan: Plan) -> Tally:
    """Final runs of whole days by the rollup; open ones, and what lies before and after these days, one by
    one."""
    final = replace(plan, statuses=plan.statuses & FINAL)
    first, last = plan.since and _midnight(plan.since + _ALMOST), plan.until and _midnight(plan.until)
    counts = Counter(_finished(final, first, last))
    parts = [_read(part) for part in _rest(plan, final, first, last) if not part.is_hopeless]
    for part in parts:
        for (at, status), count in part.counts.items():
            counts[_midnight(at), status] += count
    reaches = max((part.reaches for part in parts if part.reaches), default=None)
    return Tally(counts, by_day=True, reaches=reaches)


def _rest(plan: Plan, final: Plan, first: datetime | None, last: datetime | None) -> Iterator[Plan]:
    yield replace(plan, statuses=plan.statuses & OPEN)
    if first is not None:
        yield replace(final, until=min(filter(None, (first, plan.until))))
    if last is not None:
        yield replace(final, since=max(filter(None, (last, plan.since))))


def _finished(plan: Plan, first: datetime | None, last: datetime | None) -> dict[Key, int]:
    """The plan's final runs of the days from `first` on and before `last`."""
    conditions = ["owner_id = ANY(%s)", "evaluator = ''"]
    values: list[Any] = [sorted(plan.owners)]
    if plan.kinds != ALL_KINDS:
        conditions.append("kind = ANY(%s)")
        values.append(sorted(plan.kinds))
    if plan.agents is not None:
        conditions.append("agent = ANY(%s)")
        values.append(sorted(plan.agents))
    for condition, at in (("day >= %s", first), ("day < %s", last)):
        if at is not None:
            conditions.append(condition)
            values.append(at.date())
    wanted = [str(status) for status in _FINISHED if status in plan.statuses]
    if not wanted:
        return {}
    sums = ", ".join(f"sum({status}_runs)" for status in wanted)
    columns = ", ".join(f"{status}_runs" for status in wanted)
    each = [f"SELECT day, {columns} FROM {table} WHERE {' AND '.join(conditions)}" for table in _TABLES]
    with connection.cursor() as cursor:
        statement = f"SELECT day, {sums} FROM ({' UNION ALL '.join(each)}) AS both_of_them GROUP BY day"
        cursor.execute(statement, values * len(each))
        rows = cursor.fetchall()
    return {
        (datetime.combine(day, clock(), UTC), status): int(count)
        for day, *counts in rows
        for status, count in zip(wanted, counts, strict=True)
        if count
    }


def _midnight(at: datetime) -> datetime:
    """The beginning of its day in UTC, by which the rollup goes."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


_FINISHED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)
_TABLES = ("rollup", "rollup_delta")
_ALMOST = timedelta(days=1) - timedelta(microseconds=1)
_NEVER = datetime.max.replace(tzinfo=UTC)
