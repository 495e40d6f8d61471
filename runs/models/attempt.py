"""Attempts: each try of a worker at an evaluation. PostgreSQL writes them along with the claim (triggers)."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from runs.models.access import OfRunQuerySet
from runs.models.owner import Owner
from runs.models.run import Run


class Attempt(models.Model):
    """One worker's try at an evaluation, and how it ended."""

    class Outcome(models.TextChoices):
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"
        RELEASED = "released", "Given back to the queue"
        LOST = "lost", "Lost: its worker fell silent"
        CRASHED = "crashed", "Crashed: its evaluator's process died"
        RETRIED = "retried", "Failed, and tried again"

    # Without constraints, whose checks would lock rows with every claim: what writes an attempt is a trigger
    # of its run, and what deletes a run is purge_runs. The owner is its run's, for the queue's turns.
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="attempts", db_index=False, db_constraint=False
    )
    owner = models.ForeignKey(
        Owner, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    number = models.PositiveIntegerField(help_text="From 1; one that was given back counts here as well.")
    worker_id = models.TextField(help_text="host/worker/number: the claim.")
    started_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=20, choices=Outcome, blank=True, default="")
    reason = models.TextField(blank=True, default="")
    doing = models.TextField(blank=True, default="", help_text="What it is at, told now and then.")

    objects: ClassVar = OfRunQuerySet.as_manager()

    class Meta:
        db_table = "attempt"
        ordering = ["run", "number"]
        constraints = [
            models.UniqueConstraint(fields=["run", "number"], name="attempt_once"),
            models.CheckConstraint(
                name="attempt_ended_somehow",
                condition=Q(ended_at=None, outcome="") | Q(ended_at__isnull=False) & ~Q(outcome=""),
            ),
        ]
        indexes = [
            # Whose turn it is: the owner that was served least recently (claim_run).
            models.Index(fields=["owner", "-started_at"], name="attempt_turns"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} by {self.worker_id}"

    @property
    def host(self) -> str:
        return self.worker_id.split("/")[0]
