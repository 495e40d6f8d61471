"""Acting on many runs at once: asked with a count, carried out by the worker, shown as it goes (issue 5).

The sheet binds what it counted: the filter fixed in time, until when runs were made, and how many those are.
What is confirmed is counted again, and where that differs, asked again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect, reswap, retarget

from runs import access, errors
from runs.access import SignedInRequest
from runs.models import BulkJob, Owner, ReviewQueue, require
from runs.models.bulk import NEEDS, start, stop, undo, undoing_of
from runs.models.deletion import grace
from runs.models.ids import uuid7
from runs.models.review import QueueTaken, open_queue
from runs.models.selection import CHOSEN, Meant, Tally, owners_for, tally
from runs.pages.asked import asked, list_address
from runs.pages.parts import is_htmx, render_part, unchanged
from runs.query import Problem, Query, QueryError, parse

_JOBS = 50  # that a page lists
ACTIONS = [BulkJob.Action.CANCEL, BulkJob.Action.RETRY, BulkJob.Action.DELETE, BulkJob.Action.REVIEW]
_NEW = ""  # the choice of a review queue that is yet to be made


class AskForm(forms.Form):
    action = forms.ChoiceField(choices=[(action.value, action.label) for action in ACTIONS])


class BulkForm(AskForm):
    """What a sheet was shown for, and what was answered. `job` is the id that the job gets: sent twice, the
    form starts one."""

    q = forms.CharField(required=False, strip=False)
    until = forms.DateTimeField()
    job = forms.UUIDField()
    counted = forms.IntegerField(min_value=0)
    exact = forms.BooleanField(required=False)
    reason = forms.CharField(
        required=False,
        max_length=1000,
        label="Why",
        widget=forms.TextInput(attrs={"class": "in", "placeholder": "Kept with each of the runs"}),
    )
    queue = forms.ChoiceField(
        required=False, label="Review queue", widget=forms.Select(attrs={"class": "in"})
    )
    name = forms.CharField(
        required=False,
        max_length=100,
        label="Name of a new queue",
        widget=forms.TextInput(attrs={"class": "in"}),
    )
    owner = forms.ChoiceField(
        required=False, label="Owner of a new queue", widget=forms.Select(attrs={"class": "in"})
    )

    def __init__(self, data: Any, owners: Sequence[Owner], **options: Any) -> None:
        super().__init__(data, **options)
        self.owners = {str(owner.pk): owner for owner in owners}
        self.queues = {str(queue.pk): queue for queue in _queues(owners)}
        named = [(key, f"{queue} of {queue.owner}") for key, queue in self.queues.items()]
        self.fields["queue"].choices = [(_NEW, "A new one"), *named]  # type: ignore[attr-defined]
        self.fields["owner"].choices = [(key, owner.name) for key, owner in self.owners.items()]  # type: ignore[attr-defined]
        for name in ("queue", "name", "owner"):  # one of them is, so none is optional
            self.fields[name].needed = True  # type: ignore[attr-defined]
        self.fields["reason"].required = self.data.get("action") == BulkJob.Action.CANCEL

    def clean_until(self) -> datetime:
        """A time to come would take in runs that nobody has counted."""
        return min(self.cleaned_data["until"], timezone.now())

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        reviews = cleaned.get("action") == BulkJob.Action.REVIEW
        if reviews and not cleaned.get("queue") and not cleaned.get("name"):
            self.add_error("name", "Choose a queue above, or name a new one.")
        return cleaned

    def find_queue(self) -> ReviewQueue | None:
        """The queue that was chosen; of a new name it is not saved yet."""
        given = self.cleaned_data
        if given["action"] != BulkJob.Action.REVIEW:
            return None
        if chosen := self.queues.get(given["queue"]):
            return chosen
        owner = self.owners.get(given["owner"]) or next(iter(self.owners.values()))
        same = (
            queue
            for queue in self.queues.values()
            if (queue.owner_id, queue.name) == (owner.pk, given["name"])
        )
        return next(same, None) or ReviewQueue(owner=owner, name=given["name"])


# ── Asking and starting ────────────────────────────────────────────────────
@access.signed_in
@require_POST
def bulk_ask(request: SignedInRequest) -> HttpResponse:
    """The sheet: what `action` would do to the runs of `id`, or with `all` to those of the filter."""
    form, chosen = AskForm(request.POST), _chosen(request)
    if not form.is_valid() or chosen is None:
        return _unreadable(request)
    action, everything = form.cleaned_data["action"], "all" in request.POST
    require(request.user, NEEDS[action])
    if not everything and not chosen:
        return _refused(request, action, "No run is chosen", ["Tick some of them, or all of the filter."])
    filtered = asked(request.POST, request.user)
    if everything and filtered.problems:
        return _mistaken(request, action, filtered.problems)
    now = timezone.now()
    meant = Meant(filtered.query.fixed(), now) if everything else Meant(Query(), now, chosen)
    given = {"action": action, "job": uuid7()}
    return _sheet(request, action, meant, BulkForm(None, owners_for(request.user, action), initial=given))


@access.signed_in
@require_POST
def bulk_start(request: SignedInRequest) -> HttpResponse:
    """Starts what the sheet showed; where the number is another by now, it shows the sheet again."""
    asked_for = AskForm(request.POST)
    if not asked_for.is_valid():
        return _unreadable(request)
    action = asked_for.cleaned_data["action"]
    require(request.user, NEEDS[action])
    form, chosen = BulkForm(request.POST, owners_for(request.user, action)), _chosen(request)
    form.full_clean()
    given = form.cleaned_data
    if chosen is None or any(name not in given for name in ("q", "until", "job", "counted")):
        return _unreadable(request)
    if started := _mine(request).filter(pk=given["job"]).first():
        return _shown(request, started)
    try:
        meant = Meant(parse(given["q"], given["until"]), given["until"], chosen)
        queue = form.find_queue() if form.is_valid() else None
        counted = tally(meant, action, request.user, queue)
    except QueryError as error:
        return _mistaken(request, action, error.problems)
    if not form.is_valid() or not counted.can or _differs(counted, given):
        return _sheet(request, action, meant, form, counted)
    return _started(request, action, meant, form, counted, queue)


def _started(
    request: SignedInRequest,
    action: str,
    meant: Meant,
    form: BulkForm,
    counted: Tally,
    queue: ReviewQueue | None,
) -> HttpResponse:
    given = form.cleaned_data
    if queue is not None and queue.pk is None:
        queue = _make_queue(request, queue, meant)
    owners = [queue.owner_id] if queue else [owner.pk for owner in form.owners.values()]
    try:
        job = start(
            request.user,
            action,
            meant.query,
            until=meant.until,
            ids=meant.ids,
            owners=owners,
            counted=counted.can,
            job_id=given["job"],
            reason=given["reason"],
            queue=queue,
        )
    except BulkJob.DoesNotExist:
        raise Http404 from None
    return _shown(request, job)


def _make_queue(request: SignedInRequest, wanted: ReviewQueue, meant: Meant) -> ReviewQueue:
    """Of two who make one of this name at once, both get the same."""
    try:
        return open_queue(wanted.owner, wanted.name, request.user.actor, query=meant.query.text())
    except QueueTaken:
        return ReviewQueue.objects.get(owner=wanted.owner, name=wanted.name)


def _differs(counted: Tally, shown: dict[str, Any]) -> bool:
    """Whether it is another number than the sheet's; two that are "at least" are alike."""
    if not counted.is_exact and not shown["exact"]:
        return False
    return counted.is_exact != shown["exact"] or counted.can != shown["counted"]


def _chosen(request: HttpRequest) -> tuple[UUID, ...] | None:
    """The runs of `id`; None where one is no id, or they are too many."""
    given = request.POST.getlist("id")
    try:
        return tuple(dict.fromkeys(UUID(one) for one in given)) if len(given) <= CHOSEN else None
    except ValueError:
        return None


def _queues(owners: Sequence[Owner]) -> list[ReviewQueue]:
    open_ones = ReviewQueue.objects.filter(owner__in=owners, closed_at=None).select_related("owner")
    return list(open_ones.order_by("-id")[:100])


# ── The sheet ──────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Words:
    """How an action is called: "Cancel", "cancelled", "Cancelling", and what one does instead."""

    do: str
    done: str
    doing: str
    instead: str = ""


WORDS = {
    BulkJob.Action.CANCEL: Words("Cancel", "cancelled", "Cancelling", "Keep them running"),
    BulkJob.Action.RETRY: Words("Retry", "retried", "Retrying", "Leave them"),
    BulkJob.Action.DELETE: Words("Delete", "deleted", "Deleting", "Keep them"),
    BulkJob.Action.REVIEW: Words("Send to review", "sent to review", "Sending to review", "Leave them"),
    BulkJob.Action.RESTORE: Words("Restore", "restored", "Restoring"),
}


def _sheet(
    request: SignedInRequest, action: str, meant: Meant, form: BulkForm, counted: Tally | None = None
) -> HttpResponse:
    """With `counted` it was shown before: the number is another one now, or the answer lacks something."""
    again = counted is not None
    if counted is None:
        try:
            counted = tally(meant, action, request.user)
        except QueryError as error:
            return _mistaken(request, action, error.problems)
    shown = form.cleaned_data.get("counted") if again else None
    text = meant.query.text()
    context = {
        "place": "runs",
        "action": action,
        "words": WORDS[BulkJob.Action(action)],
        "meant": meant,
        "text": text,
        "back": list_address(text),
        "counted": counted,
        "stays": sorted(counted.stay.items(), key=lambda item: -item[1]),
        "shown": shown if again and _differs(counted, form.cleaned_data) else None,
        "job": form.cleaned_data["job"] if again else form.initial["job"],
        "form": form,
        "undo_until": timezone.now() + grace(),
    }
    return render_part(
        request, "bulk/ask.html", context, part="sheet", target="dialog", status=422 if again else 200
    )


def _mistaken(request: SignedInRequest, action: str, problems: Sequence[Problem]) -> HttpResponse:
    return _refused(request, action, "The filter has mistakes", [problem.message for problem in problems])


def _refused(request: SignedInRequest, action: str, title: str, why: Sequence[str]) -> HttpResponse:
    words = WORDS[BulkJob.Action(action)]
    context = {"place": "runs", "words": words, "refused": title, "why": why}
    return render_part(request, "bulk/ask.html", context, part="sheet", target="dialog", status=422)


def _unreadable(request: HttpRequest) -> HttpResponse:
    wanted = ", ".join(ACTIONS)
    return errors.response(
        request,
        400,
        f"action must be one of {wanted}; id a run's, at most {CHOSEN} times; the rest as the sheet has it.",
    )


# ── Jobs ───────────────────────────────────────────────────────────────────
@access.signed_in
@require_safe
def bulk_jobs(request: SignedInRequest) -> HttpResponse:
    """One's own, newest first."""
    jobs = _mine(request)
    before = request.GET.get("before", "")
    try:
        jobs = jobs.filter(pk__lt=UUID(before)) if before else jobs
    except ValueError:
        before = ""
    found = list(jobs.order_by("-id")[: _JOBS + 1])
    context = {
        "place": "runs",
        "now": timezone.now(),
        "jobs": [(job, _said(job)) for job in found[:_JOBS]],
        "older": found[_JOBS - 1].pk if len(found) > _JOBS else None,
        "later": before,
    }
    return render(request, "bulk/jobs.html", context)


@access.signed_in
@require_safe
def bulk_job(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    return render(request, "bulk/job.html", _job_context(request, _find(request, job_id)))


@access.signed_in
@require_safe
def bulk_progress(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """The part that polls itself: 204 while nothing has moved; of a job that is over it polls no more."""
    job = _find(request, job_id)
    if _version(job) == request.GET.get("v"):
        return unchanged()
    template = "bulk/bar.html" if "bar" in request.GET else "bulk/job.html#progress"
    return render(request, template, _job_context(request, job))


@access.signed_in
@require_POST
def bulk_stop(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """What is done stays done. One that is over stays as it is."""
    stop(_find(request, job_id))
    return redirect("bulk_job", job_id)


@access.signed_in
@require_POST
def bulk_undo(request: SignedInRequest, job_id: UUID) -> HttpResponse:
    """Leads to the job that restores what this one deleted; doing it again leads there as well."""
    job = _find(request, job_id)
    require(request.user, NEEDS[BulkJob.Action.RESTORE])
    try:
        return redirect("bulk_job", undo(job).pk)
    except ValueError:
        return redirect("bulk_job", job_id)


def _job_context(request: SignedInRequest, job: BulkJob) -> dict[str, Any]:
    undoes = job.options.get("undoes")
    return {
        "place": "runs",
        "job": job,
        "said": _said(job),
        "words": WORDS[BulkJob.Action(job.action)],
        "version": _version(job),
        "share": f"{100 * min(1.0, job.done_count / max(1, job.counted)):.1f}",
        "skipped": sorted(job.skipped.items(), key=lambda item: -item[1]),
        "chosen": len(job.options.get("ids", ())),
        "undoes": undoes,
        "back": list_address("" if job.options else job.query),
        "undoing": undoing_of(job) if job.is_over and job.undo_until else None,
        "may_undo": job.is_over and job.undo_until is not None and job.undo_until > timezone.now(),
        "list": _list_behind(request) or reverse("run_list"),
    }


def _said(job: BulkJob) -> str:
    """How far it is, in a sentence."""
    words = WORDS[BulkJob.Action(job.action)]
    of_all = f" of {job.counted:,}" if job.done_count < job.counted else ""
    if job.state in (BulkJob.State.STOPPED, BulkJob.State.FAILED):
        return f"{job.get_state_display()}: {job.done_count:,}{of_all} {words.done}."
    if job.state == BulkJob.State.DONE:
        runs = "" if of_all else " run" if job.done_count == 1 else " runs"
        return f"{job.done_count:,}{of_all}{runs} {words.done}."
    if job.started_at is None:
        return f"{words.doing} {job.counted:,}: waits for a worker."
    return f"{words.doing} {job.done_count:,}{of_all}."


def _version(job: BulkJob) -> str:
    return f"{job.updated_at.timestamp():.6f}"


def _mine(request: SignedInRequest) -> Any:
    return BulkJob.objects.filter(person=request.user)


def _find(request: SignedInRequest, job_id: UUID) -> BulkJob:
    """Raises Http404 where it is missing or another person's."""
    return get_object_or_404(_mine(request), pk=job_id)


def _shown(request: SignedInRequest, job: BulkJob) -> HttpResponse:
    """Progress in the bar of the list that asked, whose rows stay (look/LOOK.md); else its page."""
    if _list_behind(request):
        response = render(request, "bulk/bar.html", _job_context(request, job) | {"closes": True})
        return retarget(reswap(response, "outerHTML"), "#bulk")
    address = reverse("bulk_job", args=[job.pk])
    return HttpResponseClientRedirect(address) if is_htmx(request) else redirect(address)


def _list_behind(request: HttpRequest) -> str:
    """The address of the runs list that htmx asks from; empty where it asks from elsewhere."""
    page = urlsplit(request.headers.get("HX-Current-URL", ""))
    if not is_htmx(request) or page.path != reverse("run_list"):
        return ""
    chosen = QueryDict(page.query, mutable=True)
    for name in ("select", "peek"):
        chosen.pop(name, None)
    return f"{page.path}?{chosen.urlencode()}"
