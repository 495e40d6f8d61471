"""Who asks, which owners they may see and what they may do for them (DESIGN.md 3.12).

Access is part of loading: whatever serves a caller starts at `visible_to`, or at `allowing` where it acts.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Self
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db import connection, models
from django.db.models import Q, QuerySet

from runs.models.owner import Membership, Owner
from runs.models.token import Token
from runs.models.user import User

# An owner stands for its own evaluations, which see what it has.
type Caller = User | Token | Owner | AnonymousUser
type Rights = Mapping[Action, frozenset[int]]


class Action(models.TextChoices):
    """What may be done with an owner's data; the labels begin a sentence."""

    VIEW = "view", "Viewing"
    RATE = "rate", "Rating"
    SUBMIT = "submit", "Submitting"
    CANCEL = "cancel", "Cancelling"
    RETRY = "retry", "Retrying"
    DELETE = "delete", "Deleting"
    CORRECT = "correct", "Correcting"
    MANAGE = "manage", "Managing tokens, members and retention"


_OPERATING = frozenset({Action.SUBMIT, Action.CANCEL, Action.RETRY, Action.DELETE})

ROLE_ACTIONS: Mapping[str, frozenset[Action]] = {
    Membership.Role.VIEWER: frozenset({Action.VIEW}),
    Membership.Role.REVIEWER: frozenset({Action.VIEW, Action.RATE}),
    Membership.Role.OPERATOR: frozenset({Action.VIEW, Action.RATE}) | _OPERATING,
    Membership.Role.ADMIN: frozenset(Action),
}
# A correction has a person who answers for it, and whoever hands out tokens is one.
SCOPE_ACTIONS: Mapping[str, frozenset[Action]] = {
    Token.Scope.READ: frozenset({Action.VIEW}),
    Token.Scope.WRITE: frozenset({Action.RATE}) | _OPERATING,
}


class NotAllowed(PermissionDenied):
    """The caller may see this but not do it; the text says so to a person."""


def owner_ids(caller: Caller, action: Action = Action.VIEW) -> QuerySet[Membership, int] | list[int]:
    """The ids of the owners for which `caller` may do `action`: of a token at most its one owner.

    Of a person it is a query that has not run, for use inside another.
    """
    if isinstance(caller, Owner):
        return [caller.pk] if action == Action.VIEW else []
    if isinstance(caller, Token):
        return [caller.owner_id] if scope_of(action) in caller.scopes else []
    if isinstance(caller, User) and caller.is_active:
        roles = [str(role) for role, actions in ROLE_ACTIONS.items() if action in actions]
        return Membership.objects.filter(user=caller, role__in=roles).values_list("owner_id", flat=True)
    return []


def owners_seen(caller: Caller) -> frozenset[int]:
    """The same for viewing, at once: lists are asked for so often that Django's way would be half of them."""
    owners = owner_ids(caller)
    if not isinstance(caller, User) or isinstance(owners, list):
        return frozenset(owners)
    with connection.cursor() as cursor:
        roles = [str(role) for role, actions in ROLE_ACTIONS.items() if Action.VIEW in actions]
        cursor.execute(
            "SELECT owner_id FROM membership WHERE user_id = %s AND role = ANY(%s)", [caller.pk, roles]
        )
        return frozenset(row[0] for row in cursor.fetchall())


def may(caller: Caller, action: Action, owner_id: int | None = None) -> bool:
    """Whether `caller` may do `action` for this owner; without one, for any owner at all."""
    owners = owner_ids(caller, action)
    return bool(owners) if owner_id is None else owner_id in owners


def require(person: User, action: Action, owner: Owner | None = None) -> None:
    """Raises NotAllowed unless `person` may do `action` for this owner, which is one that they see; without
    one, for any owner of theirs."""
    if not may(person, action, owner.pk if owner else None):
        held = Membership.objects.filter(user=person, **({"owner": owner} if owner else {}))
        raise NotAllowed(_refusal(action, held.select_related("owner").order_by("owner__name")))


def rights_of(person: User | AnonymousUser) -> Rights:
    """For every action the owners for which `person` may do it, in one query: pages ask in every row."""
    held = Membership.objects.filter(user=person) if isinstance(person, User) and person.is_active else ()
    return {
        action: frozenset(one.owner_id for one in held if action in ROLE_ACTIONS[one.role])
        for action in Action
    }


def scope_of(action: Action) -> str | None:
    """The scope that a token needs for `action`; None where none is enough."""
    return next((scope for scope, actions in SCOPE_ACTIONS.items() if action in actions), None)


class OwnedQuerySet[Row: models.Model](QuerySet[Row]):
    """Rows with an owner, at the end of `owner_path`; those of a deleted run or session are left out."""

    owner_path = "owner"
    deleted_path: str | None = None

    def visible_to(self, caller: Caller) -> Self:
        return self.allowing(caller, Action.VIEW)

    def allowing(self, caller: Caller, action: Action) -> Self:
        """The rows with which `caller` may do `action`."""
        theirs = self.filter(**{f"{self.owner_path}__in": owner_ids(caller, action)})
        return theirs.filter(**{f"{self.deleted_path}__isnull": True}) if self.deleted_path else theirs

    def newest_first(self) -> Self:
        """An order without ties, the one that the list indexes keep."""
        return self.order_by("-created_at", "-id")

    def older_than(self, created_at: datetime, row_id: UUID) -> Self:
        """What follows this row in `newest_first`: a row comparison, so that the index is used."""
        return self.filter(Q(created_at__lte=created_at) & (Q(created_at__lt=created_at) | Q(id__lt=row_id)))


class OfRunQuerySet[Row: models.Model](OwnedQuerySet[Row]):
    """Rows that belong to a run, and with it to an owner."""

    owner_path = "run__owner"
    deleted_path = "run__deleted_at"


def _refusal(action: Action, held: Collection[Membership]) -> str:
    """ "Cancelling needs the role operator; you are viewer of platform." """
    needed = next(role for role, actions in ROLE_ACTIONS.items() if action in actions)
    roles = " and ".join(f"{one.role} of {one.owner}" for one in held)
    return f"{action.label} needs the role {needed}; you {f'are {roles}' if roles else 'belong to no owner'}."
