"""What an evaluator is: the one interface that every evaluator has, ours and those of others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, Protocol

from runs.evaluators.eval_sets import ExpectedTurn
from runs.traces import Turn


class EvaluationError(Exception):
    """The evaluator cannot judge this. The message is shown with the errored result."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be judged: the turns as they went, as they should have gone, and the settings.

    With an eval case there is one expected turn for each turn, without one there is none. `settings`
    is the evaluator's entry of the evalConfig, validated, in snake_case, defaults filled in.
    """

    turns: Sequence[Turn]
    expected: Sequence[ExpectedTurn]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A score between 0 and 1 for the whole, and one for each turn; None where there is none to give."""

    score: float | None
    per_turn: list[float | None]
    details: dict[str, Any] = field(default_factory=dict)


class Evaluator(Protocol):
    """Passed means a score of at least the threshold: the one configured, else `default_threshold`.

    Any exception out of `judge` becomes an errored result with the exception's text.
    """

    name: str
    default_threshold: float
    needs_eval_case: bool

    def judge(self, task: Task) -> Verdict: ...


def average(scores: Sequence[float]) -> float | None:
    """Added one by one, as agentevals does: sum() is more exact, and its last digit would differ."""
    return reduce(add, scores) / len(scores) if scores else None
