"""Rollups: the sums that trends read (issue 3, point 6)."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from runs.models import (
    NewEvent,
    Result,
    RollupDelta,
    Run,
    Status,
    Usage,
    append_events,
    finish,
    give_feedback,
    record_results,
    rollup,
)
from runs.models.deletion import delete_runs, restore_runs

DAY = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)


@pytest.fixture
def ended(owner):
    """Makes a task of that day that took 90 seconds."""

    def make(status: str = "succeeded", **fields: object) -> Run:
        about = {
            "kind": "task",
            "agent": "helm",
            "started_at": DAY,
            "finished_at": DAY + timedelta(seconds=90),
        }
        return Run.objects.record_past(owner, status, DAY, **{**about, **fields})

    return make


def sums(owner, **wanted: object) -> dict[str, object]:
    """The one row of the agent helm's tasks, of the columns that are wanted."""
    (row,) = [one for one in rollup.rolled_up([owner.pk]) if not one["evaluator"]]
    return {name: row[name] for name in wanted}


def test_ended_runs_are_summed_by_day_kind_and_agent(owner, ended, alice):
    give_feedback(ended(), alice, 4)
    give_feedback(ended("failed"), alice, 1)
    ended("running", finished_at=None)
    wanted = {"succeeded_runs": 1, "failed_runs": 1, "duration": 180_000, "rating_sum": 5, "rating_count": 2}

    (row,) = rollup.rolled_up([owner.pk])

    assert (row["day"], row["kind"], row["agent"], row["evaluator"]) == (DAY.date(), "task", "helm", "")
    assert {name: row[name] for name in wanted} == wanted


def test_folding_changes_no_sum(owner, ended):
    for _ in range(3):
        ended()
    before = rollup.rolled_up([owner.pk])

    assert rollup.fold() == 3

    assert RollupDelta.objects.count() == 0
    assert rollup.rolled_up([owner.pk]) == before
    ended("failed")
    assert sums(owner, succeeded_runs=3, failed_runs=1) == {"succeeded_runs": 3, "failed_runs": 1}


def test_usage_counts_once_the_run_has_ended(owner):
    run = Run.objects.open_task(owner, agent="helm")
    append_events(run, [NewEvent("message", {}, usage=Usage(100, 20, Decimal("0.5")))])
    assert rollup.rolled_up([owner.pk]) == []

    finish(run, Status.SUCCEEDED)

    wanted = {"input_tokens": 100, "output_tokens": 20, "cost": Decimal("0.5")}
    assert sums(owner, **wanted) == wanted


def test_results_are_summed_by_evaluator(owner, ended):
    run = ended(kind="evaluation")
    verdicts = (("passed", 1.0), ("failed", 0.2), ("errored", None), ("skipped", float("nan")))
    record_results(
        run,
        [
            Result(
                id=f"{number}",
                run=run,
                item_id="i",
                item_name="i",
                evaluator_name="exact",
                evaluator_type="builtin",
                status=status,
                score=score,
                latency_ms=10,
            )
            for number, (status, score) in enumerate(verdicts)
        ],
    )

    (row,) = [one for one in rollup.rolled_up([owner.pk]) if one["evaluator"] == "exact"]

    assert [row[name] for name in ("passed", "failed", "errored", "skipped")] == [1, 1, 1, 1]
    assert (row["score_sum"], row["score_count"], row["duration"]) == (Decimal("1.2"), 2, 40)


def test_what_is_deleted_does_not_count_until_it_is_restored(owner, ended):
    run = ended()
    this = Run.objects.filter(pk=run.pk)

    delete_runs(this, "user:7", "why")
    assert rollup.rolled_up([owner.pk]) == []

    restore_runs(this, "user:7", "why not")
    assert sums(owner, succeeded_runs=1) == {"succeeded_runs": 1}


def test_other_owners_and_days_are_left_out(owner, ended, stranger):
    ended()
    elsewhere = stranger.memberships.get().owner

    assert rollup.rolled_up([elsewhere.pk]) == []
    assert rollup.rolled_up([owner.pk], since=DAY.date() + timedelta(days=1)) == []
    assert rollup.rolled_up([owner.pk], until=DAY.date() - timedelta(days=1)) == []
    assert len(rollup.rolled_up([owner.pk], since=DAY.date(), until=DAY.date())) == 1
