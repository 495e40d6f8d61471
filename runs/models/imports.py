"""What importers remember of databases that they read: how far they are, and what of each run is here.

Both are written in the transaction that takes the rows in, so that an import that is killed goes on where it
was, with nothing missing and nothing twice (issue 6, point 7).
"""

from datetime import datetime
from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from runs.models.access import OfRunQuerySet, OwnedQuerySet
from runs.models.owner import Owner
from runs.models.run import Run


class Busy(Exception):
    """Another import of the same source has moved on meanwhile."""


class ImportPositionQuerySet(OwnedQuerySet["ImportPosition"]):
    def of(self, owner: Owner, system: str, place: str, part: str) -> "ImportPosition":
        """Where the import of this part of the source is, at its beginning where it is new."""
        found, _ = self.get_or_create(owner=owner, system=system, place=place, part=part)
        return found


class ImportPosition(models.Model):
    """How far one part of a source has been read, in the order in which it changed."""

    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="+", db_index=False)
    system = models.CharField(max_length=50, help_text="Such as bindu.")
    place = models.TextField(help_text="The database: host, port and name, never a password.")
    part = models.TextField(help_text="What is read of it: a schema and a table.")
    at = models.DateTimeField(null=True, help_text="By the source's clock.")
    read_count = models.PositiveBigIntegerField(default=0)
    updated_at = models.DateTimeField(db_default=Now())

    objects: ClassVar = ImportPositionQuerySet.as_manager()

    class Meta:
        db_table = "import_position"
        constraints = [
            models.UniqueConstraint(fields=["owner", "system", "place", "part"], name="import_position_once")
        ]

    def __str__(self) -> str:
        return f"{self.system} {self.place} {self.part}"

    def hold(self) -> None:
        """Keeps another import of the same source waiting until the caller's transaction has ended, or waits
        for its. To be called before it is asked what is here. Raises Busy."""
        if self._as_it_was().select_for_update().values_list("pk").first() is None:
            raise Busy(_moved(self.place))

    def move(self, at: datetime, read: int) -> None:
        """Notes that it was read up to there, `read` rows further; part of the caller's transaction.

        Never goes back: what is read a second time, to be sure, comes before it. Raises Busy.
        """
        as_it_was = self._as_it_was()
        self.at = max(self.at or at, at)
        self.read_count += read
        if not as_it_was.update(at=self.at, read_count=self.read_count, updated_at=Now()):
            raise Busy(_moved(self.place))

    def _as_it_was(self) -> models.QuerySet["ImportPosition"]:
        return ImportPosition.objects.filter(pk=self.pk, at=self.at, read_count=self.read_count)


def _moved(place: str) -> str:
    return f"another import of {place} has moved on meanwhile; let one of them end first"


class Imported(models.Model):
    """What of a run came from a database: how much of its history, and how it was when it was last read."""

    # The constraint is made by hand in migration 0009, since it goes with its run whoever deletes that.
    run = models.OneToOneField(
        Run, on_delete=models.CASCADE, primary_key=True, related_name="+", db_constraint=False
    )
    state = models.TextField(help_text="In the source's words.")
    messages = models.PositiveIntegerField(default=0)
    artifacts = models.PositiveIntegerField(default=0)
    changed_at = models.DateTimeField(null=True, help_text="By the source's clock.")

    objects: ClassVar = OfRunQuerySet.as_manager()

    class Meta:
        db_table = "imported"
        verbose_name_plural = "imported"

    def __str__(self) -> str:
        return f"{self.run_id} as {self.state}"
