"""What agentevals' page and tools ask beside evaluations: what is in trace files, which metrics there are,
whether an eval set is one (CONTRACTS.md 1.4 and 1.9)."""

import re
from typing import Any

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from ninja import Router
from ninja.errors import HttpError

from runs.api.docs import form_of
from runs.api.run_result import camel
from runs.api.schemas import ErrorOut
from runs.api.strict_json import JsonError
from runs.api.token_auth import ApiRequest, TokenAuth
from runs.api.uploads import MissingField, Traces, parse_eval_set_file, read_trace_files
from runs.evaluators import EvalSetError, evaluators
from runs.evaluators.registry import FOR_ENGINE, JUDGE
from runs.exact import Json
from runs.models import Action
from runs.models.queue_view import somebody_can
from runs.traces import GROUP_BY, Group, Trace, group_turns
from runs.traces.grouping import drafts_of_group
from runs.traces.invocations import invocations_of
from runs.traces.performance import metadata_of

router = Router(tags=["agentevals"], by_alias=True)
may_view = TokenAuth(Action.VIEW)

VERSION = "0.11.0"  # of agentevals, whose API this is

_ERRORS: dict[int, type] = {400: ErrorOut, 401: ErrorOut, 403: ErrorOut, 422: ErrorOut}
_PREFIXES = ("trace_", "agentevals_")
_SUFFIX = re.compile(r"\.jsonl?$", re.IGNORECASE)
_SHOWN_OF_A_TRACE = ("agent_name", "model", "start_time", "user_input_preview", "final_output_preview")
_UNKNOWN_OF_A_TRACE = ("agent_id", "response_model", "provider", "schema_version")

_CATEGORIES = {
    "tool_trajectory_avg_score": "trajectory",
    "tool_call_f1": "trajectory",
    "response_match_score": "response",
    "response_evaluation_score": "response",
    "response_exact_match": "response",
    "response_contains": "response",
    "response_regex": "response",
    "response_json_schema": "response",
    "final_response_match_v2": "response",
    "rubric_based_final_response_quality_v1": "quality",
    "rubric_based_tool_use_quality_v1": "quality",
    JUDGE: "quality",
    "hallucinations_v1": "safety",
    "safety_v1": "safety",
}
_NEED_EVAL_SET = {"response_evaluation_score", "final_response_match_v2"}
_NEED_LLM = {
    *("final_response_match_v2", "hallucinations_v1", JUDGE),
    *("rubric_based_final_response_quality_v1", "rubric_based_tool_use_quality_v1"),
}
_NEED_GCP = {
    *("response_evaluation_score", "safety_v1", "multi_turn_task_success_v1"),
    *("multi_turn_trajectory_quality_v1", "multi_turn_tool_use_quality_v1"),
}
_NO_RUBRICS_TAKEN = "rubric_based_multi_turn_trajectory_quality_v1"  # agentevals cannot give it any
_OF_ENGINE = {
    "final_response_match_v2": "A model judges whether the answer says what the expected one says.",
    "hallucinations_v1": "A model looks for claims that nothing in the conversation supports.",
    "inference_call_count_v1": "How many calls of a model a turn took.",
    "invocation_duration_v1": "How long a turn took.",
    "multi_turn_task_success_v1": "Vertex AI judges whether the conversation reached its goal.",
    "multi_turn_tool_use_quality_v1": "Vertex AI judges the tool calls of the whole conversation.",
    "multi_turn_trajectory_quality_v1": "Vertex AI judges the way that the conversation took.",
    "response_evaluation_score": "Vertex AI judges how coherent the answer is, from 1 to 5.",
    "rubric_based_final_response_quality_v1": "A model checks the answer against your rubrics.",
    "rubric_based_multi_turn_trajectory_quality_v1": "A model checks the whole conversation against rubrics.",
    "rubric_based_tool_use_quality_v1": "A model checks the use of tools against your rubrics.",
    "safety_v1": "Vertex AI judges whether the answer is harmless.",
    "token_usage_v1": "How many tokens a turn took.",
    "tool_call_count_v1": "How many tool calls a turn took.",
}


@router.post(
    "/convert",
    auth=may_view,
    response={200: dict[str, Any], **_ERRORS},
    openapi_extra=form_of(("trace_files",), ("trace_format?", "group_by?")),
    summary="What is in trace files, without an evaluation",
)
def convert(request: ApiRequest) -> HttpResponse:
    """An entry for each group that an evaluation with this `group_by` would judge."""
    group_by = str(request.POST.get("group_by", "trace"))
    if group_by not in GROUP_BY:
        raise HttpError(400, "group_by must be one of trace, conversation, auto")
    try:
        traces = read_trace_files(request, str(request.POST.get("trace_format") or "") or None)
    except ValueError as error:
        raise HttpError(400, f"No traces found in uploaded files. Errors: {error}") from None
    if not traces.found:
        why = "; ".join(f"Failed to load '{name}': {problem}" for name, problem in traces.problems)
        raise HttpError(400, f"No traces found in uploaded files{f'. Errors: {why}' if why else ''}")
    by_id = {trace.trace_id: trace for trace in traces.found}
    groups = group_turns(traces.found, group_by)
    return _answer(
        {"traces": [_entry(group, [by_id[id] for id in group.trace_ids], traces) for group in groups]}
    )


@router.post(
    "/validate/eval-set",
    auth=may_view,
    response={200: dict[str, Any], **_ERRORS},
    openapi_extra=form_of((), ("eval_set_file",)),
    summary="Whether a file is an eval set",
)
def validate_eval_set(request: ApiRequest) -> HttpResponse:
    """Always 200: `valid` says whether, `errors` why not."""
    upload = request.FILES.get("eval_set_file")
    if upload is None:
        raise MissingField("eval_set_file")
    try:
        eval_set = parse_eval_set_file(upload.read())
    except (JsonError, EvalSetError) as error:
        return _answer({"valid": False, "evalSetId": None, "numCases": None, "errors": [str(error)]})
    cases = eval_set.get("eval_cases", eval_set.get("evalCases"))
    return _answer(
        {
            "valid": True,
            "evalSetId": eval_set.get("eval_set_id", eval_set.get("evalSetId")),
            "numCases": len(cases or ()),
            "errors": [],
        }
    )


@router.get("/metrics", auth=may_view, response={200: dict[str, Any], **_ERRORS}, summary="List the metrics")
def list_metrics(request: ApiRequest) -> HttpResponse:
    """Ours, and those of agentevals that a worker's engine evaluates: `working` says whether one has it."""
    has_engine = somebody_can("agentevals")
    ours = [
        _metric(about.name, about.description, needs_eval_set=about.needs_eval_case, working=True)
        for about in evaluators()
    ]
    theirs = [
        _metric(
            name,
            _OF_ENGINE[name],
            needs_eval_set=name in _NEED_EVAL_SET,
            working=has_engine and name != _NO_RUBRICS_TAKEN,
        )
        for name in sorted(FOR_ENGINE)
    ]
    return _answer(ours + theirs)


@router.get(
    "/health", auth=may_view, response={200: dict[str, Any], **_ERRORS}, summary="Whether it is there"
)
def health(request: ApiRequest) -> HttpResponse:
    return _answer({"status": "ok", "version": VERSION})


@router.get("/config", auth=may_view, response={200: dict[str, Any], **_ERRORS}, summary="What is set up")
def config(request: ApiRequest) -> HttpResponse:
    """Which keys of model providers a spec may name, and where spans are received beside this address."""
    named = set(settings.SPEC_ENV_ALLOW)
    keys = {
        "google": bool(named & {"GOOGLE_API_KEY", "GEMINI_API_KEY"}),
        "anthropic": "ANTHROPIC_API_KEY" in named,
        "openai": "OPENAI_API_KEY" in named,
    }
    return _answer({"apiKeys": keys, "otlp": None})


def _entry(group: Group, members: list[Trace], traces: Traces) -> dict[str, Json]:
    about = metadata_of(members)
    shown = {name: about[name] for name in _SHOWN_OF_A_TRACE} | dict.fromkeys(_UNKNOWN_OF_A_TRACE)
    shown["session_name"] = _session_name(traces.file_of.get(members[0].trace_id, ""))
    return {
        "traceId": members[0].trace_id,
        "traceIds": group.trace_ids,
        "invocations": camel(invocations_of(drafts_of_group(members))),
        "warnings": group.warnings,
        "metadata": camel(shown),
    }


def _session_name(file: str) -> str | None:
    """agentevals names the files that it saves of a session after the session."""
    base = _SUFFIX.sub("", file)
    return next((base.removeprefix(prefix) for prefix in _PREFIXES if base.startswith(prefix)), None)


def _metric(name: str, description: str, *, needs_eval_set: bool, working: bool) -> dict[str, Json]:
    return {
        "name": name,
        "category": _CATEGORIES.get(name, "multi-turn" if "multi_turn" in name else "other"),
        "requiresEvalSet": needs_eval_set,
        "requiresLLM": name in _NEED_LLM,
        "requiresGCP": name in _NEED_GCP,
        "requiresRubrics": name.startswith("rubric_based_"),
        "description": description,
        "working": working,
    }


def _answer(data: Json) -> JsonResponse:
    return JsonResponse({"data": data, "error": None})
