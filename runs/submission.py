"""Submitting an evaluation: the one way in for API, pages and the demo (CONTRACTS.md 1.2)."""

import re
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from runs.evaluators import EvalConfigError, validate_eval_config
from runs.exact import Json, clean_text
from runs.models import Owner, Run, Session
from runs.models.session import KEY_LENGTH

SESSION_SOURCE = "api"
_TRACE_ID = re.compile(r"(?:[0-9a-fA-F]{16}|[0-9a-fA-F]{32})")

# Free dictionaries are passed through untouched: no key or value of them is looked at.
type Free = dict[Any, Any]


class _Body(BaseModel):
    """camelCase and snake_case in, camelCase out."""

    model_config = ConfigDict(alias_generator=AliasGenerator(alias=to_camel), populate_by_name=True)


class CredentialRef(_Body):
    """Where the worker finds a credential: in a variable of its environment."""

    kind: Literal["env"] = "env"
    name: str


class TraceTarget(_Body):
    """Where the traces to evaluate are."""

    model_config = ConfigDict(extra="allow")

    kind: Literal["inline", "http", "uploaded"]
    inline: Free | None = Field(None, description="The trace document itself: Jaeger JSON or OTLP JSON.")
    base_url: str | None = Field(None, description="`http`: the document is at `{baseUrl}/{traceId}`.")
    trace_id: str | None = Field(None, description="`http`: 16 or 32 hexadecimal digits.")
    trace_format: Literal["jaeger-json", "otlp-json"] | None = Field(None, description="Null: found out.")
    trace_count: int | None = None
    trace_files: list[str] | None = None


class RunSpec(_Body):
    """What to evaluate and how. Unknown keys are kept, and count when two specs are compared."""

    model_config = ConfigDict(extra="allow")

    approach: Literal["trace_replay"] = "trace_replay"
    target: TraceTarget
    eval_set: Free | None = Field(None, description="An ADK EvalSet; looked at by the worker.")
    eval_config: Free = Field(default_factory=dict, description="Which evaluators, with what thresholds.")
    sinks: list[Free] = Field(default_factory=list)
    context: Free = Field(
        default_factory=dict,
        description="`headers` go with an http fetch; `session` names the session that the run belongs to.",
    )
    credential_refs: dict[str, CredentialRef] | None = None


class RunSubmission(_Body):
    """The body of POST /api/runs."""

    run_id: UUID | None = Field(None, description="Chosen by the client, so that a retry is harmless.")
    spec: Annotated[RunSpec, Field(description="What to evaluate and how.")]


class SubmissionError(ValueError):
    """The body is not a submission.

    errors: where the shape is wrong, pydantic's list, with `loc` from the body's top; else None, and the
        text says it all.
    field: a dotted path to blame, such as `spec.target.kind`.
    """

    def __init__(self, message: str, field: str, errors: list[dict[str, Json]] | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.errors = errors


def submit(owner: Owner, body: Json) -> Run:
    """Queues the evaluation that `body` asks for: `{"runId": optional, "spec": {...}}`.

    Raises SubmissionError, or SpecConflict where the run id is taken by another spec.
    """
    submission = _parse(body)
    spec = _normalised(submission.spec)
    _check_target(submission.spec.target)
    _check_eval_config(submission.spec.eval_config)
    return Run.objects.submit(
        owner, spec, run_id=submission.run_id, title=_title(spec), session=_session(owner, spec["context"])
    )


def normalised_spec(spec: Json) -> dict[str, Json]:
    """The spec as it is stored, every default filled in. Raises SubmissionError."""
    return _normalised(_parse({"spec": spec}).spec)


def _parse(body: Json) -> RunSubmission:
    try:
        return RunSubmission.model_validate(body)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        first = errors[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SubmissionError(f"{field or 'body'}: {first['msg']}", field, _plain(errors)) from None


def _plain(errors: Any) -> list[dict[str, Json]]:
    """Pydantic's errors as JSON; a large `input` would only send the client its own body back."""
    shown = []
    for error in errors:
        entry = {"type": error["type"], "loc": list(error["loc"]), "msg": error["msg"]}
        if isinstance(error["input"], str | int | float | bool | None):
            entry["input"] = error["input"]
        shown.append(entry)
    return shown


def _normalised(spec: RunSpec) -> dict[str, Json]:
    """The spec with every default filled in: what is stored, compared and given back.

    Free dictionaries go in as they are; pydantic's own dump would walk through them, and refuse deep ones.
    """
    refs = spec.credential_refs
    return {
        **_fields(spec),
        "target": _fields(spec.target),
        "credentialRefs": None if refs is None else {name: _fields(ref) for name, ref in refs.items()},
    }


def _fields(model: BaseModel) -> dict[str, Json]:
    known = {to_camel(name): getattr(model, name) for name in type(model).model_fields}
    return {**known, **(model.model_extra or {})}


def _check_target(target: TraceTarget) -> None:
    if target.kind == "http" and not _TRACE_ID.fullmatch(target.trace_id or ""):
        raise SubmissionError("target.trace_id must be 16 or 32 hex characters", "spec.target.traceId")


def _check_eval_config(config: Free) -> None:
    try:
        validate_eval_config(config)
    except EvalConfigError as error:
        raise SubmissionError(str(error), "spec.evalConfig") from None


def _session(owner: Owner, context: Free) -> Session | None:
    key = context.get("session")
    if not isinstance(key, str) or not key:
        return None
    if len(key) > KEY_LENGTH:
        raise SubmissionError(
            f"context.session has more than {KEY_LENGTH} characters", "spec.context.session"
        )
    return Session.objects.open(owner, SESSION_SOURCE, clean_text(key))


def _title(spec: dict[str, Json]) -> str:
    """What a list calls the run; without an eval set it is empty until the worker has read the traces."""
    eval_set = spec["evalSet"] or {}
    names = (eval_set.get(key) for key in ("name", "eval_set_id", "evalSetId"))
    name = next((name for name in names if isinstance(name, str) and name.strip()), None)
    if name is None:
        return ""
    evaluators = spec["evalConfig"].get("evaluators")
    count = len(evaluators) if isinstance(evaluators, list) else 1
    return f"{name} × {count} evaluator{'' if count == 1 else 's'}"
