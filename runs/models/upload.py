"""Files that a person sent to be checked, until they are submitted (issue 5, point 10)."""

from collections.abc import Iterable
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from runs.exact import clean_text
from runs.models.ids import uuid7
from runs.models.user import User

KEPT_FOR = timedelta(days=1)
MOST = 60  # files of one person; the oldest make room


class UploadManager(models.Manager["Upload"]):
    def keep(self, person: User, kind: str, name: str, content: bytes) -> "Upload":
        """Keeps a file for its person. What nobody came back for goes meanwhile."""
        self.filter(created_at__lt=Now() - KEPT_FOR).delete()
        newest = self.filter(person=person).order_by("-id").values("pk")[: MOST - 1]
        self.filter(person=person).exclude(pk__in=newest).delete()
        return self.create(person=person, kind=kind, name=clean_text(name)[:300], content=content)

    def of(self, person: User, kind: str, ids: Iterable[UUID]) -> list["Upload"]:
        """Those of this person's files that are still here, in the order in which they came."""
        return list(self.filter(person=person, kind=kind, pk__in=list(ids)).order_by("id"))


class Upload(models.Model):
    """A file as it was sent, so that it need not be sent again once it has been checked."""

    class Kind(models.TextChoices):
        TRACES = "traces"
        EVAL_SET = "eval_set"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="uploads")
    kind = models.CharField(max_length=10, choices=Kind)
    name = models.TextField()
    content = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar = UploadManager()

    class Meta:
        db_table = "upload"
        ordering = ["id"]
        indexes = [models.Index(fields=["created_at"], name="upload_age")]  # which of them go

    def __str__(self) -> str:
        return self.name
