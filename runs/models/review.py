"""Review queues: runs that wait for people's judgement, handed out one at a time (issue 5, point 5)."""

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from runs.models.access import OwnedQuerySet
from runs.models.owner import Owner
from runs.models.run import Run


class ReviewQueue(models.Model):
    """Runs of one owner, chosen by a query, to be rated on these criteria. Closed: nothing is handed out."""

    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="review_queues")
    name = models.CharField(max_length=100)
    instructions = models.TextField(blank=True, default="")
    query = models.TextField(blank=True, default="", help_text="What its runs were chosen by.")
    criteria = ArrayField(models.CharField(max_length=100), default=list, blank=True, help_text="Their keys.")
    created_by = models.TextField(help_text="An actor, such as user:7.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    closed_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar = OwnedQuerySet.as_manager()

    class Meta:
        db_table = "review_queue"
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="review_queue_once")]

    def __str__(self) -> str:
        return self.name


class OfQueueQuerySet(OwnedQuerySet["ReviewItem"]):
    owner_path = "queue__owner"
    deleted_path = "run__deleted_at"


class ReviewItem(models.Model):
    """A run in a queue. Reserved, it is one person's until `reserved_until`; then the next asker's."""

    class State(models.TextChoices):
        OPEN = "open"
        DONE = "done"
        SKIPPED = "skipped"

    queue = models.ForeignKey(ReviewQueue, on_delete=models.CASCADE, related_name="items", db_index=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="review_items", db_index=False)
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    reserved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    reserved_until = models.DateTimeField(null=True, blank=True)
    ended_by = models.TextField(blank=True, default="", help_text="Who did or skipped it: an actor.")
    ended_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar = OfQueueQuerySet.as_manager()

    class Meta:
        db_table = "review_item"
        ordering = ["queue", "id"]
        constraints = [
            models.UniqueConstraint(fields=["queue", "run"], name="review_item_once"),
            models.CheckConstraint(
                condition=Q(state__in=["open", "done", "skipped"]), name="review_item_state"
            ),
            models.CheckConstraint(
                condition=Q(state="open", ended_at=None) | (~Q(state="open") & Q(ended_at__isnull=False)),
                name="review_item_ended",
            ),
            models.CheckConstraint(
                condition=Q(reserved_by=None) | Q(reserved_until__isnull=False), name="review_item_reserved"
            ),
        ]
        indexes = [
            # The next one, and how many are left.
            models.Index(fields=["queue", "id"], name="review_item_next", condition=Q(state="open")),
            # How many were done and skipped; what one did last.
            models.Index(fields=["queue", "state", "ended_at"], name="review_item_ended_list"),
            models.Index(fields=["run"], name="review_item_run"),  # the run's page, purging
        ]

    def __str__(self) -> str:
        return f"{self.run_id} in {self.queue_id}"
