"""Which evaluators there are: ours, and those that installed packages bring by an entry point."""

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from runs.evaluators.base import Config, EvaluationError, Evaluator
from runs.evaluators.budgets import CostBudget, LatencyBudget, TokenBudget, TurnCount
from runs.evaluators.response_json_schema import ResponseJsonSchema
from runs.evaluators.response_match import ResponseMatch
from runs.evaluators.response_regex import ResponseRegex
from runs.evaluators.response_text import ResponseContains, ResponseExactMatch
from runs.evaluators.tool_calls import ToolCallF1, ToolErrorRate
from runs.evaluators.tool_trajectory import ToolTrajectory

if TYPE_CHECKING:  # params looks at the settings of evaluators, so it imports this module
    from runs.evaluators.params import EvaluatorSettings

logger = logging.getLogger(__name__)

ENTRY_POINTS = "runfolio.evaluators"
JUDGE = "llm_judge"

_OURS: tuple[Evaluator, ...] = (
    ToolTrajectory(),
    ToolCallF1(),
    ToolErrorRate(),
    ResponseMatch(),
    ResponseExactMatch(),
    ResponseContains(),
    ResponseRegex(),
    ResponseJsonSchema(),
    TurnCount(),
    LatencyBudget(),
    TokenBudget(),
    CostBudget(),
)
EVALUATORS: dict[str, Evaluator] = {evaluator.name: evaluator for evaluator in _OURS}

# What agentevals 0.11 has and we have not: these need its engine.
FOR_ENGINE = frozenset(
    {
        "final_response_match_v2",
        "hallucinations_v1",
        "inference_call_count_v1",
        "invocation_duration_v1",
        "multi_turn_task_success_v1",
        "multi_turn_tool_use_quality_v1",
        "multi_turn_trajectory_quality_v1",
        "response_evaluation_score",
        "rubric_based_final_response_quality_v1",
        "rubric_based_multi_turn_trajectory_quality_v1",
        "rubric_based_tool_use_quality_v1",
        "safety_v1",
        "token_usage_v1",
        "tool_call_count_v1",
    }
)


@dataclass(frozen=True, slots=True)
class About:
    """An evaluator as forms and documentation show it. `config_schema` is the JSON Schema of its config."""

    name: str
    description: str
    default_threshold: float
    needs_eval_case: bool
    config_schema: Mapping[str, Any]


def find(settings: "EvaluatorSettings") -> Evaluator:
    """The evaluator that is meant. Raises EvaluationError with what to tell the user when there is none."""
    if settings.type == "code":
        from runs.evaluators.code import CodeEvaluator

        return CodeEvaluator(settings)
    if settings.type == "remote":
        from runs.evaluators.remote import RemoteEvaluator

        return RemoteEvaluator(settings)
    return named(settings.name)


def named(name: str) -> Evaluator:
    """The builtin evaluator of that name. Raises EvaluationError as `find` does."""
    if name in EVALUATORS:
        return EVALUATORS[name]
    if name == JUDGE:
        from runs.evaluators.judge import Judge

        return Judge()
    if name in FOR_ENGINE:
        raise EvaluationError(
            f"{name} is an evaluator of agentevals, whose engine did not run this evaluation. Install it into"
            " an environment of its own with pip install 'runfolio[agentevals]', name the Python of that"
            " environment in AGENTEVALS_PYTHON, and ask for the engine agentevals."
        )
    if name in _others():
        return _loaded(name)
    raise EvaluationError(f"{name} not found in registry.")


def evaluators() -> list[About]:
    """All builtin evaluators that can be had, ours first, then those of others by name."""
    found = []
    for name in [*EVALUATORS, JUDGE, *sorted(_others())]:
        try:
            evaluator = named(name)
        except EvaluationError:  # has been logged
            continue
        found.append(
            About(
                name=name,
                description=evaluator.description,
                default_threshold=evaluator.default_threshold,
                needs_eval_case=evaluator.needs_eval_case,
                config_schema=_schema_of(evaluator.Config),
            )
        )
    return found


@cache
def _schema_of(config: type[BaseModel]) -> dict[str, Any]:
    return config.model_json_schema()


@cache
def _others() -> dict[str, list[EntryPoint]]:
    """The entry points of other packages by name; what they call like one of ours is left out."""
    found: dict[str, list[EntryPoint]] = defaultdict(list)
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in EVALUATORS or point.name == JUDGE or point.name in FOR_ENGINE:
            logger.warning("evaluator %s (%s) has the name of one of ours: ignored", point.name, point.value)
        else:
            found[point.name].append(point)
    return dict(found)


def _loaded(name: str) -> Evaluator:
    found = _load(name)
    if isinstance(found, str):
        raise EvaluationError(found)
    return found


@cache
def _load(name: str) -> Evaluator | str:
    """The evaluator behind an entry point, or why it cannot be had; said once in the log."""
    points = _others()[name]
    if len(points) > 1:
        values = " and ".join(sorted(point.value for point in points))
        problem = f"{name} is brought by more than one package: {values}."
    else:
        try:
            return _evaluator(points[0].load())
        except Exception as error:
            problem = f"{name} cannot be loaded from {points[0].value}: {type(error).__name__}: {error}"
    logger.error("%s", problem)
    return problem


def _evaluator(value: Any) -> Evaluator:
    """An instance is taken as it is, a class is called. Raises TypeError where something is missing."""
    evaluator = value() if isinstance(value, type) else value
    wanted = ("description", "default_threshold", "needs_eval_case", "waits", "Config", "judge")
    if missing := [attribute for attribute in wanted if not hasattr(evaluator, attribute)]:
        raise TypeError(f"it has no {', '.join(missing)}")
    if not isinstance(evaluator.Config, type) or not issubclass(evaluator.Config, Config):
        raise TypeError("its Config is no subclass of runs.evaluators.Config")
    return evaluator
