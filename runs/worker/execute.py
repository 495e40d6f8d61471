"""Executing one claimed run: a process evaluates, this writes. Every write is fenced by the claim.

A failure to read the traces or the eval set fails the run, or has it tried again where its spec asks for
that; a failing evaluator is a result (CONTRACTS.md 1.5). A process that dies ends the attempt, not the run.
A failing database ends neither: the run comes back when its lease expires.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings

from runs.api.schemas import present_result
from runs.evaluators import Outcome
from runs.exact import Json, clean_text, split_exact
from runs.models import Claim, NewEvent, Result, Run, Session, Usage
from runs.models.event import tokens_of
from runs.models.queue import jittered
from runs.models.run import AGENT_LENGTH
from runs.models.session import KEY_LENGTH
from runs.models.webhook import has_webhooks, tell_results
from runs.sealing import Unsealable
from runs.worker.history import Told
from runs.worker.job import Job, JobLost, Message
from runs.worker.judged import TooMany, histories_of, items_of, judged_before
from runs.worker.outage import persistently
from runs.worker.source import RECORDED, UNREAD, SourceError, order_of

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.25  # how long results may wait for others to be written with them
BATCH_EVENTS = 200  # the heartbeat must get at the run's row in between
TELL_SECONDS = 1.0
SESSION_SOURCE = "otlp"
QUESTION_LENGTH = 500


def execute(run: Run, claim: Claim, job: Job, progress: Callable[[], None] = lambda: None) -> None:
    """Evaluates the run in the job's process, and ends it.

    Calls `progress` for each recorded history that is judged. Raises LeaseLost when somebody else has
    ended the run or taken it over, and JobLost when `job` was closed from outside: then nothing is ended,
    but what was found out until then is kept if the job says so.
    """
    writer = Writer(run, claim)
    try:
        _talk(run, writer, job, progress)
    except JobLost as lost:
        if job.keep:
            writer.flush()
        if job.closed:
            raise
        log.warning("run %s, attempt %d: %s", run.pk, claim.attempt, lost)
        claim.crash(f"{lost}{writer.whereabouts}", settings.RUN_MAX_ATTEMPTS)
    except (SourceError, TooMany, Unsealable) as error:
        _fail(run, claim, str(error))
    finally:
        job.done()


def _talk(run: Run, writer: "Writer", job: Job, progress: Callable[[], None]) -> None:
    spec = run.full_spec
    histories, items = _histories(run, spec["target"], writer)
    job.send(order_of(run, spec, items))
    for message in job.messages(BATCH_SECONDS):
        if message is None:
            writer.flush()
        elif "next" in message:
            progress()
            job.send({"history": next(histories, None)})
        elif "failed" in message:
            writer.flush()
            _fail(run, writer.claim, message["failed"])
        elif "summary" in message:
            writer.finish(message["summary"])
        else:
            writer.take(message)


def _histories(
    run: Run, target: dict[str, Json], writer: "Writer"
) -> tuple[Iterator[dict[str, Any]], int | None]:
    """What is judged of what is recorded here; an attempt before this one may have judged some of it."""
    if target["kind"] not in RECORDED:
        return iter(()), None
    items, judged = items_of(run, target), judged_before(run)
    writer.total, writer.done = len(items), 0
    left = [item for item in items if str(item) not in judged] if target["kind"] == "filter" else items
    writer.done = len(items) - len(left)
    return histories_of(run, target, left), len(items)


def _fail(run: Run, claim: Claim, error: str) -> None:
    """As CONTRACTS.md 1.5 says, unless the spec asks for retries."""
    wanted = run.shown_spec.get("retry") or {}
    tried = claim.attempt - run.crashes  # those that ended with an exception, this one with them
    if tried <= wanted.get("max", 0):
        claim.retry_later(error, jittered(wanted.get("backoff", 1.0), tried))
    else:
        claim.fail(error)


@dataclass
class Writer:
    """Writes what the process says, several messages at once where they come quickly."""

    run: Run
    claim: Claim
    total: int | None = None
    done: int = 0
    _about: Message | None = None
    _events: list[NewEvent] = field(default_factory=list)
    _results: list[Result] = field(default_factory=list)
    _at: tuple[str, str] = ("", "")
    _flushed: float = field(default_factory=time.monotonic)
    _told: float = 0.0
    _item: str = ""

    @property
    def whereabouts(self) -> str:
        item, evaluator = self._at
        return f", in {evaluator} on {item}" if evaluator else ""

    def take(self, message: Message) -> None:
        if "about" in message:
            self._about = message["about"]
            self.total = message["about"]["items"]
        elif "events" in message:
            self._events += map(new_event, message["events"])
        elif "start" in message:
            self._begin(*message["start"])
        elif "outcome" in message:
            self._results.append(result_of(self.run.pk, Outcome(**message["outcome"])))
        waited = time.monotonic() - self._flushed
        if waited > BATCH_SECONDS or len(self._events) >= BATCH_EVENTS:
            self.flush()

    def flush(self) -> None:
        """One transaction, with what webhooks are told of it."""
        self._flushed = time.monotonic()
        if not (self._about or self._events or self._results):
            self._tell()
            return
        persistently(self._write_all, settings.WORKER_LEASE)
        self._forget()
        self._tell()

    def finish(self, summary: dict[str, Json]) -> None:
        def end() -> None:
            if self._about or self._events or self._results:
                with self.claim.together():
                    self._write()
                    self._end(summary)
            else:
                self._end(summary)

        persistently(end, settings.WORKER_LEASE)

    def _end(self, summary: dict[str, Json]) -> None:
        """Where a file that was uploaded could not be read, what the others gave is there, and the run has
        failed all the same (CONTRACTS.md 1.9)."""
        unread = self.run.shown_spec["target"].get(UNREAD)
        if unread:
            errors = [*unread, *summary["errors"]]
            self.claim.fail("; ".join(errors[:3]), {**summary, "errors": errors})
        else:
            self.claim.succeed(summary)

    def _write_all(self) -> None:
        with self.claim.together():
            self._write()

    def _write(self) -> None:
        if self._about is not None:
            _describe(self.run, self.claim, self._about)
        self.claim.append(self._events)
        if self._results:
            self.claim.record(self._results)
            self._tell_webhooks([result.pk for result in self._results])

    def _forget(self) -> None:
        """What is written, which is only sure when the transaction has ended."""
        self._about, self._events, self._results = None, [], []

    def _tell_webhooks(self, ids: list[str]) -> None:
        if has_webhooks(self.run):
            kept = Result.objects.filter(pk__in=ids).order_by("position")
            tell_results(self.run, self.claim.attempt, [present_result(result) for result in kept])

    def _begin(self, item: str, evaluator: str) -> None:
        if item != self._item:
            self._item, self.done = item, self.done + 1
        self._at = (item, evaluator)
        if time.monotonic() - self._told > TELL_SECONDS:
            self.flush()

    def _tell(self) -> None:
        """What the run is at, now and then: a short one is over before anybody could read it."""
        now = time.monotonic()
        if not self._at[1] or now - self._told < TELL_SECONDS:
            return
        if self._told:
            total = f" of {self.total}" if self.total else ""
            self.claim.tell(f"item {self.done}{total}, {self._at[1]}", max(self.done - 1, 0), self.total)
        self._told = now


def _describe(run: Run, claim: Claim, about: Mapping[str, Any]) -> None:
    columns: dict[str, object] = {
        "agent": clean_text(about["agent"])[:AGENT_LENGTH],
        "model": clean_text(about["model"])[:AGENT_LENGTH],
    }
    if not run.title and about["title"]:
        columns["title"] = clean_text(about["title"])
    session = None
    if about["session"] and not run.session_id:
        key = clean_text(about["session"])[:KEY_LENGTH]
        session = Session.objects.open(run.owner, SESSION_SOURCE, key)
    claim.describe(session, **columns)


def new_event(told: Told) -> NewEvent:
    """The entry that the evaluation's process has told."""
    at = told.get("occurred_at")
    return NewEvent(
        kind=told["kind"],
        payload=told["payload"],
        role=told.get("role", ""),
        event_id=told["event_id"],
        occurred_at=datetime.fromisoformat(at) if at else None,
        usage=Usage(tokens_of(told.get("input_tokens")), tokens_of(told.get("output_tokens"))),
    )


def result_of(run_id: UUID, outcome: Outcome) -> Result:
    """The row that keeps an outcome."""
    details, exact = split_exact(outcome.details)
    return Result(
        id=outcome.result_id,
        run_id=run_id,
        position=outcome.position,
        item_id=clean_text(outcome.item_id),
        item_name=clean_text(outcome.item_name),
        case_id=clean_text(outcome.case_id),
        question=clean_text(outcome.question)[:QUESTION_LENGTH],
        evaluator_name=clean_text(outcome.evaluator_name),
        evaluator_type=outcome.evaluator_type,
        threshold=outcome.threshold,
        status=outcome.status,
        score=outcome.score,
        per_invocation_scores=outcome.per_invocation_scores,
        trace_id=clean_text(outcome.trace_id),
        span_id=outcome.span_id and clean_text(outcome.span_id),
        details=details,
        details_exact=exact,
        error=outcome.error_text and clean_text(outcome.error_text),
        tokens=outcome.tokens_used,
        latency_ms=outcome.latency_ms,
    )
