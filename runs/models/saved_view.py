"""Saved views: queries of the runs list with a name, of one person or shared (issue 5, point 2)."""

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from runs.models.access import OwnedQuerySet
from runs.models.owner import Owner


class SavedView(models.Model):
    """Private where it has no owner: its author's alone. Shared with all who see the owner otherwise."""

    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views")
    owner = models.ForeignKey(
        Owner, on_delete=models.CASCADE, null=True, blank=True, related_name="saved_views"
    )
    name = models.CharField(max_length=60)
    query = models.TextField(blank=True, default="", help_text="As it is typed; ages stay ages.")
    columns = ArrayField(models.TextField(), default=list, blank=True, help_text="Empty: those by default.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar = OwnedQuerySet.as_manager()

    class Meta:
        db_table = "saved_view"
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["author", "name"], condition=Q(owner=None), name="saved_view_private_once"
            ),
            models.UniqueConstraint(
                fields=["owner", "name"], condition=Q(owner__isnull=False), name="saved_view_shared_once"
            ),
        ]

    def __str__(self) -> str:
        return self.name
