"""Rating a run and taking that back (DESIGN.md 2; what PostgreSQL refuses is in test_guards)."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import pytest
from django.db import connection

from runs.models import OVERALL, Feedback, FeedbackVersion, give_feedback, withdraw_feedback
from runs.models.feedback import rate


def test_a_rating_is_kept_with_its_first_version(make_run, alice):
    at = datetime(2026, 1, 2, tzinfo=UTC)

    feedback = give_feedback(make_run(), alice, 4, "good", "tone", {"a": 1}, at, {"rating": "4"})

    assert (feedback.rating, feedback.comment, feedback.criterion) == (4, "good", "tone")
    assert (feedback.metadata, feedback.raw, feedback.created_at) == ({"a": 1}, {"rating": "4"}, at)
    version = FeedbackVersion.objects.get()
    assert (version.rating, version.comment, version.created_at) == (4, "good", at)


def test_each_criterion_has_its_own_rating_and_the_runs_is_the_overall_one(make_run, alice):
    run = make_run()
    give_feedback(run, alice, 5)
    give_feedback(run, alice, 1, criterion="tone")

    assert Feedback.objects.count() == 2
    run.refresh_from_db()
    assert (run.rating, run.rating_count) == (5, 1)


@pytest.mark.parametrize(("ratings", "shown"), [((1, 2), 2), ((2, 2), 2), ((4, 5), 5)])
def test_the_average_is_rounded_half_up(make_run, alice, stranger, ratings, shown):
    run = make_run()
    for author, rating in zip((alice, stranger), ratings, strict=True):
        give_feedback(run, author, rating)

    run.refresh_from_db()
    assert run.rating == shown


def test_withdrawing_takes_the_rating_away_and_keeps_what_was_said(make_run, alice):
    run = make_run()
    give_feedback(run, alice, 2, "so so")

    assert withdraw_feedback(run, alice)
    run.refresh_from_db()
    assert (run.rating, run.rating_average, run.rating_count) == (None, None, 0)
    assert (Feedback.objects.get().rating, Feedback.objects.get().comment) == (None, "")
    versions = FeedbackVersion.objects.values_list("rating", "comment", "withdrawn")
    assert list(versions) == [(2, "so so", False), (None, "", True)]


def test_withdrawing_twice_or_nothing_is_told(make_run, alice):
    run = make_run()
    assert not withdraw_feedback(run, alice)
    give_feedback(run, alice, 2)

    assert [withdraw_feedback(run, alice) for _ in range(2)] == [True, False]
    assert FeedbackVersion.objects.count() == 2


def test_who_withdrew_may_rate_again(make_run, alice):
    run = make_run()
    give_feedback(run, alice, 2)
    withdraw_feedback(run, alice)

    feedback = give_feedback(run, alice, 5)
    assert (feedback.rating, feedback.withdrawn_at) == (5, None)


def test_nobody_withdraws_what_another_said(make_run, alice, stranger):
    run = make_run()
    give_feedback(run, alice, 2)

    assert not withdraw_feedback(run, stranger)
    assert Feedback.objects.get().rating == 2


def test_a_final_run_is_rated_all_the_same(make_run, alice):
    run = make_run(status="succeeded", finished_at=datetime.now(UTC))
    give_feedback(run, alice, 3)

    run.refresh_from_db()
    assert (run.status, run.rating) == ("succeeded", 3)


def test_rating_on_several_criteria_is_one_step(make_run, alice):
    run = make_run()
    rate(run, alice, {OVERALL: 4, "tone": 2}, "good, but short")
    given = Feedback.objects.order_by("criterion").values_list("criterion", "rating", "comment")
    assert list(given) == [(OVERALL, 4, "good, but short"), ("tone", 2, "")]


def test_what_is_rated_twice_is_said_once(make_run, alice):
    run = make_run()
    for _ in range(2):
        rate(run, alice, {OVERALL: 4, "tone": 2}, "good")
    rate(run, alice, {OVERALL: 4, "tone": 3}, "good")
    versions = FeedbackVersion.objects.values_list("feedback__criterion", "rating").order_by("pk")
    assert list(versions) == [(OVERALL, 4), ("tone", 2), ("tone", 3)]


def test_a_rating_without_a_comment_leaves_the_comment_and_what_else_is_kept(make_run, alice):
    run = make_run()
    give_feedback(run, alice, 2, "why", metadata={"from": "ci"})
    rate(run, alice, {OVERALL: 3})
    given = Feedback.objects.get()
    assert (given.rating, given.comment, given.metadata) == (3, "why", {"from": "ci"})


def test_a_comment_needs_no_rating(make_run, alice):
    run = make_run()
    rate(run, alice, {"tone": 2}, "no word of thanks")
    assert Feedback.objects.get(criterion=OVERALL).rating is None
    assert Feedback.objects.get(criterion=OVERALL).comment == "no word of thanks"


def test_a_rating_that_was_withdrawn_is_given_again(make_run, alice):
    run = make_run()
    rate(run, alice, {OVERALL: 3})
    withdraw_feedback(run, alice)
    rate(run, alice, {OVERALL: 3})
    given = Feedback.objects.get()
    assert (given.rating, given.withdrawn_at) == (3, None)


def test_the_same_rating_posted_at_the_same_time_is_one(committed_db, make_run, alice):
    run, together = make_run(), Barrier(4)

    def post(_: int) -> None:
        together.wait()
        rate(run, alice, {OVERALL: 4}, "good")
        connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(post, range(4)))
    assert FeedbackVersion.objects.count() == 1
    run.refresh_from_db()
    assert (run.rating, run.rating_count) == (4, 1)
