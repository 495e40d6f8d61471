"""The runs: filtered, newest first, with the rating in the row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.conf import settings
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRefresh

from runs import access
from runs.access import SignedInRequest
from runs.models import Owner, Run, Status, User, owner_ids
from runs.models.listing import Found, find_runs
from runs.pages.parts import find_run, render_part, unchanged, wants
from runs.pages.run_table import PAGE, cursor_of, page_of, row_of
from runs.query import Condition, OneOf, Problem, Query, QueryError, parse

# Fields that can be turned around ("is not").
NEGATABLE = ("status", "kind", "agent", "session", "owner")
_FIELDS = {"run": "id"}  # where the language has another word


class RunFilterForm(forms.Form):
    """The query string of the list. What cannot be read is left out, and named in `ignored`."""

    status = forms.MultipleChoiceField(choices=Status.choices, required=False)
    kind = forms.ChoiceField(choices=[("", "Any"), *Run.Kind.choices], required=False, label="Kind")
    agent = forms.CharField(required=False, max_length=500, label="Agent")
    session = forms.CharField(required=False, max_length=500, label="Session", help_text="its key, in full")
    owner = forms.ModelChoiceField(Owner.objects.none(), required=False, label="Owner", empty_label="Any")
    run = forms.CharField(required=False, max_length=36, label="Run id", help_text="its beginning is enough")
    q = forms.CharField(required=False, label="Search", strip=False)

    def __init__(self, data: QueryDict, user: User) -> None:
        super().__init__(data)
        self.problems: Sequence[Problem] = ()
        owners = list(Owner.objects.filter(pk__in=owner_ids(user)))
        self.fields["owner"] = _OwnerField(owners)
        self.user = user
        self.several_owners = len(owners) > 1
        self.full_clean()
        self.negated = [name for name in data.getlist("not") if name in NEGATABLE]

    def clean_run(self) -> str:
        """The digits that the id begins with."""
        prefix = self.cleaned_data["run"].replace("-", "").lower()
        if prefix.strip("0123456789abcdef"):
            raise forms.ValidationError("a run id has 32 hexadecimal digits")
        return prefix

    def clean_q(self) -> Query:
        try:
            return parse(self.cleaned_data["q"], timezone.now())
        except QueryError as error:
            self.problems = error.problems
            return Query()

    @property
    def ignored(self) -> list[str]:
        """A sentence for each part of the address that is not a filter."""
        wrong = [f"{name} “{', '.join(self.data.getlist(name))[:60]}”" for name in self.errors]  # type: ignore[attr-defined]
        unknown = set(self.data) - {*self.fields, "not", "after"}
        return [*wrong, *sorted(name[:60] for name in unknown)]

    @property
    def others(self) -> list[tuple[str, str]]:
        """What the address says beside the search and the page."""
        names = (name for name in self.data if name not in ("q", "after"))
        return [(name, value) for name in names for value in self.data.getlist(name)]  # type: ignore[attr-defined]

    @property
    def mistakes(self) -> list[dict[str, str]]:
        """Each of the search's problems with the piece of text that it is about."""
        text = self.data.get("q", "")
        return [{"text": text[one.start : one.end], "message": one.message} for one in self.problems]

    @property
    def query(self) -> Query:
        """All that is asked, in the one language of queries."""
        chosen = (
            Condition(OneOf(_FIELDS.get(name, name), values), name in self.negated)
            for name, values in self._values()
        )
        return Query((*chosen, *(self.cleaned_data.get("q") or Query()).conditions))

    def _values(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        given = self.cleaned_data
        if given.get("status"):
            yield "status", tuple(given["status"])
        for name in ("kind", "agent", "session", "run"):
            if given.get(name):
                yield name, (given[name],)
        if given.get("owner"):
            yield "owner", (given["owner"].name,)


class _OwnerField(forms.TypedChoiceField):
    """Choices from a list that is already here: no query of its own."""

    def __init__(self, owners: list[Owner]) -> None:
        by_id = {str(owner.pk): owner for owner in owners}
        choices = [("", "Any"), *((key, owner.name) for key, owner in by_id.items())]
        super().__init__(choices=choices, coerce=by_id.get, required=False, empty_value=None, label="Owner")


@dataclass(frozen=True, slots=True)
class Chip:
    """One part of the filter that is on, with the addresses that take it away or turn it around."""

    name: str
    words: str
    negated: bool
    without: str
    turned: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A status of the legend: its address adds it to the filter, or takes it out again."""

    value: str
    chosen: bool
    address: str


@access.signed_in
@require_safe
def run_list(request: SignedInRequest) -> HttpResponse:
    filters = RunFilterForm(request.GET, request.user)
    page = page_of(_found(request, filters), request.user, timezone.now())
    if not page.rows and not request.GET and not Run.objects.visible_to(request.user).exists():
        return _first_run(request)
    context = {
        "place": "runs",
        "page": page,
        "filters": filters,
        "chips": _chips(filters),
        "legend": _legend(filters),
        "older": _address(request.GET, after=str(page.older)) if page.older else None,
        "newest": _address(request.GET, after=None) if "after" in request.GET else None,
        "several_owners": filters.several_owners,
        "without_search": _address(request.GET, q=None, after=None),
        "here": request.get_full_path(),
    }
    if wants(request, "rows"):  # the next rows, to be appended
        return render_part(request, "runs/run_list.html", context, part="rows", target="rows")
    return render_part(request, "runs/run_list.html", context, part="list", target="list")


def _found(request: SignedInRequest, filters: RunFilterForm) -> Found:
    """Nothing while the query has mistakes: a list that ignores them would be taken for its answer."""
    try:
        if not filters.problems:
            return find_runs(filters.query, request.user, cursor_of(request), PAGE)
    except QueryError as error:  # words without a letter, which only the search can tell
        filters.problems = error.problems
    return Found([], None)


@access.signed_in
@require_safe
def run_row(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """A row that polls itself; 204 while it looks as it did."""
    row = row_of(find_run(request, run_id), request.user)
    if row.version == request.GET.get("v"):
        return unchanged()
    several_owners = len(owner_ids(request.user)) > 1
    context = {"row": row, "here": reverse("run_list"), "several_owners": several_owners}
    return render(request, "runs/run_list.html#row", context)


@access.signed_in
@require_safe
def first_run(request: SignedInRequest) -> HttpResponse:
    """What the waiting page asks every two seconds."""
    if Run.objects.visible_to(request.user).exists():
        return HttpResponseClientRefresh()
    return unchanged()


def _first_run(request: SignedInRequest) -> HttpResponse:
    context = {
        "place": "runs",
        "address": f"{settings.PUBLIC_URL}/api/runs",
        "token_file": settings.RUNFOLIO_DATA / "token",
        "sample": settings.BASE_DIR / "samples" / "run.json",
    }
    return render(request, "runs/first_run.html", context)


def _chips(filters: RunFilterForm) -> list[Chip]:
    return [_chip(filters, name) for name in (*NEGATABLE, "run") if filters.cleaned_data.get(name)]


def _chip(filters: RunFilterForm, name: str) -> Chip:
    data, negated = filters.data, name in filters.negated
    if name == "status":
        words = " or ".join(str(Status(value).label).lower() for value in filters.cleaned_data["status"])
    elif name == "owner":
        words = filters.cleaned_data["owner"].name
    else:
        words = data[name]
    others = [other for other in filters.negated if other != name]
    return Chip(
        name=str(filters.fields[name].label or name).lower(),
        words=words,
        negated=negated,
        without=_address(data, **{name: None, "not": others, "after": None}),
        turned=""
        if name == "run"
        else _address(data, **{"not": others if negated else [*others, name]}, after=None),
    )


def _legend(filters: RunFilterForm) -> list[Choice]:
    chosen = filters.cleaned_data.get("status", [])
    order = ["succeeded", "failed", "cancelled", "running", "input_required", "queued", "paused"]
    return [
        Choice(
            value,
            value in chosen,
            _address(
                filters.data,
                status=[one for one in order if (one in chosen) != (one == value)],
                after=None,
            ),
        )
        for value in order
    ]


def _address(data: Any, **changes: Any) -> str:
    """This page with another query string; None or an empty list takes a parameter out."""
    query = {name: values for name, values in data.lists() if name not in changes}
    for name, value in changes.items():
        if value:
            query[name] = value if isinstance(value, list) else [value]
    query = {name: [one for one in values if one] for name, values in query.items()}
    encoded = urlencode(query, doseq=True)
    return f"{reverse('run_list')}?{encoded}" if encoded else reverse("run_list")
