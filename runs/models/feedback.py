"""Feedback: what one person or client said of one run."""

from datetime import datetime
from typing import ClassVar

from django.db import models, transaction
from django.db.models import Avg, Count, Q
from django.db.models.functions import Now

from runs.exact import Json, clean_text
from runs.models import triggers
from runs.models.access import OwnedQuerySet
from runs.models.run import Run
from runs.models.token import Token
from runs.models.user import User

OVERALL = "overall"


class FeedbackQuerySet(OwnedQuerySet["Feedback"]):
    owner_path = "run__owner"


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
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar = FeedbackQuerySet.as_manager()

    class Meta:
        db_table = "feedback"
        verbose_name_plural = "feedback"
        ordering = ["-updated_at"]
        constraints = [
            models.UniqueConstraint(fields=["run", "author", "criterion"], name="feedback_once"),
            models.CheckConstraint(
                condition=Q(rating=None) | Q(rating__gte=1, rating__lte=5), name="feedback_rating"
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
) -> Feedback:
    """Keeps the author's current rating (1 to 5, or None) and comment, and the run's average with it.

    `at` is when it was said: now, unless it comes from elsewhere. Raises ValueError for a rating that is
    no whole number from 1 to 5.
    """
    if rating is not None and (type(rating) is not int or not 1 <= rating <= 5):
        raise ValueError("rating must be a whole number from 1 to 5")
    when = at or Now()
    said = {"rating": rating, "comment": clean_text(comment), "metadata": metadata or {}}
    with transaction.atomic():
        # Locked, so that two ratings at once do not leave an average that knows of one.
        Run.objects.select_for_update(of=("self",)).only("pk").get(pk=run.pk)
        feedback, made = Feedback.objects.get_or_create(
            run=run,
            author=author.actor,
            criterion=criterion,
            defaults={**said, "author_name": author.display_name, "created_at": when, "updated_at": when},
        )
        if not made:
            Feedback.objects.filter(pk=feedback.pk).update(
                **said, author_name=author.display_name, updated_at=when
            )
        FeedbackVersion.objects.create(feedback=feedback, created_at=when, **said)
        count_ratings(run)
    feedback.refresh_from_db()
    return feedback


def count_ratings(run: Run) -> None:
    """Makes the run's average and count of ratings true."""
    rated = Feedback.objects.filter(run=run, rating__isnull=False)
    totals = rated.aggregate(average=Avg("rating"), count=Count("pk"))
    Run.objects.filter(pk=run.pk).update(
        rating_average=totals["average"], rating_count=totals["count"], updated_at=Now()
    )
