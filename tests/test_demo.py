"""The demo's history: believable, the same for a seed, loaded once."""

import gzip
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import Count, F, Sum

from runs.demo.load import load
from runs.models import (
    Artifact,
    Change,
    Criterion,
    Event,
    Feedback,
    FeedbackVersion,
    Owner,
    Result,
    ReviewQueue,
    Run,
    SavedView,
    Session,
    User,
    claim_next,
)
from runs.models.listing import find_runs
from runs.query import parse

NOW = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def demo(django_db_blocker: Any) -> Iterator[Owner]:
    """An owner with the history; loaded once for all tests here, which only look."""
    with django_db_blocker.unblock(), transaction.atomic():
        owner = Owner.objects.create(name="demo")
        load(owner, 1, NOW)
        yield owner
        transaction.set_rollback(True)


def test_it_fills_a_month(demo: Owner) -> None:
    runs = Run.objects.filter(owner=demo)
    assert 280 <= runs.count() <= 330
    assert runs.earliest("created_at").created_at < NOW - timedelta(days=27)
    assert runs.latest("created_at").created_at <= NOW
    assert runs.values("agent").distinct().count() == 6
    assert runs.values("title").distinct().count() >= 60


def test_weekdays_are_busier_and_one_afternoon_went_wrong(demo: Owner) -> None:
    runs = list(Run.objects.filter(owner=demo).values_list("created_at", "status"))
    weekend = sum(at.weekday() > 4 for at, _ in runs)
    assert weekend < len(runs) / 6
    failed = Counter(at.date() for at, status in runs if status == "failed")
    assert failed.most_common(1)[0][1] > 3 * failed.most_common(2)[1][1]


def test_every_status_is_there_in_its_protocols_words(demo: Owner) -> None:
    runs = Run.objects.filter(owner=demo)
    assert set(runs.values_list("status", flat=True)) == set(Run.Status.values)
    raw = set(runs.values_list("raw_status", flat=True))
    assert {"submitted", "completed", "canceled", "failed", "running", "finished", "error", ""} <= raw


def test_a_cancel_has_its_person_and_reason(demo: Owner) -> None:
    run = Run.objects.get(owner=demo, status="cancelled", kind="task")
    assert run.cancel_requested_by
    assert run.cancel_reason
    assert run.cancel_acknowledged_at


def test_what_waits_is_not_a_workers(demo: Owner) -> None:
    assert claim_next("tests/1", timedelta(seconds=30)) is None


def test_a_review_queue_is_begun(demo: Owner) -> None:
    queue = ReviewQueue.objects.get(owner=demo)
    states = Counter(queue.items.values_list("state", flat=True))
    assert states["done"] > 5
    assert states["open"] > 10
    assert set(queue.criteria) < {one.key for one in Criterion.objects.filter(owner=demo)}


def test_saved_views_find_something(demo: Owner) -> None:
    for view in SavedView.objects.filter(owner=demo):
        assert find_runs(parse(view.query, NOW), demo).runs, view.name


def test_there_is_a_long_session_and_a_long_run(demo: Owner) -> None:
    assert Session.objects.filter(owner=demo).latest("run_count").run_count >= 12
    assert Run.objects.filter(owner=demo).latest("event_count").event_count >= 120


def test_several_languages_are_spoken(demo: Owner) -> None:
    titles = "".join(Run.objects.filter(owner=demo).values_list("title", flat=True))
    for letter in ("ä", "ж", "ال", "議", "邮", "ã"):
        assert letter in titles


def test_artifacts_of_all_kinds_can_be_opened(demo: Owner) -> None:
    artifacts = Artifact.objects.filter(run__owner=demo)
    kinds = set(artifacts.values_list("media_type", flat=True))
    assert {"image/png", "text/markdown", "application/json", "text/csv", "application/gzip"} <= kinds
    image = artifacts.filter(media_type="image/png").first()
    assert image
    assert bytes(image.content).startswith(b"\x89PNG\r\n")
    archive = artifacts.filter(media_type="application/gzip").first()
    assert archive
    assert gzip.decompress(bytes(archive.content)).startswith(b"invoice,")


def test_evaluations_have_every_verdict_and_say_why(demo: Owner) -> None:
    results = Result.objects.filter(run__owner=demo)
    assert set(results.values_list("status", flat=True)) == set(Result.Status.values)
    assert all(results.filter(status="errored").values_list("error", flat=True))
    compared = results.filter(status="failed", evaluator_name="tool_trajectory_avg_score").first()
    assert compared
    assert {"expected", "actual", "matched"} <= set(compared.details["comparisons"][0])
    ended = Run.objects.filter(owner=demo, kind="evaluation", status="succeeded")
    assert all(run.summary["result_counts"]["passed"] == run.passed_count for run in ended)
    assert ended.filter(judged__isnull=False, session__isnull=False).exists()


def test_several_people_said_what_they_think(demo: Owner) -> None:
    feedback = Feedback.objects.filter(run__owner=demo)
    assert feedback.values("author").distinct().count() >= 4
    assert feedback.exclude(comment="").count() > 20
    people = User.objects.filter(username__startswith="demo-")
    assert not any(person.has_usable_password() for person in people)


def test_what_happened_happened_then(demo: Owner) -> None:
    ended = Event.objects.filter(run__owner=demo, run__kind="task", run__finished_at__isnull=False)
    assert not ended.filter(occurred_at__lt=F("run__created_at")).exists()
    assert not ended.filter(occurred_at__gt=F("run__finished_at") + timedelta(milliseconds=1)).exists()
    assert not Feedback.objects.filter(run__owner=demo, created_at__lt=F("run__finished_at")).exists()
    assert not FeedbackVersion.objects.filter(created_at__lt=F("feedback__run__finished_at")).exists()


def test_it_leaves_no_corrections(demo: Owner) -> None:
    assert not Change.objects.exists()


def test_the_counters_are_true(demo: Owner) -> None:
    runs = Run.objects.filter(owner=demo)
    counted = runs.aggregate(events=Sum("event_count"), artifacts=Sum("artifact_count"))
    assert counted["events"] == Event.objects.filter(run__owner=demo).count()
    assert counted["artifacts"] == Artifact.objects.filter(run__owner=demo).count()
    sessions = Session.objects.filter(owner=demo).annotate(really=Count("runs"))
    assert not sessions.exclude(run_count=F("really")).exists()


def test_the_same_seed_tells_the_same_month(demo: Owner) -> None:
    with transaction.atomic():
        other = Owner.objects.create(name="other")
        load(other, 1, NOW)
        columns = ("created_at", "title", "status", "score", "event_count", "rating_average", "input_tokens")
        first, second = (
            list(Run.objects.filter(owner=owner).order_by("created_at", "title").values_list(*columns))
            for owner in (demo, other)
        )
        transaction.set_rollback(True)
    assert first == second


def test_loading_twice_says_so(demo: Owner) -> None:
    before = Run.objects.count()
    out = StringIO()
    call_command("load_demo", owner="demo", seed=2, stdout=out)
    assert "already" in out.getvalue()
    assert Run.objects.count() == before


@pytest.mark.parametrize("wrong", [{"owner": "nobody"}, {"now": "yesterday"}, {"rater": "nobody"}])
def test_a_wrong_word_is_named(demo: Owner, wrong: dict[str, str]) -> None:
    with pytest.raises(CommandError):
        call_command("load_demo", **wrong)


def test_nothing_comes_after_the_end_of_a_run(demo: Owner) -> None:
    late = Event.objects.filter(run__owner=demo, run__kind="task", occurred_at__gt=F("run__finished_at"))

    assert not late.exists()
