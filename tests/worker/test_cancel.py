"""Cancel, deadline, shutdown: a run ends when it is told to, and so does everything that it started.

Issue 4, point 3; RELIABILITY.md R5b, R6. Programs here ignore SIGTERM and would go on for a minute.
"""

import random
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from runs.models import Run, request_cancel
from runs.models.transition import force_cancel
from tests.conftest import eventually
from tests.worker.conftest import ended_as, has_ended
from tests.worker.specs import BUILTIN, DAEMON, STUBBORN, Programs, fetched, is_gone, spec_of

AT_ONCE = 4.0  # seconds that a run may take to end after it was told to
LEFT_ALONE = 5.0  # seconds that a process may outlive its worker


@pytest.fixture
def slow(make_run, programs: Programs) -> Run:
    """A run with a quick evaluator and one that does not end."""
    return make_run(spec=spec_of(None, BUILTIN, programs.add("slow", STUBBORN)))


@pytest.fixture
def hanging() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def under_way(run: Run, programs: Programs) -> int:
    """The slow program's process, once a result of the quick evaluator is there."""
    eventually(lambda: run.results.exists())
    return int(eventually(lambda: programs.started("slow")))


def snapshot(run: Run) -> Any:
    return Run.objects.filter(pk=run.pk).values().get(), list(run.results.values()), list(run.events.values())


# ── Cancel ─────────────────────────────────────────────────────────────────
def test_a_program_that_ignores_sigterm_does_not_hold_up_a_cancel(slow, programs, work):
    work()
    process = under_way(slow, programs)

    request_cancel(slow, by="user:7", reason="wrong cluster")
    eventually(lambda: has_ended(slow), AT_ONCE)
    eventually(lambda: is_gone(process), LEFT_ALONE)

    assert (slow.status, slow.error) == ("cancelled", "cancelled by request")
    assert (slow.cancel_requested_by, slow.cancel_reason) == ("user:7", "wrong cluster")
    assert slow.cancel_requested_at <= slow.cancel_acknowledged_at <= slow.finished_at
    assert ended_as(slow) == ["cancelled"]


def test_what_was_found_out_until_then_stays_and_nothing_is_added(slow, programs, work):
    work()
    under_way(slow, programs)

    request_cancel(slow, by="alice")
    eventually(lambda: has_ended(slow), AT_ONCE)
    before = snapshot(slow)
    time.sleep(1.5)  # longer than the process has to end

    assert [result.evaluator_name for result in slow.results.all()] == ["turn_count"]
    assert slow.events.exists()
    assert snapshot(slow) == before


def test_a_fetch_that_hangs_does_not_hold_up_a_cancel(make_run, hanging, work, settings):
    settings.OUTGOING_ALLOW = ["127.0.0.1"]
    run = make_run(spec=spec_of(target=fetched(hanging)))
    work()
    eventually(lambda: Run.objects.get(pk=run.pk).status == "running")
    time.sleep(0.3)

    request_cancel(run, by="alice")

    eventually(lambda: has_ended(run), AT_ONCE)
    assert run.status == "cancelled"


def test_without_notifications_the_heartbeat_tells_of_it(make_run, hanging, work, settings):
    settings.OUTGOING_ALLOW = ["127.0.0.1"]
    settings.DATABASE_DIRECT = {"NAME": "x", "HOST": "/runfolio-is-not-there", "OPTIONS": {}}
    run = make_run(spec=spec_of(target=fetched(hanging)))
    heartbeat = 1.0
    work(WORKER_POLL=heartbeat, WORKER_HEARTBEAT=heartbeat)
    eventually(lambda: Run.objects.get(pk=run.pk).status == "running")

    request_cancel(run, by="alice")

    eventually(lambda: has_ended(run), heartbeat + AT_ONCE)
    assert run.status == "cancelled"


def test_a_run_that_is_deleted_ends_its_program(slow, programs, work):
    from runs.models.deletion import delete_runs

    work()
    process = under_way(slow, programs)

    delete_runs(Run.objects.filter(pk=slow.pk), "ann", "tidying up")

    eventually(lambda: is_gone(process), AT_ONCE + LEFT_ALONE)
    eventually(lambda: has_ended(slow))
    assert slow.status == "cancelled"


def test_a_run_that_is_ended_by_force_ends_its_program(slow, programs, work):
    worker = work()
    process = under_way(slow, programs)

    force_cancel(slow, "ann", "it does not answer")

    eventually(lambda: is_gone(process), AT_ONCE + LEFT_ALONE)
    assert slow.status == "cancelled"
    eventually(lambda: worker.fenced == 1)


def test_cancels_at_random_moments_end_each_run_once(committed_db, make_run, api, work):
    """RELIABILITY.md R6: some are cancelled, some end before; none changes after it was final."""
    chance = random.Random(6)
    runs = [make_run() for _ in range(40)]
    pauses = [chance.uniform(0, 0.12) for _ in runs]

    def cancel(run: Run, pause: float) -> dict[str, Any]:
        try:
            eventually(lambda: Run.objects.values_list("status", flat=True).get(pk=run.pk) != "queued", 60)
            time.sleep(pause)
            answers = [api.post(f"/{run.pk}/cancel")[1]["data"] for _ in range(2)]
            return {"first": answers[0], "second": answers[1]}
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        told = [pool.submit(cancel, *each) for each in zip(runs, pauses, strict=True)]
        work(WORKER_CONCURRENCY=4)
        answers = [one.result() for one in told]
    eventually(lambda: all(map(has_ended, runs)))

    for run, answer in zip(runs, answers, strict=True):
        for said in answer.values():
            assert said["status"] in ("running", run.status)
        if answer["first"]["status"] == "running":
            assert answer["first"]["cancelRequested"]
        if run.status == "cancelled":
            assert run.cancel_requested_at <= run.finished_at
        else:
            assert run.status == "succeeded"
        assert ended_as(run) == [run.status]
    assert {run.status for run in runs} == {"succeeded", "cancelled"}


def test_a_queued_run_ends_at_once_and_is_never_started(make_run, work):
    run = make_run()
    request_cancel(run, by="alice", reason="never mind")
    work()
    after = make_run()
    eventually(lambda: has_ended(after))

    run.refresh_from_db()
    assert (run.status, run.started_at, run.attempt, run.error) == ("cancelled", None, 0, None)
    assert (run.cancel_requested_by, run.cancel_reason) == ("alice", "never mind")


# ── Deadline ───────────────────────────────────────────────────────────────
def test_a_program_that_ignores_sigterm_does_not_outlive_the_deadline(slow, programs, work):
    deadline = 1.5
    work(RUN_DEADLINE=deadline)
    process = under_way(slow, programs)

    eventually(lambda: has_ended(slow), deadline + AT_ONCE)
    eventually(lambda: is_gone(process), LEFT_ALONE)

    assert (slow.status, slow.error, slow.attempt) == ("failed", "deadline_exceeded", 1)
    assert [result.evaluator_name for result in slow.results.all()] == ["turn_count"]
    assert ended_as(slow) == ["failed"]


def test_a_fetch_that_hangs_does_not_outlive_the_deadline(make_run, hanging, work, settings):
    settings.OUTGOING_ALLOW = ["127.0.0.1"]
    run = make_run(spec=spec_of(target=fetched(hanging)))
    work(RUN_DEADLINE=0.5)

    eventually(lambda: has_ended(run), 0.5 + AT_ONCE)

    assert (run.status, run.error) == ("failed", "deadline_exceeded")


# ── Shutdown ───────────────────────────────────────────────────────────────
def test_a_stopped_worker_gives_its_run_back_at_once_and_leaves_no_process(slow, programs, start_worker):
    worker = start_worker(EVALUATOR_FOLDERS=str(programs.folder))
    process = under_way(slow, programs)

    asked = timezone.now()
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: Run.objects.get(pk=slow.pk).status == "queued", 2)
    worker.wait(8)
    eventually(lambda: is_gone(process), LEFT_ALONE)

    slow.refresh_from_db()
    assert (slow.attempt, slow.crashes, slow.run_after) == (0, 0, None)
    assert ended_as(slow) == ["released"]
    assert (slow.attempts.get().ended_at - asked).total_seconds() < 2
    assert worker.returncode == 0


def test_another_worker_finishes_what_was_given_back(slow, programs, start_worker):
    worker = start_worker(EVALUATOR_FOLDERS=str(programs.folder))
    under_way(slow, programs)
    worker.terminate()
    worker.wait(10)
    programs.add("slow", "print('{\"score\": 1.0}')")

    start_worker(EVALUATOR_FOLDERS=str(programs.folder))
    eventually(lambda: has_ended(slow))

    assert (slow.status, slow.attempt, ended_as(slow)) == ("succeeded", 1, ["released", "succeeded"])
    assert slow.results.count() == slow.passed_count == 2


def test_a_program_does_not_outlive_a_killed_worker(make_run, programs, start_worker):
    """Not even one that has left its session and its parents, and ignores what it is told."""
    run = make_run(spec=spec_of(None, BUILTIN, programs.add("slow", DAEMON)))
    worker = start_worker(EVALUATOR_FOLDERS=str(programs.folder))
    process = under_way(run, programs)
    assert not is_gone(process)

    worker.kill()

    eventually(lambda: is_gone(process), LEFT_ALONE)
