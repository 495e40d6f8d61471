"""What is told of a run that happened elsewhere, with its own times (issue 5, point 9).

The verbs by which runs live write down when they are called. These write what another Runfolio wrote then,
as part of one transaction that has made the run by `Run.objects.record_past` and ends with `settle`.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from runs.models.attempt import Attempt
from runs.models.change import Change
from runs.models.copying import copying
from runs.models.counters import recount
from runs.models.event import Event
from runs.models.feedback import Feedback, FeedbackVersion
from runs.models.owner import Owner
from runs.models.result import Result, note_evaluators
from runs.models.run import Run
from runs.models.search import MARK, Doc, event_doc, put_docs
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


# ── Many events of many runs at once ───────────────────────────────────────
@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of a run that is in the block `block` of the search index.

    `payload` is JSON text as a JSONB gave it, so that a JSONB takes it as it stands; `doc` is what it is
    found by.
    """

    run_id: UUID
    block: int
    seq: int
    kind: str
    role: str
    payload: str
    at: datetime
    doc: Doc

    @property
    def size(self) -> int:
        return len(self.payload.encode())


@contextmanager
def one_of_many() -> Iterator[None]:
    """A transaction of one that writes much, and of many that follow it.

    What checks foreign keys plans once for all of them: made while a table is empty, its plan would read all
    of it for every row from then on.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        yield


class History:
    """Writes what was said in many runs of one owner; the caller counts it.

    Remembers which terms it gave to which blocks, since looking for each would cost more than all the rest.
    One that it has forgotten is there twice then, which is harmless (models.search.SearchTerm).
    """

    _BLOCKS, _TERMS = 8, 250_000

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._given: OrderedDict[int, set[int]] = OrderedDict()

    def write(self, events: Sequence[PastEvent]) -> None:
        """Part of the caller's transaction; where that fails, so must whoever holds this."""
        with copying(_COPY_EVENTS) as copy:
            for one in events:
                copy.write_row((one.run_id, one.seq, one.kind, one.role, one.payload, one.size, one.at))
        self.write_docs((one.run_id, one.block, one.seq, one.doc) for one in events)

    def write_docs(self, docs: Iterable[tuple[UUID, int, int, Doc]]) -> None:
        """Documents of new runs: the run, its block, their place (OF_RUN) and what they are found by."""
        terms: dict[int, set[int]] = {}
        with copying(_COPY_DOCS) as copy:
            for run_id, block, seq, doc in docs:
                copy.write_row((run_id, seq, doc.words.replace(MARK, f"{block}:"), doc.whole))
                terms.setdefault(block, set()).update(doc.terms)
        with copying(_COPY_TERMS) as copy:
            for block, found in terms.items():
                for term in self._new(block, found):
                    copy.write_row((self._owner.pk, term, block))

    def _new(self, block: int, terms: set[int]) -> list[int]:
        given = self._given.setdefault(block, set())
        self._given.move_to_end(block)
        new = sorted(terms - given)
        if len(given) > self._TERMS:
            given.clear()
        given.update(new)
        if len(self._given) > self._BLOCKS:
            self._given.popitem(last=False)
        return new


_COPY_EVENTS = "COPY event (run_id, seq, kind, role, payload, size, created_at) FROM STDIN"
_COPY_DOCS = "COPY search_doc (run_id, seq, words, whole) FROM STDIN"
_COPY_TERMS = "COPY search_term (owner_id, term, block) FROM STDIN"
