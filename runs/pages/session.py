"""Sessions: their list, and one with its conversation and its runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from runs import access
from runs.access import SignedInRequest
from runs.models import Action, Choice, Owner, Session
from runs.models.listing import runs_of
from runs.models.paging import Cursor
from runs.models.session import Latest, SessionQuerySet, latest_runs
from runs.pages import text, thread
from runs.pages.jinja import draw
from runs.pages.parts import render_part, wants
from runs.pages.run_table import PAGE, cursor_of, page_of
from runs.query import Compare, Condition, OneOf, Query, QueryError, parse

_FILTERS = ("q", "since", "before", "agent", "source", "owner")
_CHOICES = 300  # values that a filter offers
_METADATA = 4_000  # characters that are shown
_LONGEST = 200  # characters of a filter


class TimeField(forms.CharField):
    """A time in the words of the search: 7d, today, 2026-11-01, 2026-11-01T09:00."""

    def __init__(self, label: str) -> None:
        hint = forms.TextInput(attrs={"placeholder": "7d, today or 2026-11-01T09:00"})
        super().__init__(label=label, required=False, max_length=_LONGEST, widget=hint)

    def clean(self, value: Any) -> datetime | None:
        written = super().clean(value)
        if not written:
            return None
        try:
            conditions = parse(f"after:{written}", timezone.now(), timezone.get_current_timezone()).conditions
        except QueryError:
            conditions = ()
        if len(conditions) != 1:
            raise forms.ValidationError("Write an age such as 7d, a day such as 2026-11-01, or a time.")
        return cast(datetime, cast(Compare, conditions[0].test).value)


class SessionFilterForm(forms.Form):
    """The query string of the list."""

    q = forms.CharField(required=False, max_length=_LONGEST, label="Words of its title or key")
    since = TimeField("Still going on at or after")
    before = TimeField("Begun before")
    agent = forms.CharField(required=False, max_length=_LONGEST, label="Agent")
    source = forms.CharField(required=False, max_length=_LONGEST, label="Source")
    owner = forms.CharField(required=False, max_length=_LONGEST, label="Owner")

    @property
    def asked(self) -> dict[str, str]:
        """What the address asks for, as it was typed."""
        return {name: self.data[name] for name in _FILTERS if self.data.get(name)}

    def sessions(self, sessions: SessionQuerySet) -> SessionQuerySet:
        given = self.cleaned_data
        found = sessions.lasting_into(given["since"], given["before"]).named(given["q"])
        for name in ("agent", "source"):
            if given[name]:
                found = found.filter(**{name: given[name]})
        return found.filter(owner__name=given["owner"]) if given["owner"] else found


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is on, and the address without it."""

    name: str
    words: str
    without: str


@access.signed_in
@require_safe
def session_list(request: SignedInRequest) -> HttpResponse:
    filters = SessionFilterForm(request.GET)
    shown, older = _page(request, filters) if filters.is_valid() else ([], None)
    owners = dict(Owner.objects.filter(pk__in=request.rights[Action.VIEW]).values_list("pk", "name"))
    now = timezone.now()
    more = _address(filters.asked, after=str(older)) if older else None
    context: dict[str, Any] = {
        "place": "sessions",
        "rows": _draw(shown, owners, now),
        "older": more,
        "filters": filters,
    }
    if wants(request, "rows"):
        return render_part(request, "sessions/session_list.html", context, part="rows", target="rows")
    context |= {
        "chips": _chips(filters),
        "choices": _choices(request),
        "owners": sorted(owners.values()),
        "several_owners": len(owners) > 1,
        "newest": _address(filters.asked) if "after" in request.GET else None,
        "is_first": not request.GET,
    }
    return render_part(request, "sessions/session_list.html", context, part="list", target="list")


@access.signed_in
@require_safe
def session(request: SignedInRequest, session_id: UUID) -> HttpResponse:
    found = get_object_or_404(Session.objects.visible_to(request.user).select_related("owner"), pk=session_id)
    now = timezone.now()
    query = str(Query((Condition(OneOf("session", (found.key,))),)))
    context: dict[str, Any] = {
        "place": "sessions",
        "session": found,
        "now": now,
        "export": urlencode({"q": query}),
    }
    if request.GET.get("tab") == "runs":
        return _runs(request, found, context)
    shown = _thread(request, found, now)
    newest = shown.pieces[-1].run if shown.pieces and not shown.later else None
    context |= {"tab": "conversation", "thread": shown, "newest": newest, "metadata": _metadata(found)}
    return render_part(request, "sessions/session.html", context, part="thread", target="thread")


def _thread(request: HttpRequest, session: Session, now: datetime) -> thread.Thread:
    if "from" in request.GET:
        return thread.earliest(session, now, thread.Place.parse(request.GET["from"]))
    return thread.latest(session, now, thread.Place.parse(request.GET.get("until", "")))


def _metadata(session: Session) -> str:
    """Its beginning, as JSON; empty where there is none."""
    if not session.metadata:
        return ""
    written = json.dumps(session.metadata, indent=1, ensure_ascii=False)
    return text.visible(text.shortened(text.without_base64(written), _METADATA))


def _runs(request: SignedInRequest, session: Session, context: dict[str, Any]) -> HttpResponse:
    page = page_of(runs_of(session, cursor_of(request), PAGE), request.user, context["now"])
    context |= {
        "tab": "runs",
        "page": page,
        "older": f"?tab=runs&after={page.older}" if page.older else None,
        "here": request.get_full_path(),
    }
    return render_part(request, "sessions/session.html", context, part="rows", target="rows")


# ── The list ───────────────────────────────────────────────────────────────
def _page(request: SignedInRequest, filters: SessionFilterForm) -> tuple[list[Session], Cursor | None]:
    """The sessions of a page, and the last of them where there are more."""
    sessions = Session.objects.filter(owner__in=request.rights[Action.VIEW], deleted_at=None)
    found = filters.sessions(sessions.defer("metadata"))
    if after := cursor_of(request):
        found = found.older_than(after.created_at, after.id)
    rows = list(found.newest_first()[: PAGE + 1])
    last = rows[PAGE - 1] if len(rows) > PAGE else None
    return rows[:PAGE], Cursor(last.created_at, last.pk) if last else None


def _draw(sessions: Sequence[Session], owners: Mapping[int, str], now: datetime) -> SafeString:
    latest: Mapping[UUID, Latest] = latest_runs(sessions) if sessions else {}
    several = len(owners) > 1
    return draw("sessions/rows", sessions=sessions, latest=latest, owners=owners, several=several, now=now)


def _chips(filters: SessionFilterForm) -> list[Chip]:
    names = {"q": "words", "since": "until after", "before": "begun before"}
    asked = filters.asked
    return [
        Chip(names.get(name, name), words, _address({**asked, name: ""})) for name, words in asked.items()
    ]


def _choices(request: SignedInRequest) -> dict[str, list[str]]:
    """What the filters offer; from a small table, never from the sessions (DESIGN.md 3.4)."""
    kept = Choice.objects.filter(owner__in=request.rights[Action.VIEW], field__in=("agent", "source"))
    offered: dict[str, list[str]] = {"agent": [], "source": []}
    for name, value in kept.order_by("field", "value").values_list("field", "value").distinct()[:_CHOICES]:
        offered[name].append(value)
    return offered


def _address(asked: Mapping[str, str], **more: str) -> str:
    given = {name: value for name, value in {**asked, **more}.items() if value}
    return f"?{urlencode(given)}" if given else "?"
