"""Feedback: what one person or client said of one run."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.db import models, transaction
from django.db.models import Avg, Count, Q, QuerySet
from django.db.models.functions import Now

from runs.exact import Json, clean_text, split_exact
from runs.models import triggers
from runs.models.access import OfRunQuerySet
from runs.models.run import Run
from runs.models.token import Token
from runs.models.user import User

OVERALL = "overall"


class Feedback(models.Model):
    """The current rating of one author on one criterion; earlier ones are its versions."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="feedback", db_index=False)
    author = models.CharField(max_length=200, help_text="An actor, such as user:7.")
    author_name = models.TextField()
    criterion = models.CharField(max_length=100, default=OVERALL)
    rating = models.SmallIntegerField(null=True, blank=True, help_text="From 1 to 5.")
    comment = models.TextField(blank=True, default="")
    metadata = models.JSONField(default=dict, blank=True)
    raw = models.JSONField(
        null=True, blank=True, help_text="As the client sent it, where it sent another form."
    )
    raw_exact = models.TextField(null=True, editable=False)  # noqa: DJ001  None: raw is exact
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    withdrawn_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects: ClassVar = OfRunQuerySet.as_manager()

    class Meta:
        db_table = "feedback"
        verbose_name_plural = "feedback"
        ordering = ["-updated_at"]
        constraints = [
            models.UniqueConstraint(fields=["run", "author", "criterion"], name="feedback_once"),
            models.CheckConstraint(
                condition=Q(rating=None) | Q(rating__gte=1, rating__lte=5), name="feedback_rating"
            ),
            models.CheckConstraint(
                condition=Q(withdrawn_at=None) | Q(rating=None), name="feedback_withdrawn_has_no_rating"
            ),
        ]
        triggers = [
            triggers.alterations("alterations", ["run_id", "author", "criterion"], run="OLD.run_id"),
            triggers.corrections("corrections", ["rating", "comment", "metadata", "raw"], run="OLD.run_id"),
        ]

    def __str__(self) -> str:
        return f"{self.author_name}: {self.rating or 'no rating'}"


class FeedbackVersion(models.Model):
    """One submission of feedback, kept for good."""

    feedback = models.ForeignKey(Feedback, on_delete=models.CASCADE, related_name="versions")
    rating = models.SmallIntegerField(null=True)
    comment = models.TextField(blank=True, default="")
    metadata = models.JSONField(default=dict)
    raw = models.JSONField(null=True)
    raw_exact = models.TextField(null=True, editable=False)  # noqa: DJ001  None: raw is exact
    withdrawn = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "feedback_version"
        ordering = ["feedback", "id"]
        triggers = [triggers.append_only()]

    def __str__(self) -> str:
        return f"{self.rating or 'no rating'} at {self.created_at}"


def give_feedback(
    run: Run,
    author: User | Token,
    rating: int | None,
    comment: str = "",
    criterion: str = OVERALL,
    metadata: Json = None,
    at: datetime | None = None,
    raw: Json = None,
) -> Feedback:
    """Keeps the author's current rating (1 to 5, or None) and comment, and the run's average with it.

    `at` is when it was said: now, unless it comes from elsewhere; `raw` is what the client sent, where that
    had another form. Raises ValueError for a rating that is no whole number from 1 to 5.
    """
    if rating is not None and (type(rating) is not int or not 1 <= rating <= 5):
        raise ValueError("rating must be a whole number from 1 to 5")
    held, exact = split_exact(raw)
    said = {
        "rating": rating,
        "comment": clean_text(comment),
        "metadata": split_exact(metadata or {})[0],
        "raw": held,
        "raw_exact": exact,
    }
    return _keep(run, author, criterion, at, said)


def rate(
    run: Run,
    author: User | Token,
    ratings: Mapping[str, int],
    comment: str | None = None,
    about: str = OVERALL,
) -> None:
    """Keeps the author's ratings by criterion, and their comment, which stands with the criterion `about`.

    What they have said already is not said again, so that a form that is posted twice is one submission.
    Without a comment theirs stays. Raises ValueError as give_feedback does.
    """
    with transaction.atomic():
        _hold(run)
        said = {one.criterion: one for one in feedback_of(run, author)}
        for criterion in {about: None, **ratings}:
            was = said.get(criterion)
            before = (was.rating, was.comment) if was else (None, "")
            words = comment if criterion == about and comment is not None else before[1]
            now = (ratings.get(criterion, before[0]), clean_text(words))
            if now != before:
                give_feedback(run, author, *now, criterion, was.metadata if was else None)


def feedback_of(run: Run, author: User | Token) -> QuerySet[Feedback]:
    """What the author has said of the run and not withdrawn, a row for each criterion."""
    return Feedback.objects.filter(run=run, author=author.actor, withdrawn_at=None)


def withdraw_feedback(run: Run, author: User | Token, criterion: str = OVERALL) -> bool:
    """Takes the author's rating back; what was said stays among the versions. False: there is none."""
    given = Feedback.objects.filter(
        run=run, author=author.actor, criterion=criterion, withdrawn_at__isnull=True
    )
    if not given.exists():
        return False
    _keep(run, author, criterion, None, _NOTHING, True)
    return True


_NOTHING: dict[str, Any] = {"rating": None, "comment": "", "metadata": {}, "raw": None, "raw_exact": None}


def _keep(
    run: Run,
    author: User | Token,
    criterion: str,
    at: datetime | None,
    said: dict[str, Any],
    withdrawn: bool = False,
) -> Feedback:
    when = at or Now()
    current = {**said, "author_name": author.display_name, "withdrawn_at": when if withdrawn else None}
    with transaction.atomic():
        _hold(run)
        feedback, made = Feedback.objects.get_or_create(
            run=run,
            author=author.actor,
            criterion=criterion,
            defaults={**current, "created_at": when, "updated_at": when},
        )
        if not made:
            Feedback.objects.filter(pk=feedback.pk).update(**current, updated_at=when)
        FeedbackVersion.objects.create(feedback=feedback, created_at=when, withdrawn=withdrawn, **said)
        count_ratings(run)
    feedback.refresh_from_db()
    return feedback


def _hold(run: Run) -> None:
    """Locks the run, so that two ratings at once do not leave an average that knows of one."""
    Run.objects.select_for_update(of=("self",)).only("pk").get(pk=run.pk)


def count_ratings(run: Run) -> None:
    """Makes the average and the count of the run's overall ratings true; other criteria are beside them."""
    rated = Feedback.objects.filter(run=run, criterion=OVERALL, rating__isnull=False)
    totals = rated.aggregate(average=Avg("rating"), count=Count("pk"))
    average = totals["average"]
    Run.objects.filter(pk=run.pk).update(
        rating_average=average,
        rating_count=totals["count"],
        rating=None if average is None else math.floor(average + 0.5),
        updated_at=Now(),
    )
