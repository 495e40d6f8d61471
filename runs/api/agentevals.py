"""`/api/runs`: agentevals' API for durable evaluation runs, to the letter (CONTRACTS.md 1.1-1.3)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from django.http import HttpResponse, JsonResponse
from django.utils import timezone
from ninja import Query, Router
from ninja.errors import HttpError

from runs.api.bodies import json_invalid
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
from runs.models import Action, Run, SpecConflict, request_cancel
from runs.models.listing import find_runs
from runs.models.paging import Cursor
from runs.models.run import RunQuerySet
from runs.query import Compare, Condition, OneOf, QueryError, parse
from runs.query import Query as RunQuery
from runs.submission import RunSubmission, SubmissionError, submit

router = Router(tags=["Evaluation runs"], by_alias=True)
may_view, may_submit, may_cancel = (
    TokenAuth(action) for action in (Action.VIEW, Action.SUBMIT, Action.CANCEL)
)

type RunStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
_ERRORS: dict[int, type] = {401: ErrorOut, 403: ErrorOut, 422: ErrorOut}


@router.post(
    "",
    auth=may_submit,
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
        return _invalid([json_invalid(error)])
    except SubmissionError as error:
        return _invalid([_in("body", one) for one in error.errors] if error.errors else str(error))
    except SpecConflict as error:
        return _conflict(error)
    return _data(present_run(run), status=202)


@router.get("", auth=may_view, response={200: RunsEnvelope, **_ERRORS}, summary="List runs, newest first")
def list_runs(
    request: ApiRequest,
    status: Annotated[list[RunStatus], Query(default_factory=list, description="Repeat for several.")],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[datetime | None, Query(description="Runs created before this; ties are lost.")] = None,
    cursor: Annotated[str | None, Query(description="`X-Next-Cursor` of the page before.")] = None,
    q: Annotated[str, Query(description="A search, such as `agent:helm -rating:5 timeout`.")] = "",
) -> HttpResponse:
    """The header `X-Next-Cursor` is there while more follow: after a short page as well, where a search
    took long."""
    try:
        after = Cursor.parse(cursor) if cursor is not None else None
        query = _asked(q, status, before)
        found = find_runs(query, request.auth, after=after, size=limit)
    except QueryError as error:
        return _invalid([_in_query("q", q, one.message) for one in error.problems])
    except ValueError as error:
        return _invalid([_in_query("cursor", cursor, str(error))])
    whole = Run.objects.visible_to(request.auth).in_bulk([run.pk for run in found.runs])
    answer = _data([present_run(whole[run.pk]) for run in found.runs if run.pk in whole])
    if found.older:
        answer["X-Next-Cursor"] = str(found.older)
    return answer


def _asked(q: str, statuses: Sequence[str], before: datetime | None) -> RunQuery:
    """What the parameters ask, in the one language of queries."""
    conditions = [Condition(OneOf("kind", (Run.Kind.EVALUATION,))), *parse(q, timezone.now()).conditions]
    if statuses:
        conditions.append(Condition(OneOf("status", tuple(statuses))))
    if before is not None:
        conditions.append(Condition(Compare("created", "<", _in_utc(before))))
    return RunQuery(tuple(conditions))


def _in_query(name: str, value: Json, message: str) -> dict[str, Json]:
    return {"type": "value_error", "loc": ["query", name], "msg": message, "input": value}


@router.get(
    "/{run_id}", auth=may_view, response={200: RunEnvelope, 404: ErrorOut, **_ERRORS}, summary="Get a run"
)
def get_run(request: ApiRequest, run_id: UUID) -> HttpResponse:
    return _data(present_run(_run(request, run_id, Action.VIEW)))


@router.get(
    "/{run_id}/results",
    auth=may_view,
    response={200: ResultsEnvelope, 404: ErrorOut, **_ERRORS},
    summary="Get a run's results, oldest first",
)
def get_results(request: ApiRequest, run_id: UUID) -> HttpResponse:
    results = _run(request, run_id, Action.VIEW).results.order_by("created_at", "position")
    return _data([present_result(result) for result in results])


@router.post(
    "/{run_id}/cancel",
    auth=may_cancel,
    response={200: RunEnvelope, 404: ErrorOut, **_ERRORS},
    summary="Cancel a run",
)
def cancel_run(request: ApiRequest, run_id: UUID) -> HttpResponse:
    """Ends a queued run at once and asks the worker of a running one to stop. A final run stays as it is."""
    run = _run(request, run_id, Action.CANCEL)
    request_cancel(run, by=request.auth.display_name)
    return _data(present_run(run))


def _evaluations(request: ApiRequest, action: Action) -> RunQuerySet:
    return Run.objects.allowing(request.auth, action).filter(kind=Run.Kind.EVALUATION)


def _run(request: ApiRequest, run_id: UUID, action: Action) -> Run:
    run = _evaluations(request, action).filter(pk=run_id).first()
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


def _conflict(error: SpecConflict) -> JsonResponse:
    """The run that is there is shown to its owner alone (RELIABILITY.md R7)."""
    detail: dict[str, Json] = {"message": str(error)}
    if error.persisted:
        detail["persisted"] = present_run(error.persisted)
    return JsonResponse({"detail": detail}, status=409)
