"""The runs: filtered, newest first, with the rating in the row."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseClientRefresh, push_url, reswap, retarget

from runs import access
from runs.access import SignedInRequest
from runs.models import Action, Run, SavedView, Status
from runs.models.bulk import NEEDS, BulkJob
from runs.models.listing import Found, find_runs
from runs.models.paging import Cursor
from runs.models.tally import newer_than
from runs.pages.asked import OLDER, Asked, Links, asked, beside, beside_list
from runs.pages.chips import chips
from runs.pages.completion import mistakes_in
from runs.pages.jinja import draw
from runs.pages.parts import render_part, unchanged, visible_runs, wants
from runs.pages.peek import peeked
from runs.pages.run_table import (
    COLUMNS,
    PAGE,
    Columns,
    Page,
    Row,
    cursor_of,
    draw_rows,
    page_of,
    rows_of,
)
from runs.pages.strip import draw_legend, draw_strip
from runs.pages.views import lost_columns, tabs, view_address
from runs.query import QueryError

_TEMPLATE = "runs/run_list.html"
_UNDERSTOOD = frozenset(("q", "after", "columns", "view", "peek", "select", "strip", *OLDER))
_ACTIONS = (BulkJob.Action.CANCEL, BulkJob.Action.RETRY, BulkJob.Action.REVIEW, BulkJob.Action.DELETE)
# For those who do not know the language: what they choose is added to the query.
_FILTERS: Sequence[tuple[str, str, Sequence[tuple[str, str]]]] = (
    ("status", "Status", Status.choices),
    ("kind", "Kind", Run.Kind.choices),
    ("agent", "Agent, its whole name", ()),
    ("session", "Session, its whole key", ()),
    ("run", "Run id, or how it begins", ()),
)
_LIVE = 60  # rows that one poll follows
_NEWER = 100  # newer runs that are counted


@access.signed_in
@require_safe
def run_list(request: SignedInRequest) -> HttpResponse:
    if view := _view_alone(request):
        return redirect(view_address(view))
    wanted, found = _found(request, asked(request.GET, request.user))
    links = Links(wanted.query, **beside(request.GET))
    page = _page(request, found, links)
    if wants(request, "rows"):  # the next rows, to be appended
        return render_part(request, _TEMPLATE, _rows(request, page), part="rows", target="rows")
    if wants(request, "list") and wanted.problems:  # the page goes on showing what it shows
        return _mistakes(request, wanted)
    if not page.rows and not request.GET and not Run.objects.visible_to(request.user).exists():
        return _first_run(request)
    context = {**_rows(request, page), **_tools(request, wanted, links, page)}
    response = render_part(request, _TEMPLATE, context, part="list", target="list")
    return push_url(response, links.asking(links.query)) if wants(request, "list") else response


@access.signed_in
@require_safe
def live_rows(request: SignedInRequest) -> HttpResponse:
    """Those of the rows that a page shows which look different by now; 204 where none does.

    Answers 286, which ends htmx's polling, once none of them moves any more.
    """
    shown = dict(one.partition(".")[::2] for one in request.GET.getlist("live")[:_LIVE])
    runs = list(visible_runs(request).filter(pk__in=filter(None, map(_uuid, shown))))
    now = timezone.now()
    moved = [run for run in runs if Row(run, now).version != shown[run.pk.hex]]
    status = 286 if all(run.is_final for run in runs) else 200
    if not moved and status == 200:
        return unchanged()
    page = Page(
        rows_of(moved, request.user, now),
        None,
        links=Links(asked(request.GET, request.user).query, **beside(request.GET)),
        columns=Columns.read(request.GET.getlist("columns")),
        picks="picks" in request.GET,
    )
    return HttpResponse(draw_rows(request, page, request.GET.get("here", "/"), oob=True), status=status)


@access.signed_in
@require_safe
def newer_runs(request: SignedInRequest) -> HttpResponse:
    """How many came after what the page shows; 204 where that is as many as it says already."""
    wanted, since = asked(request.GET, request.user), cursor_of(request)
    if since is None or wanted.problems:
        return unchanged()
    count = newer_than(wanted.query, request.user, since, _NEWER)
    if not count or str(count) == request.GET.get("known"):
        return unchanged()
    links = Links(wanted.query, **beside(request.GET))
    newest = links.asking(links.query)
    context = {"since": since, "count": count, "most": _NEWER, "newest": newest}
    return render(request, "runs/newer.html", context)


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


def _view_alone(request: SignedInRequest) -> SavedView | None:
    """The saved view that an address names without saying what it asks for."""
    number = request.GET.get("view", "")
    if len(request.GET) > 1 or not number.isdecimal() or len(number) > 18:
        return None
    return SavedView.objects.find(request.user, int(number))


def _found(request: SignedInRequest, wanted: Asked) -> tuple[Asked, Found]:
    """Nothing while the query has mistakes: a list that ignores them would be taken for its answer."""
    try:
        if not wanted.problems:
            owners = request.rights[Action.VIEW]
            return wanted, find_runs(wanted.query, request.user, cursor_of(request), PAGE, owners=owners)
    except QueryError as error:  # words without a letter, which only the search can tell
        wanted = replace(wanted, problems=error.problems)
    return wanted, Found([], None)


def _page(request: SignedInRequest, found: Found, links: Links) -> Page:
    return replace(
        page_of(found, request.user, timezone.now()),
        links=links,
        columns=Columns.read(request.GET.getlist("columns")),
        picks=True,
        all_picked=request.GET.get("select") == "all",
    )


def _rows(request: SignedInRequest, page: Page) -> dict[str, Any]:
    """What the rows need, those of the first page and those that are appended."""
    select = {"select": "all"} if page.all_picked else {}
    older = page.links.asking(page.links.query, after=str(page.older), **select) if page.older else None
    return {"page": page, "older": older, "here": page.links.asking(page.links.query)}


def _tools(request: SignedInRequest, wanted: Asked, links: Links, page: Page) -> dict[str, Any]:
    """What stands above and beside the rows."""
    query, columns = links.query, page.columns
    newest = page.rows[0].run if page.rows and "after" not in request.GET else None
    since = newest and str(Cursor(newest.created_at, newest.pk))
    views = SavedView.objects.seen_by(request.user, request.rights[Action.VIEW])
    return {
        "place": "runs",
        "text": wanted.text,
        "links": links,
        "mistakes": mistakes_in(wanted.text, wanted.problems),
        "ignored": [*wanted.ignored, *sorted(name[:60] for name in set(request.GET) - _UNDERSTOOD)],
        "chips": chips(links),
        "has_strip": "strip" in request.GET,
        "strip": draw_strip(request, wanted, links) if "strip" in request.GET else draw_legend(links),
        "filters": _filter_fields(),
        "columns": [(name, label, name in columns.shown) for name, label in COLUMNS.items()],
        "lost": lost_columns(request.GET.getlist("columns")),
        "tabs": tabs(request, views, wanted.text, columns),
        "newest": links.asking(query) if "after" in request.GET else None,
        "actions": _actions(request),
        "also": wants(request, "list"),
        "peek": None if wants(request, "list") else peeked(request),
        "to": {
            "all": reverse("run_list"),
            "usual": links.asking(query, columns=""),
            "everything": links.asking(query, select="all"),
            "none": links.asking(query),
            "strip": beside_list(reverse("strip"), links),
            "with_strip": links.asking(query, strip="1"),
            "newer": since and beside_list(reverse("newer_runs"), links, after=since),
            "save": beside_list(reverse("view_new"), links),
            "export": beside_list(reverse("export_choose"), links),
        },
    }


@cache
def _filter_fields() -> SafeString:
    return draw("runs/filter_fields", fields=_FILTERS)


def _actions(request: SignedInRequest) -> list[tuple[str, str]]:
    """What may be done with many, for some owner at least: the sheet that answers says for which."""
    return [(str(one.value), str(one.label)) for one in _ACTIONS if request.rights[NEEDS[one]]]


def _mistakes(request: SignedInRequest, wanted: Asked) -> HttpResponse:
    """What is wrong, under the box; the list stays as it is."""
    context = {"mistakes": mistakes_in(wanted.text, wanted.problems), "still": True}
    response = render(request, f"{_TEMPLATE}#mistakes", context)
    return push_url(retarget(reswap(response, "outerHTML"), "#q-said"), False)


def _uuid(digits: str) -> UUID | None:
    try:
        return UUID(digits)
    except ValueError:
        return None
