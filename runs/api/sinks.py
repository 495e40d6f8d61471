"""`/api/sinks/agentevals`: where an unmodified agentevals server tells of its runs (CONTRACTS.md 1.6).

Its `http_webhook` sink posts what it finds out, repeats what did not get through, and keeps no order.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from django.db import transaction
from django.http import HttpResponse, JsonResponse
from ninja import Router
from pydantic import (
    AfterValidator,
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from runs.api.schemas import present_run
from runs.api.strict_json import JsonError, read_json
from runs.api.token_auth import ApiRequest, TokenAuth
from runs.errors import Refused
from runs.evaluators import result_id
from runs.evaluators.eval_sets import Text
from runs.exact import Json, clean_text, split_exact
from runs.models import Action, Result, Run, Status
from runs.models.reported import REPORTER, Gone, end_reported, reported_run, take_results
from runs.submission import Free, normalised_spec

router = Router(tags=["agentevals"])
may_submit = TokenAuth(Action.SUBMIT)

MOST_INTEGER = 2**31 - 1
# What agentevals gives as the error of a run that was cancelled; any other is a failure (CONTRACTS.md 1.5).
CANCELLED = ("cancelled by request", "worker cancelled")

LONGEST_NAME = 300  # characters; an index entry of PostgreSQL has a limit


def _short(name: str) -> str:
    if len(name) > LONGEST_NAME:
        raise ValueError(f"should have at most {LONGEST_NAME} characters")
    return name


type Number = Annotated[float, Field(allow_inf_nan=False)]
type Whole = Annotated[int, Field(ge=0, le=MOST_INTEGER, strict=True)]


class _Result(BaseModel):
    """A result in agentevals' words (CONTRACTS.md 1.3). Its own id follows from the others."""

    model_config = ConfigDict(alias_generator=AliasGenerator(alias=to_camel), populate_by_name=True)

    eval_set_item_id: Text
    eval_set_item_name: Text = ""
    evaluator_name: Annotated[Text, AfterValidator(_short)]
    evaluator_type: Literal["builtin", "code", "remote"] = "builtin"
    status: Literal["passed", "failed", "errored", "skipped"]
    score: Number | None = None
    per_invocation_scores: list[Number | None] = Field(default_factory=list)
    trace_id: Text | None = None
    span_id: Text | None = None
    details: Free | None = None
    error_text: Text | None = None
    tokens_used: Free | None = None
    latency_ms: Whole | None = None


class _Phase(BaseModel):
    run_id: UUID
    attempt: Whole = 1


class _Partial(_Phase):
    phase: Literal["partial"]
    results: list[_Result]


class _Final(_Phase):
    phase: Literal["final"]
    summary: Free


class _Error(_Phase):
    phase: Literal["error"]
    error: Text


_PHASES: TypeAdapter[_Partial | _Final | _Error] = TypeAdapter(
    Annotated[_Partial | _Final | _Error, Field(discriminator="phase")]
)


@router.post(
    "/agentevals",
    auth=may_submit,
    response={200: dict[str, Any], 400: dict[str, Any], 404: dict[str, Any], 422: dict[str, Any]},
    summary="Take what an agentevals server tells of a run",
)
def take_phase(request: ApiRequest) -> HttpResponse:
    """The address for a sink of kind `http_webhook`. Every phase may come again, and in any order; the answer
    is the run as it is here, with `cancelRequested`."""
    try:
        phase = _PHASES.validate_python(read_json(request.body))
    except JsonError as error:
        raise Refused(400, "bad_request", f"The body is not JSON: {error}") from None
    except ValidationError as error:
        raise _wrong(error) from None
    try:
        with transaction.atomic():
            run = _take(request, phase)
    except Gone as gone:
        raise Refused(404, "not_found", str(gone), "run_id") from None
    return JsonResponse(
        {"data": present_run(Run.objects.allowing(request.auth, Action.SUBMIT).get(pk=run.pk)), "error": None}
    )


def _take(request: ApiRequest, phase: _Partial | _Final | _Error) -> Run:
    run = reported_run(request.auth.owner, phase.run_id, _spec(phase.run_id), phase.attempt)
    if isinstance(phase, _Partial):
        first = run.passed_count + run.failed_count + run.errored_count + run.skipped_count
        rows = [_row(run, result, first + place) for place, result in enumerate(phase.results)]
        take_results(run, rows, phase.attempt)
    elif isinstance(phase, _Final):
        agent, model = _named(phase.summary.get("agents")), _named(_performance(phase.summary).get("models"))
        end_reported(
            run, Status.SUCCEEDED, attempt=phase.attempt, summary=phase.summary, agent=agent, model=model
        )
    else:
        status = Status.CANCELLED if phase.error in CANCELLED else Status.FAILED
        end_reported(run, status, attempt=phase.attempt, error=phase.error)
    return run


def _spec(run_id: UUID) -> dict[str, Json]:
    """agentevals tells nothing of what was asked; `context` says where the run is from, and its id there."""
    context = {"reportedBy": REPORTER, "runId": str(run_id)}
    return normalised_spec({"target": {"kind": "uploaded"}, "context": context})


def _row(run: Run, told: _Result, position: int) -> Result:
    """Its id is made anew by the one recipe: an id that was sent could be another run's result."""
    details, exact = split_exact(told.details or {})
    return Result(
        id=result_id(run.pk, told.eval_set_item_id, told.evaluator_name),
        run_id=run.pk,
        position=position,
        item_id=clean_text(told.eval_set_item_id),
        item_name=clean_text(told.eval_set_item_name or told.eval_set_item_id),
        evaluator_name=clean_text(told.evaluator_name),
        evaluator_type=told.evaluator_type,
        status=told.status,
        score=told.score,
        per_invocation_scores=told.per_invocation_scores,
        trace_id=told.trace_id and clean_text(told.trace_id),
        span_id=told.span_id and clean_text(told.span_id),
        details=details,
        details_exact=exact,
        error=told.error_text and clean_text(told.error_text),
        tokens=split_exact(told.tokens_used)[0],
        latency_ms=told.latency_ms,
    )


def _named(names: Json) -> str:
    return ", ".join(name for name in names if isinstance(name, str)) if isinstance(names, list) else ""


def _performance(summary: dict[str, Any]) -> dict[str, Any]:
    found = summary.get("performance_metrics")
    return found if isinstance(found, dict) else {}


def _wrong(error: ValidationError) -> Refused:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or "phase"  # the first one is the phase itself
    return Refused(422, "invalid", f"{field}: {first['msg']}", field)
