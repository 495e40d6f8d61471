"""Executing one claimed run: read, evaluate, record. Every write is fenced by the claim."""

import logging
import time
from collections.abc import Iterable, Iterator
from uuid import UUID

from django.db import Error as DatabaseError

from runs.evaluators import EvalSetError, Evaluation, Outcome, parse_eval_set, validate_eval_config
from runs.exact import clean_text, split_exact
from runs.models import Claim, LeaseLost, Result, Run, Session
from runs.models.run import AGENT_LENGTH
from runs.models.session import KEY_LENGTH
from runs.traces import Group, TraceError, read_traces
from runs.worker.history import events_of
from runs.worker.source import SourceError, load_document

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.25  # how long results may wait for others to be written with them
SESSION_SOURCE = "otlp"
QUESTION_LENGTH = 500


def execute(run: Run, claim: Claim) -> None:
    """Evaluates the run and ends it. Raises LeaseLost when somebody else has ended it or taken it over.

    A failure to read the traces or the eval set fails the run; a failing evaluator is a result
    (CONTRACTS.md 1.5). A failing database ends neither: the run comes back when its lease expires.
    """
    try:
        evaluation = prepare(run, claim)
        for batch in _batches(run.pk, evaluation.results()):
            claim.record(batch)
        claim.succeed(evaluation.summary())
    except (SourceError, TraceError, EvalSetError) as error:
        claim.fail(str(error))
    except (LeaseLost, DatabaseError):
        raise
    except Exception as error:
        log.exception("run %s", run.pk)
        claim.fail(f"{type(error).__name__}: {error}")


def prepare(run: Run, claim: Claim) -> Evaluation:
    """Reads the traces, and keeps what they tell about the run and its history."""
    spec = run.full_spec
    params = validate_eval_config(spec["evalConfig"])
    traces = read_traces(load_document(spec), spec["target"]["traceFormat"])
    evaluation = Evaluation.of_traces(run.pk, traces, params, parse_eval_set(spec["evalSet"]))
    _describe(run, claim, evaluation.groups)
    claim.append(events_of(evaluation.groups))
    return evaluation


def _describe(run: Run, claim: Claim, groups: list[Group]) -> None:
    turns = [turn for group in groups for turn in group.turns]
    columns: dict[str, object] = {
        "agent": _joined(group.agent_name or group.service_name for group in groups)[:AGENT_LENGTH],
        "model": _joined(model for turn in turns for model in turn.models),
    }
    if not run.title and turns:
        columns["title"] = clean_text(" ".join(turns[0].user_text.split()))[:200]
    claim.describe(_session(run, groups), **columns)


def _session(run: Run, groups: list[Group]) -> Session | None:
    """The conversation that the traces belong to, if it is one."""
    keys = {group.conversation_id for group in groups}
    key = keys.pop() if len(keys) == 1 else None
    if not key or run.session_id:
        return None
    return Session.objects.open(run.owner, SESSION_SOURCE, clean_text(key)[:KEY_LENGTH])


def _joined(names: Iterable[str | None]) -> str:
    return clean_text(", ".join(dict.fromkeys(name for name in names if name)))


def _batches(run_id: UUID, outcomes: Iterator[Outcome]) -> Iterator[list[Result]]:
    """Results as they come, several in one write where evaluators are quick."""
    batch: list[Result] = []
    began = time.monotonic()
    for position, outcome in enumerate(outcomes):
        batch.append(result_of(run_id, outcome, position))
        if time.monotonic() - began > BATCH_SECONDS:
            yield batch
            batch, began = [], time.monotonic()
    if batch:
        yield batch


def result_of(run_id: UUID, outcome: Outcome, position: int) -> Result:
    """The row that keeps an outcome; `position` is its place in its evaluation."""
    details, exact = split_exact(outcome.details)
    return Result(
        id=outcome.result_id,
        run_id=run_id,
        position=position,
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
