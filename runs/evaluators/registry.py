"""Which evaluators there are."""

from runs.evaluators.base import EvaluationError, Evaluator
from runs.evaluators.params import RUBRIC_EVALUATORS, EvaluatorSettings
from runs.evaluators.response_match import ResponseMatch
from runs.evaluators.tool_trajectory import ToolTrajectory

EVALUATORS: dict[str, Evaluator] = {
    evaluator.name: evaluator for evaluator in (ToolTrajectory(), ResponseMatch())
}

# Known to agentevals, not here yet. What each needs is what we tell people.
_NEEDS_JUDGE = ("final_response_match_v2", "hallucinations_v1", *RUBRIC_EVALUATORS)
_NEEDS_VERTEX = (
    "response_evaluation_score",
    "safety_v1",
    "multi_turn_task_success_v1",
    "multi_turn_trajectory_quality_v1",
    "multi_turn_tool_use_quality_v1",
)
_NOT_YET = (
    "tool_call_count_v1",
    "inference_call_count_v1",
    "token_usage_v1",
    "invocation_duration_v1",
    "rubric_based_multi_turn_trajectory_quality_v1",
)


def find(settings: EvaluatorSettings) -> Evaluator:
    """The evaluator that is meant. Raises EvaluationError with what to tell the user when there is none."""
    if settings.type == "builtin" and settings.name in EVALUATORS:
        return EVALUATORS[settings.name]
    raise EvaluationError(_why_missing(settings))


def _why_missing(settings: EvaluatorSettings) -> str:
    name = settings.name
    if settings.type != "builtin":
        return f"{name} is of type {settings.type}; this version of Runfolio runs builtin evaluators only."
    if name in _NEEDS_JUDGE:
        return f"{name} needs a language model as its judge, which this version of Runfolio cannot call yet."
    if name in _NEEDS_VERTEX:
        return f"{name} needs Google's Vertex AI, which this version of Runfolio cannot call yet."
    if name in _NOT_YET:
        return f"{name} is not part of this version of Runfolio yet."
    return f"{name} not found in registry."
