"""What to evaluate with: the `evalConfig` of a run (CONTRACTS 1.2, EvalParams).

Names are taken in camelCase and snake_case. An evaluator that exists nowhere is not refused here: it
gives an errored result, so that the others still run.
"""

import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from runs.evaluators import registry
from runs.evaluators.base import Config, EvaluationError, Evaluator
from runs.evaluators.mistakes import first_mistake

MATCH_TYPES = ("EXACT", "IN_ORDER", "ANY_ORDER")
RUBRIC_EVALUATORS = (
    "rubric_based_final_response_quality_v1",
    "rubric_based_tool_use_quality_v1",
    registry.JUDGE,
)
CODE_SUFFIXES = (".js", ".py", ".ts")
MAX_REF_LENGTH = 512
MAX_REF_SEGMENTS = 16
MAX_URL_LENGTH = 2048

_URL = re.compile(r"https?://[^\s/]\S*", re.IGNORECASE)
_REF_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")

Share = Annotated[float, Field(ge=0, le=1)]


class EvalConfigError(ValueError):
    """The evalConfig is not valid. The message says what and where, fit to be sent to the client."""


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Rubric(_Model):
    """One property that a judge looks for."""

    model_config = ConfigDict(extra="forbid")

    id: str
    text: str

    @field_validator("id", "text")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be blank")
        return value


class BuiltinEvaluator(_Model):
    """An evaluator known by name. A threshold of None means the evaluator's own, as `config` is its own."""

    type: Literal["builtin"]
    name: str
    threshold: Share | None = None
    judge_model: str | None = None
    trajectory_match_type: str | None = None
    rubrics: list[Rubric] | None = None
    credential_ref: str | None = None
    judge_base_url: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _judges_agents(cls, value: str) -> str:
        if value == "per_turn_user_simulator_quality_v1":
            raise ValueError(f"{value} judges a simulated user; recorded traces have none")
        return value

    @field_validator("trajectory_match_type")
    @classmethod
    def _known_match_type(cls, value: str | None) -> str | None:
        if value is not None and value.upper() not in MATCH_TYPES:
            raise ValueError(f"must be one of {', '.join(MATCH_TYPES)}")
        return value and value.upper()

    @field_validator("rubrics", mode="before")
    @classmethod
    def _number_rubrics(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [{"id": f"rubric_{n}", "text": r} if isinstance(r, str) else r for n, r in enumerate(value)]

    @field_validator("rubrics")
    @classmethod
    def _distinct_rubrics(cls, value: list[Rubric] | None) -> list[Rubric] | None:
        if repeated := _repeated(rubric.id for rubric in value or []):
            raise ValueError(f"each rubric needs an id of its own; more than once: {repeated}")
        return value

    @model_validator(mode="after")
    def _rubrics_where_used(self) -> "BuiltinEvaluator":
        if self.rubrics and self.name not in RUBRIC_EVALUATORS:
            raise ValueError(f"rubrics are for {', '.join(RUBRIC_EVALUATORS)}, not for {self.name}")
        return self


class _Program(_Model):
    name: str
    threshold: Share = 0.5
    timeout: int = Field(default=30, gt=0, le=3600)  # seconds
    config: dict[str, Any] = Field(default_factory=dict)
    executor: str = "local"


class CodeEvaluator(_Program):
    """A program of the user's on the server's disk."""

    type: Literal["code"]
    path: str

    @field_validator("path")
    @classmethod
    def _runnable(cls, value: str) -> str:
        return _with_code_suffix(value)


class RemoteEvaluator(_Program):
    """A program that is elsewhere.

    From source `http` it is asked at `url`. From any other, such as `github`, it is fetched; `ref` is its
    path there.
    """

    type: Literal["remote"]
    source: str = "github"
    ref: str | None = None
    url: str | None = None

    @field_validator("source")
    @classmethod
    def _fetchable(cls, value: str) -> str:
        if value == "builtin":
            raise ValueError("builtin evaluators are not fetched; give them type builtin")
        return value

    @field_validator("ref")
    @classmethod
    def _plain_path(cls, value: str | None) -> str | None:
        """The ref becomes part of a URL and of a path: nothing that could lead elsewhere may be in it."""
        if value is None:
            return None
        segments = value.split("/")
        if len(value) > MAX_REF_LENGTH or len(segments) > MAX_REF_SEGMENTS:
            raise ValueError(f"at most {MAX_REF_LENGTH} characters and {MAX_REF_SEGMENTS} segments")
        if not all(_REF_SEGMENT.fullmatch(segment) for segment in segments):
            raise ValueError(
                "must be a relative path of letters, digits, _ and -, with single dots inside names"
            )
        return _with_code_suffix(value)

    @field_validator("url")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        """Where it may lead is decided when it is used (DESIGN 3.13)."""
        if value is not None and (len(value) > MAX_URL_LENGTH or not _URL.fullmatch(value)):
            raise ValueError(
                f"must begin with http:// or https:// and have at most {MAX_URL_LENGTH} characters"
            )
        return value

    @model_validator(mode="after")
    def _has_a_place(self) -> "RemoteEvaluator":
        needed, other = ("url", "ref") if self.source == "http" else ("ref", "url")
        if getattr(self, needed) is None:
            raise ValueError(f"{needed} is missing; source {self.source} needs it")
        if getattr(self, other) is not None:
            raise ValueError(f"{other} is not for source {self.source}")
        return self


EvaluatorSettings = Annotated[BuiltinEvaluator | CodeEvaluator | RemoteEvaluator, Field(discriminator="type")]


def _default_evaluators() -> list[EvaluatorSettings]:
    return [BuiltinEvaluator(type="builtin", name="tool_trajectory_avg_score")]


class EvalParams(_Model):
    """A valid evalConfig."""

    model_config = ConfigDict(extra="forbid")

    evaluators: list[EvaluatorSettings] = Field(default_factory=_default_evaluators)
    max_concurrent_traces: int = Field(default=10, ge=1)
    max_concurrent_evals: int = Field(default=5, ge=1)
    group_by: Literal["auto", "trace", "conversation"] = "auto"

    @field_validator("evaluators")
    @classmethod
    def _distinct_names(cls, value: list[EvaluatorSettings]) -> list[EvaluatorSettings]:
        if not value:
            raise ValueError("name at least one evaluator")
        if repeated := _repeated(evaluator.name for evaluator in value):
            raise ValueError(f"each evaluator needs a name of its own; more than once: {repeated}")
        return value


def validate_eval_config(raw: dict[str, Any] | None) -> EvalParams:
    """The evalConfig of a run; None and {} mean the defaults. Raises EvalConfigError. (CONTRACTS 1.2)"""
    try:
        params = EvalParams.model_validate({} if raw is None else raw)
    except ValidationError as error:
        raise EvalConfigError(f"Invalid eval_config: {error}") from error
    for settings in params.evaluators:
        _check_config(settings)
    return params


def own_config(evaluator: Evaluator, settings: EvaluatorSettings) -> Config:
    """What the evaluator is to work with. Raises EvalConfigError, naming evaluator and field."""
    try:
        return evaluator.Config.model_validate(settings.config)
    except ValidationError as error:
        place, what = first_mistake(error)
        dotted = f".{place}" if place and not place.startswith("[") else place
        raise EvalConfigError(f"{settings.name}: config{dotted}: {what}") from error


def _check_config(settings: EvaluatorSettings) -> None:
    """Where there is no such evaluator, the worker says so."""
    if settings.type != "builtin":
        return
    try:
        own_config(registry.named(settings.name), settings)
    except EvaluationError:
        return
    except EvalConfigError as error:
        raise EvalConfigError(f"Invalid eval_config: {error}") from error


def _repeated(names: Any) -> str:
    return ", ".join(sorted(name for name, count in Counter(names).items() if count > 1))


def _with_code_suffix(value: str) -> str:
    if PurePosixPath(value).suffix.lower() not in CODE_SUFFIXES:
        raise ValueError(f"must end in one of {', '.join(CODE_SUFFIXES)}")
    return value
