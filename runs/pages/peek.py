"""The panel beside the list: how a run went, read at a bounded cost (issue 5, point 2)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from runs import access
from runs.access import SignedInRequest
from runs.exact import Json
from runs.models import Action, Criterion, Feedback, Result, Run, Status
from runs.models.feedback import feedback_of
from runs.models.run import PAYLOADS
from runs.pages import text
from runs.pages.asked import list_address
from runs.pages.marks import STARS, marks
from runs.pages.parts import find_run, is_htmx
from runs.pages.results import reason_of
from runs.pages.run_table import is_stale, total_tokens
from runs.pages.verdict import verdict_of

_FAILS = 5  # results that are shown
_LOOKED_AT = 200  # events, from the end
_READ = 100_000  # bytes of an event that is read
_SHOWN = 1_200  # characters of what was said


@dataclass(frozen=True, slots=True)
class Fail:
    """A result that is not as it should be, with its reason."""

    status: str
    item: str
    evaluator: str
    score: float | None
    words: str

    @property
    def said(self) -> str:
        """The reason, and whose it is where it does not say so itself."""
        return self.words if self.words.startswith(self.evaluator) else f"{self.evaluator}: {self.words}"


@dataclass(frozen=True, slots=True)
class Last:
    """The last thing that was said; `words` is empty where it is too large to be read here."""

    seq: int
    role: str
    words: str
    size: int


@access.signed_in
@require_safe
def peek(request: SignedInRequest, run_id: UUID) -> HttpResponse:
    """The panel for htmx; any other finds it beside the list."""
    if not is_htmx(request):
        return redirect(list_address("", peek=str(find_run(request, run_id).pk)))
    return render(request, "runs/peek.html", peek_context(request, run_id))


def peek_context(request: SignedInRequest, run_id: UUID) -> dict[str, Any]:
    """Raises Http404 where the run is missing or not this person's."""
    run, now = find_run(request, run_id), timezone.now()
    rates = run.owner_id in request.rights[Action.RATE] and run.is_final
    return {
        "run": run,
        "now": now,
        "status": "stale" if is_stale(run, now) else run.status,
        "sentence": _sentence(run, now),
        "took": run.duration(now),
        "waited": run.started_at and run.started_at - run.created_at,
        "tokens": total_tokens(run),
        "fails": _fails(run) if run.failed_count or run.errored_count else [],
        "more_fails": max(0, run.failed_count + run.errored_count - _FAILS),
        "last": None if run.is_evaluation else _last(run),
        "errors": [] if run.is_evaluation else _errors(run),
        "marks": _marks(request, run) if rates else [],
        "numbers": STARS,
        "judged": _visible(request, run.judged_id),
        "before": _before(run),
    }


def peeked(request: SignedInRequest) -> dict[str, Any] | None:
    """What the address says to show beside the list; None where that is nothing that there is."""
    try:
        return peek_context(request, UUID(request.GET.get("peek", "")))
    except (ValueError, Http404):
        return None


def _sentence(run: Run, now: datetime) -> str:
    """The run's page shows who cancelled it, and why, in steps of its own."""
    if run.status == Status.CANCELLED and run.cancel_requested_by:
        why = f": “{run.cancel_reason}”" if run.cancel_reason else ""
        return text.visible(f"Cancelled by {run.cancel_requested_by}{why}.")[:1000]
    return verdict_of(run, is_stale(run, now))


def _fails(run: Run) -> list[Fail]:
    """The first that failed, then those without a verdict; of large details no reason is read."""
    with connection.cursor() as cursor:
        cursor.execute(_FAILED, [run.pk, _FAILS])
        return [_fail(*row) for row in cursor.fetchall()]


def _fail(
    status: str, item: str, evaluator: str, score: float | None, threshold: float | None, *more: str | None
) -> Fail:
    error, details = more
    result = Result(
        status=status,
        evaluator_name=evaluator,
        score=score,
        threshold=threshold,
        error=error,
        details=json.loads(details or "{}"),
    )
    words = reason_of(result).words
    return Fail(status, text.visible(item)[:200], text.visible(evaluator)[:100], score, words[:400])


def _last(run: Run) -> Last | None:
    """The last message among the newest events."""
    with connection.cursor() as cursor:
        cursor.execute(_MESSAGE, {"run": run.pk, "from": run.event_count - _LOOKED_AT, "read": _READ})
        row = cursor.fetchone()
    if row is None:
        return None
    seq, role, size, payload = row
    return Last(seq, role, _words(json.loads(payload or "null")), size)


def _words(payload: Json) -> str:
    parts = payload.get("parts") if isinstance(payload, dict) else None
    texts = [part["text"] for part in parts if _is_text(part)] if isinstance(parts, list) else []
    return text.visible(text.without_base64(text.shortened("\n\n".join(texts), _SHOWN)))


def _is_text(part: Json) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _errors(run: Run) -> Sequence[tuple[int, str]]:
    """What went wrong on the way, the last first: the event's number and its words."""
    with connection.cursor() as cursor:
        cursor.execute(_ERRORS, {"run": run.pk, "from": run.event_count - _LOOKED_AT, "read": _READ})
        return [(seq, text.visible(words or "an error")) for seq, words in cursor.fetchall()]


def _marks(request: SignedInRequest, run: Run) -> Sequence[Any]:
    criteria = list(Criterion.objects.filter(owner=run.owner_id, retired_at=None))
    given: dict[str, Feedback] = {one.criterion: one for one in feedback_of(run, request.user)}
    return marks(criteria, given)


def _visible(request: SignedInRequest, run_id: UUID | None) -> Run | None:
    if run_id is None:
        return None
    return Run.objects.visible_to(request.user).filter(pk=run_id).only("title").first()


def _before(run: Run) -> Run | None:
    """The one before it of the same agent and kind, to compare it with."""
    same = Run.objects.filter(owner=run.owner_id, agent=run.agent, kind=run.kind, deleted_at=None)
    return same.older_than(run.created_at, run.pk).newest_first().defer(*PAYLOADS).first()


_FAILED = """
    SELECT status, coalesce(nullif(question, ''), item_name), evaluator_name, score, threshold,
        left(error, 1000), CASE WHEN pg_column_size(details) < 16000 THEN details::text END
    FROM result WHERE run_id = %s AND status IN ('failed', 'errored')
    ORDER BY status DESC, created_at, position LIMIT %s
"""
_MESSAGE = """
    SELECT seq, role, size, CASE WHEN size <= %(read)s THEN payload::text END
    FROM event WHERE run_id = %(run)s AND seq > %(from)s AND kind = 'message' ORDER BY seq DESC LIMIT 1
"""
_ERRORS = """
    SELECT seq, left(coalesce(payload ->> 'message', payload ->> 'code'), 400) FROM event
    WHERE run_id = %(run)s AND seq > %(from)s AND kind = 'error' AND size <= %(read)s
    ORDER BY seq DESC LIMIT 3
"""
