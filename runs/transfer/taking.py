"""Taking runs in that another Runfolio exported: each wholly or not at all, each once (issue 5, point 9).

A file is a stranger's: what it says of people are names, never rights, and nothing of another owner is
touched, whatever ids it names.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import DataError, IntegrityError, transaction
from django.utils import timezone

from runs.exact import clean_text, split_exact
from runs.models import (
    FINAL,
    Attempt,
    Change,
    Criterion,
    Delivery,
    Event,
    Feedback,
    FeedbackVersion,
    NewEvent,
    Owner,
    Result,
    Run,
    Session,
    Usage,
    Webhook,
    put_artifact,
)
from runs.models.artifact import told_artifacts
from runs.models.event import recorded_event
from runs.models.past import keep_events, keep_feedback, keep_others, keep_results, settle
from runs.sealing import seal
from runs.transfer import records
from runs.transfer.reading import Line, LineError, Lines, Unreadable

log = logging.getLogger(__name__)

FOREIGN = "import:"  # begins the actors that a file told of: no person's and no token's does
_MOST_PROBLEMS = 200  # that are told one by one
_MOST_WAITING = 100_000  # links to runs that come later in the file
_SESSIONS = 20_000  # that are remembered
_EVENT_BYTES, _ROWS = 2**21, 200  # that are written at a time
_MESSAGE = 500  # characters
_OF_RUNS = ("run", "result", "artifact", "feedback", "event")

# What stands around runs, so that a run that was broken off ends there.
_BETWEEN = ("export", "criterion", "session", "run", "end", "error")


@dataclass
class Report:
    """What became of a file. `stopped` says why nothing more was read; `is_whole`: its last line was there
    and true, so that no run is missing that was exported."""

    taken: int = 0
    there: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    more_problems: int = 0
    sessions: int = 0
    criteria: int = 0
    is_whole: bool = False
    stopped: str = ""

    @property
    def left_out(self) -> list[tuple[str, int]]:
        """What was passed over on purpose, and how many each."""
        return list(self.skipped.items())

    def note(self, line: int, message: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append((line, clean_text(message)[:_MESSAGE]))
        else:
            self.more_problems += 1


def take(lines: Lines, owner: Owner, defines: bool) -> Iterator[Report]:
    """Takes the runs in for `owner`, and gives the report so far after each; the last one tells of all.

    `defines` says whether the criteria in it are the owner's as well from now on. May be stopped and done
    again: what is there stays as it is.
    """
    taking = _Taking(lines, owner, defines)
    report = taking.report
    try:
        for line in lines:
            taking.line(line)
            yield report
    except Unreadable as error:
        report.stopped = str(error)
    except LineError as error:
        report.stopped = f"line {error.number:,}: {error}"
    report.is_whole = taking.is_whole and not report.stopped
    log.info("import for %s: %s runs taken, %s were there", owner, report.taken, report.there)
    yield report


class _Taking:
    def __init__(self, lines: Lines, owner: Owner, defines: bool) -> None:
        self.lines, self.owner, self.defines = lines, owner, defines
        self.report = Report()
        self.is_whole = False
        self._began: int | None = None  # the line of the last `export`
        self._runs = 0  # since then
        self._is_inside = False  # of a run
        self._sessions: OrderedDict[UUID, Session] = OrderedDict()
        self._waiting: dict[UUID, list[tuple[UUID, str]]] = {}

    def line(self, line: Line) -> None:
        """Raises LineError where it makes no sense to go on, and Unreadable."""
        if self._began is None or line.record == "export":
            self._first(line)
            return
        try:
            if line.wrong or line.record not in _BETWEEN:
                raise LineError(line.number, line.wrong or f"{line.record[:60]!r} belongs to no run")
            getattr(self, f"_{line.record}")(line)
        except LineError as error:
            self.report.note(error.number, str(error))

    def _first(self, line: Line) -> None:
        if line.wrong or line.record != "export":
            raise LineError(
                line.number, line.wrong or "this is no export of Runfolio: its first line is missing"
            )
        if (version := line.values.get("version")) != 1:
            raise LineError(
                line.number, f"this is version {str(version)[:20]} of the format; we read version 1"
            )
        export: records.Export = line.as_(records.Export)
        if export.parts != "everything":
            raise LineError(line.number, "only columns were exported; export everything to import it")
        self._began, self._runs, self.is_whole = line.number, 0, False

    def _end(self, line: Line) -> None:
        end: records.End = line.as_(records.End)
        read = line.number - (self._began or 0) + 1
        if (end.runs, end.lines) != (self._runs, read):
            raise LineError(
                line.number,
                f"the export had {end.runs:,} runs in {end.lines:,} lines; "
                f"the file has {self._runs:,} in {read:,}",
            )
        self.is_whole = True

    def _error(self, line: Line) -> None:
        raise LineError(line.number, f"the export broke off here: {str(line.values.get('message'))[:300]}")

    # ── What stands around runs ────────────────────────────────────────────
    def _criterion(self, line: Line) -> None:
        given: records.CriterionRecord = line.as_(records.CriterionRecord)
        if not self.defines:
            self.report.skipped[f"the criterion {given.key}: only an admin of {self.owner} adds criteria"] = 1
            return
        values = given.model_dump(exclude={"key"})
        _, made = Criterion.objects.get_or_create(owner=self.owner, key=given.key, defaults=values)
        self.report.criteria += made

    def _session(self, line: Line) -> None:
        given: records.SessionRecord = line.as_(records.SessionRecord)
        self._sessions[given.id] = self._session_of(line.number, given)
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)

    def _session_of(self, line: int, given: records.SessionRecord) -> Session:
        """The owner's one of this id or key, or else a new one."""
        theirs = Session.objects.filter(owner=self.owner)
        found = (
            theirs.filter(pk=given.id).first()
            or theirs.filter(source=given.source, namespace=given.namespace, key=given.key).first()
        )
        if found is not None:
            if found.deleted_at is not None:  # what is new must not be hidden, as in Session.objects.open
                Session.objects.filter(pk=found.pk).update(deleted_at=None, deleted_by="")
            return found
        values = given.model_dump(exclude={"metadata", "last_activity_at"})
        try:
            with transaction.atomic():
                made = Session.objects.create(
                    owner=self.owner,
                    metadata=split_exact({} if given.metadata is None else given.metadata)[0],
                    last_activity_at=min(given.last_activity_at, timezone.now()),
                    **values,
                )
        except (IntegrityError, DataError) as error:
            raise LineError(line, _refusal(error, "session", given.id)) from None
        self.report.sessions += 1
        return made

    # ── Runs ───────────────────────────────────────────────────────────────
    def _run(self, line: Line) -> None:
        self._runs, self._is_inside = self._runs + 1, True
        try:
            given: records.RunRecord = line.as_(records.RunRecord)
            if self._is_to_be_taken(line.number, given):
                self._take(line.number, given)
                self.report.taken += 1
            self._link(given)
        except LineError:
            self.report.refused += 1
            raise
        except (IntegrityError, DataError) as error:
            self.report.refused += 1
            raise LineError(line.number, _refusal(error, "run", line.values.get("id"))) from None
        finally:
            if self._is_inside:
                self._skip_the_rest()

    def _is_to_be_taken(self, line: int, given: records.RunRecord) -> bool:
        """False where it is there already, or must wait; raises LineError where its id is another run's."""
        known = Run.objects.filter(pk=given.id, owner=self.owner).only(*_TOLD_APART).first()
        if known is None:
            if given.kind == Run.Kind.EVALUATION and given.status not in FINAL:
                self.report.skipped[
                    "evaluations that had not ended: a worker here would begin them again"
                ] += 1
                return False
            return True
        if (known.kind, known.created_at) != (given.kind, given.created_at):
            raise LineError(line, f"another run has the id {given.id}; it stays as it is")
        if known.deleted_at is not None:
            self.report.skipped["runs that were deleted here: restore them instead"] += 1
            return False
        if (known.event_count, known.artifact_count, known.size) != (
            given.event_count,
            given.artifact_count,
            given.size,
        ):
            raise LineError(line, f"the run {given.id} is there with other contents; it stays as it is")
        self.report.there += 1
        return False

    def _take(self, line: int, given: records.RunRecord) -> None:
        if (given.finished_at is None) == (given.status in FINAL):
            raise LineError(line, f"run: it is {given.status}, which does not go with its finished_at")
        with transaction.atomic():
            run = Run.objects.record_past(
                self.owner,
                given.status,
                given.created_at,
                session=self._session_for(line, given),
                metadata=split_exact({} if given.metadata is None else given.metadata)[0],
                summary=split_exact(given.summary)[0],
                expires_at=given.expires_at
                if given.expires_at and given.expires_at > timezone.now()
                else None,
                **given.model_dump(exclude=_NOT_COLUMNS),
            )
            parts = _Parts(run)
            for inner in self.lines:
                if inner.record == "run_end":
                    self._is_inside = False
                    break
                if inner.record in _BETWEEN:
                    self.lines.give_back(inner)
                    raise LineError(line, f"the run {given.id} has no end in the file, and is not taken")
                parts.take(inner)
            else:
                raise LineError(
                    line, f"the file ends in the middle of the run {given.id}, which is not taken"
                )
            parts.finish()
            if (parts.events, parts.artifacts) != (given.event_count, given.artifact_count):
                raise LineError(
                    line,
                    f"the run {given.id} had {given.event_count:,} events and {given.artifact_count:,} "
                    f"artifacts; the file has {parts.events:,} and {parts.artifacts:,}. It is not taken",
                )
            settle(run, given.updated_at)

    def _session_for(self, line: int, given: records.RunRecord) -> Session | None:
        if given.session is None:
            return None
        found = self._sessions.get(given.session)
        found = found or Session.objects.filter(pk=given.session, owner=self.owner).first()
        if found is None:
            raise LineError(line, f"the session of the run {given.id} is not there, so the run is not taken")
        return found

    def _skip_the_rest(self) -> None:
        """What the file has of a run that is not taken."""
        for line in self.lines:
            if line.record in _BETWEEN:
                self.lines.give_back(line)
                return
            if line.record == "run_end":
                return
            if line.wrong:
                self.report.note(line.number, line.wrong)

    def _link(self, given: records.RunRecord) -> None:
        """To the runs that it judged or tried again, which come later in the file: they are older."""
        for column, target in (("judged", given.judged), ("retried", given.retried)):
            if target is None or _link(self.owner, given.id, column, target):
                continue
            if len(self._waiting) < _MOST_WAITING:
                self._waiting.setdefault(target, []).append((given.id, column))
        for run_id, column in self._waiting.pop(given.id, ()):
            _link(self.owner, run_id, column, given.id)


_TOLD_APART = ("kind", "created_at", "deleted_at", "event_count", "artifact_count", "size")
_NOT_COLUMNS = {
    *("session", "judged", "retried", "metadata", "summary", "expires_at", "status", "created_at"),
    *("updated_at", "size", "event_count", "artifact_count"),
}


class _Parts:
    """What belongs to a run, written in pieces of bounded size."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.events = self.artifacts = 0
        self._events: list[Event] = []
        self._event_bytes = 0
        self._rows: dict[str, list[Any]] = {}
        self._webhooks: dict[UUID, UUID] = {}

    def take(self, line: Line) -> None:
        if line.wrong or line.record not in _MODELS:
            raise LineError(line.number, line.wrong or f"{line.record[:60]!r} is nothing that a run has")
        getattr(self, f"_{line.record}")(line, line.as_(_MODELS[line.record]))

    def finish(self) -> None:
        self._write_events()
        for name in ("result", "attempt", "webhook", "delivery", "change"):
            self._write(name)

    def _event(self, line: Line, given: records.EventRecord) -> None:
        if given.seq != self.events + 1:
            raise LineError(line.number, f"event {given.seq} follows event {self.events}")
        usage = Usage(given.input_tokens, given.output_tokens, given.cost)
        new = NewEvent(
            given.kind, given.payload, given.role, given.event_id or None, given.occurred_at, usage
        )
        event = recorded_event(self.run, new, given.seq, given.created_at)
        self._events.append(event)
        self.events += 1
        self._event_bytes += event.size
        if self._event_bytes > _EVENT_BYTES or len(self._events) >= _ROWS:
            self._write_events()

    def _write_events(self) -> None:
        if self._events:
            keep_events(self.run, self._events)
            self._events, self._event_bytes = [], 0

    def _artifact(self, line: Line, given: records.ArtifactRecord) -> None:
        self.artifacts += 1
        if isinstance(given.told, dict):
            (told,) = told_artifacts(self.run, [given.told])
            told.created_at = given.created_at
            told.save(force_insert=True)
            return
        put_artifact(
            self.run,
            given.artifact_id,
            given.name,
            given.parts,
            given.content,
            given.media_type,
            last_chunk=given.complete,
            past=True,
            at=given.created_at,
        )

    def _result(self, line: Line, given: records.ResultRecord) -> None:
        details, exact = split_exact({} if given.details is None else given.details)
        values = given.model_dump(exclude={"details", "per_invocation_scores", "tokens"})
        scores = [] if given.per_invocation_scores is None else given.per_invocation_scores
        json = {"per_invocation_scores": split_exact(scores)[0], "tokens": split_exact(given.tokens)[0]}
        self._add("result", Result(run=self.run, details=details, details_exact=exact, **json, **values))

    def _feedback(self, line: Line, given: records.FeedbackRecord) -> None:
        """Its author is a name here, whoever has that number."""
        values = given.model_dump(exclude={"versions", "author", "metadata", "raw"})
        feedback = Feedback(
            run=self.run, author=_foreign(given.author, given.author_name), **values, **_said(given)
        )
        versions = (
            FeedbackVersion(feedback=feedback, **one.model_dump(exclude={"metadata", "raw"}), **_said(one))
            for one in given.versions
        )
        keep_feedback(feedback, versions)

    def _attempt(self, line: Line, given: records.AttemptRecord) -> None:
        self._add("attempt", Attempt(run=self.run, owner_id=self.run.owner_id, **given.model_dump()))

    def _webhook(self, line: Line, given: records.WebhookRecord) -> None:
        """Without what was sealed of it: nothing is ever told from here."""
        webhook = Webhook(run=self.run, sealed=seal({}), **given.model_dump(exclude={"id"}))
        self._webhooks[given.id] = webhook.pk
        self._add("webhook", webhook)

    def _delivery(self, line: Line, given: records.DeliveryRecord) -> None:
        webhook = self._webhooks.get(given.webhook_id)
        if webhook is None:
            raise LineError(
                line.number, f"delivery: its webhook {given.webhook_id} is not in the file before it"
            )
        values = given.model_dump(exclude={"webhook_id"})
        if given.state == Delivery.State.WAITING:
            values |= {"state": Delivery.State.DEAD, "ended_at": given.next_try_at}
            values["error"] = "It was waiting when it was exported, and is not sent from here."
        self._add("delivery", Delivery(run=self.run, webhook_id=webhook, **values))

    def _change(self, line: Line, given: records.ChangeRecord) -> None:
        if given.object_type not in _OF_RUNS:
            raise LineError(line.number, f"change: {given.object_type[:60]!r} is nothing of a run")
        of_run = given.object_type == "run"
        change = Change(
            run=self.run,
            actor=_foreign(given.actor_name or given.actor),
            # Numbers of rows mean others here.
            object_id=str(self.run.pk) if of_run else _foreign(given.object_id),
            old=split_exact(given.old)[0],
            new=split_exact(given.new)[0],
            **given.model_dump(exclude={"actor", "actor_name", "object_id", "old", "new"}),
        )
        self._add("change", change)

    def _add(self, name: str, row: Any) -> None:
        rows = self._rows.setdefault(name, [])
        rows.append(row)
        if len(rows) >= _ROWS:
            self._write(name)

    def _write(self, name: str) -> None:
        rows = self._rows.pop(name, [])
        if name == "delivery":
            self._write("webhook")  # to which they point
        if name == "result" and rows:
            keep_results(self.run, rows)
        else:
            keep_others(rows)


_MODELS: dict[str, type[records.Record]] = {
    "event": records.EventRecord,
    "artifact": records.ArtifactRecord,
    "result": records.ResultRecord,
    "feedback": records.FeedbackRecord,
    "attempt": records.AttemptRecord,
    "webhook": records.WebhookRecord,
    "delivery": records.DeliveryRecord,
    "change": records.ChangeRecord,
}


def _said(given: records.FeedbackRecord | records.VersionRecord) -> dict[str, Any]:
    metadata = {} if given.metadata is None else given.metadata
    return {"metadata": split_exact(metadata)[0], "raw": split_exact(given.raw)[0]}


def _foreign(actor: str, name: str = "") -> str:
    """How the record names somebody that a file told of, or something that had a number there."""
    return (actor if actor.startswith(FOREIGN) else f"{FOREIGN}{actor} {name}")[:200].strip()


def _link(owner: Owner, run_id: UUID, column: str, target: UUID) -> bool:
    """False: the run that it points to is not there, or not the owner's."""
    if not Run.objects.filter(pk=target, owner=owner).exists():
        return False
    Run.objects.filter(pk=run_id, owner=owner, **{column: None}).update(**{column: target})
    return True


def _refusal(error: Exception, what: str, given: object) -> str:
    """Why PostgreSQL refuses it; of an id that is another owner's no more is told (RELIABILITY.md R7)."""
    constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
    if constraint in (f"{what}_pkey", f"{what}_id_pkey"):
        return f"the {what}'s id {given} is taken"
    return f"PostgreSQL refuses the {what}: {str(error).partition(chr(10))[0]}"
