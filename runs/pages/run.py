"""One run: its state, and by tab its transcript, results, artifacts, attempts, timeline and JSON."""

import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.utils.html import escape
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe
from django_htmx.http import trigger_client_event

from runs import access
from runs.access import SignedInRequest
from runs.models import Event, Run
from runs.pages import files, find, outline, text, transcript, tree
from runs.pages.artifact import artifacts_context
from runs.pages.attempts import attempts_context, deliveries_context
from runs.pages.feedback import feedback_context
from runs.pages.jinja import draw
from runs.pages.parts import find_run, find_run_and_hooks, news_only, unchanged, wants
from runs.pages.results import results_context
from runs.pages.run_table import is_stale, total_tokens
from runs.pages.timeline import timeline_context
from runs.pages.tree import number
from runs.pages.verdict import result_count, verdict_of

_POLLING = ("attempts", "deliveries")  # tabs that ask for themselves while the run is open
_BEFORE_FOUND = 3  # events that stand above the one that was found


@access.signed_in
@require_safe
def run(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    found, has_webhooks = find_run_and_hooks(request, run_id)
    tabs = _tabs(found, has_webhooks)
    asked = _ALIASES.get(request.GET.get("tab", ""), request.GET.get("tab", ""))
    tab = asked if asked in {one.name for one in tabs} else _first_tab(found)
    if tab == "transcript" and (piece := _transcript_piece(request, found)):
        return piece
    if tab in _POLLING and wants(request, tab):
        context = {"run": found, **_TAB_CONTEXTS[tab](request, found)}
        return news_only(request, render(request, f"runs/{tab}.html", context))
    context = {
        **_status_context(request, found),
        **feedback_context(found, request.user),
        "base": f"/runs/{found.pk}",
        "tab": tab,
        "tabs": tabs,
        "title": _title(found, _label(tabs, tab) if asked == tab else ""),
        "here": request.get_full_path(),
    }
    context.update(_TAB_CONTEXTS[tab](request, found))
    return render(request, "runs/run.html", context)


@access.signed_in
@require_safe
def run_status(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """The strip that polls itself: 204 while it looks as it did.

    With it comes what else changes with the state: the head's buttons, the title, and how many events there
    are that the page does not show (`seen` is the last that it does). Once the run is final it polls no more,
    and says so to the tab, which then loads itself once.
    """
    found = find_run(request, run_id)
    context = _status_context(request, found)
    if context["version"] == request.GET.get("v"):
        return unchanged()
    seen = number(request.GET.get("seen"))
    pieces = [
        f"<title>{escape(_title(found))} · Runfolio</title>",
        context["strip"],
        render_to_string("runs/run_buttons.html", {**context, "oob": True}, request),
        _news(found, seen) if "seen" in request.GET else "",
    ]
    response = HttpResponse("".join(pieces))
    return trigger_client_event(response, "run-final", after="settle") if found.is_final else response


@access.signed_in
@require_safe
def run_outline(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """The outline of the whole run; the page itself has that of its window."""
    found = find_run(request, run_id)
    shown = range(number(request.GET.get("from")), number(request.GET.get("to")) + 1)
    return HttpResponse(draw("runs/outline", lines=outline.of_run(found), shown=shown, more=""))


@access.signed_in
@require_safe
def event(request: SignedInRequest, run_id: UUID, seq: int) -> HttpResponse:
    """One event by itself, as far as a page can hold it."""
    found = find_run(request, run_id)
    turn = transcript.single(found, seq)
    if turn is None:
        raise Http404
    context = {
        "place": "runs",
        "run": found,
        "seq": seq,
        "before": seq - 1,
        "after": seq + 1,
        "part": f"event-{seq}",
    }
    context["turn"] = transcript.draw_turns([turn], found, alone=True)
    context["tree"] = _tree_of(found, f"event-{seq}")
    return render(request, "runs/event.html", context)


@access.signed_in
@require_safe
def event_body(request: SignedInRequest, run_id: UUID, seq: int) -> HttpResponse:
    """What a window leaves out: all that a call holds, with its `?result=`, or a whole `?part=` of a text."""
    found = find_run(request, run_id)
    turn = transcript.single(found, seq, number(request.GET.get("result")) or None)
    if turn is None:
        raise Http404
    part = request.GET.get("part")
    return HttpResponse(transcript.draw_body(turn, found, number(part) if part else None))


@access.signed_in
@require_safe
def event_file(request: SignedInRequest, run_id: UUID, seq: int, number: int) -> HttpResponse:
    """The bytes of a file that is part of a message; `?inline` where an <img> or an <audio> asks."""
    entry = Event.objects.filter(run=find_run(request, run_id), seq=seq).first()
    file = transcript.find_file(entry, number) if entry else None
    content = file.content() if file else None
    if file is None or content is None:
        raise Http404
    return files.send(content, file.name, file.media_type, inline="inline" in request.GET)


# ── The strip ──────────────────────────────────────────────────────────────
def _status_context(request: SignedInRequest, run: Run) -> dict[str, Any]:
    """`strip` is drawn; `version` changes with whatever it shows."""
    now = timezone.now()
    stale = is_stale(run, now)
    verdict = verdict_of(run, stale)
    version = f"{run.updated_at.timestamp():.6f}-{int(stale)}-{zlib.crc32(verdict.encode()):x}"
    strip = draw(
        "runs/strip",
        run=run,
        base=f"/runs/{run.pk}",
        now=now,
        stale=stale,
        took=run.duration(now),
        total=total_tokens(run),
        verdict=verdict,
        warning=_warning(run),
        version=version,
        steps=_steps(request, run, now) if run.cancel_requested_at else "",
    )
    return {"place": "runs", "run": run, "strip": strip, "version": version}


def _steps(request: SignedInRequest, run: Run, now: datetime) -> str:
    return render_to_string("runs/steps.html", {"run": run, "now": now}, request)


def _title(run: Run, detail: str = "") -> str:
    """What tells it from the other tabs of a browser comes first."""
    return f"{detail or run.get_status_display()}: {text.visible(str(run))[:80]}"


def _news(run: Run, seen: int) -> SafeString:
    """A bar that says how many events have come; it goes where the transcript ends."""
    return draw(
        "runs/news", base=f"/runs/{run.pk}", seen=seen, count=max(0, run.event_count - seen), oob=True
    )


def _warning(run: Run) -> str:
    """A run may have succeeded without having judged anything (CONTRACTS.md 4.2)."""
    summary = run.summary if run.is_evaluation and run.is_final else {}
    if not isinstance(summary, dict):
        return ""
    errors = summary.get("errors")
    if isinstance(errors, list) and errors:
        return text.visible(" ".join(str(error) for error in errors[:5]))[:1000]
    return "No traces were found in what was submitted." if summary.get("trace_count") == 0 else ""


# ── The tabs ───────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Tab:
    name: str
    label: str
    count: int | None = None


_ALIASES = {"changes": "timeline"}  # what it was called before it told more than corrections


def _tabs(run: Run, has_webhooks: bool) -> list[Tab]:
    return [
        Tab("transcript", "Transcript", run.event_count),
        Tab("results", "Results", result_count(run)),
        Tab("artifacts", "Artifacts", run.artifact_count),
        *([Tab("attempts", "Attempts", run.attempt)] if run.is_evaluation else []),
        *([Tab("deliveries", "Deliveries")] if has_webhooks else []),
        Tab("timeline", "Timeline"),
        *([Tab("spec", "Spec")] if run.is_evaluation else []),
        Tab("metadata", "Metadata"),
        Tab("raw", "Raw JSON"),
    ]


def _label(tabs: list[Tab], name: str) -> str:
    return next(one.label for one in tabs if one.name == name)


def _first_tab(run: Run) -> str:
    return "results" if run.is_evaluation and (result_count(run) or not run.event_count) else "transcript"


# ── The transcript ─────────────────────────────────────────────────────────
def _transcript_piece(request: SignedInRequest, run: Run) -> HttpResponse | None:
    """What htmx asks of a transcript: earlier events, newer ones, the place of what is looked for. Without
    script, a search leads to the address of what it found."""
    if before := number(request.GET.get("before")):
        return HttpResponse(_draw_window("earlier", run, transcript.window(run, before=before)))
    if "after" in request.GET:
        after = number(request.GET.get("after"))
        window = transcript.window(run, after + 1) if after < run.event_count else None
        return HttpResponse(_draw_window("later", run, window, seen=after)) if window else unchanged()
    search = _search(request, run)
    if wants(request, "transcript"):
        response = HttpResponse(_draw_transcript(request, run, search))
        patch_vary_headers(response, ["HX-Request", "HX-Target"])
        response["HX-Push-Url"] = _address(run, search)
        if search and search.current:
            response["HX-Reswap"] = f"outerHTML show:#e-{search.current.seq}:top"
        return response
    if search and "was" in request.GET:
        return redirect(_address(run, search) + (f"#e-{search.current.seq}" if search.current else ""))
    return None


def _tree_of(run: Run, part: str) -> str:
    """Its branches; "" for a text or a number, which has none."""
    try:
        return tree.draw_branch(run, part)
    except Http404:
        return ""


def _search(request: SignedInRequest, run: Run) -> find.Search | None:
    """`was` is what had been looked for: the same again is the next one."""
    words, at = request.GET.get("find", ""), number(request.GET.get("at"))
    past = bool(words) and words == request.GET.get("was")
    return find.search(run, words, at, past=past, first=number(request.GET.get("since")))


def _address(run: Run, search: find.Search | None) -> str:
    given: dict[str, object] = {"tab": "transcript"}
    if search:
        given["find"] = search.words
        given |= {"at": search.current.seq} if search.current else {}
        given |= {"since": search.first} if search.first > 1 else {}
    return f"/runs/{run.pk}?{urlencode(given)}"


def _transcript(request: SignedInRequest, run: Run) -> dict[str, Any]:
    search = _search(request, run)
    window = _window(request, run, search)
    lines = outline.of_window(window.turns)
    more = "" if window.is_whole else f"/runs/{run.pk}/outline?from={window.first}&to={window.last}"
    return {
        "transcript": _draw_window("transcript", run, window, search=search),
        "outline": draw("runs/outline", lines=lines, shown=None, more=more, at_end=not window.after)
        if len(lines) > 1
        else "",
    }


def _draw_transcript(request: SignedInRequest, run: Run, search: find.Search | None) -> SafeString:
    return _draw_window("transcript", run, _window(request, run, search), search=search)


def _window(request: SignedInRequest, run: Run, search: find.Search | None) -> transcript.Window:
    """Where the address or what was found leads; else the end."""
    start = number(request.GET.get("from")) or None
    if search and search.current:
        seq = search.current.seq
        return transcript.window(run, max(1, seq - _BEFORE_FOUND), find=seq)
    return transcript.window(run, start, find=start)


def _draw_window(template: str, run: Run, window: transcript.Window, **more: Any) -> SafeString:
    turns = transcript.draw_turns(window.turns, run)
    search = more.get("search")
    return draw(
        f"runs/{template}",
        run=run,
        base=f"/runs/{run.pk}",
        window=window,
        turns=search.mark(turns) if search else turns,
        **more,
    )


# ── The other tabs ─────────────────────────────────────────────────────────
def _artifacts(request: SignedInRequest, run: Run) -> dict[str, Any]:
    return artifacts_context(run, number(request.GET.get("after")))


def _attempts(request: SignedInRequest, run: Run) -> dict[str, Any]:
    return attempts_context(run)


def _deliveries(request: SignedInRequest, run: Run) -> dict[str, Any]:
    return deliveries_context(run, number(request.GET.get("before")))


def _timeline(request: SignedInRequest, run: Run) -> dict[str, Any]:
    return timeline_context(run, request.GET.get("before", ""))


def _spec(request: SignedInRequest, run: Run) -> dict[str, Any]:
    return {"trees": [("spec", "As submitted; secrets are hidden", tree.draw_branch(run, "spec"))]}


def _metadata(request: SignedInRequest, run: Run) -> dict[str, Any]:
    trees = [("metadata", "What its client keeps with it", tree.draw_branch(run, "metadata"))]
    if Run.objects.filter(pk=run.pk, summary__isnull=False).exists():
        trees.append(("summary", "What it came to", tree.draw_branch(run, "summary")))
    return {"trees": trees}


def _raw(request: SignedInRequest, run: Run) -> dict[str, Any]:
    return {"trees": [("run", "As the API gives it", tree.draw_branch(run, "run"))]}


_TAB_CONTEXTS = {
    "transcript": _transcript,
    "results": results_context,
    "artifacts": _artifacts,
    "attempts": _attempts,
    "deliveries": _deliveries,
    "timeline": _timeline,
    "spec": _spec,
    "metadata": _metadata,
    "raw": _raw,
}
