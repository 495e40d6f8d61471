"""What `/api/tasks` and `/api/contexts` take and answer (issue 6, point 1; CONTRACTS.md 2.5)."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from ninja import Schema
from pydantic import (
    AfterValidator,
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from runs.api.once import raw
from runs.api.strict_json import JsonError, read_json
from runs.errors import Refused
from runs.exact import Json, clean_text
from runs.models import Context, Run, Task
from runs.models.context import CALLER_LENGTH, NAMESPACE_LENGTH
from runs.models.run import AGENT_LENGTH
from runs.models.task import STATE_LENGTH, Update

# Free dictionaries are kept as they are: no key or value of them is looked at.
type Free = dict[Any, Any]


def _holdable(text: str) -> str:
    if clean_text(text) != text:
        raise ValueError("must hold no NUL and no lone surrogate")
    return text


type _State = Annotated[
    str, StringConstraints(min_length=1, max_length=STATE_LENGTH), AfterValidator(_holdable)
]
type _Caller = Annotated[str, StringConstraints(max_length=CALLER_LENGTH), AfterValidator(_holdable)]

# What A2A writes in two ways, of messages and artifacts; deeper down they are kept as they are.
_SNAKE = {
    "messageId": "message_id",
    "taskId": "task_id",
    "contextId": "context_id",
    "referenceTaskIds": "reference_task_ids",
    "artifactId": "artifact_id",
    "lastChunk": "last_chunk",
}


def _snake(value: Free) -> Free:
    return {_SNAKE.get(key, key): item for key, item in value.items()}


type _Told = Annotated[Free, AfterValidator(_snake)]


class _Body(BaseModel):
    """camelCase and snake_case in; keys that are not known are passed over."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(validation_alias=to_camel),
        populate_by_name=True,
        hide_input_in_errors=True,
    )


class TaskSubmission(_Body):
    """A message for a task. The ids are the client's own, in the message or beside it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "message": {
                    "kind": "message",
                    "role": "user",
                    "message_id": "3d6ca32b-0c0c-4d0e-9a3c-2f6f2a3d1b11",
                    "task_id": "99a6097b-6d1c-4b8e-8a8e-0d8c2a3f4e10",
                    "context_id": "37711412-5a3b-4a57-b0a4-3c3d9f6f7a01",
                    "parts": [{"kind": "text", "text": "hello"}],
                },
                "agent": "echo",
            }
        }
    )

    message: _Told
    task_id: UUID | None = Field(None, description="By default the message's; a new one where neither says.")
    context_id: UUID | None = Field(None, description="By default the message's; a new one likewise.")
    caller: _Caller | None = Field(None, description="Who asks, as the agent knows them; null is nobody.")
    agent: Annotated[str, StringConstraints(max_length=AGENT_LENGTH), AfterValidator(_holdable)] = Field(
        "", description="What the agent is called on the pages."
    )
    metadata: Free = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ids(self) -> Self:
        for name in ("task_id", "context_id"):
            said = self.message.get(name)
            if said is None:
                continue
            try:
                found = UUID(said)
            except (ValueError, TypeError, AttributeError):
                raise ValueError(f"message.{name} must be a valid UUID string, got {said!r:.60}") from None
            if getattr(self, name) not in (None, found):
                raise ValueError(f"{name} and message.{name} must be the same")
            setattr(self, name, found)
        return self


class TaskUpdate(_Body):
    """One step of an agent at a task; without a state the task stays where it is."""

    state: _State | None = Field(
        None, description="In any dialect: `working`, `input-required`, `completed`."
    )
    artifacts: list[_Told] | None = None
    messages: list[_Told] | None = None
    metadata: Free | None = Field(None, description="Keys to set; others stay.")

    @property
    def as_update(self) -> Update:
        return Update(self.state, self.artifacts or (), self.messages or (), self.metadata or {})


class TaskUpdates(TaskUpdate):
    """One step, or several in `updates`; all of them or none are kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "state": "completed",
                "messages": [{"kind": "message", "role": "agent", "parts": [{"kind": "text", "text": "hi"}]}],
                "artifacts": [
                    {"artifact_id": "1", "name": "result", "parts": [{"kind": "text", "text": "hi"}]}
                ],
            }
        }
    )

    updates: list[TaskUpdate] | None = None

    @property
    def all(self) -> list[Update]:
        return [self.as_update] if self.updates is None else [one.as_update for one in self.updates]


class Transition(_Body):
    """Moves the task to `to` if it is in `from`; of many that ask at once one is told that it did."""

    model_config = ConfigDict(json_schema_extra={"example": {"from": "submitted", "to": "working"}})

    from_state: _State = Field(validation_alias="from")
    to_state: _State = Field(validation_alias="to")


class Cancellation(_Body):
    reason: Annotated[str, StringConstraints(max_length=2_000), AfterValidator(_holdable)] = ""


class Where(_Body):
    """What a line of a bulk begins with."""

    op: Literal["submit", "update", "transition", "feedback"]
    task_id: UUID | None = None
    namespace: (
        Annotated[str, StringConstraints(max_length=NAMESPACE_LENGTH), AfterValidator(_holdable)] | None
    ) = None
    caller: _Caller | None = None


class ContextData(_Body):
    """What an agent keeps with a context, instead of what is there."""

    data: Free
    caller: _Caller | None = Field(None, description="Whose the context is, where it is new.")


class ContextMessages(_Body):
    messages: list[_Told]
    caller: _Caller | None = Field(None, description="Whose the context is, where it is new.")


def body_as[Body: BaseModel](model: type[Body], data: bytes, *, may_be_empty: bool = False) -> Body:
    """The body of a request. Raises Refused, which names the first field that is wrong."""
    return valid(model, {} if may_be_empty and not data.strip() else json_of(data))


def json_of(data: bytes) -> Json:
    """Raises Refused."""
    try:
        return read_json(data)
    except JsonError as error:
        raise Refused(400, "invalid_json", f"The body is not JSON that can be kept: {error}.") from None


def free_object(value: Json, name: str) -> dict[str, Json]:
    """A JSON object as it is. Raises Refused."""
    if not isinstance(value, dict):
        raise Refused(422, "invalid", f"{name} must be a JSON object.", None)
    return value


def valid[Body: BaseModel](model: type[Body], value: Json) -> Body:
    free_object(value, "The body")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or None
        said = first["msg"].removeprefix("Value error, ")
        where = f"{field}: " if field else ""
        raise Refused(422, "invalid", f"{where}{said}.", field or _named(said)) from None


def _named(sentence: str) -> str | None:
    """The field that a check of the whole body begins its sentence with."""
    first = sentence.split(" ", 1)[0]
    return first if first.endswith("_id") else None


# ── Answers ────────────────────────────────────────────────────────────────
class CancelRequested(Schema):
    at: datetime
    by: str
    reason: str


class StatusOut(Schema):
    state: str
    timestamp: datetime


class TaskOut(Schema):
    """An A2A task as Bindu writes it."""

    id: UUID
    context_id: UUID
    kind: Literal["task"]
    status: StatusOut
    history: list[dict[str, Any]] = Field(description="Messages, oldest first; not with `return=minimal`.")
    artifacts: list[dict[str, Any]]
    metadata: dict[str, Any]


class TaskEnvelope(Schema):
    """A task, and what its agent should know.

    `cancel_requested` says that it is to stop. `late`: the task had ended, so that nothing has changed of
    it. `cleared`: it was cleared meanwhile.
    """

    data: TaskOut
    cancel_requested: CancelRequested | None
    late: bool
    cleared: bool


class Moved(Schema):
    moved: bool


class MovedEnvelope(Schema):
    data: Moved
    cancel_requested: CancelRequested | None


class TasksEnvelope(Schema):
    data: list[TaskOut]
    next_cursor: str | None


class Count(Schema):
    count: int


class CountEnvelope(Schema):
    data: Count


class CallerOut(Schema):
    caller: str | None


class CallerEnvelope(Schema):
    data: CallerOut


class ObjectEnvelope(Schema):
    data: dict[str, Any]


class ObjectsEnvelope(Schema):
    data: list[dict[str, Any]]


class ContextOut(Schema):
    context_id: UUID
    caller: str | None
    data: dict[str, Any]
    created_at: datetime


class ContextEnvelope(Schema):
    data: ContextOut


class ListedContext(Schema):
    context_id: UUID
    task_count: int
    task_ids: list[UUID] = Field(description="Oldest first.")


class ContextsEnvelope(Schema):
    data: list[ListedContext]
    next_cursor: str | None


class Cleared(Schema):
    tasks: int


class ClearedEnvelope(Schema):
    data: Cleared


class RefusedOut(Schema):
    code: str
    message: str
    field: str | None
    request_id: str


class RefusedEnvelope(Schema):
    error: RefusedOut


def present_task(task: Task) -> dict[str, Json]:
    """The task without its history and its artifacts."""
    return {
        "id": str(task.task_id),
        "context_id": str(task.context.context_id),
        "kind": "task",
        "status": {"state": task.state, "timestamp": instant(task.state_at)},
        "metadata": raw(task.metadata),
    }


def present_cancel(run: Run) -> dict[str, Json] | None:
    if run.cancel_requested_at is None:
        return None
    return {
        "at": instant(run.cancel_requested_at),
        "by": run.cancel_requested_by,
        "reason": run.cancel_reason,
    }


def present_context(context: Context) -> dict[str, Json]:
    return {
        "context_id": str(context.context_id),
        "caller": context.caller,
        "data": raw(context.full_data),
        "created_at": instant(context.opened_at),
    }


def instant(at: datetime) -> str:
    """As Python writes it, always with microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
