"""Runs whole, as JSONL: all that their pages show, and that another instance needs to show the same.

Read in pieces of bounded size, whatever the runs hold. JSON columns are passed on as PostgreSQL writes them;
secrets are never read.
"""

import base64
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import (
    BinaryField,
    Case,
    F,
    Func,
    IntegerField,
    Model,
    QuerySet,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Cast, Coalesce

from runs.models import (
    Artifact,
    Attempt,
    Change,
    Criterion,
    Delivery,
    Event,
    Feedback,
    FeedbackVersion,
    Owner,
    Result,
    Run,
    Session,
    User,
    Webhook,
)
from runs.transfer.lines import first_line, last_line, line, raw
from runs.transfer.selection import Selection

_BATCH_BYTES = 2**21  # of events that are read in one go
_BATCH_ROWS = 500
_PIECE = 3 * 2**20  # bytes of an artifact; of three bytes base64 makes four characters
_SESSIONS = 10_000  # that are remembered as told; an older one is told again

_OF_RUN = (
    *("kind", "agent", "model", "title", "status", "raw_status", "error", "attempt", "worker_id"),
    *("claimed_at", "lease_expires_at", "priority", "crashes", "done_items", "total_items", "expires_at"),
    *("cancel_requested_at", "cancel_requested_by", "cancel_reason", "cancel_acknowledged_at"),
    *("created_at", "started_at", "finished_at", "updated_at", "size", "event_count", "artifact_count"),
)
_OF_SESSION = (
    *(
        "id",
        "namespace",
        "key",
        "source",
        "agent",
        "title",
        "created_at",
        "started_at",
        "completed_at",
        "expires_at",
    ),
    "last_activity_at",
)
_OF_EVENT = (
    *("seq", "event_id", "kind", "role", "occurred_at", "created_at"),
    *("input_tokens", "output_tokens", "cost"),
)
_OF_ARTIFACT = ("artifact_id", "name", "media_type", "complete", "created_at")
_OF_RESULT = (
    *("id", "item_id", "item_name", "case_id", "question", "evaluator_name", "evaluator_type"),
    *("threshold", "status", "score", "trace_id", "span_id", "error", "latency_ms", "position", "created_at"),
)
_OF_FEEDBACK = (
    *("author", "author_name", "criterion", "rating", "comment"),
    *("created_at", "updated_at", "withdrawn_at"),
)
_OF_VERSION = ("rating", "comment", "withdrawn", "created_at")
_OF_ATTEMPT = ("number", "worker_id", "started_at", "ended_at", "outcome", "reason", "doing")
_OF_WEBHOOK = ("id", "position", "external_id", "kind", "shown", "host", "partial", "created_at")
_OF_DELIVERY = (
    *("message_id", "webhook_id", "phase", "body", "state", "tries", "next_try_at", "status_code", "error"),
    *("created_at", "ended_at"),
)
_OF_CHANGE = ("actor", "reason", "request_id", "object_type", "object_id", "field", "at")
_OF_CRITERION = ("key", "label", "description", "position", "retired_at", "created_at")


def everything(selection: Selection, query: str, now: datetime) -> Generator[bytes]:
    """Lines, some of them in several pieces; the last says how many runs and lines there were."""
    yield first_line("everything", query, now)
    writer = _Writer()
    for runs in selection.batches():
        yield from writer.runs(runs)
    yield last_line(writer.told, writer.lines + 2)


class _Writer:
    def __init__(self) -> None:
        self.told = self.lines = 0
        self._owners: set[int] = set()
        self._sessions: OrderedDict[UUID, None] = OrderedDict()

    def runs(self, runs: Sequence[Run]) -> Iterator[bytes]:
        present = _Present(runs)
        for run in runs:
            for piece in self._run(run, present):
                self.lines += piece.endswith(b"\n")
                yield piece
            self.told += 1

    def _run(self, run: Run, present: "_Present") -> Iterator[bytes]:
        if run.owner_id not in self._owners:
            self._owners.add(run.owner_id)
            for row in Criterion.objects.filter(owner=run.owner_id).values(*_OF_CRITERION):
                yield line("criterion", **row)
        if run.session_id and run.session_id not in self._sessions:
            yield from _session(run.session_id, run.owner_id)
        if run.session_id:
            self._sessions[run.session_id] = None
            self._sessions.move_to_end(run.session_id)
            if len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)
        yield _head(run, present.owners[run.owner_id])
        yield from _events(run)
        yield from _artifacts(run)
        if run.passed_count or run.failed_count or run.errored_count or run.skipped_count:
            yield from _results(run)
        for those, lines in (
            (present.feedback, _feedback),
            (present.attempts, _attempts),
            (present.webhooks, _webhooks),
            (present.deliveries, _deliveries),
            (present.changes, _changes),
        ):
            if run.pk in those:
                yield from lines(run)
        yield line("run_end", run=run.pk)


class _Present:
    """Which of some runs have what few runs have: a query for all instead of one for each."""

    def __init__(self, runs: Sequence[Run]) -> None:
        ids = [run.pk for run in runs]
        owners = {run.owner_id for run in runs}
        self.owners = dict(Owner.objects.filter(pk__in=owners).values_list("pk", "name"))
        self.feedback = _having(Feedback, ids)
        self.attempts = _having(Attempt, ids)
        self.webhooks = _having(Webhook, ids)
        self.deliveries = _having(Delivery, ids)
        self.changes = _having(Change, ids)


def _having(model: type[Model], ids: Sequence[UUID]) -> set[UUID]:
    rows = model._default_manager.filter(run__in=ids).order_by()
    return set(rows.values_list("run_id", flat=True).distinct())


def _session(session_id: UUID, owner_id: int) -> Iterator[bytes]:
    sessions = Session.objects.filter(pk=session_id, owner=owner_id)
    for row in _rows(sessions, _OF_SESSION, metadata=_json("metadata")):
        yield line("session", **row)


def _head(run: Run, owner: str) -> bytes:
    """The run itself; `spec` without its secrets."""
    texts = {
        "metadata": _json("metadata"),
        "summary": _json("summary"),
        "spec": Coalesce("spec_exact", _json("spec")),
    }
    (row,) = _rows(Run.objects.filter(pk=run.pk), (), **texts)
    columns = {name: getattr(run, name) for name in _OF_RUN}
    links = {"session": run.session_id, "judged": run.judged_id, "retried": run.retried_id}
    return line("run", id=run.pk, owner=owner, **links, **columns, **row)


def _events(run: Run) -> Iterator[bytes]:
    payload = Coalesce("payload_exact", _json("payload"))
    for first, last in _stretches(run):
        events = Event.objects.filter(run=run, seq__range=(first, last)).order_by("seq")
        for row in _rows(events, _OF_EVENT, payload=payload):
            yield line("event", **row)


def _stretches(run: Run) -> Iterator[tuple[int, int]]:
    """First and last event of stretches that are small enough to be read in one go."""
    if not run.event_count:
        return
    if run.size <= _BATCH_BYTES:
        yield 1, run.event_count
        return
    sizes = Event.objects.filter(run=run).order_by("seq").values_list("seq", "size")
    first = last = held = 0
    for seq, size in sizes.iterator(2_000):
        if first and (held + size > _BATCH_BYTES or seq - first >= _BATCH_ROWS):
            yield first, last
            first = held = 0
        first, last, held = first or seq, seq, held + size
    if first:
        yield first, last


def _artifacts(run: Run) -> Iterator[bytes]:
    if not run.artifact_count:
        return
    length = Func("content", function="octet_length", output_field=IntegerField())
    parts = Case(
        When(told__isnull=False, then=Value("[]", TextField())),  # they are in it
        default=Coalesce("parts_exact", _json("parts")),
    )
    artifacts = Artifact.objects.filter(run=run).order_by("id").annotate(length=length)
    for row in _rows(artifacts, ("id", "length", *_OF_ARTIFACT), at_once=1, parts=parts, told=_TOLD):
        number, bytes_ = row.pop("id"), row.pop("length")
        whole = line("artifact", **row)
        if bytes_ is None:
            yield whole
            continue
        yield whole.removesuffix(b"}\n") + b',"content":"'
        for start in range(1, bytes_ + 1, _PIECE):
            piece = Func(
                F("content"), Value(start), Value(_PIECE), function="substring", output_field=BinaryField()
            )
            held = Artifact.objects.filter(run=run, pk=number).values_list(piece, flat=True).get()
            yield base64.b64encode(held)
        yield b'"}\n'


_TOLD = Coalesce(
    "told_exact",
    Func(
        F("told"),
        Func(Value("parts"), F("parts"), function="jsonb_build_object"),
        template="(%(expressions)s)::text",
        arg_joiner=" || ",
        output_field=TextField(),
    ),
    Value("null", TextField()),
)


def _results(run: Run) -> Iterator[bytes]:
    texts = {
        "per_invocation_scores": _json("per_invocation_scores"),
        "details": Coalesce("details_exact", _json("details")),
        "tokens": _json("tokens"),
    }
    results = Result.objects.filter(run=run).order_by("created_at", "position", "id")
    return (line("result", **row) for row in _rows(results, _OF_RESULT, at_once=200, **texts))


def _feedback(run: Run) -> Iterator[bytes]:
    """With every version of it: what its author said before, and when."""
    texts = {"metadata": _json("metadata"), "raw": _json("raw")}
    versions: dict[int, list[dict[str, Any]]] = {}
    said = FeedbackVersion.objects.filter(feedback__run=run).order_by("id")
    for row in _rows(said, ("feedback_id", *_OF_VERSION), **texts):
        versions.setdefault(row.pop("feedback_id"), []).append(row)
    for row in _rows(Feedback.objects.filter(run=run).order_by("id"), ("id", *_OF_FEEDBACK), **texts):
        its_versions = versions.get(row.pop("id"), [])
        yield line("feedback", **row, versions=its_versions)


def _attempts(run: Run) -> Iterator[bytes]:
    attempts = Attempt.objects.filter(run=run).order_by("number")
    return (line("attempt", **row) for row in _rows(attempts, _OF_ATTEMPT))


def _webhooks(run: Run) -> Iterator[bytes]:
    """Where it told of itself, but never what is sealed of that."""
    webhooks = Webhook.objects.filter(run=run).order_by("position", "id")
    return (line("webhook", **row) for row in _rows(webhooks, _OF_WEBHOOK))


def _deliveries(run: Run) -> Iterator[bytes]:
    deliveries = Delivery.objects.filter(run=run).order_by("id")
    return (line("delivery", **row) for row in _rows(deliveries, _OF_DELIVERY, at_once=20))


def _changes(run: Run) -> Iterator[bytes]:
    """`actor_name` is what a person is called: their number means another one elsewhere."""
    texts = {"old": _json("old"), "new": _json("new")}
    changes = list(_rows(Change.objects.filter(run=run).order_by("id"), _OF_CHANGE, **texts))
    names = _names({change["actor"] for change in changes})
    return (line("change", **row, actor_name=names.get(row["actor"], row["actor"])) for row in changes)


def _names(actors: Iterable[str]) -> dict[str, str]:
    numbers = [actor.removeprefix("user:") for actor in actors if actor.startswith("user:")]
    people = User.objects.filter(pk__in=[number for number in numbers if number.isdecimal()])
    return {person.actor: person.display_name for person in people}


def _rows(
    rows: QuerySet[Any], columns: Sequence[str], at_once: int = 0, **texts: Any
) -> Iterator[dict[str, Any]]:
    """The columns as they are, and `texts`: SQL for JSON, under other names than the columns have.

    `at_once` rows are held at a time; 0 is all, where they are few.
    """
    named = {f"{name}_json": expression for name, expression in texts.items()}
    values = rows.values(*columns, **named)
    for row in values.iterator(at_once) if at_once else values:
        yield {name.removesuffix("_json"): raw(row[name]) if name in named else row[name] for name in row}


def _json(column: str) -> Any:
    return Cast(F(column), TextField())
