"""The run table as a queue: claims, leases, and writes that are fenced by their claim (DESIGN.md 3.6, 3.8).

Of two workers that believe they hold the same run, only the one whose claim is in the row can write.
The clock is PostgreSQL's throughout.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import batched
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now

from runs.exact import Json, clean_text, split_exact
from runs.models.change import correction
from runs.models.event import NewEvent, append_events
from runs.models.result import Result, record_results
from runs.models.run import LeaseLost, Run, index_run
from runs.models.session import Session
from runs.models.status import Status, moved

LAST_LEASE_LOST = "worker lease expired on the last attempt"
CANCELLED = "cancelled by request"
DEADLINE = "deadline_exceeded"
APPENDED_AT_ONCE = 200
PATIENCE = 5  # seconds; far more than we ever compute between two statements of a transaction


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

    def record(self, results: Iterable[Result]) -> None:
        """Keeps results, each once: one that is there takes the newer verdict (CONTRACTS.md 1.3)."""
        with self._held() as run:
            record_results(run, results)

    def succeed(self, summary: Json) -> None:
        self._end(Status.SUCCEEDED, summary=split_exact(summary)[0])

    def fail(self, error: str) -> None:
        self._end(Status.FAILED, error=clean_text(error))

    def acknowledge_cancel(self) -> None:
        """Ends a run whose cancel was asked for; its results so far stay."""
        self._move(Status.CANCELLED, error=CANCELLED, cancel_acknowledged_at=Now(), **_UNCLAIMED)

    def release(self) -> None:
        """Gives the run back to the queue without spending the attempt: the worker stops."""
        self._move(Status.QUEUED, attempt=F("attempt") - 1, **_UNCLAIMED)

    def _end(self, status: Status, **columns: object) -> None:
        """A cancel that was asked for before this write wins over it (CONTRACTS.md 4.2)."""
        with transaction.atomic():
            _be_brief()
            if moved(self._run.filter(cancel_requested_at=None), status, **columns, **_UNCLAIMED):
                if "error" in columns:
                    index_run(Run.objects.select_related("session").get(pk=self.run_id))
            else:
                self.acknowledge_cancel()

    def _move(self, to: Status, **columns: object) -> None:
        if not moved(self._run, to, **columns):
            raise LeaseLost(self)

    @contextmanager
    def _held(self) -> Iterator[Run]:
        """A transaction that holds the run's row while the claim is in it."""
        with transaction.atomic():
            _be_brief()
            run = self._run.select_for_update(of=("self",)).only("pk", "session_id").first()
            if run is None:
                raise LeaseLost(self)
            yield run


_UNCLAIMED: dict[str, object] = {"worker_id": None, "claimed_at": None, "lease_expires_at": None}


def claim_next(worker_id: str, lease: timedelta, max_attempts: int) -> Run | None:
    """Claims the oldest run that waits, or whose worker fell silent, in one short transaction.

    Two workers never get the same (run, attempt). None: nothing to do.
    """
    with transaction.atomic():
        _be_brief()
        end_lost_runs(max_attempts)
        run = _next(_expired()) or _next(Run.objects.filter(kind=Run.Kind.EVALUATION, status=Status.QUEUED))
        if run is None:
            return None
        moved(
            Run.objects.filter(pk=run.pk),
            Status.RUNNING,
            attempt=F("attempt") + 1,
            worker_id=worker_id,
            claimed_at=Now(),
            lease_expires_at=Now() + lease,
            started_at=Coalesce(F("started_at"), Now()),
        )
        return Run.objects.select_related("owner").get(pk=run.pk)


def requeue(run: Run, by: str, reason: str, request_id: str = "") -> bool:
    """Takes a running evaluation from its worker, which cannot write any more, and lets another one have it.

    False: it does not run, is deleted, or is to be cancelled. Raises ValueError without a reason.
    """
    with correction(by, reason, request_id):
        stuck = Run.objects.filter(
            pk=run.pk, kind=Run.Kind.EVALUATION, status=Status.RUNNING, cancel_requested_at=None
        )
        return bool(moved(stuck.filter(deleted_at=None), Status.QUEUED, **_UNCLAIMED))


def end_lost_runs(max_attempts: int) -> int:
    """Ends the runs whose worker fell silent and that are not tried again; gives how many.

    Their worker id stays in the row and tells who it was (CONTRACTS.md 1.2).
    """
    with transaction.atomic(savepoint=False):
        asked, spent = (
            _expired_rows(cancel_requested_at__isnull=False),
            _expired_rows(attempt__gte=max_attempts),
        )
        cancelled = moved(asked, Status.CANCELLED, cancel_acknowledged_at=Now())
        failed = moved(spent, Status.FAILED, error=LAST_LEASE_LOST)
    return cancelled + failed


def cancels_asked(claims: Iterable[Claim]) -> set[UUID]:
    """Which of these runs somebody wants cancelled, in one query."""
    ids = [claim.run_id for claim in claims]
    asked = Run.objects.filter(pk__in=ids, status=Status.RUNNING, cancel_requested_at__isnull=False)
    return set(asked.values_list("pk", flat=True))


def _be_brief() -> None:
    """A worker that is paused inside a transaction would keep its run's row locked, lease or no lease:
    PostgreSQL ends the transaction of one that says nothing for PATIENCE seconds."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{PATIENCE}s'")


def _expired(**conditions: object) -> QuerySet[Run]:
    return Run.objects.filter(
        kind=Run.Kind.EVALUATION, status=Status.RUNNING, lease_expires_at__lt=Now(), **conditions
    )


def _expired_rows(**conditions: object) -> QuerySet[Run]:
    """The expired rows that nobody else is at: a claim must not wait for another's sweep."""
    rows = _expired(**conditions).select_for_update(skip_locked=True, of=("self",)).values("pk")
    # The conditions stand twice: a row that changed while we waited for it is looked at again.
    return _expired(**conditions).filter(pk__in=rows)


def _next(runs: QuerySet[Run]) -> Run | None:
    kept = runs.filter(deleted_at=None)
    locked = kept.select_for_update(skip_locked=True, of=("self",)).order_by("created_at", "id")
    return locked.only("pk").first()
