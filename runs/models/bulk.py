"""Bulk jobs: one action for all runs of a filter, carried out by the worker and kept (issue 5, point 2)."""

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from runs.models.access import OwnedQuerySet
from runs.models.ids import uuid7


class BulkJob(models.Model):
    """Who wanted what for which runs, how many that were when they confirmed it, and how far it came.

    It is bound to its filter as that was then: `query` is fixed in time, `owners` are those for whom the
    person had the right, and no run is made after `until`. `cursor` is the last run that was dealt with,
    kept in the same transaction as what was done, so that a killed worker's successor goes on from there.
    """

    class Action(models.TextChoices):
        CANCEL = "cancel"
        RETRY = "retry"
        DELETE = "delete"
        RESTORE = "restore"
        REVIEW = "review"

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        STOPPED = "stopped"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="bulk_jobs"
    )
    actor = models.TextField(help_text="The person as the record names them for good.")
    by = models.TextField(help_text="What they were called then.")
    action = models.CharField(max_length=10, choices=Action)
    query = models.TextField(blank=True, default="")
    owners = ArrayField(models.BigIntegerField())
    until = models.DateTimeField(help_text="Runs that were made later are not meant.")
    reason = models.TextField(blank=True, default="")
    options = models.JSONField(default=dict, blank=True)
    counted = models.PositiveIntegerField(help_text="Runs that were confirmed.")
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    done_count = models.PositiveIntegerField(default=0)
    skipped_count = models.PositiveIntegerField(default=0)
    skipped = models.JSONField(default=dict, help_text="Why, and how many each.")
    cursor = models.TextField(blank=True, default="")
    error = models.TextField(blank=True, default="")
    worker_id = models.TextField(blank=True, default="")
    lease_expires_at = models.DateTimeField(null=True)
    stop_requested_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar = OwnedQuerySet.as_manager()

    class Meta:
        db_table = "bulk_job"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running", "done", "stopped", "failed"]),
                name="bulk_job_state",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running"], finished_at=None)
                | Q(state__in=["done", "stopped", "failed"], finished_at__isnull=False),
                name="bulk_job_finished",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], name="bulk_job_open", condition=Q(state__in=["queued", "running"])),
            models.Index(fields=["person", "-id"], name="bulk_job_of_person"),
        ]

    def __str__(self) -> str:
        return f"{self.action} of {self.counted} runs"
