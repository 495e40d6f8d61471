"""Programs of the user's as evaluators: JSON on stdin, JSON on stdout (CONTRACTS 1.8, protocol 1.1)."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, ValidationError

from runs.evaluators.base import Config as NoConfig
from runs.evaluators.base import EvaluationError, Ran, Task, Verdict
from runs.evaluators.eval_sets import ExpectedTurn
from runs.evaluators.params import CodeEvaluator as Settings
from runs.evaluators.tool_errors import ProgramError
from runs.traces import ToolResponse, Turn

PROTOCOL_VERSION = "1.1"
ERROR_LENGTH = 4000  # characters of stderr that an error text ends with

_STATUSES: Mapping[str, Literal["passed", "failed", "skipped"]] = {
    "PASSED": "passed",
    "FAILED": "failed",
    "NOT_EVALUATED": "skipped",
}


class CodeEvaluator:
    """A file in one of the operator's folders. A status that it does not give follows from the score."""

    description = "Runs a program of yours: the turns on its stdin, its verdict on its stdout."
    needs_eval_case = False
    waits: ClassVar[bool] = True
    Config = NoConfig  # its `config` is handed on as it came

    def __init__(self, settings: Settings) -> None:
        self.name = settings.name
        self.default_threshold = settings.threshold

    def judge(self, task: Task) -> Verdict:
        settings = task.settings
        if settings["executor"] != "local":
            raise EvaluationError(f"executor {settings['executor']!r} is unknown; programs run with 'local'")
        if task.tools is None:
            raise EvaluationError("programs cannot be run here")
        try:
            ran = task.tools.run(settings["path"], request_of(task), settings["timeout"])
        except ProgramError as error:
            raise EvaluationError(f"{called(task)} {error}") from None
        return verdict_of_program(task, ran)


def request_of(task: Task) -> bytes:
    """What the program or the server is sent: all turns, also those after the last expected one."""
    measured = performance(task.all_turns)
    document = {
        "protocol_version": PROTOCOL_VERSION,
        "metric_name": task.settings["name"],
        "threshold": task.threshold,
        "config": task.settings["config"],
        "invocations": [_invocation(turn, measured) for turn in task.all_turns],
        "expected_invocations": [_expected(turn) for turn in task.expected] or None,
    }
    return _utf8(json.dumps(document, ensure_ascii=False))


def verdict_of_program(task: Task, ran: Ran) -> Verdict:
    """Raises EvaluationError in the words of the reference."""
    said = ran.stderr.decode(errors="replace").strip()[-ERROR_LENGTH:]
    if ran.exit_code != 0:
        raise EvaluationError(
            f"{called(task)} exited with code {ran.exit_code}" + (f": {said}" if said else "")
        )
    if not ran.stdout.strip():
        hint = f"\nEvaluator stderr:\n{said}" if said else ""
        raise EvaluationError(f"{called(task)} produced no output on stdout{hint}")
    return verdict_of(task, ran.stdout)


def verdict_of(task: Task, answer: bytes) -> Verdict:
    """The verdict that JSON text gives. Raises EvaluationError when it is none."""
    try:
        result = EvalResult.model_validate_json(answer.strip(), strict=True)
    except ValidationError as error:
        raise EvaluationError(f"{called(task)} produced invalid JSON: {error}") from None
    return Verdict(
        score=result.score,
        per_turn=result.per_invocation_scores,
        details=result.details or {},
        status=_STATUSES[result.status] if result.status else None,
    )


class EvalResult(BaseModel):
    """The answer of protocol 1.1; its name is part of the texts that the reference shows."""

    score: float = Field(ge=0.0, le=1.0)
    status: Literal["PASSED", "FAILED", "NOT_EVALUATED"] | None = None
    per_invocation_scores: list[Annotated[float, Field(allow_inf_nan=False)] | None] = []
    details: dict[str, Any] | None = None


def performance(turns: Sequence[Turn]) -> dict[str, Any]:
    """What the whole conversation took; each of its invocations is told the same.

    Model calls and tools are timed as far as the transcript tells of them: a call that only asked for
    tools says nothing there.
    """
    steps = [step for turn in turns for step in turn.steps]
    calls = [step for step in steps if step.role == "agent" and step.duration_ms is not None]
    tools = [step.duration_ms for step in steps if step.role == "tool" and step.duration_ms is not None]
    prompt = sum(turn.input_tokens for turn in turns)
    output = sum(turn.output_tokens for turn in turns)
    return {
        "latency": {
            "overall": _spread([turn.duration_ms for turn in turns]),
            "llm_calls": _spread([call.duration_ms for call in calls if call.duration_ms is not None]),
            "tool_executions": _spread(tools),
        },
        "tokens": {
            "total_prompt": prompt,
            "total_output": output,
            "total": prompt + output,
            "per_llm_call": _spread([float(call.tokens) for call in calls if call.tokens is not None]),
            "cache_creation_tokens": sum(turn.cache_write_tokens for turn in turns),
            "cache_read_tokens": sum(turn.cache_read_tokens for turn in turns),
        },
        "counts": {
            "llm_calls": sum(turn.llm_calls for turn in turns),
            "tool_calls": sum(len(turn.tool_calls) for turn in turns),
            "invocations": len(turns),
        },
        "models": sorted({model for turn in turns for model in turn.models}),
        "tool_names": sorted({call.name for turn in turns for call in turn.tool_calls}),
    }


def _spread(values: Sequence[float]) -> dict[str, float | int]:
    """The reference's percentiles, to the last digit; all 0 without a value."""
    if not values:
        return {"min": 0.0, "median": 0.0, "max": 0.0, "count": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0}
    ordered = sorted(values)
    number, middle = len(ordered), statistics.median(ordered)
    return {
        "min": ordered[0],
        "median": middle,
        "max": ordered[-1],
        "count": number,
        "p50": middle,
        "p95": ordered[int(number * 0.95)],
        "p99": ordered[int(number * 0.99)],
    }


def _invocation(turn: Turn, measured: dict[str, Any]) -> dict[str, Any]:
    return {
        "invocation_id": turn.invocation_id,
        "user_content": turn.user_text,
        "final_response": turn.final_text or None,
        "intermediate_steps": {
            "tool_calls": [{"name": call.name, "args": call.args, "id": call.id} for call in turn.tool_calls],
            "tool_responses": [_tool_response(response) for response in turn.tool_responses],
        },
        "performance_metrics": measured,
        "trace_id": turn.trace_id,
        "span_id": turn.span_id,
    }


def _tool_response(response: ToolResponse) -> dict[str, Any]:
    return {
        "name": response.name,
        "output": json.dumps(response.response, sort_keys=True),
        "status": "error" if response.is_error else None,
        "id": response.id,
        "response": response.response,
    }


def _expected(turn: ExpectedTurn) -> dict[str, Any]:
    calls = [{"name": call.name or "", "args": call.args or {}, "id": None} for call in turn.tool_calls]
    return {
        "invocation_id": turn.invocation_id,
        "user_content": turn.user_text,
        "final_response": turn.final_text or None,
        "intermediate_steps": {"tool_calls": calls, "tool_responses": []},
        "performance_metrics": None,
        "trace_id": None,
        "span_id": None,
    }


def _utf8(text: str) -> bytes:
    """Lone surrogates, which no UTF-8 can hold and agents' output has, become U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def called(task: Task) -> str:
    """What error texts call the evaluator, in the words of the reference."""
    return f"Custom evaluator '{task.settings['name']}'"
