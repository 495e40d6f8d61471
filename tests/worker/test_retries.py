"""Trying again: what a spec asks for, what is repeated by itself, and the limit (issue 4, point 4)."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs.models import Run, request_cancel
from runs.models.queue import jittered, pause_after, sweep, try_now
from runs.worker.execute import execute
from runs.worker.job import JobLost
from tests.conftest import eventually
from tests.worker.conftest import ended_as, has_ended
from tests.worker.specs import spec_of

NONSENSE = {"nonsense": True}


def failing(**retry: Any) -> dict[str, Any]:
    return spec_of(NONSENSE, **({"retry": retry} if retry else {}))


# ── An exception ───────────────────────────────────────────────────────────
def test_an_exception_fails_the_run_at_once(make_run, claim, launcher):
    run = make_run(spec=failing())

    execute(*claim(), launcher.start())

    run.refresh_from_db()
    assert (run.status, run.attempt) == ("failed", 1)
    assert "not an OTLP JSON document" in run.error
    assert ended_as(run) == ["failed"]


def test_one_that_is_to_be_retried_waits_for_its_pause(make_run, claim, launcher):
    run = make_run(spec=failing(max=1, backoff=60.0))

    execute(*claim(), launcher.start())

    run.refresh_from_db()
    assert (run.status, run.error, run.worker_id, run.crashes) == ("queued", None, None, 0)
    pause = run.run_after - timezone.now()
    assert timedelta(seconds=20) < pause < timedelta(seconds=61)
    attempt = run.attempts.get()
    assert attempt.outcome == "retried"
    assert "not an OTLP JSON document" in attempt.reason


def test_after_the_last_retry_it_fails_with_the_reason(make_run, claim, launcher):
    run = make_run(spec=failing(max=2, backoff=60.0))
    for _ in range(3):
        execute(*claim(), launcher.start())
        try_now(run)

    run.refresh_from_db()
    assert (run.status, run.attempt) == ("failed", 3)
    assert ended_as(run) == ["retried", "retried", "failed"]


def test_a_lost_worker_does_not_count_as_one_of_the_retries(make_run, claim, launcher):
    run = make_run(spec=failing(max=1, backoff=0.0))
    claim("lost", lease=timedelta(seconds=-1))
    sweep(3)
    for _ in range(2):
        execute(*claim(), launcher.start())
        try_now(run)

    run.refresh_from_db()
    assert ended_as(run) == ["lost", "retried", "failed"]


def test_what_was_mended_meanwhile_succeeds(make_run, claim, launcher):
    run = make_run(spec=failing(max=1, backoff=0.0))
    execute(*claim(), launcher.start())
    Run.objects.filter(pk=run.pk).update(spec=spec_of())

    execute(*claim(), launcher.start())

    run.refresh_from_db()
    assert (run.status, ended_as(run)) == ("succeeded", ["retried", "succeeded"])


def test_a_run_in_its_pause_can_be_cancelled(make_run, claim, launcher):
    run = make_run(spec=failing(max=1, backoff=60.0))
    execute(*claim(), launcher.start())

    request_cancel(run, by="alice")

    run.refresh_from_db()
    assert run.status == "cancelled"


def test_a_worker_keeps_to_the_pauses(make_run, work):
    run = make_run(spec=failing(max=2, backoff=0.3))
    work()

    eventually(lambda: has_ended(run))

    assert ended_as(run) == ["retried", "retried", "failed"]
    first, second, third = run.attempts.order_by("number")
    assert second.started_at - first.ended_at >= timedelta(seconds=0.15)
    assert third.started_at - second.ended_at >= timedelta(seconds=0.3)


# ── Pauses ─────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("number", "longest"), [(1, 1.0), (2, 2.0), (5, 16.0), (60, 300.0)])
def test_pauses_double_up_to_five_minutes_less_up_to_a_half(number, longest):
    drawn = [jittered(1.0, number) for _ in range(200)]

    assert longest / 2 <= min(drawn) < max(drawn) <= longest
    assert max(drawn) - min(drawn) > longest / 4  # not all at once


def test_the_first_crash_is_repeated_at_once():
    assert pause_after(1) == 0
    assert pause_after(2) >= 1
    assert pause_after(3) >= 2


# ── Crashes ────────────────────────────────────────────────────────────────
def test_a_crash_is_noted_and_repeated_up_to_the_limit(make_run, claim):
    run = make_run()
    for number in range(3):
        claim(f"w/{number}")[1].crash(f"it exited with code {number}", 3)
        try_now(run)

    run.refresh_from_db()
    assert (run.status, run.crashes) == ("failed", 3)
    assert run.error == (
        "the evaluation ended its process in 3 attempts; in the last one it exited with code 2"
    )
    assert list(run.attempts.order_by("number").values_list("outcome", "reason")) == [
        ("crashed", "it exited with code 0"),
        ("crashed", "it exited with code 1"),
        ("crashed", "it exited with code 2"),
    ]


def test_lost_workers_and_crashed_processes_count_together(make_run, claim):
    run = make_run()
    claim("lost", lease=timedelta(seconds=-1))
    sweep(2)

    claim("w")[1].crash("it exited with code 1", 2)

    run.refresh_from_db()
    assert (run.status, ended_as(run)) == ("failed", ["lost", "crashed"])


def test_a_job_that_the_worker_closed_is_no_crash(make_run, claim, launcher):
    run = make_run()
    job = launcher.start()
    job.close()

    with pytest.raises(JobLost):
        execute(*claim(), job)

    run.refresh_from_db()
    assert (run.status, run.crashes) == ("running", 0)


def test_the_reason_may_hold_what_postgresql_cannot(make_run, claim):
    run = make_run()
    claim()[1].crash("code \x00 and half of \ud83d", 3)

    assert run.attempts.get().reason == "code \ufffd and half of \ufffd"
