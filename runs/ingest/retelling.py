"""Telling a run anew, when more of its trace has come, or no more will.

What of its history is as before stays: who follows it live sees it go on. The rest is written anew by the
database's own function, which does so with histories that are told from spans, and with no others.
"""

import json
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from runs.exact import join_exact
from runs.ingest.telling import Told, ToldEvent
from runs.models import Event, Owner, Run, Status, correction
from runs.models.counters import recount
from runs.models.run import index_run
from runs.models.search import known_terms
from runs.models.span import Trace
from runs.models.status import OPEN, moved

type Json = Any

IDLE = "idle"  # the raw status of a run whose root never came
_ACTOR = "otlp"
_LATE, _MORE = "its trace's root came after the run had been closed", "more of its trace came"


def retell(owner: Owner, trace: Trace, told: Told, *, ended: bool, idle: bool) -> None:
    """Brings the trace's run up to date, and ends it if it has `ended`; `idle`: without its root.

    The caller holds the trace. A run that was deleted for good is left alone.
    """
    runs = Run.objects.filter(owner=owner, pk=trace.pk)
    run = runs.select_for_update(of=("self",)).defer("spec", "spec_exact", "secrets", "summary").first()
    if run is None:
        return
    _write_history(run, trace, told.events)
    columns: dict[str, Any] = {"model": told.model, "updated_at": Now()}
    if not run.title:
        columns["title"] = told.title or (told.name if ended else "")
    if not run.agent:
        columns["agent"] = told.agent or (told.service if ended else "")
    if told.started_at and not run.is_final:
        columns["started_at"] = told.started_at
    runs.update(**columns)
    _say_better(run, told)
    recount(run)
    if ended:
        _end(run, told, idle)
    index_run(Run.objects.select_related("session").get(pk=run.pk, owner=owner))


def _say_better(run: Run, told: Told) -> None:
    """What only stood in for a title or an agent's name goes, when these come after the root."""
    better = {
        name: said
        for name, said, instead in (("title", told.title, told.name), ("agent", told.agent, told.service))
        if said and getattr(run, name) == instead != said
    }
    if better and all(getattr(run, name) for name in better):
        with correction(_ACTOR, _MORE):
            Run.objects.filter(owner=run.owner_id, pk=run.pk).update(**better)


def _end(run: Run, told: Told, idle: bool) -> None:
    started = told.started_at or run.started_at or timezone.now()
    status = Status.FAILED if told.failed else Status.SUCCEEDED
    columns: dict[str, Any] = {
        "finished_at": max(told.ended_at or started, started),
        "raw_status": IDLE if idle else told.raw_status,
        "error": told.error,
    }
    runs = Run.objects.filter(owner=run.owner_id, pk=run.pk)
    if run.status in OPEN:
        moved(runs, status, **columns)
    elif run.raw_status == IDLE and not idle:
        with correction(_ACTOR, _LATE):
            runs.update(status=status, **columns)


def _write_history(run: Run, trace: Trace, events: list[ToldEvent]) -> None:
    same = _same(run, events)
    fresh = [_as_json(event) for event in events[same:]]
    if not fresh and same == run.event_count:
        return
    terms = set().union(*(event.doc.terms for event in events[same:])) if fresh else set()
    parameters: dict[str, Any] = {
        "run": run.pk,
        "trace": trace.trace_id,
        "keep": same,
        "events": json.dumps(fresh),
    }
    with connection.cursor() as cursor:
        cursor.execute("SELECT retell_run(%(run)s, %(trace)s, %(keep)s, %(events)s::jsonb)", parameters)
    if terms and run.search_block is not None:
        known_terms.add(run.owner_id, run.search_block, terms)


def _same(run: Run, events: list[ToldEvent]) -> int:
    """How many events from the first on are as they were."""
    before = Event.objects.filter(run=run, run__owner=run.owner_id).order_by("seq")
    columns = ("event_id", "kind", "role", "occurred_at", "input_tokens", "output_tokens", "cost")
    number = 0
    for event, row in zip(events, before.values_list(*columns, "payload", "payload_exact"), strict=False):
        *said, payload, exact = row
        used = (event.usage.input_tokens, event.usage.output_tokens, event.usage.cost)
        if said != [event.event_id, event.kind, event.role, event.at, *used]:
            break
        if event.payload != join_exact(payload, exact):
            break
        number += 1
    return number


def _as_json(event: ToldEvent) -> dict[str, Json]:
    doc = event.doc
    return {
        "event_id": event.event_id,
        "kind": event.kind,
        "role": event.role,
        "payload": json.loads(event.text),
        "exact": event.exact,
        "size": event.size,
        "occurred_at": _iso(event.at),
        "input_tokens": event.usage.input_tokens,
        "output_tokens": event.usage.output_tokens,
        "cost": None if event.usage.cost is None else str(event.usage.cost),
        "words": doc.words,
        "whole": doc.whole,
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
