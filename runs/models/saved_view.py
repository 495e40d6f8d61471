"""Saved views: queries of the runs list with a name, of one person or shared (issue 5, point 2)."""

from collections.abc import Collection, Sequence
from typing import ClassVar, Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Q
from django.db.models.functions import Now

from runs.models.access import Action, OwnedQuerySet
from runs.models.owner import Owner
from runs.models.user import User


class NameTaken(ValueError):
    """The person, or the owner it is shared with, has a view of this name already."""


class SavedViewQuerySet(OwnedQuerySet["SavedView"]):
    def private_to(self, person: User) -> Self:
        return self.filter(author=person, owner=None)

    def seen_by(self, person: User, owners: Collection[int]) -> list["SavedView"]:
        """Their own and those shared with the owners that they see, by name. By hand: every list of runs
        shows them."""
        with connection.cursor() as cursor:
            cursor.execute(_SEEN, [person.pk, sorted(owners)])
            return [self.model(**dict(zip(_COLUMNS, row, strict=True))) for row in cursor.fetchall()]

    def find(self, person: User, view_id: int, action: Action = Action.VIEW) -> "SavedView | None":
        """Their own view of this id, or a shared one for whose owner they may do `action`."""
        own = self.private_to(person).filter(pk=view_id).first()
        return own or self.allowing(person, action).filter(pk=view_id).first()


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

    objects: ClassVar = SavedViewQuerySet.as_manager()

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

    def keep(self, name: str, query: str, columns: Sequence[str], owner: Owner | None) -> None:
        """Saves the view, new or not, as this; shared where there is an owner. Raises NameTaken."""
        self.name, self.query, self.columns, self.owner = name, query, list(columns), owner
        try:
            with transaction.atomic():
                self.save()
        except IntegrityError:
            whose = f"{owner} has" if owner else "You have"
            raise NameTaken(f"{whose} a view of this name already: choose another one.") from None


_COLUMNS = ("id", "author_id", "owner_id", "name", "query", "columns")
_EACH = f"SELECT {', '.join(_COLUMNS)} FROM saved_view WHERE"
_SEEN = f"""
    SELECT * FROM ({_EACH} author_id = %s AND owner_id IS NULL) AS own
    UNION ALL SELECT * FROM ({_EACH} owner_id = ANY(%s)) AS shared ORDER BY name, id
"""
