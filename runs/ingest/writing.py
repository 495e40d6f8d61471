"""Runs of new traces: all rows of one kind in one statement."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from runs.ingest.telling import Told
from runs.models import Owner, Run, Status
from runs.models.copying import copying
from runs.models.search import MARK, OF_RUN, Doc, known_terms, run_doc, terms_of
from runs.models.span import SOURCE


@dataclass(slots=True)
class NewRun:
    """A run to be written. `ended`: its root is here; `session`: where it is plain which one it is."""

    pk: UUID
    told: Told
    ended: bool
    session: UUID | None = None

    @property
    def is_housed(self) -> bool:
        """Whether it is plain which session it belongs to: only its root may have more to say of that."""
        return bool(self.told.key) or self.ended

    @property
    def status(self) -> Status:
        if not self.ended:
            return Status.RUNNING
        return Status.FAILED if self.told.failed else Status.SUCCEEDED

    @property
    def title(self) -> str:
        return self.told.title or (self.told.name if self.ended else "")

    @property
    def agent(self) -> str:
        """The service's name for want of an agent's, which may come as long as the root has not."""
        return self.told.agent or (self.told.service if self.ended else "")

    @property
    def error(self) -> str | None:
        return self.told.error if self.ended else None

    def finished_at(self, started_at: datetime) -> datetime | None:
        return max(self.told.ended_at or started_at, started_at) if self.ended else None

    @property
    def doc(self) -> Doc:
        source = SOURCE if self.is_housed else ""
        return run_doc(self.title, self.error, self.told.metadata, self.told.model, source)


class Block(NamedTuple):
    """Where new runs stand in the search index, and the time of the first of them."""

    id: int
    at: datetime


def block_for(owner: Owner, number: int) -> Block:
    """For so many runs that this transaction makes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, at FROM block_for(%s, %s)", [owner.pk, number])
        return Block(*cursor.fetchone())


def write_docs(owner: Owner, block: Block, runs: Iterable[NewRun]) -> list[NewRun]:
    """Writes what runs and their events are found by, before these are there, and gives the runs. They are
    told as they are written, so that PostgreSQL is at one while we are at the next. Raises IntegrityError
    where the id of one is taken."""
    mark = f"{block.id}:"
    found: set[str] = set()
    written = []
    with copying(_DOCS) as copy:
        for run in runs:
            written.append(run)
            pk = run.pk.hex
            for seq, doc in enumerate([run.doc, *(event.doc for event in run.told.events)], OF_RUN):
                copy.write_row((pk, seq, doc.words.replace(MARK, mark), doc.whole))
                found.update(doc.found)
    known_terms.add(owner.pk, block.id, terms_of(found))
    return written


_DOCS = "COPY search_doc (run_id, seq, words, whole) FROM STDIN"


def write_runs(owner: Owner, block: Block, runs: Sequence[NewRun], now: datetime) -> None:
    """Writes the runs with their events, in this order of time. Raises IntegrityError where the id of one is
    taken."""
    with copying(_RUNS) as copy:
        for number, run in enumerate(runs):
            # An instant apart each, so that lists keep their order.
            copy.write_row(_row(owner, run, block.id, block.at + timedelta(microseconds=number), now))
    _write_events(runs)


def _row(owner: Owner, run: NewRun, block: int, at: datetime, now: datetime) -> tuple[Any, ...]:
    told, started = run.told, run.told.started_at or now
    return (
        *(run.pk, owner.pk, run.session, Run.Kind.TASK.value, run.agent, told.model, run.title),
        *(run.status.value, told.raw_status if run.ended else "", run.error, json.dumps(told.metadata)),
        *(at, at, started, run.finished_at(started), told.size, len(told.events)),
        *(told.input_tokens, told.output_tokens, told.cost, block),
        *_EMPTY.values(),
    )


# What the database has no default of its own for.
_EMPTY: dict[str, Any] = {
    **dict.fromkeys(("attempt", "crashes", "priority", "artifact_count", "rating_count"), 0),
    **dict.fromkeys(("passed_count", "failed_count", "errored_count", "skipped_count"), 0),
    **dict.fromkeys(("deleted_by", "cancel_requested_by", "cancel_reason"), ""),
}
_RUNS = f"""
    COPY run (
        id, owner_id, session_id, kind, agent, model, title, status, raw_status, error, metadata,
        created_at, updated_at, started_at, finished_at, size, event_count,
        input_tokens, output_tokens, cost, search_block, {", ".join(_EMPTY)}
    ) FROM STDIN
"""


def _write_events(runs: Sequence[NewRun]) -> None:
    """Ids and times as texts: psycopg takes longer over objects, and there are thousands."""
    with copying(_EVENTS) as copy:
        for run in runs:
            pk = run.pk.hex
            for seq, one in enumerate(run.told.events, 1):
                used, at = one.usage, one.at and one.at.isoformat()
                said = (pk, seq, one.event_id, one.kind, one.role, one.text, one.exact, one.size, at)
                copy.write_row((*said, used.input_tokens, used.output_tokens, used.cost))


_EVENTS = """
    COPY event (
        run_id, seq, event_id, kind, role, payload, payload_exact, size,
        occurred_at, input_tokens, output_tokens, cost
    ) FROM STDIN
"""
