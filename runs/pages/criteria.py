"""What an owner's people rate runs on: its admins add, explain, order and retire it (issue 5, point 5)."""

from typing import Any

from django import forms
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from runs import access
from runs.access import SignedInRequest
from runs.models import Action, Criterion, Owner, require
from runs.models.criterion import (
    CriterionTaken,
    add_criterion,
    bring_back_criterion,
    move_criterion,
    retire_criterion,
)
from runs.pages.parts import OwnerField


class CriterionForm(forms.Form):
    label = forms.CharField(max_length=60, label="Name", help_text="A word or two, such as Correct.")
    description = forms.CharField(
        required=False,
        max_length=1000,
        label="What 1 and 5 mean",
        help_text="Shown to whoever rates.",
        widget=forms.Textarea(attrs={"class": "in", "rows": 3, "dir": "auto"}),
    )


class NewCriterionForm(CriterionForm):
    owner = forms.ModelChoiceField(Owner.objects.none(), label="Owner", empty_label=None)

    def __init__(self, request: SignedInRequest) -> None:
        super().__init__(request.POST if request.method == "POST" else None)
        self.fields["owner"] = OwnerField(request, Action.MANAGE)


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def criteria(request: SignedInRequest) -> HttpResponse:
    """Those of the owners that the reader manages; a POST adds one."""
    require(request.user, Action.MANAGE)
    form = NewCriterionForm(request)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            add_criterion(given["owner"], given["label"], given["description"])
            return redirect("criteria")
        except (CriterionTaken, ValueError) as error:
            form.add_error("label", str(error))
    those = list(Criterion.objects.allowing(request.user, Action.MANAGE).select_related("owner"))
    owners = form.fields["owner"].choices  # type: ignore[attr-defined]
    each = [_of_owner(owner_id, name, those) for owner_id, name in owners]
    context = {"place": "criteria", "form": form, "owners": each}
    return render(request, "criteria/criteria.html", context, status=422 if form.is_bound else 200)


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def criterion(request: SignedInRequest, criterion_id: int) -> HttpResponse:
    """Another name or explanation; what was rated stays what it is."""
    found = _find(request, criterion_id)
    initial = {"label": found.label, "description": found.description}
    form = CriterionForm(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        Criterion.objects.filter(pk=found.pk).update(**form.cleaned_data)
        return redirect("criteria")
    context = {"place": "criteria", "criterion": found, "form": form}
    return render(request, "criteria/criterion.html", context, status=422 if form.is_bound else 200)


@access.signed_in
@require_POST
def criterion_move(request: SignedInRequest, criterion_id: int) -> HttpResponse:
    """`to` is earlier or later."""
    move_criterion(_find(request, criterion_id), -1 if request.POST.get("to") == "earlier" else 1)
    return redirect("criteria")


@access.signed_in
@require_POST
def criterion_retire(request: SignedInRequest, criterion_id: int) -> HttpResponse:
    retire_criterion(_find(request, criterion_id))
    return redirect("criteria")


@access.signed_in
@require_POST
def criterion_bring_back(request: SignedInRequest, criterion_id: int) -> HttpResponse:
    bring_back_criterion(_find(request, criterion_id))
    return redirect("criteria")


def _of_owner(owner_id: int, name: str, those: list[Criterion]) -> dict[str, Any]:
    own = [one for one in those if one.owner_id == owner_id]
    return {
        "name": name,
        "asked": [one for one in own if one.retired_at is None],
        "retired": [one for one in own if one.retired_at is not None],
    }


def _find(request: SignedInRequest, criterion_id: int) -> Criterion:
    seen = Criterion.objects.visible_to(request.user).select_related("owner")
    found = get_object_or_404(seen, pk=criterion_id)
    require(request.user, Action.MANAGE, found.owner)
    return found
