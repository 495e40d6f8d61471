"""Moving a task along, and cancelling (DESIGN.md 3.6 and 3.9; CONTRACTS.md 2.2, 2.3 and 4.2)."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections

from runs.models import (
    FINAL,
    OPEN,
    Run,
    Status,
    acknowledge_cancel,
    correction,
    finish,
    force_cancel,
    merge_metadata,
    request_cancel,
    transition,
)


@pytest.fixture
def task(owner) -> Run:
    return Run.objects.open_task(owner, raw_status="submitted")


def late(run: Run) -> list[object]:
    return [event.payload for event in run.events.filter(kind="late_write")]


def test_a_task_moves_where_its_agent_says_and_its_history_tells(task):
    assert transition(task, Status.RUNNING, raw_status="working", by="token:1")

    task.refresh_from_db()
    assert (task.status, task.raw_status) == ("running", "working")
    assert task.started_at
    assert [(event.kind, event.payload) for event in task.events.all()] == [
        ("state", {"from": "queued", "to": "running", "raw": "working", "by": "token:1"})
    ]


def test_the_same_word_again_is_no_news(task):
    for _ in range(2):
        assert transition(task, Status.RUNNING, raw_status="working")

    assert task.events.count() == 1


@pytest.mark.parametrize("start", sorted(OPEN))
@pytest.mark.parametrize("to", sorted(Status))
def test_an_open_task_may_go_anywhere(task, start, to):
    transition(task, start)

    assert transition(task, to)
    task.refresh_from_db()
    assert task.status == to
    assert (task.finished_at is not None) == (to in FINAL)


@pytest.mark.parametrize("end", sorted(FINAL))
@pytest.mark.parametrize("to", sorted(Status))
def test_a_final_task_goes_nowhere_and_notes_what_came(task, end, to):
    finish(task, end)
    before = Run.objects.filter(pk=task.pk).values().get()

    assert not transition(task, to, raw_status="x", error="broken", by="token:1")

    after = Run.objects.filter(pk=task.pk).values().get()
    changed = {name for name, value in after.items() if value != before[name]}
    assert changed <= {"event_count", "size", "updated_at"}
    assert late(task) == [
        {"kind": "state", "payload": {"to": to, "raw": "x", "error": "broken", "by": "token:1"}}
    ]


def test_only_from_asks_first(task):
    assert not transition(task, Status.PAUSED, only_from=Status.RUNNING)

    task.refresh_from_db()
    assert (task.status, task.events.count()) == ("queued", 0)


def test_only_from_a_final_status_is_no_way_out_and_nothing_late(task):
    finish(task, Status.FAILED)

    assert not transition(task, Status.RUNNING, only_from=Status.FAILED)
    assert late(task) == []


def test_of_ten_callers_at_once_one_is_told_that_it_moved_the_run(committed_db, task):
    barrier = threading.Barrier(10)

    def move(number: int) -> bool:
        try:
            barrier.wait()
            return transition(task, Status.RUNNING, only_from=Status.QUEUED, by=str(number))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as pool:
        assert sorted(pool.map(move, range(10))) == [False] * 9 + [True]
    assert task.events.count() == 1


def test_an_evaluation_is_moved_by_its_worker_alone(make_run):
    with pytest.raises(ValueError, match="worker"):
        transition(make_run(), Status.SUCCEEDED)


def test_finishing_keeps_what_it_came_to(task):
    at = datetime.now(UTC) - timedelta(hours=1)

    assert finish(task, Status.FAILED, error="broken\x00", summary={"a": 1}, raw_status="rejected", at=at)

    task.refresh_from_db()
    assert (task.status, task.raw_status, task.error) == ("failed", "rejected", "broken\ufffd")
    assert (task.summary, task.finished_at) == ({"a": 1}, at)


def test_finishing_twice_keeps_the_first(task):
    finish(task, Status.SUCCEEDED, summary={"a": 1})

    assert not finish(task, Status.FAILED, summary={"a": 2})
    task.refresh_from_db()
    assert (task.status, task.summary) == ("succeeded", {"a": 1})


def test_only_a_final_status_finishes(task):
    with pytest.raises(ValueError, match="paused ends nothing"):
        finish(task, Status.PAUSED)


def test_a_correction_opens_a_final_task_again(task):
    finish(task, Status.SUCCEEDED)
    with correction("user:1", "it goes on"):
        Run.objects.filter(pk=task.pk).update(status="running", finished_at=None)

    assert transition(task, Status.FAILED)


# ── Metadata ───────────────────────────────────────────────────────────────
def test_metadata_is_merged_key_by_key_and_no_deeper(task):
    merge_metadata(task, {"a": {"x": 1}, "b": 1})

    assert merge_metadata(task, {"a": {"y": 2}, "c": None})
    task.refresh_from_db()
    assert task.metadata == {"a": {"y": 2}, "b": 1, "c": None}


def test_late_metadata_changes_nothing(task):
    merge_metadata(task, {"a": 1})
    finish(task, Status.SUCCEEDED)

    assert not merge_metadata(task, {"a": 2})
    task.refresh_from_db()
    assert task.metadata == {"a": 1}
    assert late(task) == [{"kind": "state", "payload": {"metadata": {"a": 2}}}]


# ── Cancelling ─────────────────────────────────────────────────────────────
def test_what_waits_is_cancelled_at_once(task):
    request_cancel(task, "user:1", "wrong cluster")

    assert (task.status, task.cancel_requested_by, task.cancel_reason) == (
        "cancelled",
        "user:1",
        "wrong cluster",
    )
    assert task.finished_at


def test_what_runs_is_asked(task):
    transition(task, Status.RUNNING)
    request_cancel(task, "user:1")

    assert (task.status, task.cancel_requested_by) == ("running", "user:1")
    assert acknowledge_cancel(task)


@pytest.mark.parametrize("meanwhile", [Status.RUNNING, Status.QUEUED])
def test_who_asked_first_stays(task, meanwhile):
    transition(task, Status.RUNNING)
    request_cancel(task, "user:1", "wrong cluster")
    transition(task, meanwhile)
    request_cancel(task, "user:2", "me too")

    assert (task.cancel_requested_by, task.cancel_reason) == ("user:1", "wrong cluster")


def test_a_final_run_is_not_asked(task):
    finish(task, Status.SUCCEEDED)
    request_cancel(task, "user:1")

    assert (task.status, task.cancel_requested_at) == ("succeeded", None)
    assert not acknowledge_cancel(task)


def test_nobody_acknowledges_what_nobody_asked(task):
    transition(task, Status.RUNNING)

    assert not acknowledge_cancel(task)


def test_acknowledging_twice_keeps_the_first_time(task):
    transition(task, Status.RUNNING)
    request_cancel(task, "user:1")
    acknowledge_cancel(task)
    task.refresh_from_db()
    first = task.cancel_acknowledged_at

    assert acknowledge_cancel(task)
    task.refresh_from_db()
    assert task.cancel_acknowledged_at == first


def test_what_does_not_answer_is_ended_and_what_it_writes_is_late(task):
    transition(task, Status.RUNNING)

    assert force_cancel(task, "user:1", "it hangs")
    assert (task.status, task.cancel_reason) == ("cancelled", "it hangs")
    assert not finish(task, Status.SUCCEEDED)
    assert len(late(task)) == 1


def test_what_ended_cannot_be_forced(task):
    finish(task, Status.SUCCEEDED)

    assert not force_cancel(task, "user:1", "it hangs")
    assert task.status == "succeeded"
