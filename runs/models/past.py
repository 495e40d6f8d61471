"""What is told of a run that happened elsewhere, with its own times (issue 5, point 9).

The verbs by which runs live write down when they are called. These write what another Runfolio wrote then,
as part of one transaction that has made the run by `Run.objects.record_past` and ends with `settle`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from runs.models.attempt import Attempt
from runs.models.change import Change
from runs.models.counters import recount
from runs.models.event import Event
from runs.models.feedback import Feedback, FeedbackVersion
from runs.models.result import Result, note_evaluators
from runs.models.run import Run
from runs.models.search import event_doc, put_docs
from runs.models.webhook import Delivery, Webhook


def keep_events(run: Run, events: Sequence[Event]) -> None:
    """Events with their numbers, after those that the run has."""
    Event.objects.bulk_create(events)
    put_docs(run.pk, {event.seq: event_doc(event.full_payload) for event in events})


def keep_results(run: Run, results: Sequence[Result]) -> None:
    """Raises IntegrityError where another run has a result of the same id, which stays as it is."""
    Result.objects.bulk_create(results)
    note_evaluators(run, {result.evaluator_name for result in results})


def keep_feedback(feedback: Feedback, versions: Iterable[FeedbackVersion]) -> None:
    feedback.save(force_insert=True)
    FeedbackVersion.objects.bulk_create(versions)


def keep_others[Row: (Attempt, Webhook, Delivery, Change)](rows: Sequence[Row]) -> None:
    """Rows of one kind that nothing is counted of."""
    if rows:
        type(rows[0]).objects.bulk_create(rows)


def settle(run: Run, updated_at: datetime) -> None:
    """Makes what lists show of the run true, and its last change the one that it had."""
    recount(run)
    Run.objects.filter(pk=run.pk).update(updated_at=updated_at)
