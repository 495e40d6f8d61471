"""Saved views: tabs of the runs list, private or shared with an owner (issue 5, point 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

from django import forms
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect

from runs import access
from runs.access import SignedInRequest
from runs.models import Action, Owner, SavedView, owner_ids, require
from runs.models.saved_view import NameTaken
from runs.pages.asked import list_address
from runs.pages.parts import is_htmx
from runs.pages.run_table import COLUMNS, Columns
from runs.query import QueryError, parse

BUILT_IN = {"All": "", "Failures": "status:failed", "Unreviewed": "is:final feedback:0"}


@dataclass(frozen=True, slots=True)
class Tab:
    """A view among the others. `change` is where it is renamed or replaced, for those who may."""

    name: str
    address: str
    current: bool
    is_changed: bool = False
    change: str = ""


class ViewForm(forms.Form):
    """What a view is called and who sees it; `q` and `columns` are what the list shows at the time.

    A view that is there keeps what it shows, unless `replace` says otherwise.
    """

    name = forms.CharField(max_length=60, widget=forms.TextInput(attrs={"class": "in", "autofocus": True}))
    owner = forms.ChoiceField(required=False, label="Who sees it", widget=forms.Select(attrs={"class": "in"}))
    q = forms.CharField(required=False, strip=False, widget=forms.HiddenInput)
    columns = forms.CharField(required=False, max_length=500, widget=forms.HiddenInput)
    replace = forms.BooleanField(required=False)

    def __init__(self, request: SignedInRequest, data: QueryDict | None, view: SavedView) -> None:
        shown = {name: request.GET.get(name, "") for name in ("q", "columns")}
        super().__init__(data, initial={**shown, "name": view.name, "owner": view.owner_id or ""})
        self.user = request.user
        owners = Owner.objects.filter(pk__in=owner_ids(request.user, Action.SUBMIT))
        self.owners = {str(owner.pk): owner for owner in owners}
        shared = [(key, f"All who see {owner}") for key, owner in self.owners.items()]
        self.fields["owner"].choices = [("", "Only I"), *shared]  # type: ignore[attr-defined]

    def clean_q(self) -> str:
        try:
            parse(self.cleaned_data["q"], timezone.now(), self.user.zone)
        except QueryError as error:
            raise forms.ValidationError(f"The search has a mistake: {error.message}") from None
        return str(self.cleaned_data["q"])

    def clean_columns(self) -> tuple[str, ...]:
        return Columns.read([self.cleaned_data["columns"]]).chosen


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def view_new(request: SignedInRequest) -> HttpResponse:
    """Asks for a name for what the list shows."""
    return _sheet(request, SavedView(author=request.user))


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def view_change(request: SignedInRequest, view_id: int) -> HttpResponse:
    """Renames a view, shares it, or replaces what it shows by what the address asks for."""
    return _sheet(request, _find(request, view_id))


@access.signed_in
@require_POST
def view_delete(request: SignedInRequest, view_id: int) -> HttpResponse:
    _find(request, view_id).delete()
    return _go(request, list_address(""))


def tabs(request: SignedInRequest, views: Sequence[SavedView], text: str, columns: Columns) -> list[Tab]:
    """The built-in ones, then the person's own and shared ones; the one that is on is marked."""
    number = request.GET.get("view", "")
    on = next((view for view in views if str(view.pk) == number), None)
    on = on or next((view for view in views if _shows(view, text, columns)), None)
    usual = not columns.chosen and on is None
    built_in = [Tab(name, list_address(q), usual and q == text) for name, q in BUILT_IN.items()]
    return [*built_in, *(_tab(request, view, view is on, text, columns) for view in views)]


def lost_columns(names: Sequence[str]) -> list[str]:
    """Those of the names that no column has any more."""
    return [name for one in names for name in one.split(",") if name and name not in (*COLUMNS, "run")]


def view_address(view: SavedView) -> str:
    return list_address(view.query, columns=",".join(view.columns), view=str(view.pk))


def _tab(request: SignedInRequest, view: SavedView, is_on: bool, text: str, columns: Columns) -> Tab:
    mine = view.owner_id is None or view.owner_id in request.rights[Action.SUBMIT]
    shown = list_address(text, columns=str(columns)).partition("?")[2]
    changed = is_on and not _shows(view, text, columns)
    change = f"/views/{view.pk}{f'?{shown}' if shown else ''}" if is_on and mine else ""
    return Tab(view.name, view_address(view), is_on, changed, change)


def _shows(view: SavedView, text: str, columns: Columns) -> bool:
    return view.query == text and Columns.read(view.columns) == columns


def _sheet(request: SignedInRequest, view: SavedView) -> HttpResponse:
    form = ViewForm(request, request.POST if request.method == "POST" else None, view)
    if form.is_valid() and _keep(view, form):
        return _go(request, view_address(view))
    context = {"place": "runs", "form": form, "view": view, "differs": _differs(request, view)}
    template = "runs/view_sheet.html" if is_htmx(request) else "runs/view_page.html"
    return render(request, template, context, status=422 if form.errors else 200)


def _keep(view: SavedView, form: ViewForm) -> bool:
    """False where the name is taken, which the form then says."""
    given = form.cleaned_data
    is_new = given["replace"] or view.pk is None
    query, columns = (given["q"], given["columns"]) if is_new else (view.query, view.columns)
    try:
        view.keep(given["name"], query, columns, form.owners.get(given["owner"]))
    except NameTaken as error:
        form.add_error("name", str(error))
        return False
    return True


def _differs(request: SignedInRequest, view: SavedView) -> bool:
    """Whether the list shows something else than the view that is there."""
    columns = Columns.read([request.GET.get("columns", "")])
    return bool(view.pk and request.GET) and not _shows(view, request.GET.get("q", ""), columns)


def _find(request: SignedInRequest, view_id: int) -> SavedView:
    """A view that the person may change; NotAllowed where they may see it alone."""
    view = SavedView.objects.find(request.user, view_id)
    if view is None:
        raise Http404
    if view.owner is not None:
        require(request.user, Action.SUBMIT, view.owner)
    return view


def _go(request: SignedInRequest, address: str) -> HttpResponse:
    return HttpResponseClientRedirect(address) if is_htmx(request) else redirect(address)
