"""Submitting an evaluation: the one way in for API, pages and the demo (CONTRACTS.md 1.2)."""

import re
from typing import Annotated, Any, Literal
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from runs.evaluators import EvalConfigError, validate_eval_config
from runs.exact import Json, clean_text
from runs.models import Owner, Run, Session
from runs.models.session import KEY_LENGTH
from runs.query import QueryError, parse

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

    kind: Literal["inline", "http", "uploaded", "run", "session", "filter"]
    inline: Free | None = Field(None, description="The trace document itself: Jaeger JSON or OTLP JSON.")
    base_url: str | None = Field(None, description="`http`: the document is at `{baseUrl}/{traceId}`.")
    trace_id: str | None = Field(None, description="`http`: 16 or 32 hexadecimal digits.")
    trace_format: Literal["jaeger-json", "otlp-json"] | None = Field(None, description="Null: found out.")
    trace_count: int | None = None
    trace_files: list[str] | None = None
    run_id: UUID | None = Field(None, description="`run`: the run recorded here whose history is judged.")
    session_id: UUID | None = Field(None, description="`session`: the session that is judged as a whole.")
    query: str | None = Field(None, description="`filter`: every run that this query finds is an item.")


class Retry(_Body):
    """Whether an evaluation that fails is tried again."""

    model_config = ConfigDict(extra="forbid")

    max: int = Field(ge=0, le=20, strict=True, description="Further tries after the first.")
    backoff: float = Field(1.0, ge=0, le=3600, description="Seconds before the first of them; then doubled.")


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
    retry: Retry | None = Field(None, description="Null: an evaluation that fails is not tried again.")
    priority: int | None = Field(
        None, ge=-1000, le=1000, strict=True, description="Higher goes first among your own runs."
    )
    engine: Literal["runfolio", "agentevals"] | None = Field(
        None, description="Who evaluates: Runfolio, or agentevals where a worker has it."
    )


# What only Runfolio knows: agentevals' users get back just what they know, unless they ask for it.
_OURS = ("run_id", "session_id", "query", "retry", "priority", "engine")


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


def submit(owner: Owner, body: Json, priority: int = 0) -> Run:
    """Queues the evaluation that `body` asks for: `{"runId": optional, "spec": {...}}`. `priority` is that
    of a spec that names none.

    Raises SubmissionError, or SpecConflict where the run id is taken by another spec.
    """
    submission = _parse(body)
    spec = _normalised(submission.spec)
    judged = _check_target(owner, submission.spec)
    _check_eval_config(submission.spec.eval_config)
    session = _session(owner, spec["context"])
    if isinstance(judged, Run):
        session = session or judged.session
    elif isinstance(judged, Session):
        session = session or judged
    return Run.objects.submit(
        owner,
        spec,
        run_id=submission.run_id,
        title=_title(spec) or _title_of(judged),
        session=session,
        priority=priority if submission.spec.priority is None else submission.spec.priority,
        judged=judged.pk if isinstance(judged, Run) else None,
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
    whole = {
        **_fields(spec),
        "target": _fields(spec.target),
        "credentialRefs": None if refs is None else {name: _fields(ref) for name, ref in refs.items()},
    }
    return whole if spec.retry is None else {**whole, "retry": _fields(spec.retry)}


def _fields(model: BaseModel) -> dict[str, Json]:
    given = {name: getattr(model, name) for name in type(model).model_fields}
    known = {to_camel(name): value for name, value in given.items() if value is not None or name not in _OURS}
    plain = {name: str(value) if isinstance(value, UUID) else value for name, value in known.items()}
    return {**plain, **(model.model_extra or {})}


def _check_target(owner: Owner, spec: RunSpec) -> Run | Session | None:
    """What is judged, where that is one thing that is recorded here."""
    target = spec.target
    if target.kind == "http" and not _TRACE_ID.fullmatch(target.trace_id or ""):
        raise SubmissionError("target.trace_id must be 16 or 32 hex characters", "spec.target.traceId")
    if target.kind not in ("run", "session", "filter"):
        return None
    if spec.engine == "agentevals":
        raise SubmissionError(
            "engine agentevals evaluates traces: give them inline or by http", "spec.engine"
        )
    if target.kind == "filter":
        _check_query(target.query)
        return None
    if target.kind == "run":
        return _recorded(Run.objects.filter(kind=Run.Kind.TASK), owner, target.run_id, "runId", "task")
    return _recorded(Session.objects.all(), owner, target.session_id, "sessionId", "session")


def _recorded[Row: (Run, Session)](
    rows: QuerySet[Row], owner: Owner, given: UUID | None, name: str, what: str
) -> Row:
    if given is None:
        raise SubmissionError(
            f"target.{name} is missing: it says which {what} is judged", f"spec.target.{name}"
        )
    row = rows.filter(pk=given, owner=owner, deleted_at=None).first()
    if row is None:
        raise SubmissionError(f"target.{name}: there is no {what} {given}", f"spec.target.{name}")
    return row


def _check_query(query: str | None) -> None:
    if query is None:
        raise SubmissionError("target.query is missing: it says which runs are judged", "spec.target.query")
    try:
        parse(query, timezone.now())
    except QueryError as error:
        raise SubmissionError(f"target.query: {error}", "spec.target.query") from None


def _title_of(judged: Run | Session | None) -> str:
    return "" if judged is None else f"Evaluation of {judged}"[:200]


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
    names = [eval_set.get(key) for key in ("name", "eval_set_id", "evalSetId")]
    if spec["target"]["kind"] == "filter":
        names.append(spec["target"]["query"].strip() or "all runs")
    name = next((name for name in names if isinstance(name, str) and name.strip()), None)
    if name is None:
        return ""
    evaluators = spec["evalConfig"].get("evaluators")
    count = len(evaluators) if isinstance(evaluators, list) else 1
    return f"{name} × {count} evaluator{'' if count == 1 else 's'}"
