"""Evaluating agent traces. Knows neither Django nor HTTP (DESIGN 7)."""

from runs.evaluators.base import EvaluationError, Evaluator, Task, Verdict
from runs.evaluators.eval_sets import EvalSet, EvalSetError, parse_eval_set
from runs.evaluators.evaluation import Evaluation, Outcome, result_id
from runs.evaluators.params import EvalConfigError, EvalParams, validate_eval_config

__all__ = [
    "EvalConfigError",
    "EvalParams",
    "EvalSet",
    "EvalSetError",
    "Evaluation",
    "EvaluationError",
    "Evaluator",
    "Outcome",
    "Task",
    "Verdict",
    "parse_eval_set",
    "result_id",
    "validate_eval_config",
]
