"""Evaluating agent traces. Knows neither Django nor HTTP (DESIGN 7)."""

from runs.evaluators.base import Config, EvaluationError, Evaluator, Task, Tools, Verdict
from runs.evaluators.eval_sets import EvalSet, EvalSetError, parse_eval_set
from runs.evaluators.evaluation import Evaluation, Kept, Outcome, result_id
from runs.evaluators.params import EvalConfigError, EvalParams, validate_eval_config
from runs.evaluators.registry import evaluators

__all__ = [
    "Config",
    "EvalConfigError",
    "EvalParams",
    "EvalSet",
    "EvalSetError",
    "Evaluation",
    "EvaluationError",
    "Evaluator",
    "Kept",
    "Outcome",
    "Task",
    "Tools",
    "Verdict",
    "evaluators",
    "parse_eval_set",
    "result_id",
    "validate_eval_config",
]
