"""What `/api/runs` answers, for its OpenAPI page. `present_*` make it: they are what is sent."""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from ninja import Schema
from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from runs.exact import Json
from runs.models import Result, Run


class _Out(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class RunOut(_Out):
    """An evaluation run. All keys are always there; a secret in `spec` reads REDACTED."""

    run_id: UUID
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    spec: dict[str, Any]
    attempt: int
    worker_id: str | None
    error: str | None
    summary: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested: bool


class ResultOut(_Out):
    """What one evaluator said of one item."""

    result_id: str
    run_id: UUID
    eval_set_item_id: str
    eval_set_item_name: str
    evaluator_name: str
    evaluator_type: Literal["builtin", "code", "remote"]
    status: Literal["passed", "failed", "errored", "skipped"]
    score: float | None
    per_invocation_scores: list[float | None]
    trace_id: str | None
    span_id: str | None
    details: dict[str, Any]
    error_text: str | None
    tokens_used: dict[str, Any] | None
    latency_ms: int | None
    created_at: datetime


class RunEnvelope(Schema):
    data: RunOut
    error: None


class RunsEnvelope(Schema):
    data: list[RunOut]
    error: None


class ResultsEnvelope(Schema):
    data: list[ResultOut]
    error: None


class ErrorOut(Schema):
    """A sentence, pydantic's list of what is wrong where, or an object (409)."""

    detail: str | list[Any] | dict[str, Any]


def present_run(run: Run) -> dict[str, Json]:
    """The Run of CONTRACTS.md 1.2."""
    return {
        "runId": str(run.pk),
        "status": run.status,
        "spec": run.shown_spec,
        "attempt": run.attempt,
        "workerId": run.worker_id,
        "error": run.error,
        "summary": run.summary,
        "createdAt": _instant(run.created_at),
        "startedAt": _instant(run.started_at),
        "finishedAt": _instant(run.finished_at),
        "cancelRequested": run.cancel_requested_at is not None,
    }


def present_result(result: Result) -> dict[str, Json]:
    """The Result of CONTRACTS.md 1.3."""
    return {
        "resultId": result.pk,
        "runId": str(result.run_id),
        "evalSetItemId": result.item_id,
        "evalSetItemName": result.item_name,
        "evaluatorName": result.evaluator_name,
        "evaluatorType": result.evaluator_type,
        "status": result.status,
        "score": result.score,
        "perInvocationScores": result.per_invocation_scores,
        "traceId": result.trace_id,
        "spanId": result.span_id,
        "details": result.full_details,
        "errorText": result.error,
        "tokensUsed": result.tokens,
        "latencyMs": result.latency_ms,
        "createdAt": _instant(result.created_at),
    }


def _instant(at: datetime | None) -> str | None:
    """Microseconds, always six digits, and Z."""
    return None if at is None else f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
