"""Bulk jobs in real workers: killed at any point, two at once, beside the queue."""

import os
import signal
import threading
import time
from collections import Counter

import pytest
from django.db import OperationalError, connections, transaction
from django.utils import timezone

from runs.models import BulkJob, Run, carrying
from runs.models.bulk import stop
from runs.models.status import Status
from runs.worker import bulk
from runs.worker.bulk import carry_on
from tests.conftest import eventually
from tests.models.test_bulk import ACTION, begin

RUNS = 130  # several batches of each kind


@pytest.fixture
def many(make_run):
    """Ended evaluations, half of which a filter means."""
    runs = [make_run(agent=f"agent {number % 2}") for number in range(RUNS)]
    now = timezone.now()
    Run.objects.update(status=Status.SUCCEEDED, finished_at=now)
    return runs


@pytest.mark.parametrize("action", [ACTION.RETRY, ACTION.DELETE])
def test_killed_again_and_again_each_run_is_hit_once(action, many, alice, start_worker, monkeypatch):
    job = begin(alice, action, 'agent:"agent 0"', counted=RUNS // 2)
    for _ in range(4):
        before = progress_of(job)
        worker = start_worker(WORKER_CONCURRENCY="1")
        eventually(lambda seen=before: progress_of(job) > seen or is_over(job), 60)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    start_worker(WORKER_CONCURRENCY="1")
    eventually(lambda: is_over(job), 60)
    job.refresh_from_db()
    meant = {run.pk for run in many if run.agent == "agent 0"}
    assert (job.state, job.done_count, job.skipped) == ("done", RUNS // 2, {})
    if action == ACTION.RETRY:
        again = Counter(Run.objects.exclude(retried=None).values_list("retried", flat=True))
        assert again == Counter(meant)
    else:
        assert set(Run.objects.exclude(deleted_at=None).values_list("pk", flat=True)) == meant


def test_two_at_once_share_the_work_and_do_none_twice(many, alice, start_worker):
    job = begin(alice, ACTION.RETRY)
    for _ in range(2):
        start_worker(WORKER_CONCURRENCY="1")
    eventually(lambda: is_over(job), 60)
    job.refresh_from_db()
    assert (job.done_count, Run.objects.filter(retried__in=many).count()) == (RUNS, RUNS)


def test_a_job_that_somebody_holds_is_passed_over(committed_db, alice, make_run):
    begin(alice, ACTION.CANCEL)
    with transaction.atomic():
        BulkJob.objects.select_for_update().get()
        assert in_a_thread(lambda: carry_on("tests/2")) is False


def test_what_holds_a_run_delays_the_job_and_not_the_others(committed_db, alice, make_run, monkeypatch):
    held, other = make_run(), make_run()
    first = begin(alice, ACTION.CANCEL, ids=[held.pk])
    second = begin(alice, ACTION.CANCEL, ids=[other.pk])
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=held.pk)
        in_a_thread(lambda: [carry_on("tests/2") for _ in range(2)])
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == ("queued", "done")
    assert "tried again" in first.error
    carry_on("tests/1")
    first.refresh_from_db()
    assert (first.state, first.error) == ("done", "")


def test_stopping_waits_for_the_batch_that_is_under_way(committed_db, alice, many, monkeypatch):
    monkeypatch.setattr(carrying, "AT_ONCE", dict.fromkeys(ACTION, 5))
    job = begin(alice, ACTION.RETRY)
    working = threading.Thread(target=lambda: [carry_on("tests/2") for _ in range(RUNS)] + [close()])
    working.start()
    eventually(lambda: progress_of(job) > 0)
    assert stop(job)
    done = Run.objects.exclude(retried=None).count()
    working.join()
    job.refresh_from_db()
    assert (job.state, job.done_count) == ("stopped", done)
    assert Run.objects.exclude(retried=None).count() == done < RUNS


def test_a_database_that_is_away_ends_nothing(monkeypatch):
    stopping, tries = threading.Event(), []

    def away(worker_id: str) -> bool:
        tries.append(worker_id)
        if len(tries) == 3:
            stopping.set()
        raise OperationalError("away")

    monkeypatch.setattr(bulk, "carry_on", away)
    monkeypatch.setattr(bulk.settings, "WORKER_POLL", 0.01)
    bulk.carry_out("tests/1", stopping)
    assert len(tries) == 3


def test_it_rests_as_long_as_it_works(monkeypatch):
    stopping, times = threading.Event(), []

    def busy(worker_id: str) -> bool:
        times.append(time.monotonic())
        time.sleep(0.1)
        if len(times) == 3:
            stopping.set()
        return True

    monkeypatch.setattr(bulk, "carry_on", busy)
    bulk.carry_out("tests/1", stopping)
    assert times[2] - times[0] > 0.35


def progress_of(job: BulkJob) -> int:
    return BulkJob.objects.values_list("done_count", flat=True).get(pk=job.pk)


def is_over(job: BulkJob) -> bool:
    return BulkJob.objects.get(pk=job.pk).is_over


def in_a_thread(step):
    """What `step` gives, on a connection of its own."""
    given = []
    thread = threading.Thread(target=lambda: given.append(step()) or close())
    thread.start()
    thread.join()
    return given[0]


def close() -> None:
    connections.close_all()
