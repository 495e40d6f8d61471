"""Histories that are recorded here, as evaluations judge them (issue 4, point 6).

An evaluation sees what its owner has, and of that what was there when it was submitted.
"""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from runs.models import Event, Result, Run, Session
from runs.models.listing import find_runs
from runs.models.paging import Cursor
from runs.query import parse

MOST_ITEMS = 100_000
_PAGE = 500
_PATIENCE = 30.0  # seconds for a page of runs

type Target = dict[str, Any]
type History = dict[str, Any]


class TooMany(Exception):
    """The filter finds more than an evaluation takes."""


def items_of(run: Run, target: Target) -> list[UUID]:
    """The runs that are an item each; a target of kind `session` is one item, by the session's id."""
    if target["kind"] == "run":
        return [UUID(target["runId"])]
    if target["kind"] == "session":
        return [UUID(target["sessionId"])]
    query, found = parse(target["query"], run.created_at), list[UUID]()
    after: Cursor | None = Cursor(run.created_at, run.pk)
    while after is not None:
        page = find_runs(query, run.owner, after, _PAGE, _PATIENCE)
        found += [one.pk for one in page.runs]
        if len(found) > MOST_ITEMS:
            raise TooMany(f"the filter finds more than {MOST_ITEMS:,} runs: narrow it, by time for example")
        after = page.older
    return found


def histories_of(run: Run, target: Target, items: list[UUID]) -> Iterator[History]:
    """One history at a time; what has been deleted meanwhile has none."""
    for item in items:
        history = _of_session(run, item) if target["kind"] == "session" else _of_run(run, item)
        if history is not None:
            yield history


def judged_before(run: Run) -> frozenset[str]:
    """The items that an earlier attempt of this run has results of, by its last writing all of them."""
    return frozenset(Result.objects.filter(run=run).values_list("item_id", flat=True).distinct())


def _of_run(run: Run, item: UUID) -> History | None:
    judged = Run.objects.filter(pk=item, owner=run.owner_id, deleted_at=None).first()
    if judged is None:
        return None
    return {
        "key": str(judged.pk),
        "agent": judged.agent,
        "models": _models(judged),
        "events": _events(judged),
    }


def _of_session(run: Run, item: UUID) -> History | None:
    session = Session.objects.filter(pk=item, owner=run.owner_id, deleted_at=None).first()
    if session is None:
        return None
    runs = list(
        Run.objects.filter(session=session, deleted_at=None)
        .exclude(kind=Run.Kind.EVALUATION)
        .order_by("created_at", "id")
    )
    events = [event for one in runs for event in _events(one)]
    models = list(dict.fromkeys(model for one in runs for model in _models(one)))
    return {"key": session.key, "agent": session.agent, "models": models, "events": events}


def _models(run: Run) -> list[str]:
    return [name for name in run.model.split(", ") if name]


def _events(run: Run) -> list[dict[str, Any]]:
    rows = Event.objects.filter(run=run).exclude(kind=Event.Kind.LATE_WRITE).order_by("seq")
    told = [_told(event) for event in rows.iterator(_PAGE)]
    if not any(one["input_tokens"] or one["output_tokens"] for one in told) and told:
        told[-1] |= {"input_tokens": run.input_tokens, "output_tokens": run.output_tokens}
        told[-1]["cost"] = told[-1]["cost"] or (None if run.cost is None else float(run.cost))
    return told


def _told(event: Event) -> dict[str, Any]:
    return {
        "kind": event.kind,
        "role": event.role,
        "payload": event.full_payload,
        "event_id": event.event_id or f"{event.run_id}/{event.seq}",
        "at": event.at.isoformat(),
        "input_tokens": event.input_tokens,
        "output_tokens": event.output_tokens,
        "cost": None if event.cost is None else float(event.cost),
    }
