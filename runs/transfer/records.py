"""The records of an export as we take them: what a field may be, and what is too much (docs/export.md)."""

import base64
import binascii
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from runs.exact import clean_text
from runs.models import Attempt, Delivery, Result, Run, Status, Webhook
from runs.models.event import LONGEST_ID
from runs.models.run import AGENT_LENGTH
from runs.models.session import KEY_LENGTH

_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _in_time(at: datetime) -> datetime:
    if not _FIRST <= at < _LAST:
        raise ValueError("a time from 1970 to 2199 is expected")
    return at.astimezone(UTC)


def _is_text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("a time is a text such as 2026-11-21T12:00:00Z")
    return value


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("base64 is expected")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("this is not base64") from None


def _one_of(values: list[str]) -> Any:
    return Literal[tuple(values)]


type Text = Annotated[str, Field(strict=True), AfterValidator(clean_text)]
type Name = Annotated[str, Field(strict=True, max_length=300), AfterValidator(clean_text)]
type Moment = Annotated[AwareDatetime, BeforeValidator(_is_text), AfterValidator(_in_time)]
type Small = Annotated[int, Field(strict=True, ge=0, lt=2**15)]
type Count = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
type Large = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
type Number = Annotated[float, Field(allow_inf_nan=False)]
type Money = Annotated[Decimal, Field(max_digits=14, decimal_places=6, ge=0)]
type Bytes = Annotated[bytes, BeforeValidator(_bytes)]


class Record(BaseModel):
    """Fields that we do not know are of a later version, and passed over."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class Export(Record):
    """The first line."""

    format: Literal["runfolio.runs"]
    version: Literal[1]
    parts: Text


class End(Record):
    runs: Count
    lines: Large


class CriterionRecord(Record):
    key: Annotated[str, Field(pattern=r"^[-a-zA-Z0-9_]{1,100}$")]
    label: Annotated[str, Field(strict=True, min_length=1, max_length=60), AfterValidator(clean_text)]
    description: Text = ""
    position: Small = 0
    retired_at: Moment | None = None
    created_at: Moment


class SessionRecord(Record):
    id: UUID
    namespace: Annotated[str, Field(strict=True, max_length=255), AfterValidator(clean_text)] = ""
    key: Annotated[str, Field(strict=True, min_length=1, max_length=KEY_LENGTH), AfterValidator(clean_text)]
    source: Annotated[str, Field(strict=True, min_length=1, max_length=50), AfterValidator(clean_text)]
    agent: Text = ""
    title: Text = ""
    metadata: Any = None
    created_at: Moment
    started_at: Moment | None = None
    completed_at: Moment | None = None
    expires_at: Moment | None = None
    last_activity_at: Moment


class RunRecord(Record):
    id: UUID
    session: UUID | None = None
    judged: UUID | None = None
    retried: UUID | None = None
    kind: _one_of(Run.Kind.values)  # type: ignore[valid-type]
    agent: Annotated[str, Field(strict=True, max_length=AGENT_LENGTH), AfterValidator(clean_text)] = ""
    model: Name = ""
    title: Text = ""
    status: _one_of(Status.values)  # type: ignore[valid-type]
    raw_status: Text = ""
    metadata: Any = None
    summary: Any = None
    spec: dict[Any, Any] | None = None
    error: Text | None = None
    attempt: Count = 0
    worker_id: Text | None = None
    claimed_at: Moment | None = None
    lease_expires_at: Moment | None = None
    priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = 0
    crashes: Small = 0
    done_items: Count | None = None
    total_items: Count | None = None
    expires_at: Moment | None = None
    cancel_requested_at: Moment | None = None
    cancel_requested_by: Text = ""
    cancel_reason: Text = ""
    cancel_acknowledged_at: Moment | None = None
    created_at: Moment
    started_at: Moment | None = None
    finished_at: Moment | None = None
    updated_at: Moment
    size: Large
    event_count: Count
    artifact_count: Count


class EventRecord(Record):
    seq: Annotated[int, Field(strict=True, ge=1, lt=2**31)]
    event_id: Annotated[str, Field(strict=True, max_length=LONGEST_ID), AfterValidator(clean_text)] | None = (
        None
    )
    kind: Annotated[str, Field(strict=True, min_length=1, max_length=100), AfterValidator(clean_text)]
    role: Annotated[str, Field(strict=True, max_length=50), AfterValidator(clean_text)] = ""
    payload: Any = None
    occurred_at: Moment | None = None
    created_at: Moment
    input_tokens: Large | None = None
    output_tokens: Large | None = None
    cost: Money | None = None


class ArtifactRecord(Record):
    artifact_id: Annotated[str, Field(strict=True, max_length=LONGEST_ID), AfterValidator(clean_text)]
    name: Text = ""
    parts: list[Any] = []
    told: Any = None
    content: Bytes | None = None
    media_type: Annotated[str, Field(strict=True, max_length=255), AfterValidator(clean_text)] = ""
    complete: bool = True
    created_at: Moment


class ResultRecord(Record):
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    item_id: Text
    item_name: Text
    case_id: Text = ""
    question: Text = ""
    evaluator_name: Name
    evaluator_type: Annotated[str, Field(strict=True, max_length=20), AfterValidator(clean_text)]
    threshold: Number | None = None
    status: _one_of(Result.Status.values)  # type: ignore[valid-type]
    score: Number | None = None
    per_invocation_scores: Any = None
    trace_id: Text | None = None
    span_id: Text | None = None
    details: Any = None
    error: Text | None = None
    tokens: Any = None
    latency_ms: Count | None = None
    position: Count = 0
    created_at: Moment


type Rating = Annotated[int, Field(strict=True, ge=1, le=5)]


class VersionRecord(Record):
    rating: Rating | None = None
    comment: Text = ""
    metadata: Any = None
    raw: Any = None
    withdrawn: bool = False
    created_at: Moment


class FeedbackRecord(Record):
    author: Name
    author_name: Text
    criterion: Annotated[str, Field(strict=True, min_length=1, max_length=100), AfterValidator(clean_text)]
    rating: Rating | None = None
    comment: Text = ""
    metadata: Any = None
    raw: Any = None
    created_at: Moment
    updated_at: Moment
    withdrawn_at: Moment | None = None
    versions: list[VersionRecord] = []


class AttemptRecord(Record):
    number: Count
    worker_id: Text
    started_at: Moment
    ended_at: Moment | None = None
    outcome: _one_of(["", *Attempt.Outcome.values]) = ""  # type: ignore[valid-type]
    reason: Text = ""
    doing: Text = ""


class WebhookRecord(Record):
    id: UUID
    position: Count = 0
    external_id: Annotated[str, Field(strict=True, max_length=LONGEST_ID), AfterValidator(clean_text)] = ""
    kind: _one_of(Webhook.Kind.values)  # type: ignore[valid-type]
    shown: Text = ""
    host: Text = ""
    partial: bool = True
    created_at: Moment


class DeliveryRecord(Record):
    message_id: UUID
    webhook_id: UUID
    phase: Annotated[str, Field(strict=True, max_length=20), AfterValidator(clean_text)]
    body: Text
    state: _one_of(Delivery.State.values)  # type: ignore[valid-type]
    tries: Count = 0
    next_try_at: Moment
    status_code: Count | None = None
    error: Text = ""
    created_at: Moment
    ended_at: Moment | None = None


class ChangeRecord(Record):
    actor: Text
    actor_name: Text = ""
    reason: Text = ""
    request_id: Text = ""
    object_type: Text
    object_id: Text
    field: Text
    old: Any = None
    new: Any = None
    at: Moment
