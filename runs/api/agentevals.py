"""`/api/runs`: agentevals' API for durable evaluation runs, to the letter (CONTRACTS.md 1.1-1.3)."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from django.http import HttpResponse, JsonResponse
from ninja import Query, Router
from ninja.errors import HttpError

from runs.api.docs import body_of
from runs.api.schemas import (
    ErrorOut,
    ResultsEnvelope,
    RunEnvelope,
    RunsEnvelope,
    present_result,
    present_run,
)
from runs.api.strict_json import JsonError, read_json
from runs.api.token_auth import ApiRequest, TokenAuth
from runs.exact import Json
from runs.models import Run, SpecConflict, Token
from runs.models.paging import Cursor
from runs.models.run import RunQuerySet
from runs.submission import RunSubmission, SubmissionError, submit

router = Router(tags=["Evaluation runs"], by_alias=True)
may_read = TokenAuth(Token.Scope.READ)
may_write = TokenAuth(Token.Scope.WRITE)

type RunStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
_ERRORS: dict[int, type] = {401: ErrorOut, 403: ErrorOut, 422: ErrorOut}


@router.post(
    "",
    auth=may_write,
    response={202: RunEnvelope, 409: ErrorOut, 413: ErrorOut, **_ERRORS},
    openapi_extra=body_of(RunSubmission),
    summary="Submit a run",
)
def submit_run(request: ApiRequest) -> HttpResponse:
    """Queues an evaluation. The same run id with an equal spec gives the run that is there, as often as
    it is sent; with another spec it is 409."""
    try:
        run = submit(request.auth.owner, read_json(request.body))
    except JsonError as error:
        return _invalid(_json_invalid(error))
    except SubmissionError as error:
        return _invalid([_in("body", one) for one in error.errors] if error.errors else str(error))
    except SpecConflict as error:
        return _conflict(error)
    return _data(present_run(run), status=202)


@router.get("", auth=may_read, response={200: RunsEnvelope, **_ERRORS}, summary="List runs, newest first")
def list_runs(
    request: ApiRequest,
    status: Annotated[list[RunStatus], Query(default_factory=list, description="Repeat for several.")],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[datetime | None, Query(description="Runs created before this; ties are lost.")] = None,
    cursor: Annotated[str | None, Query(description="`X-Next-Cursor` of the page before.")] = None,
) -> HttpResponse:
    """The header `X-Next-Cursor` is there while more follow."""
    runs = _evaluations(request)
    if status:
        runs = runs.filter(status__in=status)
    if before is not None:
        runs = runs.filter(created_at__lt=_in_utc(before))
    if cursor is not None:
        try:
            place = Cursor.parse(cursor)
        except ValueError as error:
            return _invalid(
                [{"type": "value_error", "loc": ["query", "cursor"], "msg": str(error), "input": cursor}]
            )
        runs = runs.older_than(place.created_at, place.id)
    page = list(runs.newest_first()[: limit + 1])
    answer = _data([present_run(run) for run in page[:limit]])
    if len(page) > limit:
        last = page[limit - 1]
        answer["X-Next-Cursor"] = str(Cursor(last.created_at, last.pk))
    return answer


@router.get(
    "/{run_id}", auth=may_read, response={200: RunEnvelope, 404: ErrorOut, **_ERRORS}, summary="Get a run"
)
def get_run(request: ApiRequest, run_id: UUID) -> HttpResponse:
    return _data(present_run(_run(request, run_id)))


@router.get(
    "/{run_id}/results",
    auth=may_read,
    response={200: ResultsEnvelope, 404: ErrorOut, **_ERRORS},
    summary="Get a run's results, oldest first",
)
def get_results(request: ApiRequest, run_id: UUID) -> HttpResponse:
    results = _run(request, run_id).results.order_by("created_at", "position")
    return _data([present_result(result) for result in results])


@router.post(
    "/{run_id}/cancel",
    auth=may_write,
    response={200: RunEnvelope, 404: ErrorOut, **_ERRORS},
    summary="Cancel a run",
)
def cancel_run(request: ApiRequest, run_id: UUID) -> HttpResponse:
    """Ends a queued run at once and asks the worker of a running one to stop. A final run stays as it is."""
    run = _run(request, run_id)
    run.request_cancel(by=request.auth.display_name)
    return _data(present_run(run))


def _evaluations(request: ApiRequest) -> RunQuerySet:
    return Run.objects.visible_to(request.auth).filter(kind=Run.Kind.EVALUATION)


def _run(request: ApiRequest, run_id: UUID) -> Run:
    run = _evaluations(request).filter(pk=run_id).first()
    if run is None:
        raise HttpError(404, f"run {run_id} not found")
    return run


def _in_utc(instant: datetime) -> datetime:
    """Without a zone it is UTC; what UTC's calendar does not reach is its last day."""
    try:
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    except OverflowError:
        return (datetime.max if instant.year > 5000 else datetime.min).replace(tzinfo=UTC)


def _data(data: Json, status: int = 200) -> JsonResponse:
    return JsonResponse({"data": data, "error": None}, status=status)


def _invalid(detail: Json) -> JsonResponse:
    return JsonResponse({"detail": detail}, status=422)


def _in(part: str, error: dict[str, Json]) -> dict[str, Json]:
    return {**error, "loc": [part, *error["loc"]]}


def _json_invalid(error: JsonError) -> Json:
    return [
        {
            "type": "json_invalid",
            "loc": ["body", error.position],
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": str(error)},
        }
    ]


def _conflict(error: SpecConflict) -> JsonResponse:
    """The run that is there is shown to its owner alone (RELIABILITY.md R7)."""
    detail: dict[str, Json] = {"message": str(error)}
    if error.persisted:
        detail["persisted"] = present_run(error.persisted)
    return JsonResponse({"detail": detail}, status=409)
