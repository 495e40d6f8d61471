"""Claims: one holder each, fenced writes, leases, the sweep (RELIABILITY.md R3, R4)."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.models.functions import Now
from django.utils import timezone

from runs.models import Claim, LeaseLost, NewEvent, Result, Run, claim_next, request_cancel
from runs.models.queue import LAST_LEASE_LOST, requeue, sweep, try_now, watch
from tests.worker.conftest import ended_as

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


def elsewhere(call: Any) -> Any:
    """What `call` gives in another thread, with a connection of its own."""

    def step() -> Any:
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(step).result()


# ── Claiming ───────────────────────────────────────────────────────────────
def test_the_oldest_run_is_claimed_first(make_run, claim):
    first, second = make_run(), make_run()

    assert [claim()[0].pk, claim()[0].pk] == [first.pk, second.pk]
    assert claim_next("w", LEASE) is None


def test_a_claimed_run_is_running_under_a_lease(make_run, claim):
    make_run()

    run, _ = claim("host/1")

    assert (run.status, run.worker_id, run.attempt) == ("running", "host/1", 1)
    assert run.lease_expires_at > run.claimed_at == run.started_at


def test_eight_workers_at_once_get_one_run_between_them(committed_db, make_run):
    make_run()
    barrier = threading.Barrier(8)

    def take(number: int) -> Run | None:
        try:
            connection.ensure_connection()
            barrier.wait()
            return claim_next(f"w/{number}", LEASE)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        claimed = [run for run in pool.map(take, range(8)) if run]

    assert len(claimed) == 1


def test_a_thousand_runs_go_to_one_holder_each_without_a_deadlock(committed_db, make_run):
    copy_run(make_run(), 999)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"

    def take_all(number: int) -> list[Any]:
        taken = []
        while run := claim_next(f"w/{number}", LEASE):
            taken.append((run.pk, run.attempt))
        connections.close_all()
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [one for some in pool.map(take_all, range(8)) for one in some]

    assert len(taken) == len(set(taken)) == 1000
    assert {attempt for _, attempt in taken} == {1}
    with connection.cursor() as cursor:
        cursor.execute(deadlocks)
        assert cursor.fetchone() == (0,)


def copy_run(run: Run, times: int, **fields: Any) -> None:
    """Makes more runs like it, quickly, and of the same moment."""
    row = {field.attname: getattr(run, field.attname) for field in Run._meta.fields if field.name != "id"}
    row |= fields
    Run.objects.bulk_create((Run(**row) for _ in range(times)), batch_size=500)


def test_a_run_within_its_lease_is_left_alone(make_run, claim):
    make_run()
    claim()

    assert sweep(3) == 0
    assert claim_next("another", LEASE) is None


def test_a_claim_says_nothing_of_the_workers_clock(make_run, monkeypatch):
    """RELIABILITY.md R9: a worker an hour off claims, and keeps, as any other."""
    run = make_run()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr("django.utils.timezone.now", lambda: datetime(1999, 1, 1, tzinfo=UTC))

    claimed = claim_next("w", LEASE)

    assert claimed is not None
    assert claimed.pk == run.pk
    assert claimed.claimed_at > run.created_at
    assert claimed.lease_expires_at == claimed.claimed_at + LEASE
    assert sweep(3) == 0


# ── The sweep ──────────────────────────────────────────────────────────────
def test_a_run_whose_worker_fell_silent_is_tried_again(make_run, claim):
    run, _ = make_run(), claim("first")
    expire(run)

    again, _ = claim("second")

    assert (again.pk, again.attempt, again.worker_id, again.crashes) == (run.pk, 2, "second", 1)
    assert ended_as(run) == ["lost", ""]


def test_after_the_second_crash_there_is_a_pause_before_the_next_attempt(make_run, claim):
    run = make_run()
    for worker in ("first", "second"):
        claim(worker)
        expire(run)

    sweep(5)

    run.refresh_from_db()
    assert (run.status, run.crashes) == ("queued", 2)
    assert run.run_after > run.updated_at
    assert claim_next("third", LEASE) is None


def test_a_pause_that_is_over_ends_with_the_sweep(make_run, claim):
    run = make_run()
    Run.objects.filter(pk=run.pk).update(run_after=Now() - timedelta(seconds=1))
    assert claim_next("w", LEASE) is None

    assert sweep(3) == 1

    assert claim_next("w", LEASE) is not None


def test_a_sweep_does_not_wait_for_a_run_that_somebody_holds(committed_db, make_run):
    """Two that sweep at once would wait for each other in turn."""
    held, free = (make_run(run_after=timezone.now() - timedelta(seconds=9)) for _ in range(2))

    with transaction.atomic():
        Run.objects.select_for_update(of=("self",)).get(pk=held.pk)
        assert elsewhere(lambda: sweep(3)) == 1

    free.refresh_from_db()
    assert free.run_after is None
    assert sweep(3) == 1


def test_a_person_may_end_the_pause(make_run):
    run = make_run()
    Run.objects.filter(pk=run.pk).update(run_after=Now() + timedelta(hours=1))

    assert try_now(run)
    assert not try_now(run)

    assert claim_next("w", LEASE) is not None


def test_the_last_attempt_fails_and_tells_who_it_was(make_run, claim):
    run, _ = make_run(), claim("silent", attempts=1)
    expire(run)

    assert sweep(1) == 1
    run.refresh_from_db()
    assert (run.status, run.error, run.worker_id) == ("failed", LAST_LEASE_LOST, "silent")
    assert ended_as(run) == ["lost"]


def test_a_silent_run_that_was_to_be_cancelled_is_not_tried_again(make_run, claim):
    run, _ = make_run(), claim()
    request_cancel(run, by="alice")
    expire(run)

    assert sweep(3) == 1
    run.refresh_from_db()
    assert (run.status, run.error) == ("cancelled", None)
    assert run.cancel_acknowledged_at
    assert claim_next("another", LEASE) is None


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda held: held.succeed({}), id="its end"),
        pytest.param(lambda held: watch([held], LEASE), id="a heartbeat"),
    ],
)
def test_the_sweep_passes_over_a_run_whose_worker_is_writing(committed_db, make_run, claim, act):
    """RELIABILITY.md R4: the rescuer sees the lease expired, the first worker is about to commit."""
    run = make_run()
    _, held = claim()
    expire(run)

    with transaction.atomic():
        act(held)
        swept = elsewhere(lambda: sweep(1))

    run.refresh_from_db()
    assert swept == 0
    assert run.status != "failed"


def test_a_worker_that_comes_while_the_sweep_writes_is_too_late(committed_db, make_run, claim):
    """The other order of R4: who commits first has it, and the other one learns of it."""
    run = make_run()
    _, held = claim()
    expire(run)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            sweep(1)
            late = pool.submit(_too_late, held)
            time.sleep(0.2)
            waited = not late.done()
        assert late.result(10)

    run.refresh_from_db()
    assert waited
    assert (run.status, run.error) == ("failed", LAST_LEASE_LOST)


def _too_late(held: Claim) -> bool:
    try:
        held.succeed({})
    except LeaseLost:
        return True
    finally:
        connections.close_all()
    return False


def test_two_that_sweep_at_once_take_a_run_back_once(committed_db, make_run, claim):
    for _ in range(20):
        expire(make_run())
        claim()
    Run.objects.update(lease_expires_at=Now() - timedelta(seconds=1))

    def step(_: int) -> int:
        try:
            return sweep(3)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(step, range(4))) == 20

    assert set(Run.objects.values_list("crashes", flat=True)) == {1}


# ── Fencing ────────────────────────────────────────────────────────────────
WRITES = [
    pytest.param(lambda held: held.append([NewEvent("message", {})]), id="append"),
    pytest.param(lambda held: held.describe(None, agent="x"), id="describe"),
    pytest.param(lambda held: held.tell("item 1", 0, 7), id="tell"),
    pytest.param(lambda held: held.record([result_of(held)]), id="record"),
    pytest.param(lambda held: held.succeed({"late": True}), id="succeed"),
    pytest.param(
        lambda held: held.succeed({"late": True}, [NewEvent("message", {})]), id="succeed with events"
    ),
    pytest.param(lambda held: held.fail("late"), id="fail"),
    pytest.param(lambda held: held.acknowledge_cancel(), id="acknowledge_cancel"),
    pytest.param(lambda held: held.release(), id="release"),
    pytest.param(lambda held: held.retry_later("late", 0), id="retry_later"),
    pytest.param(lambda held: held.crash("late", 3), id="crash"),
    pytest.param(lambda held: held.crash("late", 1), id="the last crash"),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_worker_that_lost_its_lease_writes_nothing(make_run, claim, write):
    run = make_run()
    _, stale = claim("first")
    expire(run)
    claim("second")
    before, attempts = row_of(run), list(run.attempts.values())

    with pytest.raises(LeaseLost):
        write(stale)

    assert row_of(run) == before
    assert list(run.attempts.values()) == attempts
    assert not run.events.exists()
    assert not run.results.exists()


@pytest.mark.parametrize("write", WRITES)
def test_a_worker_that_holds_the_claim_writes(make_run, claim, write):
    """The control of the test above: the same writes, with the claim in the row."""
    run = make_run()
    _, held = claim()
    before = row_of(run)

    write(held)

    assert row_of(run) != before


def row_of(run: Run) -> dict[str, Any]:
    return Run.objects.filter(pk=run.pk).values().get()


@pytest.mark.parametrize(
    "stale",
    [
        pytest.param(lambda held: Claim(held.run_id, "another", held.attempt), id="another worker"),
        pytest.param(lambda held: Claim(held.run_id, held.worker_id, held.attempt - 1), id="another attempt"),
    ],
)
def test_a_claim_is_worker_and_attempt_together(make_run, claim, stale):
    make_run()
    _, held = claim()

    with pytest.raises(LeaseLost):
        stale(held).succeed({})
    assert watch([stale(held)], LEASE).held == frozenset()
    assert watch([held], LEASE).held == {held.run_id}


def test_a_lost_lease_cannot_be_extended(make_run, claim):
    run = make_run()
    _, stale = claim("first")
    expire(run)
    _, held = claim("second")

    assert held.extend(LEASE)
    assert not stale.extend(LEASE)


def test_the_heartbeat_of_many_extends_those_that_are_held_and_tells_of_cancels(make_run, claim):
    runs = [make_run() for _ in range(3)]
    claims = [claim(f"w/{number}")[1] for number in range(3)]
    expire(runs[0])
    sweep(3)
    request_cancel(runs[1], by="alice")

    seen = watch(claims, timedelta(hours=1))

    assert seen.held == {runs[1].pk, runs[2].pk}
    assert seen.asked == {runs[1].pk}
    runs[2].refresh_from_db()
    assert runs[2].lease_expires_at > runs[2].claimed_at + timedelta(minutes=59)


def test_looking_extends_nothing(make_run, claim):
    run = make_run()
    _, held = claim()
    before = row_of(run)

    assert watch([held]).held == {run.pk}
    assert row_of(run) == before


# ── Giving back, and ends ──────────────────────────────────────────────────
def test_a_released_run_waits_again_and_the_attempt_is_not_spent(make_run, claim):
    run = make_run()
    claim()[1].release()

    run.refresh_from_db()
    assert (run.status, run.attempt, run.worker_id, run.crashes) == ("queued", 0, None, 0)
    assert ended_as(run) == ["released"]
    assert claim()[0].attempt == 1


def test_a_run_that_is_to_be_cancelled_is_not_given_back(make_run, claim):
    """Nobody may be there to take it up and see that it is to end."""
    run = make_run()
    _, held = claim()
    request_cancel(run, by="alice", reason="enough")

    held.release()

    run.refresh_from_db()
    assert (run.status, run.error, run.cancel_requested_by) == ("cancelled", "cancelled by request", "alice")


@pytest.mark.parametrize(
    "end",
    [
        lambda held: held.succeed({}),
        lambda held: held.fail("x"),
        lambda held: held.retry_later("x", 1),
        lambda held: held.crash("x", 3),
        lambda held: held.crash("x", 1),
    ],
)
def test_a_cancel_that_was_asked_for_wins_over_the_end(make_run, claim, end):
    run = make_run()
    _, held = claim()
    request_cancel(run, by="alice", reason="wrong cluster")

    end(held)

    run.refresh_from_db()
    assert (run.status, run.error) == ("cancelled", "cancelled by request")
    assert (run.cancel_requested_by, run.cancel_reason) == ("alice", "wrong cluster")
    assert run.cancel_acknowledged_at
    assert ended_as(run) == ["cancelled"]


def test_a_stuck_run_can_be_taken_from_its_worker(make_run, claim):
    run = make_run()
    _, held = claim("stuck")

    assert requeue(run, by="user:7", reason="it hangs")

    with pytest.raises(LeaseLost):
        held.succeed({})
    again, _ = claim("another")
    assert (again.pk, again.worker_id) == (run.pk, "another")


def test_a_run_that_does_not_run_is_not_taken_from_anybody(make_run):
    assert not requeue(make_run(), by="user:7", reason="it hangs")


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


def test_what_is_written_together_is_written_as_one(make_run, claim):
    run = make_run()
    _, held = claim()

    with pytest.raises(ZeroDivisionError), held.together():
        held.append([NewEvent("message", {})])
        held.record([result_of(held)])
        _ = 1 / 0

    assert not run.events.exists()
    assert not run.results.exists()


def test_a_worker_that_is_paused_inside_a_transaction_does_not_keep_its_run(
    committed_db, make_run, claim, monkeypatch
):
    monkeypatch.setattr("runs.models.queue.PATIENCE", 1)
    run = make_run()
    _, paused = claim("paused")
    expire(run)

    with contextlib.suppress(DatabaseError), paused.together():
        time.sleep(2)  # as long as a paused process says nothing
        swept = elsewhere(lambda: sweep(3))

    assert swept == 1
    assert elsewhere(lambda: claim_next("another", LEASE).pk) == run.pk


# ── What a claim costs ─────────────────────────────────────────────────────
def test_a_claim_is_one_statement(make_run, django_assert_num_queries):
    make_run()

    with django_assert_num_queries(1):
        claim_next("w", LEASE)


def test_a_claim_reads_a_few_pages_however_much_has_ended_or_waits(committed_db, make_run):
    """RELIABILITY.md R10, small: no statistics, and all rows of one moment."""
    first = make_run(spec={})
    few = pages_of_a_claim()
    first.refresh_from_db()
    ended = {"status": "succeeded", "finished_at": first.created_at, **UNCLAIMED}
    copy_run(first, 2000, **ended)
    copy_run(first, 1000, status="queued", **UNCLAIMED)

    assert pages_of_a_claim() < few + 60


def test_what_has_left_the_queue_does_not_slow_it_while_an_old_snapshot_is_open(committed_db, make_run):
    """R10: nothing can be cleaned away under the snapshot, and a claim still reads what it passes once."""
    copy_run(make_run(spec={}), 400)
    reader = psycopg.connect(committed_db["DATABASE_URL"])
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT count(*) FROM run")

    left = 300
    for number in range(left):
        run = claim_next(f"w/{number}", LEASE)
        assert run is not None
        Claim(run.pk, str(run.worker_id), run.attempt).succeed({})
    touched = pages_of_a_claim()
    reader.close()

    assert touched < 12 * left


UNCLAIMED = {"worker_id": None, "claimed_at": None, "lease_expires_at": None}


def pages_of_a_claim() -> int:
    """Pages that a claim touches, by PostgreSQL's own count; the second of two, for what it remembers."""
    touched = 0
    for _ in range(2):
        with connection.cursor() as cursor:
            cursor.execute(
                "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT id FROM claim_run('w', '30 seconds')"
            )
            plan = cursor.fetchone()[0][0]["Plan"]
        touched = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return touched
