"""Criteria: what an owner's people rate a run on, beside how it was overall (issue 5, point 5)."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from runs.models.access import OwnedQuerySet
from runs.models.owner import Owner


class Criterion(models.Model):
    """`key` is what `Feedback.criterion` holds for good; the label may change.

    One that is retired is not asked for any more; what was said on it stays.
    """

    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="criteria")
    key = models.SlugField(max_length=100)
    label = models.CharField(max_length=60)
    description = models.TextField(blank=True, default="", help_text="What 1 and 5 mean, for reviewers.")
    position = models.PositiveSmallIntegerField(default=0)
    retired_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar = OwnedQuerySet.as_manager()

    class Meta:
        db_table = "criterion"
        verbose_name_plural = "criteria"
        ordering = ["position", "id"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "key"], name="criterion_once"),
            models.CheckConstraint(condition=~Q(key=""), name="criterion_has_a_key"),
        ]

    def __str__(self) -> str:
        return self.label
