"""Carrying out bulk jobs, batch by batch, so that each run is dealt with once whatever ends a worker.

What a batch does and how far the job came are one transaction, for all five actions: the verbs that they
call join it. The job's row is locked meanwhile, and that lock is the worker's lease: PostgreSQL gives it
back when the worker dies, and takes back what was begun.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import cast
from uuid import UUID

from django.contrib.postgres.functions import TransactionNow
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Coalesce, Now

from runs.models.access import owner_ids
from runs.models.bulk import NEEDS, UNFINISHED, BulkJob
from runs.models.change import Change
from runs.models.deletion import delete_runs, restore_runs
from runs.models.listing import Found
from runs.models.owner import Owner
from runs.models.paging import Cursor
from runs.models.review import ReviewQueue, add_items
from runs.models.run import PAYLOADS, Run
from runs.models.selection import Meant, Stay, staying
from runs.models.transition import request_cancels, retry
from runs.models.user import User
from runs.query import parse
from runs.sealing import Unsealable

NO_REASON = "no reason was given"
# Runs of one short transaction. To retry one is to write a spec, which may be large.
AT_ONCE = {
    BulkJob.Action.CANCEL: 200,
    BulkJob.Action.RETRY: 20,
    BulkJob.Action.DELETE: 200,
    BulkJob.Action.RESTORE: 200,
    BulkJob.Action.REVIEW: 500,
}
_PATIENCE = 0.5  # seconds that a batch looks for its runs; then it takes those that it has
_BRIEF = "SET LOCAL idle_in_transaction_session_timeout = '5s'; SET LOCAL lock_timeout = '1s'"


@contextmanager
def next_job(worker_id: str) -> Iterator[BulkJob | None]:
    """A transaction that holds the unfinished job which was served least recently; None where there is none
    that nobody holds."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_BRIEF)
        rows = BulkJob.objects.select_for_update(skip_locked=True).filter(state__in=UNFINISHED)
        job = rows.order_by("updated_at", "id").first()
        if job is not None:
            job.worker_id = worker_id
        yield job


def advance(job: BulkJob) -> None:
    """Does the next batch of a job that is held, and notes how far it came, as one.

    Raises QueryError where its filter cannot be read, LookupError where what it needs is gone.
    """
    allowed = _allowed(job)
    if not allowed:
        raise LookupError("who started it may not do this any more")
    found = _next_runs(job, allowed)
    done, skipped = _ACTS[job.action](job, found.runs) if found.runs else (0, Counter())
    job.done_count += done
    job.skipped_count += skipped.total()
    job.skipped = dict(Counter(job.skipped) + skipped)
    job.cursor = str(found.older or job.cursor)
    job.state = BulkJob.State.RUNNING if found.older else BulkJob.State.DONE
    # It began before the first run was put away: so `undo` knows which went with it.
    _note(
        job,
        finished_at=None if found.older else Now(),
        started_at=Coalesce("started_at", TransactionNow()),
        error="",
    )


def put_off(job: BulkJob, error: str) -> None:
    """After something that passes: others go first, and then it is tried again."""
    BulkJob.objects.filter(pk=job.pk, state__in=UNFINISHED).update(updated_at=Now(), error=error[:2000])


def fail(job: BulkJob, error: str) -> None:
    failed = {"state": BulkJob.State.FAILED, "finished_at": Now(), "updated_at": Now(), "error": error[:2000]}
    BulkJob.objects.filter(pk=job.pk, state__in=UNFINISHED).update(**failed)


def _note(job: BulkJob, **columns: object) -> None:
    names = ("state", "done_count", "skipped_count", "skipped", "cursor", "worker_id")
    kept = {name: getattr(job, name) for name in names}
    BulkJob.objects.filter(pk=job.pk).update(**kept, updated_at=Now(), **columns)


def _allowed(job: BulkJob) -> list[Owner]:
    """Of its owners those for whom the person still has the right."""
    if job.person is None:
        return []
    still = owner_ids(job.person, NEEDS[job.action])
    return list(Owner.objects.filter(pk__in=still).filter(pk__in=job.owners))


def _next_runs(job: BulkJob, allowed: list[Owner]) -> Found:
    after, size = Cursor.parse(job.cursor) if job.cursor else None, AT_ONCE[BulkJob.Action(job.action)]
    if job.action == BulkJob.Action.RESTORE:
        return _deleted_by(BulkJob.objects.get(pk=job.options["undoes"]), allowed, after, size)
    caller = cast(User, job.person)  # for whom something is allowed
    return meant_by(job).of(allowed).fit_for(job.action).page(caller, after, size, _PATIENCE)


def meant_by(job: BulkJob) -> Meant:
    """Raises QueryError."""
    ids = tuple(UUID(one) for one in job.options.get("ids", ()))
    return Meant(parse(job.query, job.until), job.until, ids)


def _deleted_by(job: BulkJob, allowed: list[Owner], after: Cursor | None, size: int) -> Found:
    """The runs that this job has put away and that still are, in the order of that."""
    by_it = Change.objects.filter(run=OuterRef("pk"), field="deleted_at", request_id=job.mark)
    rows = Run.objects.filter(Exists(by_it), owner__in=allowed, deleted_at__gte=job.started_at)
    if after is not None:
        behind = Q(deleted_at__gt=after.created_at) | Q(pk__gt=after.id)
        rows = rows.filter(behind, deleted_at__gte=after.created_at)
    runs = list(rows.order_by("deleted_at", "pk").only("owner", "deleted_at")[: size + 1])
    older = Cursor(cast(datetime, runs[size - 1].deleted_at), runs[size - 1].pk) if len(runs) > size else None
    return Found(runs[:size], older)


# ── What it does to a batch: how many, and how many not, by reason ─────────
type _Done = tuple[int, Counter[str]]


def _cancel(job: BulkJob, runs: Sequence[Run]) -> _Done:
    held, skipped = _held(job, runs)
    request_cancels(Run.objects.filter(pk__in=[run.pk for run in held]), job.by, job.reason)
    return len(held), skipped


def _retry(job: BulkJob, runs: Sequence[Run]) -> _Done:
    held, skipped = _held(job, runs)
    done = 0
    for run in held:
        try:
            with transaction.atomic():
                retry(run, job.by, job.reason)
            done += 1
        except Unsealable:
            skipped[Stay.SEALED] += 1
    return done, skipped


def _delete(job: BulkJob, runs: Sequence[Run]) -> _Done:
    """Its rows are locked by the verb, after its turn has come: others wait for both in that order."""
    stays = staying(job.action, runs, job.owners)
    going = [run.pk for run in runs if run.pk not in stays]
    chosen = Run.objects.filter(pk__in=going)
    done = delete_runs(chosen, job.actor, job.reason or NO_REASON, job.mark) if going else 0
    return done, _reasons(stays.values(), len(going) - done, Stay.CHANGED)


def _restore(job: BulkJob, runs: Sequence[Run]) -> _Done:
    chosen = Run.objects.filter(pk__in=[run.pk for run in runs])
    done = restore_runs(chosen, job.actor, job.reason, job.mark)
    return done, _reasons((), len(runs) - done, Stay.GONE)


def _review(job: BulkJob, runs: Sequence[Run]) -> _Done:
    queue = ReviewQueue.objects.filter(pk=job.options.get("queue")).first()
    if queue is None:
        raise LookupError("the review queue is gone")
    stays = staying(job.action, runs, job.owners, queue)
    going = [run.pk for run in runs if run.pk not in stays]
    done = add_items(queue, going) if going else 0
    return done, _reasons(stays.values(), len(going) - done, Stay.WAITING)


_ACTS: dict[str, Callable[[BulkJob, Sequence[Run]], _Done]] = {
    BulkJob.Action.CANCEL: _cancel,
    BulkJob.Action.RETRY: _retry,
    BulkJob.Action.DELETE: _delete,
    BulkJob.Action.RESTORE: _restore,
    BulkJob.Action.REVIEW: _review,
}


def _held(job: BulkJob, runs: Sequence[Run]) -> tuple[list[Run], Counter[str]]:
    """Those of `runs` that can be acted on as they are now, locked in one order; and why others cannot."""
    rows = Run.objects.filter(pk__in=[run.pk for run in runs], deleted_at=None)
    rows = rows.defer(*PAYLOADS).select_related("owner", "session")
    locked = list(rows.select_for_update(of=("self",)).order_by("pk"))
    stays = staying(job.action, locked, job.owners)
    going = [run for run in locked if run.pk not in stays]
    return going, _reasons(stays.values(), len(runs) - len(locked), Stay.CHANGED)


def _reasons(stays: Collection[str], others: int, why: Stay) -> Counter[str]:
    counted: Counter[str] = Counter(str(stay) for stay in stays)
    if others:
        counted[str(why)] += others
    return counted
