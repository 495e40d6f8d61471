"""Criteria: what an owner's people rate a run on, beside how it was overall (issue 5, point 5)."""

from typing import ClassVar, Self

from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.text import slugify

from runs.models.access import OwnedQuerySet
from runs.models.feedback import OVERALL
from runs.models.owner import Owner


class CriterionTaken(ValueError):
    """The owner has a criterion of that key already; the text says so to a person."""


class CriterionQuerySet(OwnedQuerySet["Criterion"]):
    def asked(self) -> Self:
        """Those that are not retired, in the order in which they are asked."""
        return self.filter(retired_at=None).order_by("position", "id")


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

    objects: ClassVar = CriterionQuerySet.as_manager()

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


def add_criterion(owner: Owner, label: str, description: str = "") -> Criterion:
    """A new criterion, asked after all others; its key is made of the label.

    Raises CriterionTaken, and ValueError for a label without a letter or digit.
    """
    key = slugify(label, allow_unicode=True)[:100]
    if not key:
        raise ValueError("A name needs a letter or a digit.")
    if key == OVERALL:
        raise CriterionTaken("Overall is always asked; it needs no criterion of its own.")
    with transaction.atomic():
        those = _locked(owner)
        same = next((one for one in those if one.key == key), None)
        if same is not None:
            how = "It is retired: bring it back instead." if same.retired_at else "Choose another name."
            raise CriterionTaken(f"There is a criterion {same.label} already. {how}")
        last = max((one.position for one in those), default=0)
        return Criterion.objects.create(
            owner=owner, key=key, label=label, description=description, position=last + 1
        )


def move_criterion(criterion: Criterion, by: int) -> None:
    """Asks it `by` places later, or earlier where that is negative, among those that are asked."""
    with transaction.atomic():
        asked = [one for one in _locked(criterion.owner) if one.retired_at is None]
        place = next((place for place, one in enumerate(asked) if one.pk == criterion.pk), None)
        if place is None:
            return
        asked.insert(max(0, place + by), asked.pop(place))
        for position, one in enumerate(asked, start=1):
            if one.position != position:
                Criterion.objects.filter(pk=one.pk).update(position=position)


def retire_criterion(criterion: Criterion) -> None:
    """Asks for it no more; doing it twice is harmless."""
    Criterion.objects.filter(pk=criterion.pk, retired_at=None).update(retired_at=Now())


def bring_back_criterion(criterion: Criterion) -> None:
    Criterion.objects.filter(pk=criterion.pk).update(retired_at=None)


def _locked(owner: Owner) -> list[Criterion]:
    """The owner's criteria in their order, which nobody else changes meanwhile."""
    Owner.objects.select_for_update(no_key=True).only("pk").get(pk=owner.pk)
    return list(Criterion.objects.filter(owner=owner).order_by("position", "id"))
