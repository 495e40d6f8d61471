"""Waiting for an evaluation that our worker does, without a database connection in between (DESIGN.md 6)."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from runs import streams
from runs.models import Action, Result, Run, Token

pause_for = time.sleep  # which tests replace by the work that is waited for
QUICKEST, SLOWEST = 0.05, 0.5  # seconds between two looks, the longer the longer it takes


class TookTooLong(Exception):
    """The run has not ended within EVALUATE_TIMEOUT; it stays as it is. The text says so."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What changed since the look before; `results` are all that there are, by place."""

    run: Run
    results: list[Result]


def follow(run_id: UUID, caller: Token) -> Iterator[Progress | None]:
    """The run's progress until it has ended, the last one with all that there is; None where a look found
    nothing new. A run that is deleted meanwhile ends it without a last word. Raises TookTooLong."""
    began, pause, seen = time.monotonic(), QUICKEST, -1
    while True:
        found = _look(run_id, caller, seen)
        if found is None:
            return
        run, results = found
        if results is not None:
            seen = _count(run)
            yield Progress(run, results)
        else:
            yield None
        if run.is_final:
            return
        if time.monotonic() - began > settings.EVALUATE_TIMEOUT:
            raise TookTooLong(_what_now(run))
        pause_for(pause)
        pause = min(pause * 1.2, SLOWEST)


def _look(run_id: UUID, caller: Token, seen: int) -> tuple[Run, list[Result] | None] | None:
    """The results only where there are others than those `seen`, or the run has ended."""
    try:
        known = Run.objects.allowing(caller, Action.SUBMIT).filter(pk=run_id)
        run = known.defer("spec", "spec_exact", "secrets", "metadata").first()
        if run is None:
            return None
        changed = run.is_final or _count(run) != seen
        return run, list(run.results.order_by("position")) if changed else None
    finally:
        streams.let_go()


def _count(run: Run) -> int:
    return run.passed_count + run.failed_count + run.errored_count + run.skipped_count


def _what_now(run: Run) -> str:
    waited = f"{settings.EVALUATE_TIMEOUT:g} seconds"
    if run.status == Run.Status.QUEUED:
        return (
            f"No worker has begun run {run.pk} within {waited}. It stays queued: start a worker with"
            f" 'python manage.py worker', and ask for it at /api/runs/{run.pk}."
        )
    return f"Run {run.pk} has not ended within {waited}. It goes on: ask for it at /api/runs/{run.pk}."
