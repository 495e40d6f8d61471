"""All that happened to a run beside what was said, newest first: attempts, deliveries, corrections, changes
of state, cancelling, late writes, ratings (issue 5, point 3)."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from runs import access
from runs.access import SignedInRequest
from runs.exact import Json
from runs.models import Attempt, Change, Delivery, Event, Feedback, FeedbackVersion, Run, User
from runs.pages import text
from runs.pages.parts import find_run

PAGE = 50
IN_RAIL = 8
_WORDS = 500  # characters of a reason
_RELATED = 6  # runs that judged or retried it
_GOOD = {"succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled"}


@dataclass(frozen=True, slots=True)
class Happening:
    """One line. `icon` is a shape of the sprite, `st` a status that colours it.

    key: what tells it from others of the same moment, so that a page begins behind it.
    """

    at: datetime
    key: str
    icon: str
    title: str
    words: str = ""
    old: str = ""
    new: str = ""
    st: str = ""
    link: str = ""
    after: timedelta | None = None  # since what happened before it

    @property
    def cursor(self) -> str:
        return f"{self.at.timestamp():.6f}_{self.key}"


@dataclass(frozen=True, slots=True)
class Timeline:
    happenings: list[Happening]
    older: str | None


@access.signed_in
@require_safe
def run_rail(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """What stands beside a run and costs some queries: the newest of its timeline, and the runs around it."""
    found = find_run(request, run_id)
    context = {"run": found, "timeline": timeline(found, size=IN_RAIL), **related(found, request.user)}
    return render(request, "runs/rail.html", {**context, "now": timezone.now()})


def timeline_context(run: Run, before: str) -> dict[str, Any]:
    return {"timeline": timeline(run, before)}


def timeline(run: Run, before: str = "", size: int = PAGE) -> Timeline:
    """A page of it, newest first; `before` is the cursor of the last one of the page before."""
    bound = _bound(before)
    found = sorted(
        (one for source in _SOURCES for one in source(run, bound, size + 1)),
        key=lambda one: (one.at, one.key),
        reverse=True,
    )
    found = [one for one in found if bound is None or (one.at, one.key) < bound][: size + 1]
    with_pauses = [_after(later, earlier) for later, earlier in pairwise(found)]
    shown = [*with_pauses, *found[len(with_pauses) :]][:size]
    return Timeline(_named(shown), shown[-1].cursor if len(found) > size else None)


def related(run: Run, user: User) -> dict[str, Any]:
    """The runs that it judges, retries, was judged or retried by, as far as this person may see them."""
    ids = [one for one in (run.judged_id, run.retried_id) if one]
    seen = Run.objects.visible_to(user).only(
        *("id", "title", "status", "kind", "created_at", "judged_id", "retried_id"),
        *("passed_count", "failed_count", "errored_count", "skipped_count"),
    )
    around = list(seen.filter(Q(judged=run) | Q(retried=run)).order_by("-created_at", "-id")[:_RELATED])
    named = {one.pk: one for one in seen.filter(pk__in=ids)} if ids else {}
    return {
        "judges": run.judged_id and named.get(run.judged_id),
        "retries": run.retried_id and named.get(run.retried_id),
        "judged_by": [one for one in around if one.judged_id == run.pk and one.retried_id != run.pk],
        "retried_as": [one for one in around if one.retried_id == run.pk],
    }


# ── Where it comes from ────────────────────────────────────────────────────
type _Bound = tuple[datetime, str] | None


def _older(
    rows: QuerySet[Any], source: str, column: str, bound: _Bound, most: int, number: str = "pk"
) -> QuerySet[Any]:
    """The newest rows of a source before the bound. `number` is the column that its keys hold."""
    if bound is not None:
        at, (name, *numbers) = bound[0], bound[1].split("-")
        older, same = Q(**{f"{column}__lt": at}), Q(**{column: at})
        if name == source and numbers and numbers[0].isdigit():
            older |= same & Q(**{f"{number}__lte": int(numbers[0])})
        elif source < name:
            older |= same
        rows = rows.filter(older)
    return rows.order_by(f"-{column}", f"-{number}")[: most + 1]


def _of_run(run: Run, bound: _Bound, most: int) -> Iterator[Happening]:
    """Its own times."""
    yield Happening(run.created_at, "run-1", "queued", "Created")
    if run.started_at:
        yield Happening(run.started_at, "run-2", "running", "Started", st="running")
    if run.cancel_requested_at:
        reason = f": “{_line(run.cancel_reason)}”" if run.cancel_reason else ""
        by = f"{_line(run.cancel_requested_by)}{reason}"
        yield Happening(run.cancel_requested_at, "run-3", "cancelled", "Cancel asked", by)
    if run.cancel_acknowledged_at:
        yield Happening(run.cancel_acknowledged_at, "run-4", "cancelled", "Cancel acknowledged")
    if run.finished_at:
        words = _line(run.error) if run.status == "failed" and run.error else ""
        icon = _GOOD.get(run.status, "clock")
        yield Happening(run.finished_at, "run-5", icon, str(run.get_status_display()), words, st=run.status)


def _attempts(run: Run, bound: _Bound, most: int) -> Iterator[Happening]:
    for one in _older(Attempt.objects.filter(run=run), "attempt", "started_at", bound, most, "number"):
        key = f"attempt-{one.number:06}"
        yield Happening(
            one.started_at, f"{key}-1", "retry", f"Attempt {one.number}", f"taken by {_line(one.worker_id)}"
        )
        if one.ended_at:
            st = {"succeeded": "succeeded", "failed": "failed", "lost": "stale", "crashed": "failed"}.get(
                one.outcome, ""
            )
            title = f"Attempt {one.number}: {one.get_outcome_display().lower()}"
            yield Happening(one.ended_at, f"{key}-2", st or "retry", title, _line(one.reason), st=st)


def _deliveries(run: Run, bound: _Bound, most: int) -> Iterator[Happening]:
    rows = Delivery.objects.filter(run=run).defer("body").annotate(last=Coalesce("ended_at", "created_at"))
    for one in _older(rows, "delivery", "last", bound, most):
        how = {"delivered": "delivered", "dead": "given up", "waiting": "waits"}[one.state]
        answer = f"{one.status_code} " if one.status_code else ""
        tries = f"{one.tries} {'try' if one.tries == 1 else 'tries'}"
        words = f"{answer}{_line(one.error)}".strip()
        words = f"{words}, {tries}" if words else tries
        st = {"dead": "failed", "delivered": ""}.get(one.state, "")
        yield Happening(
            one.last, f"delivery-{one.pk:012}", st or "send", f"Told “{one.phase}”: {how}", words, st=st
        )


def _changes(run: Run, bound: _Bound, most: int) -> Iterator[Happening]:
    for one in _older(Change.objects.filter(run=run), "change", "at", bound, most):
        reason = f": “{_line(one.reason)}”" if one.reason else ""
        yield Happening(
            one.at,
            f"change-{one.pk:012}",
            "edit",
            f"{_line(one.field)} of the {_line(one.object_type)} corrected",
            f"{one.actor}{reason}",
            _value(one.old),
            _value(one.new),
        )


def _history(run: Run, bound: _Bound, most: int) -> Iterator[Happening]:
    """Changes of state that somebody noted, errors, and what came after the end."""
    kinds = (Event.Kind.STATE, Event.Kind.LATE_WRITE, Event.Kind.ERROR)
    rows = Event.objects.filter(run=run, kind__in=kinds, size__lt=100_000).annotate(
        when=Coalesce("occurred_at", "created_at")
    )
    rows = rows.only("seq", "kind", "payload", "occurred_at", "created_at")
    for one in _older(rows, "event", "when", bound, most, "seq"):
        payload = one.payload if isinstance(one.payload, dict) else {}
        key, link = f"event-{one.seq:09}", f"?tab=transcript&from={one.seq}#e-{one.seq}"
        if one.kind == Event.Kind.LATE_WRITE:
            yield Happening(
                one.when, key, "clock", "Late write", _line(str(payload.get("kind", ""))), link=link
            )
        elif one.kind == Event.Kind.ERROR:
            said = _line(str(payload.get("message") or payload.get("code") or ""))
            yield Happening(one.when, key, "failed", "Error", said, st="failed", link=link)
        else:
            by = f"by {_line(str(payload['by']))}" if payload.get("by") else ""
            reason = f"“{_line(str(payload['reason']))}”" if payload.get("reason") else ""
            to = _line(str(payload.get("to", ""))).replace("_", " ")
            title = (
                f"From {_line(str(payload['from'])).replace('_', ' ')} to {to}"
                if payload.get("from")
                else f"To {to}"
            )
            yield Happening(one.when, key, "thread", title, " ".join(filter(None, [by, reason])), link=link)


def _ratings(run: Run, bound: _Bound, most: int) -> Iterator[Happening]:
    authors = dict(Feedback.objects.filter(run=run).values_list("pk", "author_name"))
    versions = FeedbackVersion.objects.filter(feedback__run=run).select_related("feedback")
    for one in _older(versions, "rating", "created_at", bound, most):
        name = text.visible(authors.get(one.feedback_id, ""))
        criterion = "" if one.feedback.criterion == "overall" else f" on {_line(one.feedback.criterion)}"
        title = "Rating withdrawn" if one.withdrawn else f"Rated {one.rating or 'without stars'}{criterion}"
        words = f"{name}: “{_line(one.comment)}”" if one.comment else name
        yield Happening(one.created_at, f"rating-{one.pk:012}", "review", title, words)


_SOURCES: Iterable[Callable[[Run, _Bound, int], Iterator[Happening]]] = (
    _of_run,
    _attempts,
    _deliveries,
    _changes,
    _history,
    _ratings,
)


# ── Words ──────────────────────────────────────────────────────────────────
def _after(later: Happening, earlier: Happening) -> Happening:
    return replace(later, after=later.at - earlier.at)


def _named(shown: list[Happening]) -> list[Happening]:
    """Actors by what they are called now; the record names them for good, by number."""
    actors = {one.words.partition(":")[2].partition(":")[0] for one in shown if one.words.startswith("user:")}
    people = User.objects.filter(pk__in=[number for number in actors if number.isdecimal()]) if actors else ()
    names = {person.actor: text.visible(person.display_name) for person in people}
    named = []
    for one in shown:
        actor = next(
            (actor for actor in names if one.words == actor or one.words.startswith(f"{actor}:")), None
        )
        named.append(replace(one, words=names[actor] + one.words[len(actor) :]) if actor else one)
    return named


def _bound(cursor: str) -> _Bound:
    at, _, key = cursor.partition("_")
    try:
        return (datetime.fromtimestamp(float(at), tz=timezone.get_current_timezone()), key) if key else None
    except (ValueError, OverflowError, OSError):
        return None


def _value(value: Json) -> str:
    """A value of a change in words: a text as it is, the rest as short JSON."""
    if value is None:
        return "nothing"
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.visible(text.without_base64(text.shortened(words, 1000))) or "empty"


def _line(words: str) -> str:
    return text.visible(" ".join(words[: _WORDS * 2].split()))[:_WORDS]
