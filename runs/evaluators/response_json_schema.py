"""Is the agent's answer JSON, and as a JSON Schema says?"""

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any, NoReturn

from pydantic import Field, field_validator

from runs.evaluators.answers import AnswerConfig, Look, clipped, counted, verdict_of
from runs.evaluators.base import EvaluationError, Task, Verdict

MAX_PROBLEMS = 20
PATTERN_SECONDS = 1.0
_FENCE = re.compile("`{3,}|~{3,}")


class SchemaConfig(AnswerConfig):
    json_schema: dict[str, Any] = Field(
        alias="schema", description="A JSON Schema; draft 2020-12 unless `$schema` says another."
    )

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, value: dict[str, Any]) -> dict[str, Any]:
        from jsonschema import SchemaError

        try:
            _draft(value).check_schema(value)
        except SchemaError as error:
            raise ValueError(f"is no JSON Schema: {clipped(error.json_path, 200)}: {_said(error)}") from None
        except RecursionError:
            raise ValueError("is nested too deeply") from None
        return value


class ResponseJsonSchema:
    name = "response_json_schema"
    description = "The answer is JSON as a JSON Schema says, by itself or in a Markdown fence."
    default_threshold = 1.0
    needs_eval_case = False
    waits = False
    Config = SchemaConfig

    def judge(self, task: Task) -> Verdict:
        turns = task.all_turns
        looks = [Look() for _ in turns]
        validator = _validator(task.config.json_schema)
        for index in counted(len(turns), task.config):
            looks[index] = _look(turns[index].final_text, validator)
        return verdict_of(turns, looks, "is JSON as the schema says", "there is no answer")


def _look(answer: str, validator: Any) -> Look:
    try:
        value = json.loads(_unfenced(answer), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        shown = {"errors": [{"at": "$", "problem": str(error)}], "actual": clipped(answer)}
        return Look(0.0, f"is not JSON: {error}", shown)
    if problems := _problems(validator, value):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        first = f"{problems[0]['at']}: {problems[0]['problem']}"
        return Look(
            0.0, f"is not as the schema says: {first}{more}", {"errors": problems, "actual": clipped(answer)}
        )
    return Look(1.0, shown={"errors": []})


def _unfenced(answer: str) -> str:
    lines = answer.strip().split("\n")
    fence = _FENCE.match(lines[0])
    if fence and len(lines) > 1 and lines[-1].strip() == fence[0]:
        return "\n".join(lines[1:-1])
    return answer


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _problems(validator: Any, value: Any) -> list[dict[str, str]]:
    from referencing.exceptions import Unresolvable

    try:
        found = list(islice(validator.iter_errors(value), MAX_PROBLEMS))
    except Unresolvable as error:
        raise EvaluationError(
            f"The schema refers to {error.ref}, which is not in it; nothing is fetched from elsewhere."
        ) from None
    except RecursionError:
        raise EvaluationError("The schema refers to itself without end, or is nested too deeply.") from None
    return [{"at": clipped(error.json_path, 200), "problem": _said(error)} for error in found]


def _said(error: Any) -> str:
    """Clipped, as the library writes the whole value into it."""
    return clipped(error.message, 300)


def _draft(schema: dict[str, Any]) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    return validator_for(schema, default=Draft202012Validator)


def _validator(schema: dict[str, Any]) -> Any:
    """With a registry that fetches nothing: by default jsonschema would follow `$ref` into the network."""
    from referencing.jsonschema import EMPTY_REGISTRY

    return _limited(_draft(schema))(schema, registry=EMPTY_REGISTRY)


@cache
def _limited(draft: Any) -> Any:
    from jsonschema.validators import extend

    return extend(draft, {"pattern": _pattern})


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    """The keyword `pattern` with a limit to its time: the answer is not ours, nor may the schema be."""
    import regex
    from jsonschema import ValidationError

    if not isinstance(value, str):
        return
    try:
        matches = regex.search(pattern, value, timeout=PATTERN_SECONDS)
    except TimeoutError:
        raise EvaluationError(
            f"The pattern {clipped(pattern, 100)!r} of the schema took longer than {PATTERN_SECONDS:g} s."
        ) from None
    except regex.error as error:
        raise EvaluationError(f"The pattern {clipped(pattern, 100)!r} of the schema: {error}.") from None
    if not matches:
        yield ValidationError(f"{clipped(value, 100)!r} does not match {clipped(pattern, 100)!r}")
