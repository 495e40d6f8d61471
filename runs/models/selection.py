"""Which runs an action on many means, and what keeps some of them from it (issue 5, point 2)."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from runs.models.access import Caller, owner_ids
from runs.models.bulk import NEEDS, BulkJob
from runs.models.finding import plan_of
from runs.models.listing import PATIENCE, Found, find_runs
from runs.models.owner import Owner
from runs.models.paging import Cursor
from runs.models.ranges import MOST_RANGES, ranges_of, rows_in
from runs.models.review import ReviewQueue
from runs.models.run import PAYLOADS, Run
from runs.models.status import FINAL, OPEN
from runs.query import Compare, Condition, Has, OneOf, Query, Test

COUNTED = 100_000  # runs; beyond that a count is "at least"
CHOSEN = 500  # runs that can be named one by one
_AT_ONCE = 20_000
_LOADED = 2_000  # where they must be looked at one by one


class Stay(StrEnum):
    """Why a run stays as it is; the words follow a number."""

    FOREIGN = "of owners for whom you may not do this"
    OVER = "over already"
    OPEN = "not over yet"
    ASKED = "asked to stop already"
    TASK = "reported by agents, who alone can repeat them"
    RETRYING = "being retried already"
    SEALED = "with secrets that cannot be opened"
    RATED = "with feedback"
    WAITING = "in the queue already"
    ELSEWHERE = "of another owner than the queue"
    CHANGED = "changed meanwhile"
    GONE = "past the time in which they can be restored"


class Glimpse(NamedTuple):
    """As much of a run as counting needs; its fields are columns."""

    created_at: datetime
    id: UUID
    owner_id: int
    kind: str
    status: str
    cancel_requested_at: datetime | None
    event_count: int
    size: int

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def is_evaluation(self) -> bool:
        return self.kind == Run.Kind.EVALUATION


@dataclass(frozen=True, slots=True)
class Meant:
    """Runs made before `until` that a query asks for; or, where there are `ids`, these runs.

    With `owners` only theirs.
    """

    query: Query
    until: datetime
    ids: tuple[UUID, ...] = ()
    owners: tuple[Owner, ...] | None = None

    def of(self, owners: Iterable[Owner]) -> "Meant":
        return replace(self, owners=tuple(owners))

    def fit_for(self, action: str) -> "Meant":
        """Without most of those that `action` leaves alone: what an index can tell of them."""
        query = self.query
        for test in _FIT[action]:
            query = query.with_(Condition(test))
        return replace(self, query=query)

    def page(self, caller: Caller, after: Cursor | None, size: int, patience: float = PATIENCE) -> Found:
        """The next `size` of those that `caller` may see, newest first. Raises QueryError."""
        if self.ids:
            return self._chosen(caller, after, size)
        return find_runs(self._bounded(), caller, after, size, patience)

    def glance(
        self, caller: Caller, after: Cursor | None, size: int, patience: float
    ) -> tuple[Sequence[Run | Glimpse], Cursor | None]:
        """The same for counting: with what indexes answer, it reads a few columns of many runs."""
        plan = None if self.ids else plan_of(self._bounded(), caller)
        if plan is None or plan.rows or plan.sought or plan.shunned or len(ranges_of(plan)) > MOST_RANGES:
            found = self.page(caller, after, min(size, _LOADED), patience)
            return found.runs, found.older
        rows = [] if plan.is_hopeless else rows_in(_COLUMNS, plan, after, size + 1, ranges_of(plan))
        seen = [Glimpse(*row) for row in rows[:size]]
        return seen, Cursor(*seen[-1][:2]) if len(rows) > size else None

    def _bounded(self) -> Query:
        query = self.query.with_(Condition(Compare("created", "<", self.until)))
        if self.owners is None:
            return query
        return query.with_(Condition(OneOf("owner", tuple(owner.name for owner in self.owners))))

    def _chosen(self, caller: Caller, after: Cursor | None, size: int) -> Found:
        runs = Run.objects.visible_to(caller).filter(pk__in=self.ids).defer(*PAYLOADS)
        if self.owners is not None:
            runs = runs.filter(owner__in=self.owners)
        if after is not None:
            runs = runs.older_than(after.created_at, after.id)
        found = list(runs.newest_first()[: size + 1])
        older = Cursor(found[size - 1].created_at, found[size - 1].pk) if len(found) > size else None
        return Found(found[:size], older)


_COLUMNS = ", ".join(Glimpse._fields)
_FIT: dict[str, tuple[Test, ...]] = {
    BulkJob.Action.CANCEL: (Has("open"),),
    BulkJob.Action.RETRY: (OneOf("kind", (Run.Kind.EVALUATION.value,)), Has("final")),
    BulkJob.Action.DELETE: (Has("final"),),
    BulkJob.Action.REVIEW: (Has("final"),),
}


# ── What keeps a run from it ───────────────────────────────────────────────
def staying(
    action: str,
    runs: Collection[Run | Glimpse],
    owners: Collection[int],
    queue: ReviewQueue | None = None,
) -> dict[UUID, Stay]:
    """Those of `runs` that `action` leaves alone, each with the reason. `owners` are those for whom the
    person may do it; `queue` is where runs go that are to be reviewed, perhaps not saved yet."""
    judge, marked = _JUDGES[action], _MARKED[action]([run.id for run in runs], queue)
    found = {}
    for run in runs:
        if queue is not None and run.owner_id != queue.owner_id:
            found[run.id] = Stay.ELSEWHERE
        elif run.owner_id not in owners:
            found[run.id] = Stay.FOREIGN
        elif reason := judge(run, run.id in marked):
            found[run.id] = reason
    return found


def _cancel(run: Run | Glimpse, marked: bool) -> Stay | None:
    if run.is_final:
        return Stay.OVER
    return Stay.ASKED if run.cancel_requested_at else None


def _retry(run: Run | Glimpse, marked: bool) -> Stay | None:
    if not run.is_evaluation:
        return Stay.TASK
    if not run.is_final:
        return Stay.OPEN
    return Stay.RETRYING if marked else None


def _delete(run: Run | Glimpse, marked: bool) -> Stay | None:
    if not run.is_final:
        return Stay.OPEN
    return Stay.RATED if marked else None


def _review(run: Run | Glimpse, marked: bool) -> Stay | None:
    if not run.is_final:
        return Stay.OPEN
    return Stay.WAITING if marked else None


_JUDGES: dict[str, Callable[[Run | Glimpse, bool], Stay | None]] = {
    BulkJob.Action.CANCEL: _cancel,
    BulkJob.Action.RETRY: _retry,
    BulkJob.Action.DELETE: _delete,
    BulkJob.Action.REVIEW: _review,
}

type _Marks = Callable[[list[UUID], ReviewQueue | None], set[UUID]]


def _with_feedback(ids: list[UUID], queue: ReviewQueue | None) -> set[UUID]:
    return _ids("SELECT run_id FROM feedback WHERE run_id = ANY(%s) AND withdrawn_at IS NULL", ids)


def _with_open_retry(ids: list[UUID], queue: ReviewQueue | None) -> set[UUID]:
    is_open = "status = ANY(%s) AND deleted_at IS NULL"
    return _ids(f"SELECT retried_id FROM run WHERE retried_id = ANY(%s) AND {is_open}", ids, sorted(OPEN))


def _in_queue(ids: list[UUID], queue: ReviewQueue | None) -> set[UUID]:
    if queue is None or queue.pk is None:
        return set()
    return _ids("SELECT run_id FROM review_item WHERE run_id = ANY(%s) AND queue_id = %s", ids, queue.pk)


def _ids(statement: str, *values: Any) -> set[UUID]:
    """Written by hand: of thousands of ids Django would make as many parameters."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return {row[0] for row in cursor.fetchall()}


_MARKED: dict[str, _Marks] = {
    BulkJob.Action.CANCEL: lambda ids, queue: set(),
    BulkJob.Action.RETRY: _with_open_retry,
    BulkJob.Action.DELETE: _with_feedback,
    BulkJob.Action.REVIEW: _in_queue,
}


# ── Counting ───────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Tally:
    """How many can be acted on, with their events and bytes, and how many stay, by reason.

    Where `is_exact` does not hold, time or COUNTED was up: there are at least so many. So it is with those
    that stay where not all were `seen`.
    """

    can: int
    events: int
    size: int
    stay: Mapping[str, int]
    is_exact: bool
    saw_all: bool

    @property
    def total(self) -> int:
        return self.can + sum(self.stay.values())


def tally(meant: Meant, action: str, person: Caller, queue: ReviewQueue | None = None) -> Tally:
    """Counts what `person` sees of what is meant, within the list's patience. Raises QueryError."""
    allowed = owners_for(person, action)
    found = _tally(meant, action, person, allowed, queue)
    if found.is_exact:
        return found
    fit = _tally(meant.of(allowed).fit_for(action), action, person, allowed, queue)
    return replace(fit, stay=found.stay, saw_all=False)


def owners_for(person: Caller, action: str) -> list[Owner]:
    return list(Owner.objects.filter(pk__in=owner_ids(person, NEEDS[action])))


def _tally(
    meant: Meant, action: str, person: Caller, allowed: Collection[Owner], queue: ReviewQueue | None
) -> Tally:
    owners = frozenset(owner.pk for owner in allowed)
    can = events = size = 0
    stay: Counter[str] = Counter()
    after: Cursor | None = None
    until, left = time.monotonic() + PATIENCE, True
    while left and time.monotonic() < until and can + stay.total() < COUNTED:
        runs, after = meant.glance(person, after, _AT_ONCE, until - time.monotonic())
        reasons = staying(action, runs, owners, queue)
        stay.update(reasons.values())
        going = [run for run in runs if run.id not in reasons]
        can += len(going)
        events += sum(run.event_count for run in going)
        size += sum(run.size for run in going)
        left = after is not None
    return Tally(can, events, size, stay, is_exact=not left, saw_all=not left)
