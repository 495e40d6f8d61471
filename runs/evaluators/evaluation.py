"""Evaluating one document: every evaluator on every group, and the summary (CONTRACTS 1.3)."""

import hashlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from runs.evaluators import registry
from runs.evaluators.base import EvaluationError, Task
from runs.evaluators.eval_sets import EvalSet, Match, choose_case
from runs.evaluators.params import EvalParams, EvaluatorSettings
from runs.evaluators.summary import Status, Tally, performance
from runs.traces import Group, Trace, Turn, group_turns

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one evaluator said of one item: the wire's Result (CONTRACTS 1.3), and what lists show.

    `case_id` is the eval case compared with, "" when there was none; `question` the first thing that
    the user said. `threshold` is the score needed, None when the evaluator could not be found.
    `latency_ms` is milliseconds. `span_id` is None unless the item has exactly one turn.
    """

    result_id: str
    item_id: str
    item_name: str
    case_id: str
    question: str
    evaluator_name: str
    evaluator_type: Literal["builtin", "code", "remote"]
    status: Status
    score: float | None
    per_invocation_scores: list[float | None]
    trace_id: str
    span_id: str | None
    details: dict[str, Any]
    error_text: str | None
    tokens_used: dict[str, int] | None
    latency_ms: int | None
    threshold: float | None


@dataclass(frozen=True, slots=True)
class _Said:
    """The part of an outcome that depends on the evaluator alone."""

    status: Status
    score: float | None = None
    per_turn: list[float | None] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    threshold: float | None = None


class Evaluation:
    """One document under evaluation. Knows neither the database nor HTTP, and starts nothing."""

    def __init__(
        self, run_id: UUID, groups: list[Group], params: EvalParams, eval_set: EvalSet | None = None
    ) -> None:
        self._run_id = run_id
        self.groups = groups
        self._params = params
        self._eval_set = eval_set
        self._tally = Tally()

    @classmethod
    def of_traces(
        cls, run_id: UUID, traces: list[Trace], params: EvalParams, eval_set: EvalSet | None = None
    ) -> "Evaluation":
        """Groups the traces as `params.group_by` and the eval set demand."""
        multi_turn = eval_set is not None and eval_set.multi_turn
        return cls(run_id, group_turns(traces, params.group_by, multi_turn=multi_turn), params, eval_set)

    def results(self) -> Iterator[Outcome]:
        """One outcome for each group and evaluator, group by group, each as soon as it is computed.

        What goes wrong in an evaluator is an errored outcome, never an exception. A group without
        turns has one errored outcome, by the evaluator "(all)".
        """
        self._tally = Tally()
        for group in self.groups:
            for outcome in self._of_group(group):
                self._tally.add(outcome.evaluator_name, outcome.status, outcome.score)
                yield outcome

    def summary(self) -> dict[str, Any]:
        """The run's summary, of the outcomes that `results` has given so far."""
        return {
            "trace_count": len(self.groups),
            "result_counts": self._tally.counts,
            "per_metric": self._tally.per_metric(),
            "agents": sorted({name for g in self.groups if (name := g.service_name or g.agent_name)}),
            "errors": [] if self.groups else ["No traces provided."],
            "performance_metrics": performance(self.groups),
        }

    def _of_group(self, group: Group) -> Iterator[Outcome]:
        if not group.turns:
            said = _Said("errored", error="the trace has no turn: no agent or model call was found in it")
            yield self._outcome(group, "(all)", "builtin", "", said, None)
            return
        match = choose_case(group, self._eval_set, only_group=len(self.groups) == 1)
        for settings in self._params.evaluators:
            started = time.monotonic()
            said = _judge(settings, group, match)
            latency_ms = int((time.monotonic() - started) * 1000)
            case_id = match.case.id if match.case else ""
            yield self._outcome(group, settings.name, settings.type, case_id, said, latency_ms)

    def _outcome(
        self,
        group: Group,
        name: str,
        evaluator_type: Literal["builtin", "code", "remote"],
        case_id: str,
        said: _Said,
        latency_ms: int | None,
    ) -> Outcome:
        return Outcome(
            result_id=result_id(self._run_id, group.key, name),
            item_id=group.key,
            item_name=group.key,
            case_id=case_id,
            question=group.turns[0].user_text if group.turns else "",
            evaluator_name=name,
            evaluator_type=evaluator_type,
            status=said.status,
            score=said.score,
            per_invocation_scores=said.per_turn,
            trace_id=group.trace_ids[0],
            span_id=group.turns[0].span_id if len(group.turns) == 1 else None,
            details=said.details,
            error_text=said.error,
            tokens_used=None,
            latency_ms=latency_ms,
            threshold=said.threshold,
        )


def result_id(run_id: UUID, item_id: str, evaluator_name: str) -> str:
    """The same for every attempt, so that a retry overwrites: SHA-256, hex (CONTRACTS 1.3)."""
    text = f"{run_id}|{item_id}|{evaluator_name}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _judge(settings: EvaluatorSettings, group: Group, match: Match) -> _Said:
    threshold = settings.threshold
    try:
        evaluator = registry.find(settings)
        threshold = evaluator.default_threshold if threshold is None else threshold
        if evaluator.needs_eval_case and match.case is None:
            return _Said("skipped", details={"reason": match.reason}, threshold=threshold)
        task, unpaired = _task(group.turns, match, settings)
        verdict = evaluator.judge(task)
    except EvaluationError as error:
        return _Said("errored", error=str(error), threshold=threshold)
    except Exception as error:
        logger.exception("evaluator %s failed", settings.name)
        return _Said("errored", error=f"{type(error).__name__}: {error}", threshold=threshold)
    return _Said(
        status=_status(verdict.score, threshold),
        score=verdict.score,
        per_turn=verdict.per_turn,
        details=verdict.details | unpaired,
        threshold=threshold,
    )


def _task(turns: list[Turn], match: Match, settings: EvaluatorSettings) -> tuple[Task, dict[str, int]]:
    """Turns and expected turns are paired in order. What has no partner is counted, not scored."""
    if match.case is None:
        return Task(turns, (), settings.model_dump()), {}
    expected = match.case.turns
    common = min(len(turns), len(expected))
    task = Task(turns[:common], expected[:common], settings.model_dump())
    if len(turns) == len(expected):
        return task, {}
    return task, {"missing_turns": len(expected) - common, "unexpected_turns": len(turns) - common}


def _status(score: float | None, threshold: float) -> Status:
    if score is None:
        return "skipped"
    return "passed" if score >= threshold else "failed"
