"""What an evaluator is: the one interface that every evaluator has, ours and those of others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from runs.evaluators.eval_sets import ExpectedTurn
from runs.traces import Turn


class EvaluationError(Exception):
    """The evaluator cannot judge this. The message is shown with the errored result."""


class ToolError(EvaluationError):
    """What an evaluator asked of the world was refused or failed; the text is for people."""


class Config(BaseModel):
    """The settings of an evaluator: subclass it, a field for each. Their JSON schema makes forms and docs."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended. `exit_code` is negative where a signal ended it."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Tools(Protocol):
    """The world, as far as an evaluator may use it. Each raises ToolError with a text for people."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> bytes:
        """The answer to a POST under the rules of DESIGN.md 3.13; `timeout` in seconds for the whole."""
        ...

    def get(self, url: str, headers: Mapping[str, str], timeout: float) -> bytes: ...

    def run(self, path: str, stdin: bytes, timeout: float) -> Ran:
        """Runs the program at `path` (.py, .js, .ts); it must lie in a folder that the operator allowed."""
        ...

    def credential(self, name: str) -> str:
        """The secret that the spec's `credentialRefs` call `name`."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be judged: the turns as they went, as they should have gone, and the settings.

    With an eval case there is one expected turn for each turn, without one there is none; `unexpected`
    are the turns that came after the last expected one. `settings` is the evaluator's entry of the
    evalConfig, validated, in snake_case, defaults filled in; `config` is its `config` as the evaluator's
    own Config, `threshold` the score needed to pass.
    """

    turns: Sequence[Turn]
    expected: Sequence[ExpectedTurn]
    settings: Mapping[str, Any]
    config: Any = None
    threshold: float = 0.5
    tools: Tools | None = None
    unexpected: Sequence[Turn] = ()

    @property
    def all_turns(self) -> list[Turn]:
        """For evaluators that compare with nothing."""
        return [*self.turns, *self.unexpected]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A score between 0 and 1 for the whole, and one for each turn; None where there is none to give.

    `status` where the evaluator decides itself whether that is enough. `tokens` is what a model used:
    `prompt`, `output` and `total`, and `cost` in US dollars where it is known.
    """

    score: float | None
    per_turn: list[float | None]
    details: dict[str, Any] = field(default_factory=dict)
    status: Literal["passed", "failed", "skipped"] | None = None
    tokens: dict[str, Any] | None = None


class Evaluator(Protocol):
    """Passed means a score of at least the threshold: the one configured, else `default_threshold`.

    Any exception out of `judge` becomes an errored result with the exception's text. `waits` says that
    `judge` mostly waits for others, so that several may run at once, in threads. The same object judges
    every item, so nothing of an item may be kept on it.
    """

    name: str
    description: str
    default_threshold: float
    needs_eval_case: bool

    # Properties for type checkers: a plain attribute of a class will do.
    @property
    def waits(self) -> bool: ...

    @property
    def Config(self) -> type[Config]: ...

    def judge(self, task: Task) -> Verdict: ...


def average(scores: Sequence[float]) -> float | None:
    """Added one by one, as agentevals does: sum() is more exact, and its last digit would differ."""
    return reduce(add, scores) / len(scores) if scores else None
