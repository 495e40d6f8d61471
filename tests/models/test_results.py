"""Keeping verdicts (CONTRACTS.md 1.3); that they are fenced by a claim is in worker/test_queue.py."""

from typing import Any

import pytest

from runs.models import Result, Run, record_results


@pytest.fixture
def evaluation(make_run) -> Run:
    return make_run()


def verdict(run: Run, item: str, status: str, score: float | None = None, **fields: Any) -> Result:
    names = {"item_id": item, "item_name": item, "evaluator_name": "judge", "evaluator_type": "builtin"}
    return Result(id=f"{item}{run.pk.hex}", run=run, status=status, score=score, **names, **fields)


def test_each_verdict_is_kept_and_counted(evaluation):
    record_results(
        evaluation,
        [
            verdict(evaluation, "a", "passed", 1.0),
            verdict(evaluation, "b", "failed", 0.5),
            verdict(evaluation, "c", "errored", error="broken"),
            verdict(evaluation, "d", "skipped"),
        ],
    )

    evaluation.refresh_from_db()
    counts = [getattr(evaluation, f"{status}_count") for status in Result.Status.values]
    assert (counts, evaluation.score) == ([1, 1, 1, 1], 0.75)


def test_the_newer_verdict_takes_the_place_of_the_older_and_keeps_where_it_came_from(evaluation):
    record_results(evaluation, [verdict(evaluation, "a", "errored", error="broken", trace_id="t1")])
    first = Result.objects.get()
    record_results(evaluation, [verdict(evaluation, "a", "passed", 1.0, trace_id="t2")])

    kept = Result.objects.get()
    assert (kept.status, kept.score, kept.error) == ("passed", 1.0, None)
    assert (kept.trace_id, kept.created_at) == ("t1", first.created_at)
    evaluation.refresh_from_db()
    assert (evaluation.passed_count, evaluation.errored_count) == (1, 0)


def test_no_score_is_not_a_score_of_nothing(evaluation):
    record_results(evaluation, [verdict(evaluation, "a", "skipped")])

    evaluation.refresh_from_db()
    assert evaluation.score is None
