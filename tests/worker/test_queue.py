"""Claims: one holder each, fenced writes, leases (RELIABILITY.md R3, R4, R5)."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.db.models.functions import Now

from runs.models import Claim, LeaseLost, NewEvent, Result, Run, claim_next, request_cancel
from runs.models.queue import LAST_LEASE_LOST, end_lost_runs

LEASE = timedelta(seconds=30)


def expire(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(lease_expires_at=Now() - timedelta(seconds=1))


def result_of(claim: Claim, status: str = "passed", **fields: Any) -> Result:
    return Result(
        id="a" * 64,
        run_id=claim.run_id,
        item_id="i",
        item_name="i",
        evaluator_name="e",
        evaluator_type="builtin",
        status=status,
        **fields,
    )


def test_the_oldest_run_is_claimed_first(make_run, claim):
    first, second = make_run(), make_run()

    assert [claim()[0].pk, claim()[0].pk] == [first.pk, second.pk]
    assert claim_next("w", LEASE, 3) is None


def test_a_claimed_run_is_running_under_a_lease(make_run, claim):
    make_run()

    run, _ = claim("host/1")

    assert (run.status, run.worker_id, run.attempt) == ("running", "host/1", 1)
    assert run.lease_expires_at > run.claimed_at == run.started_at


def test_eight_workers_at_once_get_one_run_between_them(committed_db, make_run):
    make_run()
    barrier = threading.Barrier(8)

    def take(number: int) -> Run | None:
        barrier.wait()
        try:
            return claim_next(f"w/{number}", LEASE, 3)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        claimed = [run for run in pool.map(take, range(8)) if run]

    assert len(claimed) == 1


def test_a_hundred_runs_go_to_one_holder_each(committed_db, make_run):
    for _ in range(100):
        make_run()

    def take_all(number: int) -> list[Any]:
        taken = []
        while run := claim_next(f"w/{number}", LEASE, 3):
            taken.append((run.pk, run.attempt))
        connections.close_all()
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [one for some in pool.map(take_all, range(8)) for one in some]

    assert len(taken) == len(set(taken)) == 100


def test_a_run_whose_worker_fell_silent_is_tried_again(make_run, claim):
    run, _ = make_run(), claim("first")
    expire(run)

    again, _ = claim("second")

    assert (again.pk, again.attempt, again.worker_id) == (run.pk, 2, "second")


def test_a_run_within_its_lease_is_left_alone(make_run, claim):
    make_run()
    claim()

    assert claim_next("another", LEASE, 3) is None


def test_the_last_attempt_fails_and_tells_who_it_was(make_run, claim):
    run, _ = make_run(), claim("silent", attempts=1)
    expire(run)

    assert claim_next("another", LEASE, 1) is None
    run.refresh_from_db()
    assert (run.status, run.error, run.worker_id) == ("failed", LAST_LEASE_LOST, "silent")


def test_a_silent_run_that_was_to_be_cancelled_is_not_tried_again(make_run, claim):
    run, _ = make_run(), claim()
    request_cancel(run, by="alice")
    expire(run)

    assert claim_next("another", LEASE, 3) is None
    run.refresh_from_db()
    assert (run.status, run.error) == ("cancelled", None)


def test_a_run_that_ends_while_the_sweep_looks_stays_as_it_ended(committed_db, make_run, claim):
    run = make_run()
    _, held = claim(attempts=1)
    expire(run)
    swept = []

    def sweep() -> None:
        swept.append(end_lost_runs(1))
        connections.close_all()

    with transaction.atomic():
        held.succeed({})
        sweeper = threading.Thread(target=sweep)
        sweeper.start()
        sweeper.join(1)
    sweeper.join()

    run.refresh_from_db()
    assert (swept, run.status) == ([0], "succeeded")


WRITES = [
    pytest.param(lambda held: held.append([NewEvent("message", {})]), id="append"),
    pytest.param(lambda held: held.describe(None, agent="x"), id="describe"),
    pytest.param(lambda held: held.record([result_of(held)]), id="record"),
    pytest.param(lambda held: held.succeed({"late": True}), id="succeed"),
    pytest.param(lambda held: held.fail("late"), id="fail"),
    pytest.param(lambda held: held.acknowledge_cancel(), id="acknowledge_cancel"),
    pytest.param(lambda held: held.release(), id="release"),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_worker_that_lost_its_lease_writes_nothing(make_run, claim, write):
    run = make_run()
    _, stale = claim("first")
    expire(run)
    claim("second")
    before = Run.objects.filter(pk=run.pk).values().get()

    with pytest.raises(LeaseLost):
        write(stale)

    assert Run.objects.filter(pk=run.pk).values().get() == before
    assert not run.events.exists()
    assert not run.results.exists()


@pytest.mark.parametrize("write", WRITES)
def test_a_worker_that_holds_the_claim_writes(make_run, claim, write):
    """The control of the test above: the same writes, with the claim in the row."""
    run = make_run()
    _, held = claim()
    before = Run.objects.filter(pk=run.pk).values().get()

    write(held)

    assert Run.objects.filter(pk=run.pk).values().get() != before


def test_a_lost_lease_cannot_be_extended(make_run, claim):
    run = make_run()
    _, stale = claim("first")
    expire(run)
    _, held = claim("second")

    assert held.extend(LEASE)
    assert not stale.extend(LEASE)


def test_a_released_run_waits_again_and_the_attempt_is_not_spent(make_run, claim):
    run = make_run()
    claim()[1].release()

    run.refresh_from_db()
    assert (run.status, run.attempt, run.worker_id) == ("queued", 0, None)
    assert claim()[0].attempt == 1


@pytest.mark.parametrize("end", [lambda held: held.succeed({}), lambda held: held.fail("x")])
def test_a_cancel_that_was_asked_for_wins_over_the_end(make_run, claim, end):
    run = make_run()
    _, held = claim()
    request_cancel(run, by="alice", reason="wrong cluster")

    end(held)

    run.refresh_from_db()
    assert (run.status, run.error) == ("cancelled", "cancelled by request")
    assert (run.cancel_requested_by, run.cancel_reason) == ("alice", "wrong cluster")
    assert run.cancel_acknowledged_at


def test_results_are_counted_once_however_often_they_are_written(make_run, claim):
    run = make_run()
    _, held = claim()

    held.record([result_of(held, score=0.5)])
    held.record([result_of(held, "failed", score=0.25)])

    run.refresh_from_db()
    assert (run.passed_count, run.failed_count, run.score) == (0, 1, 0.25)


def test_history_is_appended_once_however_often_it_is_sent(make_run, claim):
    run = make_run()
    _, held = claim()
    events = [NewEvent("message", {"n": n}, event_id=f"e{n}") for n in range(3)]

    held.append(events[:2])
    held.append(events)

    run.refresh_from_db()
    assert [(event.seq, event.event_id) for event in run.events.all()] == [(1, "e0"), (2, "e1"), (3, "e2")]
    assert run.event_count == 3


def test_a_worker_that_is_paused_inside_a_transaction_does_not_keep_its_run(
    committed_db, make_run, claim, monkeypatch
):
    monkeypatch.setattr("runs.models.queue.PATIENCE", 1)
    run = make_run()
    _, paused = claim("paused")
    expire(run)

    with contextlib.suppress(DatabaseError), paused._held():
        time.sleep(2)  # as long as a paused process says nothing
        taken = take_elsewhere()

    assert taken == (run.pk, 2)


def take_elsewhere() -> Any:
    """Claims in another thread, with a connection of its own."""

    def take() -> Any:
        try:
            run = claim_next("another", LEASE, 3)
            return run and (run.pk, run.attempt)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(take).result()


def test_a_claim_reads_an_index(make_run, django_assert_max_num_queries):
    make_run()

    with django_assert_max_num_queries(10):
        claim_next("w", LEASE, 3)


def test_times_come_from_the_database(make_run, claim):
    make_run()
    run, _ = claim()

    assert abs(run.claimed_at - datetime.now(UTC)) < timedelta(minutes=1)
