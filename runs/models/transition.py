"""Moving a run along: what agents report and people ask for. The rule itself is in models.status.

Each is one transaction and tells whether it moved the run. What comes to a final run changes nothing of it
and is kept as an event `late_write` (CONTRACTS.md 4.2).
"""

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now

from runs.exact import Json, clean_text, split_exact
from runs.models.event import Event, NewEvent, Usage, append_events
from runs.models.run import Run, SpecConflict, index_run
from runs.models.status import FINAL, OPEN, Status, moved

_NOTHING = Usage()


def transition(
    run: Run,
    to: Status,
    *,
    only_from: Status | None = None,
    raw_status: str = "",
    error: str | None = None,
    at: datetime | None = None,
    by: str = "",
    usage: Usage = _NOTHING,
) -> bool:
    """Moves a task where its agent says it is, and notes that in its history, with what `usage` adds to it.

    With `only_from` it is a compare-and-swap: of many callers one is told True. `at` is when it ended, now
    unless it comes from elsewhere. Raises ValueError for an evaluation, which its worker moves.
    """
    if run.is_evaluation:
        raise ValueError("an evaluation is moved by its worker")
    columns: dict[str, Any] = {"raw_status": clean_text(raw_status)}
    if to == Status.RUNNING:
        columns["started_at"] = Coalesce(F("started_at"), Now())
    if to in FINAL:
        columns["finished_at"] = at or Now()
    if error is not None:
        columns["error"] = clean_text(error)
    with transaction.atomic():
        before = _locked(run)
        wanted = _this(run) if only_from is None else _this(run).filter(status=only_from)
        if not moved(wanted, to, **columns):
            if only_from is None:
                _note_late(run, {"to": to, "raw": raw_status, "error": error, "by": by})
            return False
        if before.status != to or before.raw_status != raw_status:
            step = {"from": before.status, "to": to, "raw": raw_status, "by": by}
            append_events(run, [replace(_state(step), usage=usage)], past=True)
        if error is not None:
            index_run(Run.objects.select_related("session").get(pk=run.pk))
    return True


def finish(
    run: Run,
    status: Status,
    *,
    error: str | None = None,
    summary: Json = None,
    raw_status: str = "",
    at: datetime | None = None,
) -> bool:
    """Ends a task, with what it came to. False: it had ended before."""
    if status not in FINAL:
        raise ValueError(f"{status} ends nothing")
    with transaction.atomic():
        ended = transition(run, status, error=error, raw_status=raw_status, at=at)
        if ended and summary is not None:
            _this(run).update(summary=split_exact(summary)[0])
    return ended


def merge_metadata(run: Run, patch: dict[str, Json]) -> bool:
    """Sets these keys of the run's metadata and leaves the others (CONTRACTS.md 2.3)."""
    with transaction.atomic():
        held = _locked(run)
        if held.is_final:
            _note_late(run, {"metadata": patch})
            return False
        merged = {**(held.metadata if isinstance(held.metadata, dict) else {}), **split_exact(patch)[0]}
        if merged != held.metadata:
            _this(run).update(metadata=merged, updated_at=Now())
            index_run(Run.objects.select_related("session").get(pk=run.pk))
    return True


# ── Cancelling: asked, acknowledged, done (DESIGN.md 3.9) ───────────────────
def request_cancel(run: Run, by: str, reason: str = "") -> None:
    """Ends a queued run at once; asks whoever works at a running one to stop. Safe to repeat.

    A final run stays as it is, and a second request keeps the first one's person and reason. The run
    comes back as it is then.
    """
    request_cancels(_this(run), by, reason)
    run.refresh_from_db()


def request_cancels(runs: QuerySet[Run], by: str, reason: str) -> None:
    """The same for all of these runs."""
    asked = {"cancel_requested_by": clean_text(by), "cancel_reason": clean_text(reason)}
    with transaction.atomic():
        unasked = runs.filter(status__in=OPEN, cancel_requested_at=None)
        unasked.update(cancel_requested_at=Now(), updated_at=Now(), **asked)
        moved(runs.filter(status=Status.QUEUED), Status.CANCELLED)


def acknowledge_cancel(run: Run) -> bool:
    """The agent has seen that its task is to be cancelled. Safe to repeat."""
    asked = _this(run).filter(status__in=OPEN, cancel_requested_at__isnull=False)
    return bool(
        asked.update(cancel_acknowledged_at=Coalesce(F("cancel_acknowledged_at"), Now()), updated_at=Now())
    )


def force_cancel(run: Run, by: str, reason: str) -> bool:
    """Ends a run whose agent or worker does not answer; what it writes later is late.

    False: it had ended otherwise. Safe to repeat.
    """
    with transaction.atomic():
        request_cancel(run, by, reason)
        ended = moved(_this(run), Status.CANCELLED)
    run.refresh_from_db()
    return bool(ended) or run.status == Status.CANCELLED


def retry(run: Run, by: str, reason: str = "", run_id: UUID | None = None) -> Run:
    """Queues an evaluation of the same spec in the same session, linked to `run`, which stays as it ended.

    Raises ValueError for a task, and for an evaluation that is open: it is still being tried.
    """
    if not (run.is_evaluation and run.is_final):
        raise ValueError("only an evaluation that has ended can be retried")
    why = f"retry of {run.pk}: {reason}" if reason else f"retry of {run.pk}"
    with transaction.atomic():
        again = Run.objects.submit(
            run.owner, run.full_spec, run_id, title=run.title, session=run.session, priority=run.priority
        )
        _this(again).update(retried=run, judged=run.judged_id)
        append_events(again, [_state({"to": again.status, "by": by, "reason": why})])
    again.refresh_from_db()
    return again


def retry_once(run: Run, by: str, reason: str, run_id: UUID) -> Run:
    """The same, as the run of this id, unless it is there already or another retry is still open: then that
    one comes back. Raises SpecConflict where the id is of a run that is no retry of this one."""
    with transaction.atomic():
        _locked(run)
        again = Run.objects.filter(retried=run, deleted_at=None)
        there = again.filter(pk=run_id).first() or again.filter(status__in=OPEN).newest_first().first()
        if there is None and Run.objects.filter(pk=run_id).exists():
            raise SpecConflict(None)
        return there or retry(run, by, reason, run_id)


def _this(run: Run) -> QuerySet[Run]:
    return Run.objects.filter(pk=run.pk)


def _locked(run: Run) -> Run:
    return _this(run).select_for_update(of=("self",)).only("kind", "status", "raw_status", "metadata").get()


def _state(step: dict[str, Json]) -> NewEvent:
    return NewEvent(Event.Kind.STATE, {key: value for key, value in step.items() if value})


def _note_late(run: Run, what: dict[str, Json]) -> None:
    append_events(run, [_state(what)])
