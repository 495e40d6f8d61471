"""Making the search index anew from what is recorded: after raw SQL, or when runs.words has changed."""

from collections.abc import Iterator
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef

from runs.models.event import Event
from runs.models.result import Result, note_evaluators
from runs.models.run import Run, index_run
from runs.models.search import OF_RUN, SearchDoc, event_doc, put_docs

RUNS_AT_ONCE = 500
EVENTS_AT_ONCE = 200


def reindex(only_missing: bool = False) -> Iterator[int]:
    """Goes through all runs, newest first, and gives how many are done so far.

    Each run is one short transaction that holds its row, so that what is appended meanwhile is not lost;
    it may be stopped at any time. `only_missing` passes over runs that are in the index.
    """
    done, below = 0, None
    while ids := _next(below, only_missing):
        for run_id in ids:
            reindex_run(run_id)
        done, below = done + len(ids), ids[-1]
        yield done


def _next(below: UUID | None, only_missing: bool) -> list[UUID]:
    runs = Run.objects.order_by("-id") if below is None else Run.objects.filter(pk__lt=below).order_by("-id")
    if only_missing:
        runs = runs.filter(~Exists(SearchDoc.objects.filter(run_id=OuterRef("pk"), seq=OF_RUN)))
    return list(runs.values_list("pk", flat=True)[:RUNS_AT_ONCE])


def reindex_run(run_id: UUID) -> None:
    """Writes all documents of a run anew, in the block that it is in."""
    with transaction.atomic():
        run = Run.objects.select_for_update(of=("self",)).filter(pk=run_id).first()
        if run is None:
            return
        index_run(run)
        note_evaluators(
            run, Result.objects.filter(run=run).values_list("evaluator_name", flat=True).distinct()
        )
        events = Event.objects.filter(run=run).only("seq", "payload", "payload_exact").order_by("seq")
        for event in events.iterator(EVENTS_AT_ONCE):
            put_docs(run_id, {event.seq: event_doc(event.full_payload)})
