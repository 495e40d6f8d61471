"""Events: the history of a run, append-only (DESIGN.md 3.3)."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Protocol

from django.db import IntegrityError, connection, models, transaction
from django.db.models.functions import Now

from runs.exact import Json, clean_text, join_exact, split_exact
from runs.models import triggers
from runs.models.access import OfRunQuerySet
from runs.models.run import LeaseLost, Run
from runs.models.search import Doc, event_doc, known_terms

TITLE_LENGTH = 200
MOST_TOKENS = 10**12  # of one step; what is more is a mistake
LONGEST_ID = 2000  # bytes; an index entry of PostgreSQL has a limit


@dataclass(frozen=True, slots=True)
class Usage:
    """What a step used: tokens, and US dollars."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None


def tokens_of(number: int | None) -> int | None:
    """What somebody else says of a step's tokens, where it can be true."""
    return number if number is not None and 0 <= number <= MOST_TOKENS else None


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An entry to append; `event_id` is its client's own id, and the same id is kept once."""

    kind: str
    payload: Json
    role: str = ""
    event_id: str | None = None
    occurred_at: datetime | None = None
    usage: Usage = Usage()


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

    objects: ClassVar = OfRunQuerySet.as_manager()

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


@dataclass
class Then:
    """A function of the database that the statement which appends calls, too: its SQL and parameters."""

    sql: str
    parameters: dict[str, Any]
    answer: Any = None


class Hold(Protocol):
    """Whose run it must be for a write to count: a worker's claim."""

    @property
    def worker_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...


def append_events(
    run: Run,
    new: Sequence[NewEvent],
    hold: Hold | None = None,
    *,
    past: bool = False,
    then: Then | None = None,
) -> list[Event]:
    """Appends to a run's history and gives what was written; an event id that is there is passed over.

    One call, so that the run's row is locked for an instant: it counts the events, gives them their
    numbers without gaps, and keeps what lists show of them. To a final run each comes as `late_write`, and
    nothing but its count changes (CONTRACTS.md 4.2), unless it is `past`: history from elsewhere that is
    told after its run. `then` is done right after it, as one with it. Raises Run.DoesNotExist, LeaseLost
    where `hold` is not in the run's row any more, and ValueError for an id of more than LONGEST_ID bytes.
    """
    if any(event.kind == Event.Kind.LATE_WRITE for event in new):
        raise ValueError(f"{Event.Kind.LATE_WRITE} is no kind that one appends")
    batch = _each_id_once(new)
    if not any(event.event_id for event in batch):
        return _append(run, batch, hold, past, then)
    try:
        # Nearly always none of the ids is there; PostgreSQL says so when one is.
        with transaction.atomic():
            return _append(run, batch, hold, past, then)
    except IntegrityError as error:
        if getattr(getattr(error.__cause__, "diag", None), "constraint_name", "") != "event_id_once":
            raise
    with transaction.atomic():
        Run.objects.select_for_update(of=("self",)).only("pk").get(pk=run.pk)
        ids = [event.event_id for event in batch if event.event_id]
        there = set(Event.objects.filter(run=run, event_id__in=ids).values_list("event_id", flat=True))
        return _append(run, [event for event in batch if event.event_id not in there], hold, past, then)


def recorded_event(run: Run, new: NewEvent, seq: int, created_at: datetime) -> Event:
    """An event as another Runfolio recorded it, a late write with what it would have been; not saved."""
    if new.kind != Event.Kind.LATE_WRITE or not isinstance(new.payload, dict):
        row = _row(run, new)
    else:
        row = _row(run, replace(new, payload=new.payload.get("payload")))  # whose size counts
        row.payload, row.payload_exact = split_exact(new.payload)
    row.seq, row.created_at = seq, created_at
    return row


def _each_id_once(new: Sequence[NewEvent]) -> list[NewEvent]:
    """As PostgreSQL can hold them; an empty id is none."""
    seen: set[str] = set()
    kept = []
    for event in new:
        event_id = clean_text(event.event_id or "") or None
        if event_id is None or event_id not in seen:
            seen.add(event_id or "")
            kept.append(replace(event, event_id=event_id))
        if event_id is not None and len(event_id.encode()) > LONGEST_ID:
            raise ValueError(f"an event's id has more than {LONGEST_ID:,} bytes")
    return kept


def _append(
    run: Run, new: Sequence[NewEvent], hold: Hold | None, past: bool, then: Then | None = None
) -> list[Event]:
    """Calls the database's `append_events`, which is in migration 0002."""
    rows = [_row(run, event) for event in new]
    docs = [event_doc(event.payload) for event in new]
    terms: frozenset[int] = frozenset().union(*(doc.terms for doc in docs))
    parameters = {
        "target": run.pk,
        "events": json.dumps([_told(row, doc) for row, doc in zip(rows, docs, strict=True)]),
        "past": past,
        "worker": hold and hold.worker_id,
        "try": hold and hold.attempt,
        "said": next((_title(event) for event in new if event.role == "user"), ""),
        "used_input": _total(row.input_tokens for row in rows),
        "used_output": _total(row.output_tokens for row in rows),
        "used_cost": _total(row.cost for row in rows),
        "new_terms": known_terms.missing(run.pk, terms),
    }
    with connection.cursor() as cursor:
        after = "NULL" if then is None else f"CASE WHEN first IS NOT NULL THEN {then.sql} END"
        cursor.execute(_APPEND.format(after=after), parameters | (then.parameters if then else {}))
        first, block, late, ids, answer = cursor.fetchone()
    if then is not None:
        then.answer = answer
    if first is None:
        raise LeaseLost(hold) if hold is not None else Run.DoesNotExist(run.pk)
    known_terms.note(run.pk, block, terms)
    for seq, (row, pk) in enumerate(zip(rows, ids or (), strict=True), first):
        row.seq, row.pk = seq, pk
        if late:
            row.payload = {"kind": row.kind, "payload": row.payload}
            row.kind = Event.Kind.LATE_WRITE
    return rows


_APPEND = """
    SELECT first, block, late, ids, {after} FROM append_events(
        %(target)s, %(events)s::jsonb, %(past)s, %(worker)s, %(try)s, %(said)s,
        %(used_input)s, %(used_output)s, %(used_cost)s, %(new_terms)s::integer[])
"""


def _told(row: Event, doc: Doc) -> dict[str, Json]:
    """An event as `append_events` takes it."""
    return {
        "event_id": row.event_id,
        "kind": row.kind,
        "role": row.role,
        "payload": row.payload,
        "exact": row.payload_exact,
        "size": row.size,
        "occurred_at": row.occurred_at and row.occurred_at.isoformat(),
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost": row.cost and str(row.cost),
        "words": doc.words,
        "whole": doc.whole,
    }


def _total(numbers: Iterable[Any]) -> Any:
    given = [number for number in numbers if number is not None]
    return sum(given) if given else None


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
