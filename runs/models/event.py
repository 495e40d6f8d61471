"""Events: the history of a run, append-only (DESIGN.md 3.3)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import models, transaction
from django.db.models import F
from django.db.models.functions import Now

from runs.exact import Json, clean_text, join_exact, split_exact
from runs.models import triggers
from runs.models.run import Run


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An entry to append; `event_id` is its client's own id, and the same id is kept once."""

    kind: str
    payload: Json
    role: str = ""
    event_id: str | None = None
    occurred_at: datetime | None = None


class Event(models.Model):
    """One entry of a run's history: a message, a tool call, a tool result, a state change."""

    class Kind(models.TextChoices):
        MESSAGE = "message"
        TOOL_CALL = "tool_call"
        TOOL_RESULT = "tool_result"
        STATE = "state"
        ERROR = "error"

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


def append_events(run: Run, new: Sequence[NewEvent]) -> list[Event]:
    """Appends to a run's history and gives what was written; an event id that is there is passed over.

    The run's row is locked meanwhile, so that `seq` has no gaps and no duplicates.
    """
    with transaction.atomic():
        locked = Run.objects.select_for_update(of=("self",)).only("event_count").get(pk=run.pk)
        ids = [event.event_id for event in new if event.event_id is not None]
        there = set(Event.objects.filter(run=run, event_id__in=ids).values_list("event_id", flat=True))
        rows: list[Event] = []
        for event in new:
            if event.event_id is None or event.event_id not in there:
                there.add(event.event_id)
                rows.append(_row(run, locked.event_count + len(rows) + 1, event))
        Event.objects.bulk_create(rows)
        Run.objects.filter(pk=run.pk).update(event_count=F("event_count") + len(rows), updated_at=Now())
    return rows


def _row(run: Run, seq: int, event: NewEvent) -> Event:
    payload, exact = split_exact(event.payload)
    return Event(
        run_id=run.pk,
        seq=seq,
        event_id=event.event_id,
        kind=clean_text(event.kind)[:100],
        role=clean_text(event.role)[:50],
        payload=payload,
        payload_exact=exact,
        size=len(json.dumps(event.payload, ensure_ascii=False).encode("utf-8", "surrogatepass")),
        occurred_at=event.occurred_at,
    )
