"""Bulk jobs: one action for all runs of a filter, kept with what became of it (issue 5, point 2).

Which runs that are is in models.selection; the worker carries them out by models.carrying.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now

from runs.models.access import Action
from runs.models.deletion import grace
from runs.models.ids import uuid7
from runs.models.review import ReviewQueue
from runs.models.user import User
from runs.query import Query


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
    options = models.JSONField(
        default=dict, blank=True, help_text="The runs that were chosen, the queue, or the job that it undoes."
    )
    counted = models.PositiveIntegerField(help_text="Runs that were confirmed.")
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    done_count = models.PositiveIntegerField(default=0)
    skipped_count = models.PositiveIntegerField(default=0)
    skipped = models.JSONField(default=dict, help_text="Why, and how many each.")
    cursor = models.TextField(blank=True, default="")
    error = models.TextField(blank=True, default="")
    worker_id = models.TextField(blank=True, default="", help_text="Who did the last of it.")
    stop_requested_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar = models.Manager()

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

    @property
    def is_over(self) -> bool:
        return self.state not in UNFINISHED

    @property
    def mark(self) -> str:
        """The request id of all changes that it makes."""
        return f"bulk-{self.pk}"

    @property
    def undo_until(self) -> datetime | None:
        """Until when what it deleted can come back; None where it deleted nothing."""
        if self.action != self.Action.DELETE or not self.done_count or self.started_at is None:
            return None
        return self.started_at + grace()


UNFINISHED = (BulkJob.State.QUEUED, BulkJob.State.RUNNING)

NEEDS: Mapping[str, Action] = {
    BulkJob.Action.CANCEL: Action.CANCEL,
    BulkJob.Action.RETRY: Action.RETRY,
    BulkJob.Action.DELETE: Action.DELETE,
    BulkJob.Action.RESTORE: Action.DELETE,
    BulkJob.Action.REVIEW: Action.RATE,
}


# ── Starting, stopping, undoing ────────────────────────────────────────────
def start(
    person: User,
    action: str,
    query: Query,
    *,
    until: datetime,
    owners: Collection[int],
    counted: int,
    ids: Collection[UUID] = (),
    job_id: UUID | None = None,
    reason: str = "",
    queue: ReviewQueue | None = None,
) -> BulkJob:
    """Has the worker do it to the runs of `query` that were made before `until`, or to those of `ids`.

    Only those of `owners`, for whom the person has the right. Safe to repeat with the same id. Raises
    BulkJob.DoesNotExist where the id is another person's.
    """
    options: dict[str, Any] = {"ids": [str(one) for one in ids]} if ids else {}
    if queue is not None:
        options["queue"] = queue.pk
    job = BulkJob(
        id=job_id or uuid7(),
        person=person,
        actor=person.actor,
        by=person.display_name,
        action=action,
        query=query.fixed().text(),
        owners=sorted(owners),
        until=until,
        reason=reason,
        options=options,
        counted=counted,
    )
    BulkJob.objects.bulk_create([job], ignore_conflicts=True)
    return BulkJob.objects.get(pk=job.pk, person=person)


def stop(job: BulkJob) -> bool:
    """What is done stays done. False: it is over. It waits for the batch that is under way."""
    unfinished = BulkJob.objects.filter(pk=job.pk, state__in=UNFINISHED)
    now = {"stop_requested_at": Now(), "finished_at": Now(), "updated_at": Now()}
    return bool(unfinished.update(state=BulkJob.State.STOPPED, **now))


def undo(job: BulkJob) -> BulkJob:
    """Brings back what a job has deleted, and stops it where it is still at it.

    Safe to repeat: the same job comes back, and goes on where it was stopped or failed. Raises ValueError
    for one that has deleted nothing.
    """
    stop(job)
    with transaction.atomic():
        first = BulkJob.objects.select_for_update().select_related(None).get(pk=job.pk)
        if first.undo_until is None:
            raise ValueError("it has deleted nothing")
        undoing = undoing_of(first)
        if undoing is None:
            undoing = BulkJob.objects.create(
                person_id=first.person_id,
                actor=first.actor,
                by=first.by,
                action=BulkJob.Action.RESTORE,
                query=first.query,
                owners=first.owners,
                until=first.until,
                reason="undone",
                options={"undoes": str(first.pk)},
                counted=first.done_count,
            )
        elif undoing.state in (BulkJob.State.STOPPED, BulkJob.State.FAILED):
            again = {"state": BulkJob.State.QUEUED, "finished_at": None, "stop_requested_at": None}
            BulkJob.objects.filter(pk=undoing.pk).update(**again, error="", updated_at=Now())
    return undoing


def undoing_of(job: BulkJob) -> BulkJob | None:
    restoring = BulkJob.objects.filter(person=job.person_id, action=BulkJob.Action.RESTORE)
    return restoring.filter(options__undoes=str(job.pk)).first()
