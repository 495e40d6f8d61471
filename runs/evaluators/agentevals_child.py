"""Evaluates one document with agentevals. Runs by itself, in agentevals' own environment: a job as JSON
on stdin, the answer as JSON on stdout. runs/evaluators/agentevals_engine.py starts it; nothing of ours
can be imported here.

The job has `run_id`, `document`, `trace_format`, `eval_set`, `params` (the evalConfig as it was sent),
`credentials` (values by their names in credentialRefs) and `network`. The answer has `outcomes` and
`summary`, or `error`, a text for people.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
# agentevals is not installed where this is checked.

import asyncio
import json
import os
import sys
from typing import Any
from uuid import UUID

# Of agentevals' own metrics those that call no model.
OFFLINE = {
    "tool_trajectory_avg_score",
    "response_match_score",
    "tool_call_count_v1",
    "inference_call_count_v1",
    "token_usage_v1",
    "invocation_duration_v1",
}
DEFAULT_THRESHOLD = 0.5
NO_PROGRAMS = "engine agentevals runs builtin evaluators only; without an engine, Runfolio runs this one"
NO_NETWORK = (
    "calls a model over the network by itself, which the operator allows with AGENTEVALS_NETWORK=true"
)


class Refused(Exception):
    """The job as a whole cannot be done; the text is for people."""


def main() -> None:
    with _own_stdout() as answer:
        json.dump(_answer(json.load(sys.stdin)), answer)


def _own_stdout() -> Any:
    """The real one. Libraries that print get stderr in its place."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    try:
        return asyncio.run(_evaluated(job))
    except Refused as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": str(error) or type(error).__name__}


async def _evaluated(job: dict[str, Any]) -> dict[str, Any]:
    from agentevals.adk_bridge import load_eval_set_from_dict
    from agentevals.loader import load_traces_from_obj
    from agentevals.resolvers import set_resolved_credentials
    from agentevals.run.result_builder import summarize_run_result
    from agentevals.runner import run_evaluation_from_traces

    params, refused, order = _sorted_out(job["params"] or {}, network=job["network"])
    traces = load_traces_from_obj(job["document"], format=job["trace_format"])
    eval_set = load_eval_set_from_dict(job["eval_set"]) if job["eval_set"] else None
    set_resolved_credentials(job["credentials"])
    result = await run_evaluation_from_traces(traces, params, eval_set, run_id=job["run_id"])
    if traces and result.errors:  # a group was lost whole: agentevals itself would call that a success
        raise Refused("; ".join(result.errors))
    for group in result.trace_results:
        _complete(group, refused, order)
    questions = _questions(traces, params, eval_set)
    return {
        "outcomes": _outcomes(UUID(job["run_id"]), params, refused, result, questions),
        "summary": summarize_run_result(result),
    }


def _sorted_out(raw: dict[str, Any], *, network: bool) -> tuple[Any, dict[str, tuple[str, str]], list[str]]:
    """The params of what may run, the others by name with their type and why not, all names in order."""
    from agentevals.config import BuiltinMetricDef, EvalParams

    entries = raw.get("evaluators") or [{"type": "builtin", "name": "tool_trajectory_avg_score"}]
    refused, accepted = {}, []
    for entry in entries:
        if why := _why_not(entry, BuiltinMetricDef, network):
            refused[entry["name"]] = (entry["type"], why)
        else:
            accepted.append(entry)
    some = accepted or [{"type": "builtin", "name": "none"}]  # agentevals wants one
    params = EvalParams.model_validate({**raw, "evaluators": some})
    if not accepted:
        params.evaluators.clear()
    return params, refused, [entry["name"] for entry in entries]


def _why_not(entry: dict[str, Any], definition: Any, network: bool) -> str:
    if entry["type"] != "builtin":
        return NO_PROGRAMS
    try:
        definition.model_validate(entry)
    except ValueError as error:
        return f"agentevals refuses its settings: {error}"
    if not network and entry["name"] in _known() - OFFLINE:
        return f"{entry['name']} {NO_NETWORK}"
    return ""


def _known() -> set[str]:
    from google.adk.evaluation import metric_evaluator_registry

    registry = metric_evaluator_registry.DEFAULT_METRIC_EVALUATOR_REGISTRY
    return {metric.metric_name for metric in registry.get_registered_metrics()}


def _complete(group: Any, refused: dict[str, tuple[str, str]], order: list[str]) -> None:
    """In the order of the evalConfig instead of that in which they were done, and with those refused."""
    from agentevals.runner import MetricResult

    if any(metric.metric_name == "(all)" for metric in group.metric_results):
        return
    group.metric_results += [MetricResult(metric_name=n, error=why) for n, (_, why) in refused.items()]
    group.metric_results.sort(key=lambda metric: order.index(metric.metric_name))


def _outcomes(
    run_id: UUID,
    params: Any,
    refused: dict[str, tuple[str, str]],
    result: Any,
    questions: dict[str, str],
) -> list[dict[str, Any]]:
    """The fields of runs.evaluators.Outcome."""
    from agentevals.run.result_builder import build_results

    cases = {group.group_key: group.eval_case_id or "" for group in result.trace_results}
    thresholds = {entry.name: entry.threshold for entry in params.evaluators}
    return [
        {
            "result_id": row.result_id,
            "item_id": row.eval_set_item_id,
            "item_name": row.eval_set_item_name,
            "case_id": cases.get(row.eval_set_item_id, ""),
            "question": questions.get(row.eval_set_item_id, ""),
            "evaluator_name": row.evaluator_name,
            "evaluator_type": refused.get(row.evaluator_name, (row.evaluator_type,))[0],
            "status": row.status.value,
            "score": row.score,
            "per_invocation_scores": row.per_invocation_scores,
            "trace_id": row.trace_id,
            "span_id": row.span_id,
            "details": row.model_dump(mode="json")["details"],
            "error_text": row.error_text,
            "tokens_used": row.tokens_used,
            "latency_ms": row.latency_ms,
            "threshold": _threshold(thresholds, row.evaluator_name),
            "position": position,
        }
        for position, row in enumerate(build_results(run_id, params, result))
    ]


def _threshold(thresholds: dict[str, float | None], name: str) -> float | None:
    """None for what did not run."""
    if name not in thresholds:
        return None
    given = thresholds[name]
    return DEFAULT_THRESHOLD if given is None else given


def _questions(traces: list[Any], params: Any, eval_set: Any) -> dict[str, str]:
    """The first thing that the user said, by item."""
    from agentevals.genai.extract import extract_conversation
    from agentevals.genai.messages import text_of
    from agentevals.runner import evaluation_groups

    found = {}
    for key, members in evaluation_groups(traces, params.group_by, eval_set):
        turns = extract_conversation(members, key).turns
        found[key] = (text_of(turns[0].user_input) or "") if turns else ""
    return found


if __name__ == "__main__":
    main()
