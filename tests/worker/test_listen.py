"""Being woken: by a notification within moments, and by polling where none can come through."""

import threading
import time
from collections.abc import Iterator
from statistics import median

import psycopg
import pytest
from django.db import connection, transaction

from runs.models import Run, request_cancel
from runs.models.queue import try_now
from runs.worker.listen import Listener
from tests.conftest import eventually
from tests.worker.conftest import has_ended
from tests.worker.specs import STUBBORN, spec_of

POLL = 30.0  # seconds: longer than any of these tests
NOWHERE = {"NAME": "x", "HOST": "/runfolio-is-not-there", "OPTIONS": {}}


def is_started(run: Run) -> bool:
    run.refresh_from_db()
    return run.started_at is not None


def listeners() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'runfolio-listen' AND datname = current_database()"
        )
        return int(cursor.fetchone()[0])


def test_a_run_is_started_long_before_the_worker_would_look(make_run, work):
    work(WORKER_POLL=POLL, WORKER_HEARTBEAT=POLL, WORKER_LEASE=POLL * 2)
    eventually(listeners)
    waited = []
    for _ in range(5):
        run = make_run()
        eventually(lambda run=run: has_ended(run))
        waited.append((run.started_at - run.created_at).total_seconds())

    assert median(waited) < 0.5


def test_without_notifications_it_is_started_by_polling(make_run, work, settings):
    settings.DATABASE_DIRECT = NOWHERE
    work(WORKER_POLL=0.2)
    time.sleep(1)
    assert not listeners()

    run = make_run()

    eventually(lambda: has_ended(run))
    assert run.status == "succeeded"


def test_without_notifications_a_cancel_is_seen_by_polling(make_run, work, programs, settings):
    settings.DATABASE_DIRECT = NOWHERE
    run = make_run(spec=spec_of(None, programs.add("slow", STUBBORN)))
    work(WORKER_POLL=0.2)
    eventually(lambda: programs.started("slow"))

    request_cancel(run, by="alice")

    eventually(lambda: has_ended(run), seconds=4)
    assert run.status == "cancelled"


def test_a_listener_whose_connection_was_ended_listens_again(make_run, work):
    work(WORKER_POLL=POLL, WORKER_HEARTBEAT=POLL, WORKER_LEASE=POLL * 2)
    eventually(listeners)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'runfolio-listen' AND datname = current_database()"
        )

    run = make_run()  # perhaps before it listens again: then it looks for what it has missed

    eventually(lambda: has_ended(run))


def test_a_retry_whose_pause_is_ended_by_a_person_starts_at_once(make_run, work):
    """The pause ends with an UPDATE, which wakes as a new run does."""
    run = make_run()
    Run.objects.filter(pk=run.pk).update(run_after="2100-01-01T00:00:00Z")
    work(WORKER_POLL=POLL, WORKER_HEARTBEAT=POLL, WORKER_LEASE=POLL * 2)
    eventually(listeners)

    try_now(run)

    eventually(lambda: has_ended(run), seconds=5)


@pytest.fixture
def notified(direct: None) -> Iterator[dict[str, threading.Event]]:
    """What a listener sets."""
    events = {name: threading.Event() for name in ("queue", "cancel", "stopping")}
    thread = threading.Thread(target=Listener(**events).run)
    thread.start()
    eventually(listeners)
    for name in ("queue", "cancel"):  # set once at the beginning, for what was said before
        assert events[name].wait(5)
        events[name].clear()
    yield events
    events["stopping"].set()
    thread.join(5)


def test_a_submission_wakes_for_the_queue_alone(notified, make_run):
    make_run()

    assert notified["queue"].wait(2)
    assert not notified["cancel"].is_set()


def test_a_cancel_of_a_running_run_wakes_for_that(notified, make_run, claim):
    run = make_run()
    claim()

    request_cancel(run, by="alice")

    assert notified["cancel"].wait(2)


def test_history_wakes_nobody(notified, make_run, claim):
    """Notifications take one lock of the whole server when they are committed (DESIGN.md 3.8)."""
    make_run()
    _, held = claim()
    notified["queue"].clear()

    held.describe(None, agent="x")
    held.succeed({})

    assert not notified["queue"].wait(0.3)
    assert not notified["cancel"].is_set()


def test_what_is_rolled_back_wakes_nobody(notified, make_run):
    with pytest.raises(psycopg.Error, match="taken back"), transaction.atomic():
        make_run()
        raise psycopg.Error("taken back")

    assert not notified["queue"].wait(0.3)
