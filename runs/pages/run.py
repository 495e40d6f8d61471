"""One run: its state, and by tab its transcript, results, artifacts, spec, raw JSON and changes."""

import json
import zlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe
from django_htmx.http import trigger_client_event

from runs import access
from runs.access import SignedInRequest
from runs.api.schemas import present_run
from runs.exact import Json
from runs.models import Action, Attempt, Change, Delivery, Event, Run, Status, User, Webhook, request_cancel
from runs.models.run import PAYLOADS
from runs.pages import files, json_view, text, transcript
from runs.pages.artifact import artifacts_context
from runs.pages.attempts import attempts_context, deliveries_context
from runs.pages.feedback import feedback_context
from runs.pages.parts import find_run, is_htmx, render_part, unchanged
from runs.pages.results import results_context
from runs.pages.run_table import is_stale, total_tokens
from runs.pages.waiting import fell_silent, whereabouts, why_not_running

_CHANGES = 200  # corrections that a page shows
_EVALUATIONS = 5  # of a task, of which its page tells
_COUNTED = 1000  # attempts or deliveries; a tab counts no further
TABS = ("transcript", "results", "artifacts", "attempts", "deliveries", "spec", "raw", "changes")


@access.signed_in
@require_safe
def run(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    found = find_run(request, run_id)
    tabs = _tabs(found)
    tab = request.GET.get("tab", "")
    tab = tab if tab in {one.name for one in tabs} else _first_tab(found)
    context = {
        **_status_context(found),
        **feedback_context(found, request.user),
        "tab": tab,
        "tabs": tabs,
        "judged_by": _judged_by(found),
    }
    context.update(_TAB_CONTEXTS[tab](request, found))
    context["here"] = request.get_full_path()
    if context.get("partly") and is_htmx(request):
        return render(request, "runs/transcript.html", context)
    return render(request, "runs/run.html", context)


@access.signed_in
@require_safe
def run_status(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """The strip that polls itself: 204 while it looks as it did.

    Once the run is final it polls no more, and says so to the tab, which then loads itself once.
    """
    found = find_run(request, run_id)
    context = _status_context(found)
    if context["version"] == request.GET.get("v"):
        return unchanged()
    response = render(request, "runs/run.html#status", context)
    return trigger_client_event(response, "run-final", after="settle") if found.is_final else response


@access.signed_in
@require_safe
def event(request: SignedInRequest, run_id: UUID, seq: int) -> HttpResponse:
    """One event by itself, as far as a page can hold it."""
    found = find_run(request, run_id)
    entry = transcript.single(found, seq)
    if entry is None:
        raise Http404
    part = f"event-{seq}"
    context = {"place": "runs", "run": found, "turn": entry, "seq": seq, "part": part}
    context["branch"] = json_view.branch(_value(found, part))
    return render(request, "runs/event.html", context)


@access.signed_in
@require_safe
def event_file(request: SignedInRequest, run_id: UUID, seq: int, number: int) -> HttpResponse:
    """The bytes of a file that is part of a message; `?inline` where an <img> asks."""
    entry = Event.objects.filter(run=find_run(request, run_id), seq=seq).first()
    file = transcript.find_file(entry, number) if entry else None
    content = file.content() if file else None
    if file is None or content is None:
        raise Http404
    return files.send(content, file.name, file.media_type, inline="inline" in request.GET)


@access.signed_in
@require_safe
def run_json(request: SignedInRequest, run_id: UUID, part: str) -> HttpResponse:
    """A value whole, as a file; with `?path=` what is there, a text as plain text."""
    found = find_run(request, run_id)
    value, path = _at(found, part, request), request.GET.get("path", "")
    name = f"run-{found.short_id}-{part}{path.replace('/', '-')[:60]}"
    if path and isinstance(value, str):
        return files.send(value.encode("utf-8", "replace"), f"{name}.txt", "text/plain")
    # ASCII, so that any text gets through exactly.
    return files.send(json.dumps(value, indent=1).encode(), f"{name}.json", "application/json")


@access.signed_in
@require_safe
def run_tree(request: SignedInRequest, run_id: UUID, part: str) -> HttpResponse:
    """One branch of the tree: when it is opened, or a page of its own without script."""
    found = find_run(request, run_id)
    value, path = _at(found, part, request), request.GET.get("path", "")
    if not isinstance(value, dict | list):
        raise Http404
    branch = json_view.branch(value, path, _number(request.GET.get("from")))
    context = {"place": "runs", "run": found, "branch": branch, "part": part, "path": path}
    return render(request, "runs/tree.html" if is_htmx(request) else "runs/tree_page.html", context)


class CancelForm(forms.Form):
    reason = forms.CharField(
        max_length=1000,
        label="Why",
        widget=forms.TextInput(attrs={"class": "in", "placeholder": "Shown on the run and to the agent"}),
    )


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def cancel(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """Asks why, then cancels; safe to repeat, and a final run only says that it is over."""
    found = find_run(request, run_id, Action.CANCEL)
    form = CancelForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        request_cancel(found, by=request.user.display_name, reason=form.cleaned_data["reason"])
        if is_htmx(request):
            response = HttpResponse(status=204)
            response["HX-Refresh"] = "true"
            return response
        return redirect("run", run_id)
    context = {"place": "runs", "run": found, "form": form}
    return render_part(
        request,
        "runs/cancel.html",
        context,
        part="sheet",
        target="dialog",
        status=422 if form.is_bound else 200,
    )


# ── The strip ──────────────────────────────────────────────────────────────
def _status_context(run: Run) -> dict[str, Any]:
    now = timezone.now()
    stale = is_stale(run, now)
    verdict = _verdict(run, stale)
    return {
        "place": "runs",
        "run": run,
        "now": now,
        "stale": stale,
        "took": run.duration(now),
        "tokens": total_tokens(run),
        "verdict": verdict,
        "warning": _warning(run),
        "version": f"{run.updated_at.timestamp():.6f}-{int(stale)}-{zlib.crc32(verdict.encode()):x}",
    }


def _verdict(run: Run, stale: bool) -> str:
    """Why it failed, why it is not running, or how it went, in a sentence."""
    if run.status == Status.FAILED:
        return text.visible(run.error or "It failed without saying why.")
    if run.status == Status.CANCELLED:
        return "It was stopped; what it had done until then is kept."
    if run.status == Status.QUEUED:
        return why_not_running(run) if run.is_evaluation else "Its agent has not begun yet."
    if run.cancel_requested_at:
        return "It was asked to stop, and has not answered yet."
    if stale and run.is_evaluation:
        return fell_silent(run)
    if run.status == Status.RUNNING:
        return _progress(run)
    if run.status == Status.INPUT_REQUIRED:
        return "Its agent waits for a person's answer."
    if run.status == Status.PAUSED:
        return "A person or a limit holds it."
    return _outcome(run)


def _progress(run: Run) -> str:
    count = _result_count(run)
    if not run.is_evaluation:
        return f"{run.agent or 'Its agent'} is at it."
    so_far = f" {count} result{'s' if count != 1 else ''} so far." if count else ""
    return f"{whereabouts(run)}{so_far}"


def _outcome(run: Run) -> str:
    count = _result_count(run)
    if not run.is_evaluation:
        return "Its agent finished."
    if not count:
        return ""
    wrong = [
        f"{number} {words}"
        for number, words in (
            (run.failed_count, f"{'is' if run.failed_count == 1 else 'are'} below the threshold"),
            (run.errored_count, "could not be judged"),
            (run.skipped_count, f"{'was' if run.skipped_count == 1 else 'were'} skipped"),
        )
        if number
    ]
    if wrong:
        listed = " and ".join(filter(None, [", ".join(wrong[:-1]), wrong[-1]]))
        return f"Of {count} result{'' if count == 1 else 's'}, {listed}."
    return "The result passed." if count == 1 else f"All {count} results passed."


def _warning(run: Run) -> str:
    """A run may have succeeded without having judged anything (CONTRACTS.md 4.2)."""
    summary = run.summary if isinstance(run.summary, dict) else {}
    errors = summary.get("errors")
    if isinstance(errors, list) and errors:
        return text.visible(" ".join(str(error) for error in errors[:5]))[:1000]
    return "No traces were found in what was submitted." if summary.get("trace_count") == 0 else ""


def _result_count(run: Run) -> int:
    return run.passed_count + run.failed_count + run.errored_count + run.skipped_count


# ── The tabs ───────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Tab:
    name: str
    label: str
    count: int | None


def _tabs(run: Run) -> list[Tab]:
    tabs = [
        Tab("transcript", "Transcript", run.event_count),
        Tab("results", "Results", _result_count(run)),
        Tab("artifacts", "Artifacts", run.artifact_count),
        *_pipeline_tabs(run),
        Tab("spec", "Spec", None),
        Tab("raw", "Raw JSON", None),
        Tab("changes", "Changes", None),
    ]
    return tabs if run.is_evaluation else [tab for tab in tabs if tab.name != "spec"]


def _pipeline_tabs(run: Run) -> list[Tab]:
    """What the pipeline did with it, where there is any of that."""
    tabs = []
    if run.is_evaluation:
        attempts = Attempt.objects.filter(run=run).values("pk")[:_COUNTED].count()
        tabs.append(Tab("attempts", "Attempts", attempts))
    if Webhook.objects.filter(run=run).exists():
        deliveries = Delivery.objects.filter(run=run).values("pk")[:_COUNTED].count()
        tabs.append(Tab("deliveries", "Deliveries", deliveries))
    return tabs


def _judged_by(run: Run) -> list[Run]:
    """The newest evaluations of it."""
    if run.is_evaluation:
        return []
    judging = Run.objects.filter(judged=run, owner=run.owner_id, deleted_at=None)
    return list(judging.order_by("-created_at", "-id").defer(*PAYLOADS)[:_EVALUATIONS])


def _first_tab(run: Run) -> str:
    return "results" if run.is_evaluation and (_result_count(run) or not run.event_count) else "transcript"


def _transcript(request: SignedInRequest, run: Run) -> dict[str, Any]:
    start, until = _number(request.GET.get("from")), _number(request.GET.get("until"))
    return {"window": transcript.window(run, start or None, until or None), "partly": until > 0}


def _artifacts(request: SignedInRequest, run: Run) -> dict[str, Any]:
    return artifacts_context(run, _number(request.GET.get("after")))


def _attempts(request: SignedInRequest, run: Run) -> dict[str, Any]:
    return attempts_context(run)


def _deliveries(request: SignedInRequest, run: Run) -> dict[str, Any]:
    return deliveries_context(run, _number(request.GET.get("before")))


def _spec(request: SignedInRequest, run: Run) -> dict[str, Any]:
    return {"part": "spec", "branch": json_view.branch(_value(run, "spec"))}


def _raw(request: SignedInRequest, run: Run) -> dict[str, Any]:
    return {"part": "run", "branch": json_view.branch(_value(run, "run"))}


def _changes(request: SignedInRequest, run: Run) -> dict[str, Any]:
    changes = list(Change.objects.filter(run=run).order_by("-id")[:_CHANGES])
    return {"changes": changes, "names": _names_of({change.actor for change in changes})}


def _names_of(actors: set[str]) -> dict[str, str]:
    """What people are called now; the record names them for good, by number."""
    numbers = [actor.removeprefix("user:") for actor in actors if actor.startswith("user:")]
    people = User.objects.filter(pk__in=[number for number in numbers if number.isdecimal()])
    return {person.actor: person.display_name for person in people}


_TAB_CONTEXTS = {
    "transcript": _transcript,
    "results": results_context,
    "artifacts": _artifacts,
    "attempts": _attempts,
    "deliveries": _deliveries,
    "spec": _spec,
    "raw": _raw,
    "changes": _changes,
}


def _value(run: Run, part: str) -> Json:
    """What can be looked at as JSON; secrets of a spec are redacted."""
    if part == "spec" and run.is_evaluation:
        return run.shown_spec
    if part == "run":
        return present_run(run) if run.is_evaluation else _present_task(run)
    if part.startswith("event-"):
        entry = Event.objects.filter(run=run, seq=_number(part.removeprefix("event-"))).first()
        if entry is not None:
            return entry.full_payload
    raise Http404


def _at(run: Run, part: str, request: SignedInRequest) -> Json:
    try:
        return json_view.at(_value(run, part), request.GET.get("path", ""))
    except json_view.NoSuchPath:
        raise Http404 from None


def _present_task(run: Run) -> dict[str, Json]:
    return {
        "runId": str(run.pk),
        "kind": run.kind,
        "status": run.status,
        "rawStatus": run.raw_status,
        "agent": run.agent,
        "title": run.title,
        "error": run.error,
        "metadata": run.metadata,
        "summary": run.summary,
        "createdAt": run.created_at.isoformat(),
        "startedAt": run.started_at and run.started_at.isoformat(),
        "finishedAt": run.finished_at and run.finished_at.isoformat(),
    }


def _number(digits: str | None) -> int:
    return int(digits) if digits and digits.isascii() and digits.isdigit() and len(digits) < 10 else 0
