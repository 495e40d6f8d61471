"""The workers page: what waits and why, who is alive and at what, what could not be delivered (issue 4, 10).

Everybody sees the runs of their own owners, and of others only how many there are. The queue is everybody's,
so pausing it and draining a worker are for superusers.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from runs import access
from runs.access import SignedInRequest
from runs.models import Action, Attempt, NotAllowed, Run, requeue, require
from runs.models import queue_view as view
from runs.models.queue import try_now as end_pause
from runs.models.queue_view import Place, Post, Situation
from runs.models.run import PAYLOADS
from runs.models.workers import drain, pause_queue, resume_queue
from runs.pages.parts import find_run, is_htmx, local_address, news_only, render_part, wants
from runs.pages.waiting import capped, in_list, runs_of

SHOWN = 20  # runs that wait, and deliveries
BUSY = 500  # runs that are at work, of which each worker's first are named
NAMED = 5
PARTS = ("health", "waiting", "posts", "deliveries")


@access.signed_in
@require_safe
def workers(request: SignedInRequest) -> HttpResponse:
    """The whole, or one of PARTS, each of which asks for itself: 204 where it looks as it did."""
    part = next((name for name in PARTS if wants(request, name)), None)
    now = timezone.now()
    context: dict[str, Any] = {"place": "workers", "now": now, "here": request.path}
    floor = view.situation()
    context |= {"floor": floor, "is_superuser": request.user.is_superuser}
    for name in PARTS if part is None else (part,):
        context |= _CONTEXTS[name](request, floor, now)
    template = "workers/workers.html" if part is None else f"workers/workers.html#{part}"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request", "HX-Target"])
    return news_only(request, response) if part else response


# ── What all share ─────────────────────────────────────────────────────────
class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=1000,
        label="Why",
        widget=forms.TextInput(attrs={"class": "in", "placeholder": "Shown to everybody whose runs wait"}),
    )


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def queue_pause(request: SignedInRequest) -> HttpResponse:
    _require_superuser(request, "Pausing the queue")
    form = ReasonForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        pause_queue(request.user.display_name, form.cleaned_data["reason"])
        return _done(request)
    context = {"place": "workers", "form": form}
    return _sheet(request, "workers/pause.html", context, form)


@access.signed_in
@require_POST
def queue_resume(request: SignedInRequest) -> HttpResponse:
    _require_superuser(request, "Resuming the queue")
    resume_queue()
    return redirect("workers")


@access.signed_in
@require_POST
def worker_drain(request: SignedInRequest, worker: str) -> HttpResponse:
    """`draining=false` has it take runs again."""
    _require_superuser(request, "Draining a worker")
    if not drain(worker, request.POST.get("draining") != "false"):
        raise Http404
    return redirect("workers")


# ── Runs ───────────────────────────────────────────────────────────────────
@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def worker_release(request: SignedInRequest, worker: str) -> HttpResponse:
    """Takes one's runs from a worker that fell silent, before their leases end. Others' stay with it."""
    mine = _held_by(request, worker)
    form = ReasonForm(request.POST if request.method == "POST" else None)
    form.fields["reason"].widget.attrs["placeholder"] = "Kept with each of the runs"
    if request.method == "POST" and form.is_valid():
        for run in mine:
            requeue(run, request.user.actor, form.cleaned_data["reason"], request.META["REQUEST_ID"])
        return _done(request)
    context = {"place": "workers", "worker": worker, "runs": mine, "form": form}
    return _sheet(request, "workers/release.html", context, form)


@access.signed_in
@require_POST
def try_now(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """Ends the pause before the next attempt; of a run that is in none it changes nothing."""
    end_pause(find_run(request, run_id, Action.RETRY))
    return redirect(local_address(request, request.POST.get("next"), f"/runs/{run_id}"))


def _held_by(request: SignedInRequest, worker: str) -> list[Run]:
    """The runs of this person's that the silent worker holds.

    Raises Http404 where they see none, NotAllowed where they may do nothing with them.
    """
    silent = any(post.worker.name == worker and post.silent for post in view.posts())
    held: QuerySet[Run] = view.held_by(worker) & Run.objects.visible_to(request.user)
    seen = list(held.select_related("owner").defer(*PAYLOADS)[:BUSY]) if silent else []
    if not seen:
        raise Http404
    mine = [run for run in seen if run.owner_id in request.rights[Action.RETRY]]
    if not mine:
        require(request.user, Action.RETRY, seen[0].owner)
    return mine


def _require_superuser(request: SignedInRequest, what: str) -> None:
    if not request.user.is_superuser:
        raise NotAllowed(f"{what} is for superusers: it concerns the runs of all owners.")


def _done(request: HttpRequest) -> HttpResponse:
    if not is_htmx(request):
        return redirect("workers")
    response = HttpResponse(status=204)
    response["HX-Refresh"] = "true"
    return response


def _sheet(request: HttpRequest, template: str, context: dict[str, Any], form: forms.Form) -> HttpResponse:
    status = 422 if form.is_bound else 200
    return render_part(request, template, context, part="sheet", target="dialog", status=status)


# ── The parts ──────────────────────────────────────────────────────────────
def _health(request: SignedInRequest, floor: Situation, now: datetime) -> dict[str, Any]:
    figures = view.figures(request.user, now)
    silent = [post for post in floor.posts if post.silent]
    return {
        "figures": figures,
        "counts": {name: capped(getattr(figures, name)) for name in _COUNTS},
        "silent": silent,
        "places": sum(post.worker.places for post in floor.alive),
        "said": _said(floor, silent),
    }


_COUNTS = ("waiting", "running", "elsewhere", "done", "deliveries", "dead")


def _said(floor: Situation, silent: Sequence[Post]) -> str:
    """The state in a sentence that changes only when something happens: it is read aloud."""
    if floor.queue.paused_at:
        return "The queue is paused."
    if not floor.alive:
        return "No worker is alive."
    alive = len(floor.alive)
    quiet = f", {len(silent)} fell silent" if silent else ""
    return f"{alive} worker{'' if alive == 1 else 's'} answer{'s' if alive == 1 else ''}{quiet}."


@dataclass(frozen=True, slots=True)
class Wait:
    """A run that waits; `place` is None in a pause between two attempts."""

    run: Run
    place: Place | None
    reason: str


def _waiting(request: SignedInRequest, floor: Situation, now: datetime) -> dict[str, Any]:
    ready = view.next_runs(request.user, floor.line, SHOWN)
    pausing = view.paused_runs(request.user, SHOWN)
    reasons = view.last_reasons(pausing)
    waits = [Wait(run, place, in_list(run, floor, place, "")) for run, place in ready]
    waits += [Wait(run, None, in_list(run, floor, None, reasons.get(run.pk, ""))) for run in pausing]
    hidden = floor.line.waiting - sum(
        turn.waiting for turn in floor.line.turns if turn.owner_id in request.rights[Action.VIEW]
    )
    return {"waits": waits, "others": runs_of(hidden) if hidden else "", "shown": SHOWN}


@dataclass(frozen=True, slots=True)
class Working:
    """A worker as a line of the table: `runs` are the reader's own, the first of them named."""

    post: Post
    runs: Sequence[tuple[Run, Attempt | None]]
    more: int
    others: int
    up: timedelta
    may_release: bool


def _posts(request: SignedInRequest, floor: Situation, now: datetime) -> dict[str, Any]:
    runs = view.running(request.user, BUSY)
    attempts = view.open_attempts(runs)
    mine: Mapping[str, list[Run]] = defaultdict(list)
    for run in runs:
        mine[view.worker_of(run)].append(run)
    operated = request.rights[Action.RETRY]
    rows = []
    for post in floor.posts:
        theirs = mine[post.worker.name]
        rows.append(
            Working(
                post=post,
                runs=[(run, attempts.get(run.pk)) for run in theirs[:NAMED]],
                more=max(0, len(theirs) - NAMED),
                others=max(0, post.running - len(theirs)),
                up=now - post.worker.started_at,
                may_release=post.silent and any(run.owner_id in operated for run in theirs),
            )
        )
    return {"rows": rows}


def _deliveries(request: SignedInRequest, floor: Situation, now: datetime) -> dict[str, Any]:
    return {"deliveries": view.troubled_deliveries(request.user, SHOWN)}


_CONTEXTS = {"health": _health, "waiting": _waiting, "posts": _posts, "deliveries": _deliveries}
