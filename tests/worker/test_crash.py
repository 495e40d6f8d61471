"""Real workers, really killed, paused and told to stop (RELIABILITY.md R1, R2, R5; more in tests.chaos)."""

import os
import random
import signal
import time
from typing import Any

import pytest

from runs.models import Result, Run, Worker, request_cancel
from tests.conftest import eventually
from tests.worker.conftest import ended_as, has_ended
from tests.worker.specs import copies, spec_of

MANY = 150  # traces: enough to be in the middle of a run for a while


@pytest.fixture
def long_run(make_run) -> Run:
    """A run that takes a worker a second."""
    run: Run = make_run(spec=spec_of(copies(MANY)))
    return run


def is_under_way(run: Run) -> bool:
    run.refresh_from_db()
    return run.status == "running" and run.event_count > 0


def assert_whole(run: Run) -> None:
    results = Result.objects.filter(run=run)
    assert run.status == "succeeded", run.error
    assert results.count() == run.passed_count + run.failed_count + run.errored_count + run.skipped_count
    assert results.count() == sum(run.summary["result_counts"].values())
    assert results.values("item_id", "evaluator_name").distinct().count() == results.count()


def test_a_worker_evaluates_the_sample(make_run, start_worker):
    run = make_run()
    start_worker()

    eventually(lambda: has_ended(run))

    assert_whole(run)
    assert (run.attempt, run.worker_id) == (1, None)
    assert run.event_count > 3


def test_a_killed_workers_run_is_finished_by_another(long_run, start_worker):
    first = start_worker(WORKER_LEASE="1.5")
    eventually(lambda: is_under_way(long_run))
    first.kill()
    first.wait()

    start_worker(WORKER_LEASE="1.5")
    eventually(lambda: has_ended(long_run), seconds=60)

    assert_whole(long_run)
    assert (long_run.attempt, long_run.crashes) == (2, 1)
    assert ended_as(long_run) == ["lost", "succeeded"]


def test_a_paused_worker_changes_nothing_when_it_wakes_and_says_so(long_run, start_worker, capfd):
    first = start_worker(WORKER_LEASE="1", RUN_MAX_ATTEMPTS="100")
    eventually(lambda: is_under_way(long_run))
    os.kill(first.pid, signal.SIGSTOP)
    start_worker(WORKER_LEASE="1", RUN_MAX_ATTEMPTS="100")
    eventually(lambda: has_ended(long_run), seconds=60)
    before = snapshot(long_run)

    os.kill(first.pid, signal.SIGCONT)
    # It counts what was turned away, and tells so with its next sign of life.
    eventually(lambda: Worker.objects.filter(pid=first.pid, fenced__gt=0).exists())

    said = capfd.readouterr().err
    assert f"run {long_run.pk}, attempt 1: no longer ours, nothing was written" in said
    assert snapshot(long_run) == before
    assert_whole(long_run)


def snapshot(run: Run) -> Any:
    rows = Run.objects.filter(pk=run.pk).values().get()
    return rows, list(Result.objects.filter(run=run).order_by("id").values()), run.events.count()


def test_a_stopping_worker_gives_its_run_back(long_run, start_worker):
    first = start_worker()
    eventually(lambda: is_under_way(long_run))

    first.terminate()
    first.wait(timeout=10)

    long_run.refresh_from_db()
    assert (long_run.status, long_run.attempt, long_run.worker_id) == ("queued", 0, None)
    assert ended_as(long_run) == ["released"]
    start_worker()
    eventually(lambda: has_ended(long_run), seconds=60)
    assert long_run.attempt == 1
    assert_whole(long_run)


def test_a_running_run_ends_cancelled_soon_and_stays_so(long_run, start_worker):
    start_worker()
    eventually(lambda: is_under_way(long_run))

    request_cancel(long_run, by="alice", reason="enough")
    eventually(lambda: has_ended(long_run), seconds=4)
    kept = long_run.results.count()

    assert (long_run.status, long_run.error) == ("cancelled", "cancelled by request")
    assert long_run.cancel_acknowledged_at >= long_run.cancel_requested_at
    assert kept == long_run.results.count()


def test_a_run_past_its_deadline_fails_and_keeps_its_results(long_run, start_worker):
    start_worker(RUN_DEADLINE="0.5")

    eventually(lambda: has_ended(long_run))

    assert (long_run.status, long_run.error, long_run.attempt) == ("failed", "deadline_exceeded", 1)
    assert long_run.summary is None


def test_a_run_that_kills_its_worker_three_times_fails_with_that_reason(long_run, start_worker):
    for number in range(3):
        worker = start_worker(WORKER_LEASE="0.5")
        eventually(lambda number=number: is_at_attempt(long_run, number + 1))
        worker.kill()
        worker.wait()
        Run.objects.filter(pk=long_run.pk).update(run_after=None)

    start_worker(WORKER_LEASE="0.5")
    eventually(lambda: has_ended(long_run))

    assert (long_run.status, long_run.error) == ("failed", "worker lease expired on the last attempt")
    assert ended_as(long_run) == ["lost"] * 3


def is_at_attempt(run: Run, number: int) -> bool:
    """The pause before it is not waited for."""
    Run.objects.filter(pk=run.pk, status="queued").update(run_after=None)
    run.refresh_from_db()
    return run.status == "running" and run.attempts.count() == number


# ── Many runs, and workers that come and go ────────────────────────────────
FEW, KILLS, LEASE = 25, 4, 1.0


@pytest.mark.parametrize("how", ["killed", "paused past their lease"])
def test_every_run_ends_once_whatever_becomes_of_the_workers(make_run, start_worker, how):
    chance = random.Random(how)
    runs = [make_run() for _ in range(FEW)] + [make_run(spec=spec_of(copies(40))) for _ in range(3)]
    settings = {"WORKER_LEASE": str(LEASE), "RUN_MAX_ATTEMPTS": "100", "WORKER_CONCURRENCY": "2"}
    workers = [start_worker(**settings) for _ in range(3)]
    eventually(lambda: Run.objects.filter(status="succeeded").exists(), 40)

    for _ in range(KILLS):
        time.sleep(chance.uniform(0.1, 0.4))
        number = chance.randrange(3)
        if how == "killed":
            workers[number].kill()
            workers[number].wait()
            workers[number] = start_worker(**settings)
        else:
            os.kill(workers[number].pid, signal.SIGSTOP)
            time.sleep(LEASE + 0.3)
            os.kill(workers[number].pid, signal.SIGCONT)
    eventually(lambda: all(map(has_ended, runs)), 60)

    for run in runs:
        assert_whole(run)
        assert ended_as(run)[-1] == "succeeded"
        assert set(ended_as(run)[:-1]) <= {"lost"}
        assert list(run.events.values_list("seq", flat=True)) == list(range(1, run.event_count + 1))
        assert not run.events.filter(kind="late_write").exists()
