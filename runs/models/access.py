"""Who asks, and which owners they may see: access is part of loading (DESIGN.md 3.12)."""

from datetime import datetime
from typing import Self
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q, QuerySet

from runs.models.owner import Membership
from runs.models.token import Token
from runs.models.user import User

type Caller = User | Token | AnonymousUser


def owner_ids(caller: Caller) -> QuerySet[Membership, int] | list[int]:
    """The ids of the owners whose data `caller` may see: a person's memberships, a token's one owner."""
    if isinstance(caller, Token):
        return [caller.owner_id]
    if isinstance(caller, User) and caller.is_active:
        return Membership.objects.filter(user=caller).values_list("owner_id", flat=True)
    return []


class OwnedQuerySet[Row: models.Model](QuerySet[Row]):
    """Rows with an owner. Whatever serves a caller starts at `visible_to`."""

    owner_path = "owner"

    def visible_to(self, caller: Caller) -> Self:
        return self.filter(**{f"{self.owner_path}__in": owner_ids(caller)})

    def newest_first(self) -> Self:
        """An order without ties, the one that the list indexes keep."""
        return self.order_by("-created_at", "-id")

    def older_than(self, created_at: datetime, row_id: UUID) -> Self:
        """What follows this row in `newest_first`: a row comparison, so that the index is used."""
        return self.filter(Q(created_at__lte=created_at) & (Q(created_at__lt=created_at) | Q(id__lt=row_id)))
