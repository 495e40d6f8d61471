"""Upkeep: what is to be done now and then, beside the queue (issue 3, points 5 and 6).

Each step is safe to call at any time and by several workers at once. It waits for its turn between short
transactions, on a connection of its own, so that claims and heartbeats never wait for it.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from django.db.models.functions import Now
from django.utils import timezone

from runs.ingest import close_idle, forget_waiting
from runs.models import Owner, Worker, retention, rollup
from runs.models.deletion import Extent, purge_sessions
from runs.models.idempotency import forget_answers

log = logging.getLogger(__name__)

FORGOTTEN_AFTER = timedelta(days=1)
POLICIES_EVERY = 3600  # seconds: counting and judging reads all that an owner has

type KeepGoing = Callable[[], bool]


def keep_up(stopping: threading.Event) -> None:
    """Does the steps every UPKEEP_INTERVAL until `stopping` is set. No database error ends it."""
    applied: float | None = None
    while not stopping.is_set():
        steps: list[Callable[[KeepGoing], None]] = [
            fold_rollups,
            purge_due,
            forget_workers,
            forget_kept_answers,
            close_traces,
        ]
        if applied is None or time.monotonic() - applied >= POLICIES_EVERY:
            steps.append(apply_policies)
            applied = time.monotonic()
        for step in steps:
            _try(step, lambda: not stopping.is_set())
        connections.close_all()
        stopping.wait(settings.UPKEEP_INTERVAL)


def fold_rollups(keep_going: KeepGoing = lambda: True) -> None:
    """Adds up what trends read."""
    while keep_going() and rollup.fold() == rollup.FOLDED_AT_ONCE:
        pass


def purge_due(keep_going: KeepGoing = lambda: True) -> None:
    """Deletes for good what was deleted longer than the grace time ago, and what has expired."""
    now = timezone.now()
    for due in retention.due_anyhow(now):
        _note(due.reason, due.purge(keep_going=keep_going))
    sessions = retention.due_sessions(now)
    gone = purge_sessions(sessions, retention.ACTOR, retention.DELETED, keep_going=keep_going)
    _note(retention.DELETED, gone)


def forget_workers(keep_going: KeepGoing = lambda: True) -> None:
    """Workers that were killed did not sign off."""
    Worker.objects.filter(seen_at__lt=Now() - FORGOTTEN_AFTER).delete()


def forget_kept_answers(keep_going: KeepGoing = lambda: True) -> None:
    """What was answered to writes with an `Idempotency-Key`, after a day."""
    forget_answers()


def close_traces(keep_going: KeepGoing = lambda: True) -> None:
    """Ends runs whose traces stopped without a root, and drops traces without anything of an agent."""
    for owner in Owner.objects.order_by("pk"):
        for step in (close_idle, forget_waiting):
            while keep_going() and step(owner):
                pass


def apply_policies(keep_going: KeepGoing = lambda: True) -> None:
    """Deletes for good what the owners' enabled policies say."""
    now = timezone.now()
    for owner in Owner.objects.order_by("pk"):
        if keep_going():
            _note(f"retention of {owner}", retention.apply(owner, now, keep_going=keep_going))


def _try(step: Callable[[KeepGoing], None], keep_going: KeepGoing) -> None:
    try:
        step(keep_going)
    except DatabaseError as error:
        log.warning("%s: %s", step.__name__, error)
        connections.close_all()


def _note(what: str, gone: Extent) -> None:
    if gone != Extent():
        log.info("%s: deleted %d runs (%d bytes) and %d sessions", what, gone.runs, gone.bytes, gone.sessions)
