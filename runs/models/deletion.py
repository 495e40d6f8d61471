"""Deleting runs and sessions: first put away, to be restored within a grace time, then purged for good.

Issue 3, points 2 and 5. What is put away shows nowhere but in the admin, and counts nowhere. Whether
somebody may delete is for the caller to decide (Action.DELETE).

All of it goes in short transactions of some runs each, one of them at a time in the whole database: two
that hold many runs would wait for each other, and nobody else waits for more than one batch.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError, connection
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from psycopg.errors import LockNotAvailable

from runs.exact import clean_text
from runs.models.change import correction
from runs.models.run import Run
from runs.models.session import Session
from runs.models.transition import request_cancels
from runs.models.triggers import MAKING_RUNS

# A batch ends at the first of these; on two slow cores it then takes some 100 ms.
RUNS_AT_ONCE = 200
EVENTS_AT_ONCE = 1_000
BYTES_AT_ONCE = 8 * 2**20

_TURN = 0x64656C657465  # "delete"
_LOCK_TIMEOUT = "100ms"
_TRIES, _PAUSE = 20, 0.25  # seconds


@dataclass(frozen=True, slots=True)
class Extent:
    """How much goes, or has gone; `bytes` are those of `Run.size`."""

    runs: int = 0
    bytes: int = 0
    sessions: int = 0

    def __add__(self, other: "Extent") -> "Extent":
        return Extent(self.runs + other.runs, self.bytes + other.bytes, self.sessions + other.sessions)


def grace() -> timedelta:
    """How long after its deletion a run or session can be restored."""
    return timedelta(days=settings.DELETE_GRACE_DAYS)


# ── Turns ──────────────────────────────────────────────────────────────────
@contextmanager
def _turn(by: str, reason: str, request_id: str = "") -> Iterator[None]:
    """The transaction of one batch: a correction by `by`, after whoever's turn it is now.

    It waits for no lock for long, since others wait for those that it holds.
    """
    with correction(by, reason, request_id), connection.cursor() as cursor:
        take_turn()
        cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        yield
        cursor.execute("SET LOCAL lock_timeout TO DEFAULT")


def take_turn() -> None:
    """Waits for the turn and has it until the transaction of the caller ends: before that locks a run."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_TURN])


def _patient[**Given, Done](batch: Callable[Given, Done]) -> Callable[Given, Done]:
    """Tries a batch again, some seconds long, where somebody holds what it needs."""

    @wraps(batch)
    def patient(*args: Given.args, **kwargs: Given.kwargs) -> Done:
        for _ in range(_TRIES):
            try:
                return batch(*args, **kwargs)
            except OperationalError as error:
                if not isinstance(error.__cause__, LockNotAvailable):
                    raise
                time.sleep(_PAUSE)
        return batch(*args, **kwargs)

    return patient


# ── Put away, and back ─────────────────────────────────────────────────────
def delete_runs(runs: QuerySet[Run], by: str, reason: str, request_id: str = "") -> int:
    """Puts these runs away and gives how many; one that is put away already keeps its time and person.

    A run that is open is asked to cancel with it: a queued one ends at once, and who works at a running one
    learns of it as of any cancel (DESIGN.md 3.9). Raises ValueError without a reason.
    """
    kept = runs.filter(deleted_at=None)
    return sum(_delete(ids, by, reason, request_id) for ids in _batches(kept))


def delete_session(session: Session, by: str, reason: str, request_id: str = "") -> int:
    """Puts a session and its runs away; gives how many runs. Safe to repeat."""
    _mark(session, by, reason, request_id)  # before its runs: so `restore_session` knows which went with it
    return delete_runs(Run.objects.filter(session=session), by, reason, request_id)


def restore_runs(runs: QuerySet[Run], by: str, reason: str, request_id: str = "") -> int:
    """Brings back those of these runs whose grace time is not over, and their sessions; gives how many.

    A cancel that the deletion asked for stands: an evaluation can be retried.
    """
    back = _batches(runs.filter(_restorable()))
    return sum(_restore(ids, by, reason, request_id, with_sessions=True) for ids in back)


def restore_session(session: Session, by: str, reason: str, request_id: str = "") -> bool:
    """Brings a session back and the runs that went with it. False: it is there, or its grace time is over."""
    held = _this(session).filter(_restorable()).only("deleted_at").first()
    if held is None:
        return False
    went_along = Run.objects.filter(session=session, deleted_at__gte=held.deleted_at)
    for ids in _batches(went_along):
        _restore(ids, by, reason, request_id, with_sessions=False)
    return _unmark(session, by, reason, request_id)


@_patient
def _mark(session: Session, by: str, reason: str, request_id: str) -> None:
    with _turn(by, reason, request_id):
        _this(session).filter(deleted_at=None).update(deleted_at=Now(), deleted_by=clean_text(by))


@_patient
def _unmark(session: Session, by: str, reason: str, request_id: str) -> bool:
    with _turn(by, reason, request_id):
        return bool(_undelete(_this(session)))


@_patient
def _delete(ids: Sequence[UUID], by: str, reason: str, request_id: str) -> int:
    with _turn(by, reason, request_id):
        held = _held(ids, deleted_at=None)
        request_cancels(held, by, reason)
        return held.update(deleted_at=Now(), deleted_by=clean_text(by), updated_at=Now())


@_patient
def _restore(ids: Sequence[UUID], by: str, reason: str, request_id: str, *, with_sessions: bool) -> int:
    with _turn(by, reason, request_id):
        held = _held(ids, deleted_at__isnull=False)
        if with_sessions:
            _undelete(Session.objects.filter(pk__in=held.values("session")))
        return held.update(**_KEPT, updated_at=Now())


def _undelete(sessions: QuerySet[Session]) -> int:
    return sessions.filter(deleted_at__isnull=False).update(**_KEPT)


_KEPT: dict[str, Any] = {"deleted_at": None, "deleted_by": ""}


def _restorable() -> Q:
    return Q(deleted_at__gte=Now() - grace())


def _batches(runs: QuerySet[Run]) -> Iterator[list[UUID]]:
    """Their ids, some at a time; what becomes of one batch does not change which the next one is."""
    last = UUID(int=0)
    while ids := list(runs.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:RUNS_AT_ONCE]):
        yield ids
        last = ids[-1]


def _held(ids: Sequence[UUID], **conditions: object) -> QuerySet[Run]:
    """Those of them for which it still holds; locked, in one order, before anything else is."""
    locked = Run.objects.filter(pk__in=ids, **conditions).select_for_update(of=("self",)).order_by("pk")
    return Run.objects.filter(pk__in=list(locked.values_list("pk", flat=True)))


# ── For good ───────────────────────────────────────────────────────────────
def purge(
    runs: QuerySet[Run],
    by: str,
    reason: str,
    *,
    order: str = "created_at",
    keep_going: Callable[[], bool] = lambda: True,
) -> Extent:
    """Deletes these runs for good, with all that belongs to them, and notes each batch as a `Deletion`.

    Each run is judged again once nobody else can change it, and one that somebody is writing at this moment
    is left to the next time. `order` is the column by which, with the id, an index gives the runs;
    `keep_going` is asked before each batch.
    """
    gone, owners, last = Extent(), set(), None
    while keep_going() and (batch := _next_batch(runs, order, last)):
        gone += _purge([run.pk for run in batch], runs, by, reason)
        owners |= {run.owner_id for run in batch}
        last = batch[-1]
    for owner_id in sorted(owners):
        forget_empty_blocks(owner_id)
    return gone


def purge_sessions(
    sessions: QuerySet[Session],
    by: str,
    reason: str,
    *,
    keep_going: Callable[[], bool] = lambda: True,
) -> Extent:
    """Deletes for good those of these sessions that have no run, not even one that is put away."""
    ids = list(sessions.exclude(_has_runs()).values_list("pk", flat=True))
    gone = 0
    for start in range(0, len(ids), RUNS_AT_ONCE):
        if not keep_going():
            break
        some = ids[start : start + RUNS_AT_ONCE]
        gone += _purge_sessions(some, sessions, by, reason)
    return Extent(sessions=gone)


def _next_batch(runs: QuerySet[Run], order: str, last: Run | None) -> list[Run]:
    """The runs that follow `last` in the index, as many as go in one short transaction."""
    rows = runs.order_by(order, "pk").only("owner", "event_count", "size", order)
    if last is not None:
        place = getattr(last, order)
        rows = rows.filter(Q(**{f"{order}__gte": place}) & (Q(**{f"{order}__gt": place}) | Q(pk__gt=last.pk)))
    batch: list[Run] = []
    events = size = 0
    for run in rows[:RUNS_AT_ONCE]:
        events, size = events + run.event_count, size + run.size
        if batch and (events > EVENTS_AT_ONCE or size > BYTES_AT_ONCE):
            break
        batch.append(run)
    return batch


@_patient
def _purge(ids: Sequence[UUID], runs: QuerySet[Run], by: str, reason: str) -> Extent:
    with _turn(by, reason), connection.cursor() as cursor:
        free = Run.objects.filter(pk__in=ids).select_for_update(skip_locked=True, of=("self",)).order_by("pk")
        held = list(free.values_list("pk", flat=True))
        doomed = dict(runs.filter(pk__in=held).values_list("pk", "session"))
        cursor.execute("SELECT runs, bytes FROM purge_runs(%s, %s, %s)", [list(doomed), by, reason])
        gone = Extent(*cursor.fetchone())
        emptied = Session.objects.filter(pk__in=set(doomed.values()) - {None}).exclude(_has_runs())
        emptied.update(emptied_at=Now())
    return gone


@_patient
def _purge_sessions(ids: Sequence[UUID], sessions: QuerySet[Session], by: str, reason: str) -> int:
    with _turn(by, reason), connection.cursor() as cursor:
        free = Session.objects.filter(pk__in=ids).select_for_update(skip_locked=True, of=("self",))
        held = list(free.values_list("pk", flat=True))
        doomed = list(sessions.filter(pk__in=held).values_list("pk", flat=True))
        cursor.execute("SELECT purge_sessions(%s, %s, %s)", [doomed, by, reason])
        return int(cursor.fetchone()[0])


def _has_runs() -> Exists:
    return Exists(Run.objects.filter(session=OuterRef("pk")))


# ── The search index ───────────────────────────────────────────────────────
def forget_empty_blocks(owner_id: int) -> int:
    """Deletes the search blocks of an owner whose runs are all gone, and their terms; gives how many.

    Neither the newest, which new runs come into, nor the oldest, which runs from before come into: blocks
    are numbered in order of time.
    """
    with connection.cursor() as cursor:
        cursor.execute(_EMPTY_BLOCKS, {"owner": owner_id, "among": None})
        empty = [block for (block,) in cursor.fetchall()]
    return _forget_blocks(owner_id, empty) if empty else 0


@_patient
def _forget_blocks(owner_id: int, blocks: list[int]) -> int:
    """While nobody makes a run of the owner (triggers.assign_block), so that what is empty stays so."""
    with _turn("retention", "no runs"), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [MAKING_RUNS, owner_id])
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute(_FORGET_BLOCKS, {"owner": owner_id, "among": blocks})
        number = cursor.rowcount
    if number:
        _forget_terms(owner_id)
    return number


def _forget_terms(owner_id: int) -> None:
    """Part by part, since the index begins with the term; also those that an interrupted one left behind."""
    step = 2**26
    with connection.cursor() as cursor:
        for least in range(-(2**31), 2**31, step):
            cursor.execute(_FORGET_TERMS, {"owner": owner_id, "least": least, "most": least + step - 1})


# Runs that are put away have an index of their own.
_EMPTY_BLOCKS = """
    SELECT id FROM (
        SELECT id, from_at, lead(from_at) OVER chronicle AS until, row_number() OVER chronicle AS number
        FROM search_block WHERE owner_id = %(owner)s WINDOW chronicle AS (ORDER BY from_at)
    ) AS block
    WHERE until IS NOT NULL AND number > 1 AND (%(among)s::bigint[] IS NULL OR id = ANY(%(among)s))
    AND NOT EXISTS (
        SELECT FROM run WHERE owner_id = %(owner)s AND created_at >= from_at AND created_at < until
        AND deleted_at IS NULL
    ) AND NOT EXISTS (
        SELECT FROM run WHERE owner_id = %(owner)s AND created_at >= from_at AND created_at < until
        AND deleted_at IS NOT NULL
    )
"""
_FORGET_BLOCKS = f"DELETE FROM search_block WHERE id IN ({_EMPTY_BLOCKS})"
_FORGET_TERMS = """
    DELETE FROM search_term
    WHERE owner_id = %(owner)s AND term BETWEEN %(least)s AND %(most)s
    AND NOT EXISTS (SELECT FROM search_block WHERE id = block)
"""


def _this(session: Session) -> QuerySet[Session]:
    return Session.objects.filter(pk=session.pk)
