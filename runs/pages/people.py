"""People: who belongs to which owner, with which role (issue 5, point 11).

An admin of an owner gives, alters and takes roles for that owner and no other, so that nobody gets rights
over what is not the admin's. That is why a sign-in link, which lets in as that person wherever they belong,
is made only for one who belongs nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.hashers import make_password
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from runs import access
from runs.access import SignedInRequest
from runs.first_start import sign_in_link
from runs.models import Action, Membership, Owner, User, correction, owner_ids, require

_WHY = "on the page of people"
Role = Membership.Role


class MemberForm(forms.Form):
    """A person by their name, new or known, and a role."""

    username = forms.CharField(
        max_length=150,
        label="Name to sign in with",
        validators=[UnicodeUsernameValidator()],
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    role = forms.ChoiceField(choices=Role.choices, initial=Role.VIEWER, label="Role")


class OwnerNameForm(forms.Form):
    name = forms.CharField(max_length=200, label="Its name", widget=forms.TextInput(attrs={"dir": "auto"}))


@dataclass(frozen=True, slots=True)
class Member:
    """A line of the table. `may_link`: for whom a sign-in link may be made; `last`: no admin is left."""

    membership: Membership
    may_link: bool
    last: bool


@dataclass(frozen=True, slots=True)
class Group:
    """An owner with its people and the forms to change it."""

    owner: Owner
    members: Sequence[Member]
    add: MemberForm
    name: OwnerNameForm


@access.signed_in
@require_safe
def people(request: SignedInRequest) -> HttpResponse:
    require(request.user, Action.MANAGE)
    return _page(request)


@access.signed_in
@require_POST
def member_add(request: SignedInRequest, owner_id: int) -> HttpResponse:
    """A new person gets an account without a password, and a link to hand over."""
    owner = _owner(request, owner_id)
    form = MemberForm(request.POST, prefix=f"add-{owner.pk}")
    if not form.is_valid():
        return _page(request, status=422, forms_of={owner.pk: {"add": form}})
    name, role = form.cleaned_data["username"], form.cleaned_data["role"]
    with correction(request.user.actor, _WHY, request.META["REQUEST_ID"]):
        known_by = {"username": User.normalize_username(name)}
        person, is_new = User.objects.get_or_create(**known_by, defaults={"password": make_password(None)})
        _, added = Membership.objects.get_or_create(user=person, owner=owner, defaults={"role": role})
    if not added:
        form.add_error("username", f"{name} belongs to {owner} already.")
        return _page(request, status=422, forms_of={owner.pk: {"add": form}})
    if is_new:
        return _page(request, link=sign_in_link(person), person=person)
    messages.success(request, f"{person.display_name} is {role} of {owner} now, and signs in as before.")
    return redirect("people")


@access.signed_in
@require_POST
def member_role(request: SignedInRequest, member_id: int) -> HttpResponse:
    member, role = _member(request, member_id), request.POST.get("role", "")
    if role not in Role.values:
        return _page(request, status=422, problem=f"A role is one of {', '.join(Role.values)}.")
    return _change(request, member, role)


@access.signed_in
@require_POST
def member_remove(request: SignedInRequest, member_id: int) -> HttpResponse:
    """The account stays: the record names it, and it may belong elsewhere."""
    return _change(request, _member(request, member_id), None)


@access.signed_in
@require_POST
def member_link(request: SignedInRequest, member_id: int) -> HttpResponse:
    person = _member(request, member_id).user
    if not _may_link(request, [person])[person.pk]:
        return _page(
            request,
            status=422,
            problem=f"{person.display_name} belongs elsewhere too: a superuser makes links.",
        )
    return _page(request, link=sign_in_link(person), person=person)


@access.signed_in
@require_POST
def owner_name(request: SignedInRequest, owner_id: int) -> HttpResponse:
    owner = _owner(request, owner_id)
    form = OwnerNameForm(request.POST, prefix=f"name-{owner.pk}")
    if form.is_valid():
        try:
            with correction(request.user.actor, _WHY, request.META["REQUEST_ID"]):
                Owner.objects.filter(pk=owner.pk).update(name=form.cleaned_data["name"])
        except IntegrityError:
            form.add_error("name", "This name is taken.")
    if not form.is_valid():
        return _page(request, status=422, forms_of={owner.pk: {"name": form}})
    said = f"The owner is called {form.cleaned_data['name']} now. Queries by its old name find nothing."
    messages.success(request, said)
    return redirect("people")


# ── Loading ────────────────────────────────────────────────────────────────
def _owners(request: SignedInRequest, action: Action = Action.MANAGE) -> QuerySet[Owner]:
    return Owner.objects.filter(pk__in=owner_ids(request.user, action))


def _owner(request: SignedInRequest, owner_id: int) -> Owner:
    """Raises Http404 where this person sees no such owner, NotAllowed where they do not manage it."""
    owner = get_object_or_404(_owners(request, Action.VIEW), pk=owner_id)
    require(request.user, Action.MANAGE, owner)
    return owner


def _member(request: SignedInRequest, member_id: int) -> Membership:
    """The same of a membership."""
    theirs = Membership.objects.filter(owner__in=owner_ids(request.user)).select_related("owner", "user")
    member = get_object_or_404(theirs, pk=member_id)
    require(request.user, Action.MANAGE, member.owner)
    return member


# ── Acting ─────────────────────────────────────────────────────────────────
def _change(request: SignedInRequest, member: Membership, role: str | None) -> HttpResponse:
    """Gives the role, or with None takes the one that is there; an owner keeps an admin."""
    name, owner = member.user.display_name, member.owner
    with correction(request.user.actor, _WHY, request.META["REQUEST_ID"]):
        admins = Membership.objects.filter(owner=owner, role=Role.ADMIN)
        locked = admins.select_for_update(of=("self",)).order_by("pk")
        others = [one for one in locked if one.pk != member.pk]
        stays = bool(others) or member.role != Role.ADMIN or role == Role.ADMIN
        found = Membership.objects.filter(pk=member.pk, owner=owner)
        if stays and role is None:
            found.delete()
        elif stays:
            found.update(role=role)
    if not stays:
        problem = f"{name} is the last admin of {owner}: make somebody else one first."
        return _page(request, status=422, problem=problem)
    done = f"{name} is {role} of {owner} now." if role else f"{name} belongs to {owner} no more."
    messages.success(request, done)
    return redirect("account" if member.user_id == request.user.pk else "people")  # where one still may go


def _may_link(request: SignedInRequest, persons: Sequence[User]) -> dict[int, bool]:
    """Whether each belongs to nobody but the owners that the caller manages, and has no rights beside."""
    known = [one.pk for one in persons]
    others = Membership.objects.filter(user__in=known).exclude(owner__in=request.rights[Action.MANAGE])
    elsewhere = set(others.values_list("user_id", flat=True))
    return {
        one.pk: one.is_active and not one.is_staff and not one.is_superuser and one.pk not in elsewhere
        for one in persons
    }


# ── The page ───────────────────────────────────────────────────────────────
def _page(
    request: SignedInRequest, *, status: int = 200, forms_of: dict[int, Any] | None = None, **context: Any
) -> HttpResponse:
    context = {
        "place": "people",
        "now": timezone.now(),
        "groups": _groups(request, forms_of or {}),
        "roles": Role.choices,
        **context,
    }
    return render(request, "people/people.html", context, status=status)


def _groups(request: SignedInRequest, forms_of: dict[int, Any]) -> list[Group]:
    owners = list(_owners(request))
    members = list(
        Membership.objects.filter(owner__in=owners).select_related("user").order_by("user__username")
    )
    may_link = _may_link(request, [one.user for one in members])
    groups = []
    for owner in owners:
        theirs = [one for one in members if one.owner_id == owner.pk]
        admins = sum(one.role == Role.ADMIN for one in theirs)
        lines = [
            Member(one, may_link[one.user_id], last=one.role == Role.ADMIN and admins == 1) for one in theirs
        ]
        own = forms_of.get(owner.pk, {})
        add = own.get("add") or MemberForm(prefix=f"add-{owner.pk}")
        name = own.get("name") or OwnerNameForm(initial={"name": owner.name}, prefix=f"name-{owner.pk}")
        groups.append(Group(owner, lines, add, name))
    return groups
