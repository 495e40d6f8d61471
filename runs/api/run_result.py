"""agentevals' RunResult: what `/api/evaluate` and its streams answer (CONTRACTS.md 1.9)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.alias_generators import to_camel

from runs.evaluators import EvalSet
from runs.evaluators.eval_sets import choose_case
from runs.exact import Json
from runs.models import Result
from runs.traces import Group, Trace
from runs.traces.performance import performance_of

_PAYLOADS = frozenset({"args", "arguments", "response", "result", "output"})
_STATUSES = {"passed": "PASSED", "failed": "FAILED"}
_NO_STATUS = "NOT_EVALUATED"


@dataclass(frozen=True, slots=True)
class Item:
    """A group that is evaluated, with its traces and what is known of it before."""

    group: Group
    traces: Sequence[Trace]
    performance: dict[str, Any]
    case_id: str | None
    case_match: str | None


def items_of(groups: Sequence[Group], traces: Sequence[Trace], eval_set: EvalSet | None) -> list[Item]:
    """The groups of an evaluation, each with the eval case that it will be compared with."""
    by_id = {trace.trace_id: trace for trace in traces}
    return [
        _item(group, [by_id[trace_id] for trace_id in group.trace_ids], eval_set, alone=len(groups) == 1)
        for group in groups
    ]


def run_result(
    items: Sequence[Item],
    results: Mapping[str, Sequence[Result]],
    *,
    performance: Json,
    errors: Sequence[str],
    run_id: str | None,
) -> dict[str, Json]:
    """The whole answer; `results` are by item id."""
    return {
        "traceResults": [trace_result(item, results.get(item.group.key, ())) for item in items],
        "errors": list(errors),
        "performanceMetrics": camel(performance),
        "runId": run_id,
    }


def trace_result(item: Item, results: Sequence[Result]) -> dict[str, Json]:
    """One group with the results that there are of it, in their order."""
    group = item.group
    return {
        "traceId": group.trace_ids[0],
        "numInvocations": len(group.turns),
        "metricResults": [metric_result(result) for result in results],
        "conversionWarnings": group.warnings,
        "performanceMetrics": camel(item.performance),
        "serviceName": group.service_name or None,
        "agentName": group.agent_name or None,
        "traceIds": group.trace_ids,
        "conversationId": group.conversation_id,
        "groupKey": group.key,
        "evalCaseId": item.case_id,
        "evalCaseMatch": item.case_match,
        "turnRefs": [{"traceId": turn.trace_id, "spanId": turn.span_id} for turn in group.turns],
    }


def metric_result(result: Result) -> dict[str, Json]:
    """What one evaluator said. The type of an error is not kept, so it is null."""
    return {
        "metricName": result.evaluator_name,
        "score": result.score,
        "evalStatus": _STATUSES.get(result.status, _NO_STATUS),
        "perInvocationScores": result.per_invocation_scores,
        "perInvocationStatuses": [_turn_status(score, result) for score in result.per_invocation_scores],
        "error": result.error,
        "errorType": None,
        "details": camel(result.full_details) or None,
        "durationMs": None if result.latency_ms is None else float(result.latency_ms),
    }


def camel(value: Json) -> Json:
    """camelCase keys at every depth, but for what tools were given and gave back."""
    if isinstance(value, dict):
        return {to_camel(key): one if key in _PAYLOADS else camel(one) for key, one in value.items()}
    return [camel(one) for one in value] if isinstance(value, list) else value


def _item(group: Group, traces: Sequence[Trace], eval_set: EvalSet | None, *, alone: bool) -> Item:
    match = choose_case(group, eval_set, only_group=alone)
    chosen = match.case if group.turns else None
    return Item(
        group=group,
        traces=traces,
        performance=performance_of(traces),
        case_id=chosen.id if chosen else None,
        case_match=match.how if chosen else None,
    )


def _turn_status(score: float | None, result: Result) -> str:
    if score is None or result.threshold is None:
        return _NO_STATUS
    return _STATUSES["passed" if score >= result.threshold else "failed"]
