"""Acting on one run: cancel, force, retry, delete, restore (issue 5, point 4).

Each is a sheet that names what it hits and one confirmation; the right is asked for again with it, and
doing it twice changes nothing more.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect, HttpResponseClientRefresh

from runs import access
from runs.access import SignedInRequest
from runs.models import (
    OPEN,
    Action,
    Change,
    Run,
    SpecConflict,
    User,
    correction,
    delete_runs,
    owner_ids,
    request_cancel,
    require,
    restore_runs,
    retry_once,
)
from runs.models import force_cancel as end_cancelled
from runs.models.carrying import NO_REASON
from runs.models.deletion import grace
from runs.models.ids import uuid7
from runs.models.paging import Cursor
from runs.models.run import PAYLOADS
from runs.pages import text
from runs.pages.parts import find_run, is_htmx, render_part
from runs.pages.run_table import cursor_of
from runs.sealing import Unsealable

FORCE_AFTER = timedelta(seconds=30)  # that a cancel was asked for and did not come about
_DELETED = 50  # rows of a page
_TOAST = "toast"  # templates/parts/toasts.html; the address of an undo says the same, with a button


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=1000,
        label="Why",
        widget=forms.TextInput(attrs={"class": "in", "placeholder": "Shown on the run and to the agent"}),
    )


class AnyReasonForm(forms.Form):
    reason = forms.CharField(
        required=False,
        max_length=1000,
        label="Why",
        widget=forms.TextInput(attrs={"class": "in", "placeholder": "Kept with the run"}),
    )


class RetryForm(AnyReasonForm):
    """`key` is the id that the new run gets: sent twice, the form makes one."""

    key = forms.UUIDField(widget=forms.HiddenInput)


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def cancel(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """Asks why, then cancels; safe to repeat, and a final run only says that it is over."""
    found = find_run(request, run_id, Action.CANCEL)
    form = ReasonForm(_posted(request))
    if form.is_valid():
        request_cancel(found, by=request.user.display_name, reason=form.cleaned_data["reason"])
        return HttpResponseClientRefresh() if is_htmx(request) else redirect("run", run_id)
    return _sheet(request, "runs/cancel.html", found, form)


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def force(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """Ends a run whose cancel was asked for FORCE_AFTER ago; before that it says when it can."""
    found = find_run(request, run_id, Action.CANCEL)
    form = ReasonForm(_posted(request))
    form.fields["reason"].widget.attrs["placeholder"] = "Kept among the run's changes"
    may = _may_force(found, timezone.now())
    if form.is_valid() and (may or found.is_final):
        reason = form.cleaned_data["reason"]
        if not found.is_final:
            with correction(request.user.actor, reason, request.META["REQUEST_ID"]):
                end_cancelled(found, request.user.display_name, reason)
        return HttpResponseClientRefresh() if is_htmx(request) else redirect("run", run_id)
    asked = found.cancel_requested_at
    return _sheet(request, "runs/force.html", found, form, may=may, since=asked and asked + FORCE_AFTER)


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def retry(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """Queues the evaluation anew and leads there; where that is done already, it leads there as well."""
    found = find_run(request, run_id, Action.RETRY)
    form = RetryForm(_posted(request), initial={"key": uuid7()})
    can = found.is_evaluation and found.is_final
    if can and form.is_valid():
        given = form.cleaned_data
        try:
            again = retry_once(found, request.user.display_name, given["reason"], given["key"])
            return _go(request, reverse("run", args=[again.pk]))
        except Unsealable as error:
            form.add_error(None, f"It cannot be retried: {error}")
        except SpecConflict:
            form.data = {"reason": request.POST.get("reason", ""), "key": uuid7()}
            form.add_error(None, "This form was used for another run. Send it once more.")
    under_way = _retry_under_way(found) if can else None
    return _sheet(request, "runs/retry.html", found, form, can=can, under_way=under_way)


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """Puts the run away, to be restored for a while; one that is away already is shown where it waits."""
    try:
        found = find_run(request, run_id, Action.DELETE)
    except Http404:
        _put_away(request, run_id)
        return _go(request, reverse("deleted_runs"))
    form = AnyReasonForm(_posted(request))
    if form.is_valid():
        reason = form.cleaned_data["reason"] or NO_REASON
        delete_runs(_this(found), request.user.actor, reason, request.META["REQUEST_ID"])
        undo = reverse("restore", args=[found.pk])
        messages.success(request, f"Deleted “{_short(found)}”.", extra_tags=undo)
        return _go(request, reverse("run_list"))
    return _sheet(request, "runs/delete.html", found, form, until=timezone.now() + grace())


@access.signed_in
@require_POST
def restore(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """Brings a deleted run back, within the grace time; one that is there is shown."""
    found = _put_away(request, run_id)
    if found.deleted_at is None:
        return redirect("run", run_id)
    if restore_runs(_this(found), request.user.actor, "restored by hand", request.META["REQUEST_ID"]):
        messages.success(request, f"Restored “{_short(found)}”.", extra_tags=_TOAST)
        return redirect("run", run_id)
    messages.error(request, f"“{_short(found)}” cannot be restored any more.", extra_tags=_TOAST)
    return redirect("deleted_runs")


@dataclass(frozen=True, slots=True)
class Gone:
    """A deleted run as a line of the table."""

    run: Run
    by: str
    reason: str
    until: datetime


@access.signed_in
@require_safe
def deleted_runs(request: SignedInRequest) -> HttpResponse:
    """What one may restore, and until when: the last deleted on top."""
    require(request.user, Action.DELETE)
    now, after = timezone.now(), cursor_of(request)
    away = _away(request).filter(deleted_at__gte=now - grace())
    if after is not None:
        away = away.filter(deleted_at__lte=after.created_at).exclude(
            deleted_at=after.created_at, pk__gte=after.id
        )
    runs = list(away.order_by("-deleted_at", "-pk")[: _DELETED + 1])
    more = len(runs) > _DELETED
    last = runs[_DELETED - 1] if more else None
    context = {
        "place": "runs",
        "now": now,
        "rows": _gone(runs[:_DELETED]),
        "older": Cursor(_when(last), last.pk) if last else None,
        "later": after,
        "days": grace().days,
    }
    return render(request, "runs/deleted.html", context)


# ── Answers ────────────────────────────────────────────────────────────────
def _posted(request: HttpRequest) -> Any:
    return request.POST if request.method == "POST" else None


def _sheet(request: HttpRequest, template: str, run: Run, form: forms.Form, **context: Any) -> HttpResponse:
    """The question, in a dialog or as a page; 422 where it was answered and that was not done."""
    context |= {"place": "runs", "run": run, "form": form, "now": timezone.now()}
    status = 422 if form.is_bound else 200
    return render_part(request, template, context, part="sheet", target="dialog", status=status)


def _go(request: HttpRequest, address: str) -> HttpResponse:
    return HttpResponseClientRedirect(address) if is_htmx(request) else redirect(address)


# ── Runs ───────────────────────────────────────────────────────────────────
def _this(run: Run) -> QuerySet[Run]:
    return Run.objects.filter(pk=run.pk)


def _may_force(run: Run, now: datetime) -> bool:
    asked = run.cancel_requested_at
    return asked is not None and not run.is_final and now >= asked + FORCE_AFTER


def _retry_under_way(run: Run) -> Run | None:
    again = Run.objects.filter(retried=run, owner=run.owner_id, deleted_at=None, status__in=sorted(OPEN))
    return again.defer(*PAYLOADS).newest_first().first()


def _put_away(request: SignedInRequest, run_id: UUID) -> Run:
    """The run, deleted or not.

    Raises Http404 where it is missing or not this person's, NotAllowed where they may not delete it.
    """
    seen = Run.objects.filter(owner__in=owner_ids(request.user)).select_related("owner").defer(*PAYLOADS)
    found: Run = get_object_or_404(seen, pk=run_id)
    require(request.user, Action.DELETE, found.owner)
    return found


def _away(request: SignedInRequest) -> QuerySet[Run]:
    theirs = Run.objects.filter(owner__in=owner_ids(request.user, Action.DELETE), deleted_at__isnull=False)
    return theirs.select_related("owner").defer(*PAYLOADS)


def _gone(runs: list[Run]) -> list[Gone]:
    reasons = _reasons(runs)
    names = _names({run.deleted_by for run in runs})
    return [
        Gone(run, names.get(run.deleted_by, run.deleted_by), reasons.get(run.pk, ""), _when(run) + grace())
        for run in runs
    ]


def _when(run: Run) -> datetime:
    """Of a run that is deleted."""
    return cast(datetime, run.deleted_at)


def _reasons(runs: list[Run]) -> dict[UUID, str]:
    """Why each was deleted the last time."""
    changes = Change.objects.filter(run__in=[run.pk for run in runs], field="deleted_at", old__isnull=True)
    given = dict(changes.order_by("pk").values_list("run_id", "reason"))
    return {run_id: "" if reason == NO_REASON else reason for run_id, reason in given.items()}


def _names(actors: set[str]) -> dict[str, str]:
    """What people are called now; the record names them for good, by number."""
    numbers = [actor.removeprefix("user:") for actor in actors if actor.startswith("user:")]
    people = User.objects.filter(pk__in=[number for number in numbers if number.isdecimal()])
    return {person.actor: person.display_name for person in people}


def _short(run: Run) -> str:
    return text.visible(str(run))[:80]
