"""Spans as they were sent, and what of them is live (issue 6, point 5; CONTRACTS.md 1.10).

A trace that tells of an agent's work is a run, whose history is told from its spans. The spans stay, so that
late ones can be merged and evaluators see all that there was.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, ClassVar
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from runs.exact import Json
from runs.models.access import Caller, OwnedQuerySet
from runs.models.owner import Owner
from runs.models.run import Run
from runs.models.session import Session
from runs.traces.protobuf import traces_as_json

SOURCE = "otlp"  # of the sessions
COMPLETE_AFTER = timedelta(seconds=3)  # since the last span of traces whose roots are there
IDLE_AFTER = timedelta(seconds=30)  # since the last span of any other
# What names a session's run of its agent, and which of several of one name; in the session's metadata.
RUN_OF_SESSION, INSTANCE = "agentevals.session.run_id", "service.instance.id"
EVAL_SET, GIVEN = "agentevals.eval_set_id", "agentevals.metadata."
_TRACE_ID_LENGTH = 32


class Trace(models.Model):
    """A trace of an owner. `id` follows from both (`id_of`), and is its run's, once it has one."""

    class State(models.TextChoices):
        WAITING = "waiting", "Nothing of an agent in it so far"
        OPEN = "open", "Its root may come"
        CLOSED = "closed"

    id = models.UUIDField(primary_key=True, editable=False)
    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="traces", db_index=False)
    trace_id = models.CharField(max_length=_TRACE_ID_LENGTH)
    state = models.CharField(max_length=10, choices=State)
    span_count = models.PositiveIntegerField(default=0)
    rooted_at = models.DateTimeField(null=True, help_text="When its root came.")
    first_span_at = models.DateTimeField(db_default=Now())
    last_span_at = models.DateTimeField(db_default=Now())

    objects: ClassVar = OwnedQuerySet.as_manager()

    class Meta:
        db_table = "trace"
        constraints = [
            models.CheckConstraint(condition=Q(state__in=["waiting", "open", "closed"]), name="trace_state")
        ]
        indexes = [
            models.Index(  # what upkeep closes, and what it forgets
                fields=["state", "last_span_at"], name="trace_unfinished", condition=~Q(state="closed")
            )
        ]

    def __str__(self) -> str:
        return self.trace_id


class SpanBatch(models.Model):
    """Spans and log records of one trace that came together, each span in the first that had it.

    `document` is an export with just these, in JSON (a JSONB would not hold all that spans do) or in
    protobuf, whichever they came in.
    """

    pk = models.CompositePrimaryKey("trace_id", "number")
    trace = models.ForeignKey(Trace, on_delete=models.CASCADE, related_name="batches", db_index=False)
    number = models.PositiveIntegerField()
    is_protobuf = models.BooleanField()
    document = models.BinaryField()

    objects: ClassVar = models.Manager()

    class Meta:
        db_table = "span_batch"

    def __str__(self) -> str:
        return f"batch {self.number} of {self.trace_id}"

    @property
    def otlp(self) -> dict[str, Json]:
        """As OTLP JSON: `{"resourceSpans": [...]}` or `{"resourceLogs": [...]}`."""
        return read_batch(bytes(self.document), self.is_protobuf)


def read_batch(document: bytes, is_protobuf: bool) -> dict[str, Json]:
    whole: dict[str, Json] = traces_as_json(document) if is_protobuf else json.loads(document)
    return whole


def id_of(owner: Owner, trace_id: str) -> UUID:
    """A UUID (version 8) that nobody has by chance: the database makes the history of such a run anew, and
    of no other (`retell_run` in migration 0008)."""
    digest = sha256(f"runfolio trace {owner.pk} {trace_id}".encode()).digest()[:16]
    number = int.from_bytes(digest) & ~(0xF << 76) | (0x8 << 76)
    return UUID(int=number & ~(0x3 << 62) | (0x2 << 62))


# ── What is live ───────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session of traces, as agentevals lists it; `session` is None until it is plain which one it is.

    `key` is how its clients call it. `traces` are in the order in which they began to arrive.
    """

    key: str
    session: Session | None
    traces: list[Trace]
    metadata: dict[str, Json]

    @property
    def trace_id(self) -> str:
        return self.traces[0].trace_id if self.traces else ""

    @property
    def span_count(self) -> int:
        return sum(trace.span_count for trace in self.traces)

    @property
    def started_at(self) -> datetime:
        return min(trace.first_span_at for trace in self.traces)

    @property
    def eval_set_id(self) -> str | None:
        found = self.metadata.get(EVAL_SET)
        return found if isinstance(found, str) else None

    def is_complete(self, now: datetime) -> bool:
        latest = max(trace.last_span_at for trace in self.traces)
        return is_complete(latest, all(trace.rooted_at for trace in self.traces), now)


def is_complete(latest: datetime, rooted: bool, now: datetime) -> bool:
    """Whether nothing more is expected: 3 s after the last span where all roots are there, else 30 s."""
    return now - latest >= (COMPLETE_AFTER if rooted else IDLE_AFTER)


def sessions(caller: Caller, most: int = 100) -> list[LiveSession]:
    """The newest sessions of traces that `caller` sees, newest first; those that are not named yet come
    before all others."""
    kept = Session.objects.visible_to(caller).filter(source=SOURCE).newest_first()[:most]
    found = _provisional(caller, most) + _live(caller, list(kept))
    return found[:most]


def session_of(caller: Caller, key: str) -> LiveSession | None:
    """The session that clients call `key`."""
    kept = list(Session.objects.visible_to(caller).filter(source=SOURCE, namespace="", key=key)[:1])
    if kept:
        return next(iter(_live(caller, kept)), None)
    return next((one for one in _provisional(caller, 1000) if one.key == key), None)


def otlp_of(live: LiveSession) -> dict[str, Json]:
    """All its spans and log records, as one OTLP JSON document: `{"resourceSpans": [...], ...}`."""
    batches = SpanBatch.objects.filter(trace__in=[trace.pk for trace in live.traces])
    return joined(one.otlp for one in batches.order_by("trace__first_span_at", "number"))


def otlp_of_run(run: Run) -> dict[str, Json] | None:
    """The spans that a run was told from; None for a run of any other kind."""
    batches = list(SpanBatch.objects.filter(trace=run.pk, trace__owner=run.owner_id).order_by("number"))
    return joined(one.otlp for one in batches) if batches else None


def joined(documents: Iterable[dict[str, Json]]) -> dict[str, Json]:
    """Documents of batches as one."""
    whole: dict[str, list[Any]] = {"resourceSpans": []}
    for document in documents:
        for name, blocks in document.items():
            whole.setdefault(name, []).extend(blocks)
    return whole


def provisional_key(trace_id: str) -> str:
    """What a session is called that no span of its trace names (CONTRACTS.md 1.10)."""
    return f"otlp-{trace_id[:12]}"


def _live(caller: Caller, kept: list[Session]) -> list[LiveSession]:
    runs = Run.objects.visible_to(caller).filter(session__in=[session.pk for session in kept])
    session_of_run = dict(runs.values_list("pk", "session_id"))
    found: dict[UUID, list[Trace]] = {}
    theirs = Trace.objects.visible_to(caller).filter(pk__in=list(session_of_run))
    for trace in theirs.order_by("first_span_at", "pk"):
        found.setdefault(session_of_run[trace.pk], []).append(trace)
    return [
        LiveSession(session.key, session, found[session.pk], session.metadata)
        for session in kept
        if session.pk in found
    ]


def _provisional(caller: Caller, most: int) -> list[LiveSession]:
    """Traces at work whose spans have not named a session so far."""
    since = timezone.now() - 2 * IDLE_AFTER
    open_ones = Trace.objects.visible_to(caller).filter(state=Trace.State.OPEN, last_span_at__gt=since)
    by_id = {trace.pk: trace for trace in open_ones.order_by("-last_span_at")[:most]}
    homeless = Run.objects.visible_to(caller).filter(pk__in=list(by_id), session=None)
    return [
        LiveSession(provisional_key(by_id[pk].trace_id), None, [by_id[pk]], {})
        for pk in homeless.newest_first().values_list("pk", flat=True)
    ]
