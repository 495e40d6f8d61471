"""`/api/evaluate` and its streams: agentevals' API for an evaluation that the caller waits for
(CONTRACTS.md 1.9). Our worker does it, through the queue, so that it is in the history from its first
moment; a caller that goes away leaves it as it is."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils import timezone
from ninja import Router, Schema
from ninja.errors import HttpError
from psycopg_pool import PoolTimeout
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from runs import errors, streams
from runs.api.bodies import read_body
from runs.api.docs import body_of, form_of
from runs.api.following import Progress, TookTooLong, follow
from runs.api.run_result import Item, camel, items_of, run_result, trace_result
from runs.api.schemas import ErrorOut
from runs.api.strict_json import JsonError, read_json
from runs.api.token_auth import ApiRequest, TokenAuth
from runs.api.uploads import parse_eval_set_file, read_eval_set_file, read_trace_files, text_field
from runs.evaluators import EvalConfigError, EvalParams, EvalSetError, parse_eval_set, validate_eval_config
from runs.evaluators.registry import FOR_ENGINE
from runs.exact import Json, clean_text, split_exact
from runs.models import Action, Result, Run, Token
from runs.models.queue_view import somebody_can
from runs.submission import Free, SubmissionError, normalised_spec, submit
from runs.traces import Trace, TraceError, group_turns, read_traces
from runs.traces.otlp import is_export
from runs.traces.performance import metadata_of

router = Router(tags=["agentevals"], by_alias=True)
may_submit = TokenAuth(Action.SUBMIT)

MAX_JSON = 50 * 2**20  # bytes
PRIORITY = 10  # somebody waits for it
UNAVAILABLE = (streams.NoPlace, TookTooLong)
KEEPALIVE = 15.0  # seconds of silence after which a stream says that it is there

# Of a form's `config`: what names files on the disk of the one who asks, and how a terminal shows the result.
_NOT_OURS = ("traceFiles", "evalSetFile", "outputFormat", "trace_files", "eval_set_file", "output_format")
_FILES = ("trace_files",)
_FIELDS = ("config", "eval_set_file?", "credential_refs?")
_ERRORS: dict[int, type] = {400: ErrorOut, 401: ErrorOut, 403: ErrorOut, 422: ErrorOut, 503: ErrorOut}


class _JsonBody(Schema):
    """Traces, and how to evaluate them."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    traces: Free = Field(description="OTLP JSON, or Tempo's.")
    config: EvalParams = Field(default_factory=EvalParams)
    eval_set: Free | None = None
    credential_refs: dict[str, Free] | None = None


@dataclass(slots=True)
class Asked:
    """What is to be evaluated and how; `problems` are what was wrong with files that could not be read."""

    document: dict[str, Any]
    traces: Sequence[Trace]
    params: EvalParams
    eval_set: dict[str, Json] | None = None
    credential_refs: dict[str, Json] | None = None
    files: Sequence[str] = ()
    trace_format: str | None = None
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Begun:
    """An evaluation that is recorded, and what is known of it beforehand."""

    run_id: UUID
    items: Sequence[Item]
    problems: Sequence[str]


class CannotEvaluate(Exception):
    """What was sent cannot be evaluated; the text is for whoever sent it."""


# ── Forms ──────────────────────────────────────────────────────────────────
@router.post(
    "",
    auth=may_submit,
    response={200: dict[str, Any], **_ERRORS},
    openapi_extra=form_of(_FILES, _FIELDS),
    summary="Evaluate trace files, and wait",
)
def evaluate_files(request: ApiRequest) -> HttpResponseBase:
    """Traces that cannot be read are told of in `errors`; what could be read is evaluated."""
    try:
        asked = _asked_by_form(request)
    except CannotEvaluate as refused:
        raise HttpError(400, str(refused)) from None
    return _waited_for(request, asked)


@router.post(
    "/stream",
    auth=may_submit,
    response={200: str, **_ERRORS},
    openapi_extra=form_of(_FILES, _FIELDS),
    summary="Evaluate trace files, and follow it",
)
def stream_files(request: ApiRequest) -> HttpResponseBase:
    """Server-sent events: the figures of each group, what is done, each group's results as they arrive, and
    at last the result of `/api/evaluate` or an error."""
    try:
        asked = _asked_by_form(request)
    except (CannotEvaluate, HttpError) as refused:
        return streamed_events(request, iter([_data({"error": str(refused)})]))
    return _followed(request, asked)


# ── JSON ───────────────────────────────────────────────────────────────────
@router.post(
    "/json",
    auth=may_submit,
    response={200: dict[str, Any], 413: ErrorOut, **_ERRORS},
    openapi_extra=body_of(_JsonBody),
    summary="Evaluate OTLP JSON, and wait",
)
def evaluate_json(request: ApiRequest) -> HttpResponseBase:
    try:
        asked = _asked_by_json(request)
    except CannotEvaluate as refused:
        raise HttpError(400, str(refused)) from None
    return _waited_for(request, asked)


@router.post(
    "/json/stream",
    auth=may_submit,
    response={200: str, 413: ErrorOut, **_ERRORS},
    openapi_extra=body_of(_JsonBody),
    summary="Evaluate OTLP JSON, and follow it",
)
def stream_json(request: ApiRequest) -> HttpResponseBase:
    """The events of `/api/evaluate/stream`."""
    try:
        asked = _asked_by_json(request)
    except CannotEvaluate as refused:
        return streamed_events(request, iter([_data({"error": str(refused)})]))
    return _followed(request, asked)


# ── Beginning ──────────────────────────────────────────────────────────────
def begin(caller: Token, asked: Asked) -> Begun:
    """Queues the evaluation; one of which nothing can be read is recorded as failed.

    Raises CannotEvaluate.
    """
    spec = {
        "target": _target(asked),
        "evalSet": asked.eval_set,
        "evalConfig": asked.params.model_dump(),
        "credentialRefs": asked.credential_refs,
        "engine": _engine(asked.params),
    }
    try:
        if not asked.traces:
            return _record_unreadable(caller, asked, spec)
        eval_set = parse_eval_set(asked.eval_set)
        multi_turn = eval_set is not None and eval_set.multi_turn
        groups = group_turns(list(asked.traces), asked.params.group_by, multi_turn=multi_turn)
        run = submit(caller.owner, {"spec": spec}, priority=PRIORITY)
    except SubmissionError as error:
        raise CannotEvaluate(str(error)) from None
    return Begun(run.pk, items_of(groups, asked.traces, eval_set), asked.problems)


def result_of(begun: Begun, progress: Progress | None) -> dict[str, Json]:
    """The RunResult of an evaluation that has ended; of None, the run is gone.

    Raises CannotEvaluate where the credentials that it names cannot be had.
    """
    if progress is None:
        return _result(begun, {}, None, ["the run was deleted before it had ended"])
    run = progress.run
    if run.summary is None and (run.error or "").startswith("credential "):
        raise CannotEvaluate(f"Could not resolve credentialRefs: {run.error}")
    summary = run.summary or {
        "errors": [run.error or f"the run was {run.status}"],
        "performance_metrics": None,
    }
    return _result(begun, by_item(progress.results), summary["performance_metrics"], summary["errors"])


def _result(
    begun: Begun, results: Mapping[str, Sequence[Result]], performance: Json, problems: Sequence[str]
) -> dict[str, Json]:
    """Of a run that ended before it was at them, nothing is told of the groups."""
    items = begun.items if results else ()
    return run_result(items, results, performance=performance, errors=problems, run_id=str(begun.run_id))


def _record_unreadable(caller: Token, asked: Asked, spec: dict[str, Json]) -> Begun:
    """Nothing is there to be done, so it has ended already."""
    problems = [*asked.problems, "No traces loaded."]
    now = timezone.now()
    summary = {
        "trace_count": 0,
        "result_counts": dict.fromkeys(Result.Status.values, 0),
        "per_metric": {},
        "agents": [],
        "errors": problems,
        "performance_metrics": None,
    }
    run = Run.objects.record_past(
        caller.owner,
        Run.Status.FAILED,
        created_at=now,
        kind=Run.Kind.EVALUATION,
        spec=normalised_spec(spec),
        title=clean_text(", ".join(asked.files))[:200],
        attempt=1,
        started_at=now,
        finished_at=now,
        summary=split_exact(summary)[0],
        error=clean_text("; ".join(problems[:3])),
    )
    return Begun(run.pk, (), problems)


def _target(asked: Asked) -> dict[str, Json]:
    target: dict[str, Json] = {
        "kind": "uploaded",
        "inline": asked.document or None,
        "traceFormat": asked.trace_format,
        "traceCount": len(asked.files),
        "traceFiles": list(asked.files),
    }
    return target | ({"unread": asked.problems} if asked.problems else {})


def _engine(params: EvalParams) -> str | None:
    """agentevals itself where it alone has an evaluator that is asked for, and a worker has it."""
    builtin = [one.name for one in params.evaluators if one.type == "builtin"]
    if FOR_ENGINE.isdisjoint(builtin) or len(builtin) < len(params.evaluators):
        return None
    return "agentevals" if somebody_can("agentevals") else None


# ── Waiting ────────────────────────────────────────────────────────────────
def evaluated(caller: Token, asked: Asked) -> tuple[Begun, Progress | None]:
    """The evaluation as it ended; None where it was deleted meanwhile.

    It takes a place among the streams: all threads of this process might wait otherwise.
    Raises CannotEvaluate, and one of UNAVAILABLE.
    """
    with streams.place():
        begun = begin(caller, asked)
        streams.let_go()
        last = None
        for progress in follow(begun.run_id, caller):
            last = progress or last
    return begun, last if last and last.run.is_final else None


def _waited_for(request: ApiRequest, asked: Asked) -> HttpResponseBase:
    try:
        return _answer(result_of(*evaluated(request.auth, asked)))
    except CannotEvaluate as refused:
        raise HttpError(400, str(refused)) from None
    except UNAVAILABLE as error:
        return errors.unavailable(request, str(error))


def _followed(request: ApiRequest, asked: Asked) -> HttpResponseBase:
    """Begun by the stream itself, once it has a place: who is told to try again would begin another one."""
    return streamed_events(request, _events(request.auth, asked))


def streamed_events(request: HttpRequest, events: Iterator[bytes]) -> HttpResponseBase:
    """Server-sent events, as a stream that counts among MAX_STREAMS."""
    response = streams.streamed(request, events, "text/event-stream")
    if response.streaming:
        response["Cache-Control"] = "no-cache"
    return response


def _events(caller: Token, asked: Asked) -> Iterator[bytes]:
    try:
        begun = begin(caller, asked)
    except CannotEvaluate as refused:
        yield _data({"error": str(refused)})
        return
    except (DatabaseError, PoolTimeout):
        yield _data({"error": "The database does not answer. Try again in a few seconds."})
        return
    finally:
        streams.let_go()
    del asked  # it may be large, and this may take long
    for item in begun.items:
        yield b"event: performance_metrics\n" + _data(_known(item))
    try:
        yield from _progress(begun, caller)
    except (TookTooLong, CannotEvaluate) as error:
        yield _data({"error": str(error)})
    except (DatabaseError, PoolTimeout):
        yield _data({"error": f"The database does not answer. Ask for the run at /api/runs/{begun.run_id}."})


def _progress(begun: Begun, caller: Token) -> Iterator[bytes]:
    number = len(begun.items)
    if number:
        yield _data({"message": f"Evaluating {number} trace{'' if number == 1 else 's'}..."})
    told: dict[str, int] = {}
    last, silent_since = None, time.monotonic()
    for progress in follow(begun.run_id, caller):
        if progress:
            last = progress
            for event in _news(begun.items, by_item(progress.results), told):
                yield event
                silent_since = time.monotonic()
        if time.monotonic() - silent_since > KEEPALIVE:
            silent_since = time.monotonic()
            yield b": keepalive\n\n"
    result = result_of(begun, last if last and last.run.is_final else None)
    if number:
        yield _data({"message": "Evaluation complete"})
    yield _data({"done": True, "result": result})


def _news(
    items: Sequence[Item], results: Mapping[str, Sequence[Result]], told: dict[str, int]
) -> Iterator[bytes]:
    """Of each group that has more results than were told, all of them."""
    for place, item in enumerate(items, 1):
        key, found = item.group.key, results.get(item.group.key, ())
        if len(found) <= told.get(key, 0):
            continue
        if key not in told:
            yield _data(
                {"message": f"Trace {place}/{len(items)}: {key[:12]}{'...' if len(key) > 12 else ''}"}
            )
        told[key] = len(found)
        partial = trace_result(item, found)
        yield _data({"traceProgress": {"traceId": partial["traceId"], "partialResult": partial}})


def _known(item: Item) -> dict[str, Json]:
    return {
        "traceId": item.group.trace_ids[0],
        "performanceMetrics": camel(item.performance),
        "traceMetadata": camel(metadata_of(item.traces)),
    }


def by_item(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results by the id of their item."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.item_id, []).append(result)
    return found


# ── Reading ────────────────────────────────────────────────────────────────
def _asked_by_form(request: HttpRequest) -> Asked:
    """Raises CannotEvaluate, uploads.MissingField and HttpError."""
    config = _config(text_field(request, "config"))
    named, other = config.pop("traceFormat", None), config.pop("trace_format", None)
    trace_format = named or other
    traces = read_trace_files(request, trace_format)
    eval_set_file = read_eval_set_file(request)
    asked = Asked(
        document=traces.document,
        traces=traces.found,
        params=_params(config),
        credential_refs=_credential_refs(request.POST.get("credential_refs")),
        files=traces.files,
        trace_format=trace_format if traces.document else None,
        problems=[f"Failed to load trace file '{name}': {why}" for name, why in traces.problems],
    )
    if eval_set_file:
        _take_eval_set(asked, *eval_set_file)
    return asked


def _take_eval_set(asked: Asked, name: str, content: bytes) -> None:
    """One that cannot be read is an error of the evaluation, which goes on without it."""
    try:
        asked.eval_set = parse_eval_set_file(content)
    except ValueError as error:
        asked.problems.append(f"Failed to load eval set '{name}': {error}")


def _config(text: str) -> dict[str, Any]:
    try:
        config = read_json(text.encode("utf-8", "surrogatepass"))
    except JsonError as error:
        raise CannotEvaluate(f"Invalid config JSON: {error}") from None
    if not isinstance(config, dict):
        raise CannotEvaluate('Invalid config: it must be a JSON object, such as {"evaluators": [...]}')
    return {key: value for key, value in config.items() if key not in _NOT_OURS}


def _params(config: dict[str, Any]) -> EvalParams:
    try:
        return validate_eval_config(config)
    except EvalConfigError as error:
        raise CannotEvaluate(str(error).replace("Invalid eval_config", "Invalid config", 1)) from None


def _credential_refs(text: str | None) -> dict[str, Json] | None:
    if not text:
        return None
    try:
        refs = read_json(text.encode("utf-8", "surrogatepass"))
    except JsonError as error:
        raise CannotEvaluate(f"Invalid credentialRefs: {error}") from None
    if not isinstance(refs, dict) or not all(isinstance(ref, dict) for ref in refs.values()):
        raise CannotEvaluate("Invalid credentialRefs: each name needs a reference, an object, of its own")
    return _resolvable(refs)


def _resolvable(refs: dict[str, Any] | None) -> dict[str, Json] | None:
    """As far as a web process can tell: the values are the worker's."""
    for name, ref in (refs or {}).items():
        if ref.get("kind") != "env" or not isinstance(ref.get("name"), str):
            raise CannotEvaluate(f"Could not resolve credentialRefs: {name} needs kind 'env' and a name")
        if ref["name"] not in settings.SPEC_ENV_ALLOW:
            raise CannotEvaluate(
                f"Could not resolve credentialRefs: {name}: the environment variable {ref['name']!r} is not"
                " in SPEC_ENV_ALLOW"
            )
    return refs


def _asked_by_json(request: HttpRequest) -> Asked:
    """Raises CannotEvaluate, Unreadable and HttpError."""
    if len(request.body) > MAX_JSON:
        raise HttpError(413, f"Request body exceeds {MAX_JSON // 2**20}MB limit")
    body = read_body(request, _JsonBody)
    if not is_export(body.traces):
        raise CannotEvaluate("traces is no OTLP JSON: it has neither resourceSpans nor batches")
    try:
        traces = read_traces(body.traces, "otlp-json")
        parse_eval_set(body.eval_set or None)
    except TraceError as error:
        raise CannotEvaluate(f"Invalid traces: {error}") from None
    except EvalSetError as error:
        raise CannotEvaluate(f"Invalid eval set: {error}") from None
    if not traces:
        raise CannotEvaluate("No traces found in OTLP JSON")
    return Asked(
        document=body.traces,
        traces=traces,
        params=_params(body.config.model_dump()),
        eval_set=body.eval_set or None,
        credential_refs=_resolvable(body.credential_refs),
    )


# ── Answering ──────────────────────────────────────────────────────────────
def _answer(data: Json) -> JsonResponse:
    return JsonResponse({"data": data, "error": None})


def _data(value: Json) -> bytes:
    """One event; ASCII, so that what JSON can say that UTF-8 cannot gets through as well."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
