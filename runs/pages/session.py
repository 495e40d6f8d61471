"""Sessions: their list, and one with its runs."""

from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_safe

from runs import access
from runs.access import SignedInRequest
from runs.models import Session
from runs.models.listing import runs_of
from runs.models.paging import Cursor
from runs.pages.parts import render_part
from runs.pages.run_table import PAGE, cursor_of, page_of


@access.signed_in
@require_safe
def session_list(request: SignedInRequest) -> HttpResponse:
    sessions = Session.objects.visible_to(request.user).defer("metadata").select_related("owner")
    after = cursor_of(request)
    if after:
        sessions = sessions.older_than(after.created_at, after.id)
    found = list(sessions.newest_first()[: PAGE + 1])
    shown = found[:PAGE]
    older = f"?after={Cursor(shown[-1].created_at, shown[-1].pk)}" if len(found) > PAGE else None
    context = {"place": "sessions", "sessions": shown, "older": older, "now": timezone.now()}
    return render_part(request, "sessions/session_list.html", context, part="rows", target="rows")


@access.signed_in
@require_safe
def session(request: SignedInRequest, session_id: UUID) -> HttpResponse:
    found = get_object_or_404(Session.objects.visible_to(request.user).select_related("owner"), pk=session_id)
    now = timezone.now()
    page = page_of(runs_of(found, cursor_of(request), PAGE), request.user, now)
    context = {
        "place": "sessions",
        "session": found,
        "page": page,
        "now": now,
        "older": f"?after={page.older}" if page.older else None,
        "here": request.get_full_path(),
    }
    return render_part(request, "sessions/session.html", context, part="rows", target="rows")
