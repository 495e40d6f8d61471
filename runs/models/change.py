"""Changes: corrections of what was recorded, with who, when, why, old and new (DESIGN.md 3.10)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from django.db import connection, models, transaction
from django.db.models.functions import Now

from runs.exact import clean_text
from runs.models import triggers
from runs.models.access import OfRunQuerySet
from runs.models.run import Run


class Change(models.Model):
    """One corrected field; written by the triggers of models.triggers, never by code."""

    actor = models.TextField()
    reason = models.TextField(blank=True, default="")
    request_id = models.TextField(blank=True, default="")
    object_type = models.TextField()
    object_id = models.TextField()
    run = models.ForeignKey(Run, on_delete=models.CASCADE, null=True, related_name="changes", db_index=False)
    field = models.TextField()
    old = models.JSONField(null=True)
    new = models.JSONField(null=True)
    at = models.DateTimeField(db_default=Now())

    objects: ClassVar = OfRunQuerySet.as_manager()

    class Meta:
        db_table = "change"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["run", "-id"], name="change_run"),  # the run's page
            models.Index(fields=["object_type", "object_id"], name="change_object"),  # the admin's history
        ]
        triggers = [triggers.append_only()]

    def __str__(self) -> str:
        return f"{self.field} of {self.object_type} {self.object_id}"


@contextmanager
def correction(actor: str, reason: str, request_id: str = "") -> Iterator[None]:
    """A transaction whose updates are corrections by `actor`, for `reason`, which must not be blank."""
    if not reason.strip():
        raise ValueError("a correction needs a reason")
    settings = {"actor": actor, "reason": reason.strip(), "request_id": request_id}
    with transaction.atomic(), connection.cursor() as cursor:
        for name, value in settings.items():
            cursor.execute("SELECT set_config(%s, %s, true)", [f"runfolio.{name}", clean_text(value)])
        yield
        # A correction inside a larger transaction must not lend its name to what follows.
        for name in settings:
            cursor.execute("SELECT set_config(%s, '', true)", [f"runfolio.{name}"])
