"""`/api/streaming` and `/stream/ui-updates`: agentevals' live sessions, which we keep (CONTRACTS.md 1.10)."""

import base64
import binascii
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe
from ninja import Router, Schema
from ninja.errors import HttpError
from psycopg_pool import PoolTimeout
from pydantic import ConfigDict, Field

from runs import access, errors, streams
from runs.api import evaluate
from runs.api.bodies import read_body
from runs.api.docs import body_of
from runs.api.live_view import session_view
from runs.api.run_result import metric_result
from runs.api.schemas import ErrorOut
from runs.api.token_auth import ApiRequest, TokenAuth
from runs.evaluators import EvalParams
from runs.evaluators.params import EvaluatorSettings
from runs.exact import Json, clean_text
from runs.models import Action, Token
from runs.models.span import LiveSession, otlp_of, session_of, sessions
from runs.traces import Trace, read_traces
from runs.traces.grouping import CASE_ID, SESSION_NAME, drafts_of_group
from runs.traces.invocations import eval_set_of
from runs.traces.otlp import attributes_of
from runs.traces.values import items, scalar_text

router = Router(tags=["agentevals"])
may_view, may_submit = TokenAuth(Action.VIEW), TokenAuth(Action.SUBMIT)

MOST_SPANS = 10_000  # of a session whose turns are shown live
LOOK_EVERY = 1.0  # seconds
_NO_SESSION = "Session not found"
_EVAL_SET, _TRACES = "eval_set_", "agentevals_"
_ERRORS: dict[int, type] = {401: ErrorOut, 403: ErrorOut, 404: ErrorOut, 422: ErrorOut}


class _OfSession(Schema):
    session_id: str


class _NewEvalSet(_OfSession):
    eval_set_id: str


class _Evaluation(Schema):
    """Every complete session is compared with the golden one."""

    model_config = ConfigDict(extra="forbid")

    golden_session_id: str
    eval_set_id: str
    evaluators: list[EvaluatorSettings] = Field(default_factory=lambda: EvalParams().evaluators)


class _Preparation(Schema):
    golden_session_id: str
    session_ids: list[str]


# ── Sessions ───────────────────────────────────────────────────────────────
@router.get(
    "/sessions", auth=may_view, response={200: dict[str, Any], **_ERRORS}, summary="List live sessions"
)
def list_sessions(request: ApiRequest) -> HttpResponse:
    """The hundred newest."""
    now = timezone.now()
    return _answer(
        [
            {
                "sessionId": live.key,
                "traceId": live.trace_id,
                "evalSetId": live.eval_set_id,
                "spanCount": live.span_count,
                "isComplete": live.is_complete(now),
                "startedAt": live.started_at.isoformat(),
                "metadata": live.metadata,
            }
            for live in sessions(request.auth)
        ]
    )


@router.get(
    "/sessions/{path:live_key}/otlp",
    auth=may_view,
    response={200: dict[str, Any], **_ERRORS},
    summary="Get a session's spans",
)
def get_otlp(request: ApiRequest, live_key: str) -> HttpResponse:
    """As one OTLP JSON document, without an envelope. Every resource names the session."""
    return JsonResponse(_document(_session(request.auth, live_key)))


@router.post(
    "/get-trace",
    auth=may_view,
    response={200: dict[str, Any], **_ERRORS},
    openapi_extra=body_of(_OfSession),
    summary="Get a session's spans as a text",
)
def get_trace(request: ApiRequest) -> HttpResponse:
    asked = read_body(request, _OfSession)
    live = _session(request.auth, asked.session_id)
    content = json.dumps(_document(live))
    return _answer({"sessionId": live.key, "traceContent": content, "numSpans": live.span_count})


@router.post(
    "/create-eval-set",
    auth=may_view,
    response={200: dict[str, Any], 400: ErrorOut, **_ERRORS},
    openapi_extra=body_of(_NewEvalSet),
    summary="Make an eval set of a session",
)
def create_eval_set(request: ApiRequest) -> HttpResponse:
    """It expects what was said and done in the session."""
    asked = read_body(request, _NewEvalSet)
    eval_set = _eval_set(_session(request.auth, asked.session_id), asked.eval_set_id)
    return _answer({"evalSet": eval_set, "numInvocations": len(eval_set["eval_cases"][0]["conversation"])})


# ── Evaluating them ────────────────────────────────────────────────────────
@router.post(
    "/evaluate-sessions",
    auth=may_submit,
    response={200: dict[str, Any], 400: ErrorOut, 503: ErrorOut, **_ERRORS},
    openapi_extra=body_of(_Evaluation),
    summary="Compare all complete sessions with one, and wait",
)
def evaluate_sessions(request: ApiRequest) -> HttpResponseBase:
    """One evaluation, recorded as a run; each session is an item of it."""
    asked = read_body(request, _Evaluation)
    golden = _session(request.auth, asked.golden_session_id, "Golden session not found")
    eval_set = _eval_set(golden, asked.eval_set_id)
    now = timezone.now()
    complete = [live for live in sessions(request.auth) if live.is_complete(now)]
    try:
        results = _evaluated(request.auth, complete, eval_set, asked.evaluators) if complete else []
    except evaluate.CannotEvaluate as refused:
        raise HttpError(400, str(refused)) from None
    except evaluate.UNAVAILABLE as error:
        return errors.unavailable(request, str(error))
    return _answer({"goldenSessionId": golden.key, "evalSetId": asked.eval_set_id, "results": results})


@router.post(
    "/prepare-evaluation",
    auth=may_view,
    response={200: dict[str, Any], 400: ErrorOut, **_ERRORS},
    openapi_extra=body_of(_Preparation),
    summary="Say where to download sessions and an eval set",
)
def prepare_evaluation(request: ApiRequest) -> HttpResponse:
    """Sessions that are not there, or not complete, are left out."""
    asked = read_body(request, _Preparation)
    golden = _session(request.auth, asked.golden_session_id, "Golden session not found")
    _eval_set(golden, golden.key)
    now = timezone.now()
    found = (_found(request.auth, key) for key in asked.session_ids)
    names = [_file_name(_TRACES, live.key) for live in found if live and live.is_complete(now)]
    return _answer(
        {
            "evalSetUrl": f"/api/streaming/download/{_file_name(_EVAL_SET, golden.key)}",
            "traceUrls": [f"/api/streaming/download/{name}" for name in names],
            "numTraces": len(names),
        }
    )


@router.get(
    "/download/{filename}",
    auth=may_view,
    response={200: dict[str, Any], **_ERRORS},
    summary="Download what was prepared",
)
def download(request: ApiRequest, filename: str) -> HttpResponse:
    """The file as it would be now: its name says of which session it is."""
    prefix = next((one for one in (_EVAL_SET, _TRACES) if filename.startswith(one)), None)
    key = _key_in(filename.removeprefix(prefix)) if prefix else None
    live = _found(request.auth, key) if key is not None else None
    if live is None:
        raise HttpError(404, "File not found")
    content = _eval_set(live, f"golden_{live.key}") if prefix == _EVAL_SET else _document(live)
    answer = JsonResponse(content)
    answer["Content-Disposition"] = f'attachment; filename="{filename}"'
    return answer


# ── Live ───────────────────────────────────────────────────────────────────
@access.token_only
@require_safe
def ui_updates(request: HttpRequest) -> HttpResponseBase:
    """Server-sent events: every session, then that this was all, then each one that changes."""
    try:
        token = may_view(request)
    except HttpError as refused:
        return errors.response(request, refused.status_code, str(refused))
    if not isinstance(token, Token):
        answer = errors.response(request, 401, "Send a good token as 'Authorization: Bearer <token>'.")
        answer["WWW-Authenticate"] = "Bearer"
        return answer
    return evaluate.streamed_events(request, _updates(token))


def looks() -> Iterator[None]:
    """When to look again, for as long as somebody listens and this server runs."""
    yield
    while streams.pause(LOOK_EVERY):
        yield


def _updates(caller: Token) -> Iterator[bytes]:
    seen: dict[str, tuple[Any, ...]] = {}
    synced, spoke = False, time.monotonic()
    for _ in looks():
        try:
            for event in _news(caller, seen):
                yield _event(event)
                spoke = time.monotonic()
        except (DatabaseError, PoolTimeout):  # the page asks again by itself
            return
        finally:
            streams.let_go()
        if not synced:
            synced = True
            yield _event({"synced": {}})
        if time.monotonic() - spoke > evaluate.KEEPALIVE:
            spoke = time.monotonic()
            yield b": keepalive\n\n"


def _news(caller: Token, seen: dict[str, tuple[Any, ...]]) -> list[dict[str, Json]]:
    """What differs from what was `seen`, which is true afterwards."""
    now = timezone.now()
    there = {live.key: live for live in sessions(caller)}
    events: list[dict[str, Json]] = []
    for key, live in there.items():
        complete = live.is_complete(now)
        state = (complete, *((trace.pk, trace.span_count) for trace in live.traces))
        if seen.get(key) != state:
            seen[key] = state
            events.append({"upsert": session_view(live, _shown_traces(live), complete=complete)})
    for key in set(seen) - set(there):
        del seen[key]
        events.append({"removed": {"id": key}})
    return events


def _event(value: Json) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def _shown_traces(live: LiveSession) -> list[Trace]:
    return _traces(otlp_of(live)) if live.span_count <= MOST_SPANS else []


# ── Of one session ─────────────────────────────────────────────────────────
def _session(caller: Token, key: str, otherwise: str = _NO_SESSION) -> LiveSession:
    live = _found(caller, key)
    if live is None:
        raise HttpError(404, otherwise)
    return live


def _found(caller: Token, key: str) -> LiveSession | None:
    """None also for what cannot be a key: PostgreSQL must not be asked for it."""
    return session_of(caller, key) if clean_text(key) == key else None


def _document(live: LiveSession, **stamps: str) -> dict[str, Json]:
    """Its spans; every resource has the session's name, and `stamps` in the place of what it had."""
    document = otlp_of(live)
    for block in (*document.get("resourceSpans", ()), *document.get("resourceLogs", ())):
        resource = block.setdefault("resource", {})
        attributes = [one for one in _attributes(resource) if one["key"] not in stamps]
        is_named = any(one["key"] == SESSION_NAME for one in attributes)
        told = stamps if is_named else {SESSION_NAME: live.key, **stamps}
        stamped = [{"key": key, "value": {"stringValue": value}} for key, value in told.items()]
        resource["attributes"] = attributes + stamped
    return document


def _attributes(resource: dict[str, Any]) -> list[dict[str, Json]]:
    """As a list that has a key in each entry, which is not all that is taken: see runs.traces.otlp."""
    sent = resource.get("attributes")
    if isinstance(sent, dict):
        told = attributes_of(sent)
        return [{"key": key, "value": {"stringValue": scalar_text(one)}} for key, one in told.items()]
    return [one for one in items(sent) if isinstance(one, dict) and isinstance(one.get("key"), str)]


def _traces(document: Json) -> list[Trace]:
    return sorted(read_traces(document, "otlp-json"), key=lambda trace: trace.start)


def _eval_set(live: LiveSession, eval_set_id: str) -> dict[str, Any]:
    drafts = drafts_of_group(_traces(otlp_of(live)))
    if not drafts:
        raise HttpError(400, "No turns found in session")
    return eval_set_of(eval_set_id, drafts)


def _evaluated(
    caller: Token,
    chosen: Sequence[LiveSession],
    eval_set: dict[str, Any],
    evaluators: list[EvaluatorSettings],
) -> list[dict[str, Json]]:
    """Each session is a conversation of its own, and is for the one case of the golden session."""
    case_id = eval_set["eval_cases"][0]["eval_id"]
    blocks: dict[str, list[Any]] = {}
    for live in chosen:
        for name, found in _document(live, **{SESSION_NAME: live.key, CASE_ID: case_id}).items():
            blocks.setdefault(name, []).extend(found)
    asked = evaluate.Asked(
        document=blocks,
        traces=read_traces(blocks, "otlp-json"),
        params=EvalParams(evaluators=evaluators, group_by="conversation"),
        eval_set=eval_set,
        files=[live.key for live in chosen],
        trace_format="otlp-json",
    )
    begun, progress = evaluate.evaluated(caller, asked)
    by_item = {item.group.key: item for item in begun.items}
    results = evaluate.by_item(progress.results) if progress else {}
    why = (progress.run.error if progress else None) or "No trace results"
    return [_of_session(live.key, by_item.get(live.key), results.get(live.key, []), why) for live in chosen]


def _of_session(key: str, item: Any, results: Sequence[Any], why: str) -> dict[str, Json]:
    told: dict[str, Json] = {"sessionId": key}
    if item is None or not results:
        return told | dict.fromkeys(("traceId", "numInvocations", "metricResults")) | {"error": why}
    shown = ("metricName", "score", "evalStatus", "error", "perInvocationScores")
    metrics = [(metric_result(result), result.full_details or None) for result in results]
    return told | {
        "traceId": item.group.trace_ids[0],
        "numInvocations": len(item.group.turns),
        "metricResults": [
            {**{name: metric[name] for name in shown}, "details": details} for metric, details in metrics
        ],
        "error": None,
    }


def _file_name(prefix: str, key: str) -> str:
    return f"{prefix}{base64.urlsafe_b64encode(key.encode()).decode().rstrip('=')}.json"


def _key_in(name: str) -> str | None:
    encoded = name.removesuffix(".json")
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except (binascii.Error, UnicodeError, ValueError):
        return None


def _answer(data: Json) -> JsonResponse:
    return JsonResponse({"data": data, "error": None})
