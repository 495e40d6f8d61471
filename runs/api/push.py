"""`/api/push`: takes the push notifications of agents that keep their tasks elsewhere (CONTRACTS.md 2.6).

An agent sends each notification once and drops it where it fails, so there is no answer before it is kept.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from django.http import HttpResponse
from django.utils import timezone
from ninja import Query, Router, Schema
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from runs.api.docs import body_of
from runs.api.once import Answer, once, own_key_of
from runs.api.task_bodies import CancelRequested, RefusedEnvelope, body_as, instant, present_cancel
from runs.api.token_auth import ApiRequest, TokenAuth
from runs.models import Action
from runs.models.context import NAMESPACE_LENGTH
from runs.models.pushed import Pushed, take_push
from runs.models.run import AGENT_LENGTH
from runs.models.task import STATE_LENGTH, Task

router = Router(tags=["Tasks of agents"])
_EVENT_ID_LENGTH = 200  # characters

type Free = dict[Any, Any]


def _in_time(at: datetime) -> datetime:
    """Without a zone it is UTC."""
    if not 1970 <= at.year < 2200:
        raise ValueError("a time from 1970 to 2199 is expected")
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _plain(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable characters alone")
    return text


type _Moment = Annotated[datetime, AfterValidator(_in_time)]


class _Body(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)


class StatusIn(_Body):
    state: Annotated[str, StringConstraints(min_length=1, max_length=STATE_LENGTH), AfterValidator(_plain)]
    timestamp: _Moment | None = None
    message: Free | None = Field(None, description="Such as the question of `input-required`.")


class Notification(_Body):
    """A status-update or an artifact-update, as Bindu sends it; what else is in it is passed over."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "event_id": "7a32953e-6f0c-4c35-9d64-0a3f5c9b0d11",
                "sequence": 2,
                "timestamp": "2026-11-20T23:00:41.948636+00:00",
                "kind": "status-update",
                "task_id": "99a6097b-6d1c-4b8e-8a8e-0d8c2a3f4e10",
                "context_id": "37711412-5a3b-4a57-b0a4-3c3d9f6f7a01",
                "status": {"state": "working", "timestamp": "2026-11-20T23:00:41.948636+00:00"},
                "final": False,
            }
        }
    )

    event_id: Annotated[
        str, StringConstraints(min_length=1, max_length=_EVENT_ID_LENGTH), AfterValidator(_plain)
    ]
    kind: Literal["status-update", "artifact-update"]
    task_id: UUID
    context_id: UUID
    timestamp: _Moment | None = None
    status: StatusIn | None = Field(None, description="Of a status-update.")
    artifact: Free | None = Field(None, description="Of an artifact-update.")

    @model_validator(mode="after")
    def _has_what_it_tells(self) -> Self:
        if self.kind == "status-update" and self.status is None:
            raise ValueError("status is missing in a status-update")
        if self.kind == "artifact-update" and self.artifact is None:
            raise ValueError("artifact is missing in an artifact-update")
        return self

    @property
    def pushed(self) -> Pushed:
        at = self.timestamp or timezone.now()
        status = self.status if self.kind == "status-update" else None
        if status is None:
            return Pushed(self.task_id, self.context_id, at, artifact=self.artifact)
        return Pushed(self.task_id, self.context_id, status.timestamp or at, status.state, status.message)


class Taken(Schema):
    """How the task stands. `late`: it had ended before, and this has changed nothing."""

    task_id: UUID
    state: str
    timestamp: datetime
    late: bool


class TakenEnvelope(Schema):
    data: Taken
    cancel_requested: CancelRequested | None


@router.post(
    "/push",
    auth=TokenAuth(Action.SUBMIT),
    response={200: TakenEnvelope, **dict.fromkeys((400, 401, 403, 422), RefusedEnvelope)},
    openapi_extra=body_of(Notification),
    summary="Take a push notification of an agent",
)
def push(
    request: ApiRequest,
    namespace: Annotated[str, Query(max_length=NAMESPACE_LENGTH, description="The agent's own room.")] = "",
    agent: Annotated[str, Query(max_length=AGENT_LENGTH, description="What the pages call it.")] = "",
) -> HttpResponse:
    """Once for each `event_id` in a namespace, in any order. A new task is made; a final state stays."""
    told = body_as(Notification, request.body)

    def write() -> Answer:
        task, late = take_push(request.auth.owner, told.pushed, namespace, agent)
        kept = Task.objects.for_reading().get(pk=task.pk, owner=request.auth.owner)
        data = {"task_id": str(kept.task_id), "state": kept.state, "timestamp": instant(kept.state_at)}
        return Answer({"data": {**data, "late": late}, "cancel_requested": present_cancel(kept.run)})

    key = own_key_of("push", namespace, told.event_id)
    status, body = once(request, write, key=key, asked=key.encode())
    return HttpResponse(body, status=status, content_type="application/json")
