"""Bulk jobs, beside the queue: a batch at a time, on a connection of its own, with pauses in between, so
that runs which wait for this worker and people who look at pages hardly notice."""

import logging
import threading
import time

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections

from runs.models import BulkJob
from runs.models.carrying import advance, fail, next_job, put_off
from runs.query import QueryError
from runs.worker.outage import is_passing

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 1.0  # seconds between two batches


def carry_out(worker_id: str, stopping: threading.Event) -> None:
    """Does batches until `stopping` is set, and rests as long as each took. No database error ends it."""
    while not stopping.is_set():
        began = time.monotonic()
        try:
            busy = carry_on(worker_id)
        except DatabaseError as error:
            log.warning("bulk jobs: %s", error)
            connections.close_all()
            busy = False
        rest = min(time.monotonic() - began, _LONGEST_PAUSE)
        stopping.wait(rest if busy else settings.WORKER_POLL)
    connections.close_all()


def carry_on(worker_id: str) -> bool:
    """The next batch of the job that was served least recently; False where there is nothing to do.

    A job that cannot go on fails and says why; what passes is tried again after the other jobs.
    """
    job: BulkJob | None = None
    try:
        with next_job(worker_id) as job:
            if job is None:
                return False
            advance(job)
    except DatabaseError as error:
        if job is None:
            raise
        _note_trouble(job, error)
    except (QueryError, LookupError) as error:
        _fail(job, str(error))
    except Exception:
        log.exception("bulk job %s", job and job.pk)
        _fail(job, "an error in Runfolio itself; the worker's log has it")
    return True


def _note_trouble(job: BulkJob, error: DatabaseError) -> None:
    """Of a database that is away it cannot be noted either: the error goes on to the caller."""
    log.warning("bulk job %s: %s", job.pk, error)
    connections.close_all()
    if is_passing(error):
        put_off(job, f"tried again, since the database said: {error}")
    else:
        fail(job, f"PostgreSQL refused it: {error}")


def _fail(job: BulkJob | None, why: str) -> None:
    if job is not None:
        fail(job, why)
