"""Events: the history of a run, append-only (DESIGN.md 3.3)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, NoReturn, Protocol
from uuid import UUID

from django.db import IntegrityError, connection, models, transaction
from django.db.models.functions import Now

from runs.exact import Json, clean_text, join_exact, split_exact
from runs.models import triggers
from runs.models.access import OwnedQuerySet
from runs.models.run import LeaseLost, Run
from runs.models.search import MARK, NEW_TERMS, event_doc, known_terms
from runs.models.status import FINAL

TITLE_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Usage:
    """What a step used: tokens, and US dollars."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An entry to append; `event_id` is its client's own id, and the same id is kept once."""

    kind: str
    payload: Json
    role: str = ""
    event_id: str | None = None
    occurred_at: datetime | None = None
    usage: Usage = Usage()


class EventQuerySet(OwnedQuerySet["Event"]):
    owner_path = "run__owner"
    deleted_path = "run__deleted_at"


class Event(models.Model):
    """One entry of a run's history: a message, a tool call, a tool result, a state change."""

    class Kind(models.TextChoices):
        MESSAGE = "message"
        TOOL_CALL = "tool_call"
        TOOL_RESULT = "tool_result"
        STATE = "state"
        ERROR = "error"
        LATE_WRITE = "late_write", "What came after the run's end"

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events", db_index=False)
    seq = models.PositiveIntegerField(help_text="From 1, without gaps.")
    event_id = models.TextField(null=True, blank=True)  # noqa: DJ001  None: its client gave none
    kind = models.CharField(
        max_length=100, help_text="Any; those of Event.Kind are shown in a form of their own."
    )
    role = models.CharField(max_length=50, blank=True, default="")
    payload = models.JSONField(null=True)
    payload_exact = models.TextField(null=True, editable=False)  # noqa: DJ001  None: payload is exact
    size = models.PositiveIntegerField(help_text="Of the payload's JSON, in bytes.")
    occurred_at = models.DateTimeField(null=True, help_text="By its client's clock.")
    created_at = models.DateTimeField(db_default=Now())
    input_tokens = models.PositiveBigIntegerField(null=True)
    output_tokens = models.PositiveBigIntegerField(null=True)
    cost = models.DecimalField(max_digits=14, decimal_places=6, null=True, help_text="In US dollars.")

    objects: ClassVar = EventQuerySet.as_manager()

    class Meta:
        db_table = "event"
        ordering = ["run", "seq"]
        constraints = [
            models.UniqueConstraint(fields=["run", "seq"], name="event_seq"),  # also how the transcript reads
            models.UniqueConstraint(fields=["run", "event_id"], name="event_id_once"),
        ]
        triggers = [triggers.append_only()]

    def __str__(self) -> str:
        return f"{self.kind} {self.seq}"

    @property
    def full_payload(self) -> Json:
        """The payload exactly as it was appended."""
        return join_exact(self.payload, self.payload_exact)

    @property
    def at(self) -> datetime:
        return self.occurred_at or self.created_at


class Hold(Protocol):
    """Whose run it must be for a write to count: a worker's claim."""

    @property
    def worker_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...


def append_events(
    run: Run, new: Sequence[NewEvent], hold: Hold | None = None, *, past: bool = False
) -> list[Event]:
    """Appends to a run's history and gives what was written; an event id that is there is passed over.

    One statement, so that the run's row is locked for an instant: it counts the events, gives them their
    numbers without gaps, and keeps what lists show of them. To a final run each comes as `late_write`, and
    nothing but its count changes (CONTRACTS.md 4.2), unless it is `past`: history from elsewhere that is
    told after its run. Raises Run.DoesNotExist, and LeaseLost where `hold` is not in the run's row any more.
    """
    if any(event.kind == Event.Kind.LATE_WRITE for event in new):
        raise ValueError(f"{Event.Kind.LATE_WRITE} is no kind that one appends")
    batch = _each_id_once(new)
    if not any(event.event_id for event in batch):
        return _append(run, batch, hold, past)
    try:
        # Nearly always none of the ids is there; PostgreSQL says so when one is.
        with transaction.atomic():
            return _append(run, batch, hold, past)
    except IntegrityError as error:
        if getattr(getattr(error.__cause__, "diag", None), "constraint_name", "") != "event_id_once":
            raise
    with transaction.atomic():
        Run.objects.select_for_update(of=("self",)).only("pk").get(pk=run.pk)
        ids = [event.event_id for event in batch if event.event_id]
        there = set(Event.objects.filter(run=run, event_id__in=ids).values_list("event_id", flat=True))
        return _append(run, [event for event in batch if event.event_id not in there], hold, past)


def _each_id_once(new: Sequence[NewEvent]) -> list[NewEvent]:
    seen: set[str] = set()
    kept = []
    for event in new:
        if event.event_id is None or event.event_id not in seen:
            seen.add(event.event_id or "")
            kept.append(event)
    return kept


def _append(run: Run, new: Sequence[NewEvent], hold: Hold | None, past: bool) -> list[Event]:
    rows = [_row(run, event) for event in new]
    docs = [event_doc(event.payload) for event in new]
    terms: frozenset[int] = frozenset().union(*(doc.terms for doc in docs))
    title = next((_title(event) for event in new if event.role == "user"), "")
    statement, parameters = _statement(rows, title, hold)
    parameters |= {
        "run": run.pk,
        "past": past,
        "mark": MARK,
        "words": [doc.words for doc in docs],
        "whole": [doc.whole for doc in docs],
        "terms": known_terms.missing(run.pk, terms),
    }
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        first, block, late, ids = cursor.fetchone() or _refuse(run.pk, hold)
    known_terms.note(run.pk, block, terms)
    for seq, (row, pk) in enumerate(zip(rows, ids or (), strict=True), first):
        row.seq, row.pk = seq, pk
        if late:
            row.payload = {"kind": row.kind, "payload": row.payload}
            row.kind = Event.Kind.LATE_WRITE
    return rows


def _refuse(run_id: UUID, hold: Hold | None) -> NoReturn:
    if hold is not None:
        raise LeaseLost(hold)
    raise Run.DoesNotExist(run_id)


def _statement(rows: Sequence[Event], title: str, hold: Hold | None) -> tuple[str, dict[str, Any]]:
    """The statement, with no more in its UPDATE than this batch changes: each column may fire a trigger."""
    columns = {name: [getattr(row, name) for row in rows] for name in _COLUMNS}
    columns["payload"] = [json.dumps(payload) for payload in columns["payload"]]
    used = {name: _total(columns[name]) for name in _USAGE}
    changes = {f"{name} = {_ADDED.format(name)}" for name, total in used.items() if total is not None}
    if title:
        changes.add("title = CASE WHEN title = '' AND (%(past)s OR NOT final) THEN %(title)s ELSE title END")
    held = "AND status = 'running' AND worker_id = %(worker)s AND attempt = %(attempt)s" if hold else ""
    happened = [row.occurred_at for row in rows]
    parameters: dict[str, Any] = {
        **columns,
        **{f"{name}_used": total for name, total in used.items()},
        "title": title,
        "count": len(rows),
        "total_size": sum(row.size for row in rows),
        "latest": None if None in happened else max(filter(None, happened), default=None),
        "worker": hold and hold.worker_id,
        "attempt": hold and hold.attempt,
    }
    more = "".join(f", {change}" for change in sorted(changes)).replace("final", _IS_FINAL)
    return _APPEND.format(more=more, held=held), parameters


def _total(numbers: Sequence[Any]) -> Any:
    given = [number for number in numbers if number is not None]
    return sum(given) if given else None


_USAGE = ("input_tokens", "output_tokens", "cost")
_COLUMNS = ("event_id", "kind", "role", "payload", "payload_exact", "size", "occurred_at", *_USAGE)
_IS_FINAL = f"status IN ({', '.join(repr(str(status)) for status in sorted(FINAL))})"
_ADDED = "CASE WHEN %(past)s OR NOT final THEN coalesce({0}, 0) + %({0}_used)s ELSE {0} END"
_APPEND = f"""
    WITH held AS (
        UPDATE run SET event_count = event_count + %(count)s, size = size + %(total_size)s,
            updated_at = statement_timestamp() {{more}}
        WHERE id = %(run)s {{held}}
        RETURNING id, owner_id, session_id, search_block, event_count - %(count)s AS before,
            {_IS_FINAL} AND NOT %(past)s AS late
    ), new AS (
        SELECT * FROM unnest(
            %(event_id)s::text[], %(kind)s::text[], %(role)s::text[], %(payload)s::text[],
            %(payload_exact)s::text[], %(size)s::int[], %(occurred_at)s::timestamptz[],
            %(input_tokens)s::bigint[], %(output_tokens)s::bigint[], %(cost)s::numeric[],
            %(words)s::text[], %(whole)s::boolean[]
        ) WITH ORDINALITY AS given (event_id, kind, role, payload, exact, size, occurred_at,
            input_tokens, output_tokens, cost, words, whole, number)
    ), written AS (
        INSERT INTO event (run_id, seq, event_id, kind, role, payload, payload_exact, size, occurred_at,
            input_tokens, output_tokens, cost)
        SELECT held.id, before + number, event_id,
            CASE WHEN late THEN 'late_write' ELSE kind END, role,
            CASE WHEN late THEN jsonb_build_object('kind', kind, 'payload', payload::jsonb)
                ELSE payload::jsonb END,
            CASE WHEN late THEN '{{{{"kind": ' || to_json(kind) || ', "payload": ' || exact || '}}}}'
                ELSE exact END,
            size, occurred_at, input_tokens, output_tokens, cost
        FROM held, new ORDER BY number
        RETURNING id, seq
    ), documents AS (
        INSERT INTO search_doc (run_id, seq, words, whole)
        SELECT held.id, before + number, replace(words, %(mark)s, search_block || ':')::tsvector, whole
        FROM held, new
    ), terms AS ({NEW_TERMS.format(run="held")}
    ), active AS (
        UPDATE session SET last_activity_at = date_trunc('second', least(%(latest)s, statement_timestamp()))
        FROM held WHERE session.id = held.session_id
        AND last_activity_at < date_trunc('second', least(%(latest)s, statement_timestamp()))
    )
    SELECT before + 1, search_block, late, (SELECT array_agg(id ORDER BY seq) FROM written) FROM held
"""


def _row(run: Run, event: NewEvent) -> Event:
    payload, exact = split_exact(event.payload)
    return Event(
        run_id=run.pk,
        event_id=event.event_id,
        kind=clean_text(event.kind)[:100],
        role=clean_text(event.role)[:50],
        payload=payload,
        payload_exact=exact,
        size=len(json.dumps(event.payload, ensure_ascii=False).encode("utf-8", "surrogatepass")),
        occurred_at=event.occurred_at,
        input_tokens=event.usage.input_tokens,
        output_tokens=event.usage.output_tokens,
        cost=event.usage.cost,
    )


def _title(event: NewEvent) -> str:
    """The beginning of what a user said, as one line."""
    parts = event.payload.get("parts") if isinstance(event.payload, dict) else None
    texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    said = " ".join(text for text in texts if isinstance(text, str))
    return clean_text(" ".join(said[: TITLE_LENGTH * 4].split()))[:TITLE_LENGTH]
