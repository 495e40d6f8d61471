"""Runs of new traces: all rows of one kind in one statement."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from runs.ingest.telling import Told
from runs.models import Owner, Run, Status
from runs.models.copying import copying
from runs.models.search import MARK, OF_RUN, Doc, known_terms, run_doc, terms_of
from runs.models.span import SOURCE


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be written. `session` is None until it is plain which one it is; `ended`: its root is here."""

    pk: UUID
    told: Told
    session: UUID | None
    ended: bool

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
        signs = [f"=model:{self.told.model}"] if self.told.model else []
        if self.session is not None:
            signs.append(f"=source:{SOURCE}")
        return run_doc(self.title, self.error, self.told.metadata, signs)


def write_runs(owner: Owner, runs: Sequence[NewRun], now: datetime) -> None:
    """Writes the runs, whose events are written, and what they are found by, in this order of time. Raises
    IntegrityError where the id of one is taken."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, at FROM block_for(%s, %s)", [owner.pk, len(runs)])
        block, at = cursor.fetchone()
    with copying(_RUNS) as copy:
        for number, run in enumerate(runs):
            # An instant apart each, so that lists keep their order.
            copy.write_row(_row(owner, run, block, at + timedelta(microseconds=number), now))
    _write_docs(owner, block, runs)


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


def write_events(stories: Iterable[tuple[UUID, Told]]) -> dict[UUID, Told]:
    """Writes the histories of runs, by their ids, and gives them all. The runs may follow: their events are
    only asked for them when the transaction ends. Raises IntegrityError where a run has a history.

    Ids and times as texts: psycopg takes longer over objects, and there are thousands.
    """
    written = {}
    with copying(_EVENTS) as copy:
        for pk, told in stories:
            written[pk], run = told, pk.hex
            for seq, one in enumerate(told.events, 1):
                used, at = one.usage, one.at and one.at.isoformat()
                said = (run, seq, one.event_id, one.kind, one.role, one.text, one.exact, one.size, at)
                copy.write_row((*said, used.input_tokens, used.output_tokens, used.cost))
    return written


_EVENTS = """
    COPY event (
        run_id, seq, event_id, kind, role, payload, payload_exact, size,
        occurred_at, input_tokens, output_tokens, cost
    ) FROM STDIN
"""


def _write_docs(owner: Owner, block: int, runs: Sequence[NewRun]) -> None:
    """Made as they are written, so that PostgreSQL is at one while we are at the next."""
    mark = f"{block}:"
    found: set[str] = set()
    with copying(_DOCS) as copy:
        for run in runs:
            pk = run.pk.hex
            for seq, doc in enumerate([run.doc, *(event.doc for event in run.told.events)], OF_RUN):
                copy.write_row((pk, seq, doc.words.replace(MARK, mark), doc.whole))
                found.update(doc.found)
    known_terms.add(owner.pk, block, terms_of(found))


_DOCS = "COPY search_doc (run_id, seq, words, whole) FROM STDIN"
