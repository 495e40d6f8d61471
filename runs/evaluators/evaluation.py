"""One evaluation: every evaluator on every group, and the summary (CONTRACTS 1.3)."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import Any, Literal
from uuid import UUID

from runs.evaluators import registry
from runs.evaluators.base import EvaluationError, Evaluator, Task, Tools, Verdict
from runs.evaluators.eval_sets import EvalSet, Match, choose_case
from runs.evaluators.params import (
    BuiltinEvaluator,
    EvalConfigError,
    EvalParams,
    EvaluatorSettings,
    own_config,
)
from runs.evaluators.summary import Performance, Status, Tally
from runs.evaluators.waiting import Job, Waiting
from runs.traces import Group, Trace, group_turns

logger = logging.getLogger(__name__)

OnStart = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one evaluator said of one item: the wire's Result (CONTRACTS 1.3), and what lists show.

    `position` is its place in the evaluation, group by group, whenever it was computed. `case_id` is the
    eval case compared with, "" when there was none; `question` the first thing that the user said.
    `threshold` is the score needed, None when the evaluator could not be found. `latency_ms` is
    milliseconds. `span_id` is None unless the item has exactly one turn.
    """

    result_id: str
    position: int
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
    tokens_used: dict[str, Any] | None
    latency_ms: int | None
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Kept:
    """A result of an earlier attempt that still holds: it is not computed again, and counts."""

    result_id: str
    evaluator_name: str
    status: Status
    score: float | None
    position: int


@dataclass(frozen=True, slots=True)
class _Ready:
    """An evaluator of the evalConfig, found once for all groups; `problem` is why it cannot be had."""

    settings: EvaluatorSettings
    plain: dict[str, Any]
    threshold: float | None
    evaluator: Evaluator | None = None
    config: Any = None
    problem: str | None = None

    @property
    def waits(self) -> bool:
        return self.evaluator is not None and self.evaluator.waits


@dataclass(frozen=True, slots=True)
class _Item:
    """A group to be judged, and the eval case that it is compared with."""

    group: Group
    index: int
    match: Match


@dataclass(frozen=True, slots=True)
class _Said:
    """The part of an outcome that depends on the evaluator alone."""

    status: Status
    score: float | None = None
    per_turn: list[float | None] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    tokens: dict[str, Any] | None = None


class Evaluation:
    """Evaluators at work on groups, from a list or as they come. Knows neither the database nor HTTP."""

    def __init__(
        self, run_id: UUID, params: EvalParams, eval_set: EvalSet | None = None, tools: Tools | None = None
    ) -> None:
        self._run_id = run_id
        self._params = params
        self._eval_set = eval_set
        self._tools = tools
        self._tally = Tally()
        self._performance = Performance()

    def groups_of(self, traces: list[Trace]) -> list[Group]:
        """The groups that evalConfig and eval set demand. Raises TraceError."""
        multi_turn = self._eval_set is not None and self._eval_set.multi_turn
        return group_turns(traces, self._params.group_by, multi_turn=multi_turn)

    def results(
        self,
        groups: Iterable[Group],
        *,
        only_group: bool | None = None,
        on_start: OnStart | None = None,
        kept: Sequence[Kept] = (),
    ) -> Iterator[Outcome]:
        """One outcome for each group and evaluator, each as soon as it is computed.

        Evaluators that wait for others (`waits`) run at once in threads, as many as the evalConfig allows;
        the others run here, in order, while the threads wait. What goes wrong in an evaluator is an errored
        outcome, never an exception. A group without turns has one errored outcome, by the evaluator
        "(all)".

        only_group: whether there is no other group (see choose_case); None: found out.
        on_start: called in this thread with item id and evaluator name before an evaluator begins.
        """
        self._tally, self._performance = Tally(), Performance()
        for result in kept:
            self._tally.add(result.evaluator_name, result.status, result.score, result.position)
        done = {result.result_id for result in kept}
        waiting: Waiting[Outcome] = Waiting(
            self._params.max_concurrent_traces, self._params.max_concurrent_evals
        )
        try:
            for outcome in self._outcomes(self._items(groups, only_group), waiting, done, on_start):
                self._tally.add(outcome.evaluator_name, outcome.status, outcome.score, outcome.position)
                yield outcome
        finally:
            waiting.stop()

    def summary(self) -> dict[str, Any]:
        """The run's summary, of the outcomes that `results` has given so far."""
        return {
            "trace_count": self._performance.groups,
            "result_counts": self._tally.counts,
            "per_metric": self._tally.per_metric(),
            "agents": sorted(self._performance.agents),
            "errors": [] if self._performance.groups else ["No traces provided."],
            "performance_metrics": self._performance.figures(),
        }

    def _items(self, groups: Iterable[Group], only_group: bool | None) -> Iterator[_Item]:
        coming = iter(groups)
        if only_group is None:
            first = list(islice(coming, 2))
            only_group = len(first) == 1
            coming = chain(first, coming)
        for index, group in enumerate(coming):
            yield _Item(group, index, choose_case(group, self._eval_set, only_group=only_group))

    def _outcomes(
        self, items: Iterable[_Item], waiting: Waiting[Outcome], done: set[str], on_start: OnStart | None
    ) -> Iterator[Outcome]:
        evaluators = [_ready(settings) for settings in self._params.evaluators]
        for item in items:
            self._performance.add(item.group)
            yield from waiting.results(waiting.groups - 1)
            first = item.index * len(evaluators)
            slow: list[Job[Outcome]] = []
            quick: list[Job[Outcome]] = []
            for position, one in enumerate(evaluators if item.group.turns else [_NO_TURNS], first):
                if result_id(self._run_id, item.group.key, one.settings.name) not in done:
                    (slow if one.waits else quick).append(self._job(item, one, position, on_start))
            waiting.begin(slow)
            for job in quick:
                job.begins()
                yield job.judge()
                yield from waiting.results(waiting.groups)
        yield from waiting.results(0)

    def _job(self, item: _Item, one: _Ready, position: int, on_start: OnStart | None) -> Job[Outcome]:
        def begins() -> None:
            if on_start:
                on_start(item.group.key, one.settings.name)

        return Job(item.index, begins, partial(self._outcome, item, one, position))

    def _outcome(self, item: _Item, one: _Ready, position: int) -> Outcome:
        group, case = item.group, item.match.case
        started = time.monotonic()
        said = _judge(item, one, self._tools)
        latency_ms = int((time.monotonic() - started) * 1000)
        return Outcome(
            result_id=result_id(self._run_id, group.key, one.settings.name),
            position=position,
            item_id=group.key,
            item_name=group.key,
            case_id=case.id if case and group.turns else "",
            question=group.turns[0].user_text if group.turns else "",
            evaluator_name=one.settings.name,
            evaluator_type=one.settings.type,
            status=said.status,
            score=said.score,
            per_invocation_scores=said.per_turn,
            trace_id=group.trace_ids[0],
            span_id=group.turns[0].span_id if len(group.turns) == 1 else None,
            details=said.details,
            error_text=said.error,
            tokens_used=said.tokens,
            latency_ms=latency_ms if one.evaluator else None,
            threshold=one.threshold,
        )


def result_id(run_id: UUID, item_id: str, evaluator_name: str) -> str:
    """The same for every attempt, so that a retry overwrites: SHA-256, hex (CONTRACTS 1.3)."""
    text = f"{run_id}|{item_id}|{evaluator_name}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _ready(settings: EvaluatorSettings) -> _Ready:
    """A builtin evaluator gets its settings as its own Config, a program gets them as they were sent."""
    plain = settings.model_dump()
    try:
        evaluator = registry.find(settings)
        config = own_config(evaluator, settings) if settings.type == "builtin" else settings.config
    except (EvaluationError, EvalConfigError) as error:
        return _Ready(settings, plain, settings.threshold, problem=str(error))
    threshold = evaluator.default_threshold if settings.threshold is None else settings.threshold
    return _Ready(settings, plain, threshold, evaluator, config)


def _judge(item: _Item, one: _Ready, tools: Tools | None) -> _Said:
    if one.evaluator is None or one.threshold is None:
        return _Said("errored", error=one.problem)
    if one.evaluator.needs_eval_case and item.match.case is None:
        return _Said("skipped", details={"reason": item.match.reason})
    try:
        verdict = _sound(one.evaluator.judge(_task(item, one, one.threshold, tools)))
    except EvaluationError as error:
        return _Said("errored", error=str(error))
    except (Exception, SystemExit) as error:
        logger.exception("evaluator %s failed", one.settings.name)
        return _Said("errored", error=f"{type(error).__name__}: {error}")
    return _Said(
        status=verdict.status or _status(verdict.score, one.threshold),
        score=verdict.score,
        per_turn=verdict.per_turn,
        details=verdict.details | _unpaired(item),
        tokens=verdict.tokens,
    )


def _task(item: _Item, one: _Ready, threshold: float, tools: Tools | None) -> Task:
    """Turns and expected turns are paired in order."""
    turns = item.group.turns
    expected = item.match.case.turns if item.match.case else ()
    common = min(len(turns), len(expected)) if item.match.case else len(turns)
    return Task(
        turns=turns[:common],
        expected=expected[:common],
        settings=one.plain,
        config=one.config,
        threshold=threshold,
        tools=tools,
        unexpected=turns[common:],
    )


def _unpaired(item: _Item) -> dict[str, int]:
    """What has no partner is counted, not scored."""
    if item.match.case is None:
        return {}
    actual, expected = len(item.group.turns), len(item.match.case.turns)
    if actual == expected:
        return {}
    return {"missing_turns": max(0, expected - actual), "unexpected_turns": max(0, actual - expected)}


def _status(score: float | None, threshold: float) -> Status:
    if score is None:
        return "skipped"
    return "passed" if score >= threshold else "failed"


def _sound(verdict: Verdict) -> Verdict:
    """Raises EvaluationError for what could not be kept: evaluators may be others' work."""
    if not isinstance(verdict, Verdict):
        raise EvaluationError(f"the evaluator gave a {type(verdict).__name__} instead of a Verdict")
    if not all(score is None or _is_share(score) for score in (verdict.score, *verdict.per_turn)):
        raise EvaluationError("scores must be between 0 and 1, or None")
    if verdict.status not in (None, "passed", "failed", "skipped"):
        raise EvaluationError(f"the status {verdict.status!r:.100} is none of passed, failed and skipped")
    try:
        json.dumps([verdict.details, verdict.tokens], allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise EvaluationError(f"the details or tokens cannot be written as JSON: {error}") from None
    return verdict


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


_NO_TURNS = _Ready(
    settings=BuiltinEvaluator(type="builtin", name="(all)"),
    plain={},
    threshold=None,
    problem="the trace has no turn: no agent or model call was found in it",
)
