"""The run table as a queue: claims, leases, and writes that are fenced by their claim (DESIGN.md 3.6, 3.8).

Of two workers that believe they hold the same run, only the one whose claim is in the row can write.
The clock is PostgreSQL's throughout. What goes along with a claim and its end (the attempt, what webhooks
are told, who is woken) is written by triggers (models.triggers.queue_triggers).
"""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import batched
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from runs.exact import Json, clean_text, split_exact
from runs.models.attempt import Attempt
from runs.models.change import correction
from runs.models.event import NewEvent, Then, append_events
from runs.models.reported import REPORTER
from runs.models.result import Result, record_results
from runs.models.run import LeaseLost, Run, index_run
from runs.models.session import Session
from runs.models.status import Status, moved

LAST_LEASE_LOST = "worker lease expired on the last attempt"
CANCELLED = "cancelled by request"
DEADLINE = "deadline_exceeded"
APPENDED_AT_ONCE = 200
PATIENCE = 5  # seconds; far more than we ever compute between two statements of a transaction
LONGEST_PAUSE = 300.0  # seconds between two attempts


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold of a run: every write of the worker names it."""

    run_id: UUID
    worker_id: str
    attempt: int

    @property
    def _run(self) -> QuerySet[Run]:
        return Run.objects.filter(
            pk=self.run_id, worker_id=self.worker_id, attempt=self.attempt, status=Status.RUNNING
        )

    def extend(self, lease: timedelta) -> bool:
        """The heartbeat: False when the lease is lost."""
        return bool(self._run.update(lease_expires_at=Now() + lease))

    def append(self, events: list[NewEvent]) -> None:
        """Appends to the run's history, some at a time: the heartbeat must get at the row in between."""
        for some in batched(events, APPENDED_AT_ONCE):
            append_events(Run(pk=self.run_id), some, hold=self)

    def describe(self, session: Session | None, **columns: object) -> None:
        """Fills columns that lists show (agent, model, tokens), and the session where the run has none."""
        with self._held() as run:
            if session is not None and run.session_id is None:
                columns["session"] = session
            Run.objects.filter(pk=run.pk).update(**columns, updated_at=Now())
            index_run(Run.objects.select_related("session").get(pk=run.pk))

    def tell(self, doing: str, done: int | None = None, total: int | None = None) -> None:
        """What the worker is at, for people to see."""
        with self._held() as run:
            Attempt.objects.filter(run_id=run.pk, ended_at=None).update(doing=clean_text(doing)[:500])
            if total is not None:
                Run.objects.filter(pk=run.pk).update(done_items=done, total_items=total)

    def record(self, results: Iterable[Result]) -> None:
        """Keeps results, each once: one that is there takes the newer verdict (CONTRACTS.md 1.3)."""
        with self._held() as run:
            record_results(run, results)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written in here is written as one."""
        with self._held():
            yield

    def succeed(self, summary: Json, events: Sequence[NewEvent] = ()) -> None:
        """Ends the run, with the last of its history."""
        *before, last = [*batched(events, APPENDED_AT_ONCE)] or [()]
        for some in before:
            append_events(Run(pk=self.run_id), some, hold=self)
        self._end(Status.SUCCEEDED, summary=summary, events=last)

    def fail(self, error: str, summary: Json = None) -> None:
        with transaction.atomic():
            if self._end(Status.FAILED, error=clean_text(error), summary=summary) == Status.FAILED:
                index_run(Run.objects.select_related("session").get(pk=self.run_id))

    def acknowledge_cancel(self) -> None:
        """Ends a run whose cancel was asked for; its results so far stay."""
        self._move(Status.CANCELLED, error=CANCELLED, cancel_acknowledged_at=Now(), **_UNCLAIMED)

    def release(self) -> None:
        """Gives the run back to the queue without spending the attempt: the worker stops.

        One whose cancel was asked for ends: nobody else may come to see that.
        """
        with self._held() as run:
            if run.cancel_requested_at is not None:
                self.acknowledge_cancel()
            else:
                self._move(Status.QUEUED, attempt=F("attempt") - 1, **_UNCLAIMED)

    def retry_later(self, error: str, pause: float) -> None:
        """Gives the run back to be tried again after about `pause` seconds, as its spec asks for."""
        self._give_back(Attempt.Outcome.RETRIED, error, pause)

    def crash(self, reason: str, max_crashes: int) -> None:
        """Ends an attempt whose evaluator's process died: the run is tried again, up to the limit."""
        with self._held() as run:
            crashes = run.crashes + 1
            if crashes < max_crashes or run.cancel_requested_at is not None:
                self._give_back(Attempt.Outcome.CRASHED, reason, pause_after(crashes), crashes=crashes)
                return
            _end_attempt(run.pk, Attempt.Outcome.CRASHED, reason)
            Run.objects.filter(pk=run.pk).update(crashes=crashes)
            self.fail(f"the evaluation ended its process in {crashes} attempts; in the last one {reason}")

    def _give_back(self, outcome: str, reason: str, pause: float, **columns: object) -> None:
        """To the queue, unless a cancel was asked for: then it ends."""
        with self._held() as run:
            if run.cancel_requested_at is not None:
                self.acknowledge_cancel()
                return
            _end_attempt(run.pk, outcome, reason)
            later = {"run_after": Now() + timedelta(seconds=pause)} if pause else {}
            self._move(Status.QUEUED, **later, **columns, **_UNCLAIMED)

    def _end(
        self, status: Status, error: str | None = None, summary: Json = None, events: Sequence[NewEvent] = ()
    ) -> str:
        """In one statement. A cancel that was asked for before this write wins (CONTRACTS.md 4.2)."""
        end = Then(
            "end_run(%(target)s, %(worker)s, %(try)s, %(verdict)s, %(error)s, %(summary)s)",
            {
                "target": self.run_id,
                "worker": self.worker_id,
                "try": self.attempt,
                "verdict": status.value,
                "error": error,
                "summary": None if summary is None else json.dumps(split_exact(summary)[0]),
            },
        )
        if events:
            append_events(Run(pk=self.run_id), events, hold=self, then=end)
        else:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT {end.sql}", end.parameters)
                (end.answer,) = cursor.fetchone()
        if end.answer is None:
            raise LeaseLost(self)
        return str(end.answer)

    def _move(self, to: Status, **columns: object) -> None:
        if not moved(self._run, to, **columns):
            raise LeaseLost(self)

    @contextmanager
    def _held(self) -> Iterator[Run]:
        """A transaction that holds the run's row while the claim is in it."""
        with transaction.atomic():
            _be_brief()
            row = self._run.select_for_update(of=("self",))
            run = row.only("pk", "session_id", "crashes", "cancel_requested_at").first()
            if run is None:
                raise LeaseLost(self)
            yield run


_UNCLAIMED: dict[str, object] = {"worker_id": None, "claimed_at": None, "lease_expires_at": None}


def claim_next(worker_id: str, lease: timedelta) -> Run | None:
    """Claims a run that waits, in one short statement: of the owner that was served least recently, the one
    of the highest priority that has waited longest.

    Two workers never get the same (run, attempt). None: nothing to do, or the queue is paused. That a claim
    may be forgotten when PostgreSQL crashes is harmless: the run waits again, and all that its worker writes
    is fenced. What the worker writes later takes the claim to the disk with it.
    """
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, [worker_id, lease.total_seconds()])
        row = cursor.fetchone()
    if row is None:
        return None
    run = Run.from_db(connection.alias, _CLAIMED, row)
    spec = row[_CLAIMED.index("spec")]
    run.spec = None if spec is None else json.loads(spec)  # what a query of Django's does by itself
    return run


# What its worker needs at once, in the order that Run.from_db wants; the rest is loaded when it is asked for.
_NEEDED = {
    *("id", "owner_id", "session_id", "judged_id", "kind", "title", "status", "attempt", "crashes"),
    *("spec", "spec_exact", "secrets", "worker_id", "claimed_at", "lease_expires_at"),
    *("created_at", "started_at"),
}
_CLAIMED = [field.attname for field in Run._meta.concrete_fields if field.attname in _NEEDED]
_CLAIM = f"SELECT {', '.join(_CLAIMED)} FROM claim_run(%s, make_interval(secs => %s))"


def requeue(run: Run, by: str, reason: str, request_id: str = "") -> bool:
    """Takes a running evaluation from its worker, which cannot write any more, and lets another one have it.

    False: it does not run, is deleted, is to be cancelled, or runs elsewhere (models.reported). Raises
    ValueError without a reason.
    """
    with correction(by, reason, request_id):
        stuck = Run.objects.filter(
            pk=run.pk, kind=Run.Kind.EVALUATION, status=Status.RUNNING, cancel_requested_at=None
        ).exclude(worker_id=REPORTER)
        taken = moved(stuck.filter(deleted_at=None), Status.QUEUED, **_UNCLAIMED)
        if taken:
            last = Attempt.objects.filter(run_id=run.pk).order_by("-number")[:1]
            Attempt.objects.filter(pk__in=last).update(reason=clean_text(f"taken from it by {by}: {reason}"))
        return bool(taken)


def try_now(run: Run) -> bool:
    """Ends the pause before the next attempt. False: the run was in none."""
    paused = Run.objects.filter(pk=run.pk, status=Status.QUEUED, run_after__isnull=False)
    return bool(paused.update(run_after=None, updated_at=Now()))


def sweep(max_crashes: int) -> int:
    """Takes the runs of silent workers back, and wakes those whose pause is over; gives how many.

    A run that lost `max_crashes` workers fails (its worker id stays and tells who was last, CONTRACTS.md
    1.2); one whose cancel was asked for is cancelled; the others wait for another worker.
    """
    with transaction.atomic():
        lost = list(
            _expired()
            .select_for_update(skip_locked=True, of=("self",))
            .only("pk", "crashes", "worker_id", "cancel_requested_at")
            .order_by("lease_expires_at", "id")[:100]
        )
        for run in lost:
            _take_back(run, max_crashes)
    return len(lost) + _wake_due()


def _wake_due() -> int:
    """Never waits for another's lock, so that two that sweep at once do not wait for each other."""
    waiting = Run.objects.filter(kind=Run.Kind.EVALUATION, status=Status.QUEUED, run_after__isnull=False)
    with transaction.atomic():
        rows = waiting.filter(run_after__lte=Now()).order_by("run_after").select_for_update(skip_locked=True)
        due = list(rows.values_list("pk", flat=True)[:1000])
        return Run.objects.filter(pk__in=due).update(run_after=None) if due else 0


def _take_back(run: Run, max_crashes: int) -> None:
    this, crashes = Run.objects.filter(pk=run.pk), run.crashes + 1
    _end_attempt(run.pk, Attempt.Outcome.LOST, "no heartbeat until its lease expired")
    if run.cancel_requested_at is not None:
        moved(this, Status.CANCELLED, cancel_acknowledged_at=Now(), crashes=crashes)
    elif crashes >= max_crashes:
        moved(this, Status.FAILED, error=LAST_LEASE_LOST, crashes=crashes)
        index_run(Run.objects.select_related("session").get(pk=run.pk))
    else:
        pause = pause_after(crashes)
        later = {"run_after": Now() + timedelta(seconds=pause)} if pause else {}
        moved(this, Status.QUEUED, crashes=crashes, **later, **_UNCLAIMED)


def pause_after(crashes: int) -> float:
    """Seconds before the next attempt: none after the first crash, which is mostly the machine's fault."""
    return 0.0 if crashes <= 1 else jittered(2.0, crashes - 1)


def jittered(first: float, number: int, longest: float = LONGEST_PAUSE) -> float:
    """Seconds before repetition `number`, from 1: doubling from `first`, less up to a half by chance."""
    return min(first * 2 ** min(number - 1, 30), longest) * random.uniform(0.5, 1)  # noqa: S311


@dataclass(frozen=True, slots=True)
class Watched:
    """What is to be known of claimed runs: those still held, and those whose cancel was asked for."""

    held: frozenset[UUID]
    asked: frozenset[UUID]


def watch(claims: Iterable[Claim], lease: timedelta | None = None) -> Watched:
    """Looks at the runs of these claims in one statement; with `lease` it is their heartbeat."""
    mine = list(claims)
    if not mine:
        return Watched(frozenset(), frozenset())
    parameters: dict[str, Any] = {
        "ids": [claim.run_id for claim in mine],
        "workers": [claim.worker_id for claim in mine],
        "attempts": [claim.attempt for claim in mine],
        "lease": lease,
    }
    with connection.cursor() as cursor:
        cursor.execute(_LOOK if lease is None else _BEAT, parameters)
        rows = cursor.fetchall()
    return Watched(frozenset(pk for pk, _ in rows), frozenset(pk for pk, asked in rows if asked))


_MINE = """
    unnest(%(ids)s::uuid[], %(workers)s::text[], %(attempts)s::integer[]) AS mine (id, worker, try)
    WHERE run.id = mine.id AND status = 'running' AND worker_id = worker AND attempt = try
"""
_LOOK = f"SELECT run.id, cancel_requested_at IS NOT NULL FROM run, {_MINE}"
_BEAT = f"""
    UPDATE run SET lease_expires_at = statement_timestamp() + %(lease)s FROM {_MINE}
    RETURNING run.id, cancel_requested_at IS NOT NULL
"""


def _be_brief() -> None:
    """A worker that is paused inside a transaction would keep its run's row locked, lease or no lease:
    PostgreSQL ends the transaction of one that says nothing for PATIENCE seconds."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{PATIENCE}s'")


def _end_attempt(run_id: UUID, outcome: str, reason: str) -> None:
    Attempt.objects.filter(run_id=run_id, ended_at=None).update(
        ended_at=Now(), outcome=outcome, reason=clean_text(reason), doing=""
    )


def _expired() -> QuerySet[Run]:
    return Run.objects.filter(kind=Run.Kind.EVALUATION, status=Status.RUNNING, lease_expires_at__lt=Now())
