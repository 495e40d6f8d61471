"""Choices: the values that filters offer, kept apart so that nobody asks the big tables (DESIGN.md 3.4)."""

from django.db import models

from runs.models.access import OwnedQuerySet
from runs.models.owner import Owner


class Choice(models.Model):
    """A value that some run of the owner has; written by triggers.note_choices, never by code.

    `field` is agent, model, source or evaluator, or metadata for the keys of runs' metadata. A value stays
    until `verify_counters --repair` finds that no run has it any more.
    """

    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="choices", db_index=False)
    field = models.CharField(max_length=20)
    value = models.CharField(max_length=300)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        db_table = "choice"
        constraints = [models.UniqueConstraint(fields=["owner", "field", "value"], name="choice_once")]

    def __str__(self) -> str:
        return f"{self.field}: {self.value}"
