"""`/api/tasks`: agents report their own work (issue 6, point 1; the semantics are CONTRACTS.md 2.3's).

A task is found by the token's owner, the agent's `namespace` and the id that the agent gave it. Where a
`caller` is named, only that caller's tasks are there.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Annotated, Any, Literal
from uuid import UUID

from django.db import DatabaseError
from django.db.models import Q
from django.http import HttpResponse, HttpResponseBase
from ninja import Query, Router

from runs.api.docs import body_of
from runs.api.once import Answer, Shown, answered, checked, encoded, once, own_key_of, raw, texts
from runs.api.task_bodies import (
    CallerEnvelope,
    Cancellation,
    ClearedEnvelope,
    CountEnvelope,
    MovedEnvelope,
    ObjectEnvelope,
    ObjectsEnvelope,
    RefusedEnvelope,
    TaskEnvelope,
    TasksEnvelope,
    TaskSubmission,
    TaskUpdates,
    Transition,
    Where,
    body_as,
    free_object,
    json_of,
    present_cancel,
    present_task,
    valid,
)
from runs.api.token_auth import ApiRequest, TokenAuth
from runs.errors import Refused
from runs.exact import Json
from runs.models import Action, Context, Task, owner_ids
from runs.models.context import CALLER_LENGTH, NAMESPACE_LENGTH, clear_context
from runs.models.ids import uuid7
from runs.models.paging import Cursor
from runs.models.task import (
    STATE_LENGTH,
    OwnedByAnother,
    TaskFinal,
    TaskQuerySet,
    artifacts_of,
    cancel_task,
    find_task,
    give_task_feedback,
    histories,
    move_task,
    push_config_of,
    push_configs,
    put_push_config,
    submit_task,
    task_feedback,
    task_now,
    update_task,
    words_like,
)
from runs.sealing import Unsealable
from runs.streams import streamed

router = Router(tags=["Tasks of agents"])
may_view, may_submit, may_rate, may_cancel, may_delete = (
    TokenAuth(action) for action in (Action.VIEW, Action.SUBMIT, Action.RATE, Action.CANCEL, Action.DELETE)
)

ERRORS: dict[int, type] = dict.fromkeys((400, 401, 403, 404, 422), RefusedEnvelope)
CLEARED = "cleared by its agent"
PAGE_BYTES = 16 * 2**20  # of histories, after which a page ends
LONGEST_LINE = 16 * 2**20  # bytes, of a bulk

type Namespace = Annotated[
    str, Query(max_length=NAMESPACE_LENGTH, description="The agent's own room; ids in it are its own.")
]
type Caller = Annotated[
    str | None, Query(max_length=CALLER_LENGTH, description="Only what is this caller's.")
]
type HistoryLength = Annotated[
    int | None, Query(ge=0, le=2**31 - 1, description="So many of the last messages; 0 is all.")
]


# ── Writing ────────────────────────────────────────────────────────────────
@router.post(
    "",
    auth=may_submit,
    response={201: TaskEnvelope, 200: TaskEnvelope, 409: RefusedEnvelope, **ERRORS},
    openapi_extra=body_of(TaskSubmission),
    summary="Submit a message for a task, new or open",
)
def submit(
    request: ApiRequest,
    namespace: Namespace = "",
    caller: Caller = None,
    returned: Annotated[Literal["whole", "minimal"], Query(alias="return")] = "whole",
    history_length: HistoryLength = None,
) -> HttpResponse:
    """201 for a new task, 200 for one that goes on: it is `submitted` again. A task that has ended takes no
    further message: 409 `task_final`. Another caller's context or task is 403 `owned_by_another`."""
    given = body_as(TaskSubmission, request.body)
    shown = Shown(history_length, returned == "minimal")
    return answered(request, lambda: _submit(request, namespace, caller, given), shown)


@router.post(
    "/{task_id}/updates",
    auth=may_submit,
    response={200: TaskEnvelope, **ERRORS},
    openapi_extra=body_of(TaskUpdates),
    summary="Append messages and artifacts, and move a task",
)
def update(
    request: ApiRequest,
    task_id: UUID,
    namespace: Namespace = "",
    caller: Caller = None,
    returned: Annotated[Literal["whole", "minimal"], Query(alias="return")] = "whole",
    history_length: HistoryLength = None,
) -> HttpResponse:
    """Several steps come in `updates`: all are kept or none. What comes to a task that has ended changes
    nothing of it, is kept beside it, and is answered with 200 and `late`."""
    given = body_as(TaskUpdates, request.body)
    shown = Shown(history_length, returned == "minimal")
    return answered(request, lambda: _update(request, namespace, caller, task_id, given), shown)


@router.post(
    "/{task_id}/transition",
    auth=may_submit,
    response={200: MovedEnvelope, **ERRORS},
    openapi_extra=body_of(Transition),
    summary="Move a task if it is in a state",
)
def transition(
    request: ApiRequest, task_id: UUID, namespace: Namespace = "", caller: Caller = None
) -> HttpResponse:
    given = body_as(Transition, request.body)
    return answered(request, lambda: _transition(request, namespace, caller, task_id, given))


@router.post(
    "/{task_id}/cancel",
    auth=may_cancel,
    response={200: TaskEnvelope, **ERRORS},
    openapi_extra=body_of(Cancellation),
    summary="Ask for a task to be cancelled",
)
def cancel(
    request: ApiRequest,
    task_id: UUID,
    namespace: Namespace = "",
    caller: Caller = None,
    history_length: HistoryLength = None,
) -> HttpResponse:
    """A submitted task ends at once. The agent of one that is being worked at learns of it in
    `cancel_requested` of the answer to its next write, and moves it to `canceled`."""
    given = body_as(Cancellation, request.body, may_be_empty=True)

    def write() -> Answer:
        task = _held(request, namespace, caller, task_id, Action.CANCEL)
        if task.cleared_at is not None:
            raise unknown("task", task_id)
        cancel_task(task, request.auth.display_name, given.reason)
        return _written(task)

    return answered(request, write, Shown(history_length))


@router.delete(
    "",
    auth=may_delete,
    response={200: ClearedEnvelope, **ERRORS},
    summary="Clear all tasks and contexts of a namespace",
)
def clear_all(request: ApiRequest, namespace: Namespace = "") -> HttpResponse:
    """They can be restored for some days, by people; the agent sees nothing of them any more."""

    def write() -> Answer:
        contexts = Context.objects.allowing(request.auth, Action.DELETE).current(namespace)
        by = request.auth.display_name
        gone = [clear_context(one, by, CLEARED) for one in contexts.select_related("session").order_by("pk")]
        return Answer({"data": {"tasks": sum(gone)}})

    return answered(request, write)


def _submit(request: ApiRequest, namespace: str, caller: str | None, given: TaskSubmission) -> Answer:
    task_id, context_id = given.task_id or uuid7(), given.context_id or uuid7()
    try:
        task, is_new = submit_task(
            request.auth.owner,
            given.message,
            task_id,
            context_id,
            namespace=namespace,
            caller=given.caller if given.caller is not None else caller,
            agent=given.agent,
            metadata=given.metadata,
        )
    except OwnedByAnother as error:
        raise Refused(403, "owned_by_another", str(error), "caller") from None
    except TaskFinal as error:
        raise Refused(409, "task_final", str(error), "task_id") from None
    return _written(task, 201 if is_new else 200)


def _update(
    request: ApiRequest, namespace: str, caller: str | None, task_id: UUID, given: TaskUpdates
) -> Answer:
    task = _held(request, namespace, caller, task_id, Action.SUBMIT)
    is_late = not update_task(task, given.all)
    return _written(task, late=is_late)


def _transition(
    request: ApiRequest, namespace: str, caller: str | None, task_id: UUID, given: Transition
) -> Answer:
    task = _held(request, namespace, caller, task_id, Action.SUBMIT)
    moved = move_task(task, given.from_state, given.to_state)
    return Answer({"data": {"moved": moved}, "cancel_requested": present_cancel(task.run)})


def _feedback(request: ApiRequest, namespace: str, caller: str | None, task_id: UUID, given: Json) -> Answer:
    task = _held(request, namespace, caller, task_id, Action.RATE)
    if task.cleared_at is not None:
        raise unknown("task", task_id)
    give_task_feedback(task, request.auth, free_object(given, "Feedback"))
    return Answer({"data": raw(given)}, 201)


def _held(request: ApiRequest, namespace: str, caller: str | None, task_id: UUID, action: Action) -> Task:
    """The task, or what is left of one that was cleared, which an agent may still be writing to."""
    owners = list(owner_ids(request.auth, action))
    task = find_task(owners, namespace, task_id, caller, hold=True)
    if task is None:
        raise unknown("task", task_id)
    return task


def _written(task: Task, status: int = 200, *, late: bool = False) -> Answer:
    """The task as it is now."""
    now = task_now(task)
    body = {
        "data": present_task(now),
        "cancel_requested": present_cancel(now.run),
        "late": late,
        "cleared": now.cleared_at is not None,
    }
    return Answer(body, status, now)


# ── Bulk ───────────────────────────────────────────────────────────────────
@router.post(
    "/bulk",
    auth=may_submit,
    response={200: None, **ERRORS},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/x-ndjson": {
                    "schema": {"type": "string"},
                    "example": '{"op": "update", "task_id": "99a6097b-6d1c-4b8e-8a8e-0d8c2a3f4e10",'
                    ' "state": "working"}\n',
                }
            },
        }
    },
    summary="Many operations, one a line",
)
def bulk(request: ApiRequest, namespace: Namespace = "", caller: Caller = None) -> HttpResponseBase:
    """Each line is an object with `op`: `submit`, `update`, `transition` or `feedback`, the `task_id` where
    the operation has one in its address, and what its body has; a `namespace` and a `caller` of its own go
    before those of the address. The answer has a line for each: its number with `status` and `data`, or
    with `error`. Each is done for itself, in their order; a broken one stops nothing. With an
    `Idempotency-Key` what is sent again is not done again, line by line."""
    lines = tempfile.TemporaryFile()  # noqa: SIM115  read while the answer is sent
    shutil.copyfileobj(request, lines)
    lines.seek(0)
    return streamed(request, _bulk(request, lines, namespace, caller), "application/x-ndjson")


def _bulk(request: ApiRequest, lines: IO[bytes], namespace: str, caller: str | None) -> Iterator[bytes]:
    with lines:
        number = 0
        while text := lines.readline(LONGEST_LINE + 1):
            number += 1
            is_cut = not text.endswith(b"\n") and len(text) > LONGEST_LINE
            while is_cut and (rest := lines.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            if is_cut or text.strip():
                yield _line(request, number, b"" if is_cut else text, namespace, caller)


def _line(request: ApiRequest, number: int, text: bytes, namespace: str, caller: str | None) -> bytes:
    head = f'{{"line":{number},'.encode()
    key = request.headers.get("Idempotency-Key")
    try:
        if not text:
            raise Refused(413, "too_large", f"A line has at most {LONGEST_LINE:,} bytes.")
        write = _operation(request, free_object(json_of(text), "A line"), namespace, caller)
        own_key = None if key is None else own_key_of(checked(key), str(number))
        status, body = once(request, write, Shown(minimal=True), own_key, text.strip())
        return head + f'"status":{status},'.encode() + body[1:] + b"\n"
    except Refused as refused:
        return head + _refused(request, refused)
    except DatabaseError:
        message = "The database does not answer. Send this line again."
        return head + _refused(request, Refused(503, "unavailable", message))


def _refused(request: ApiRequest, refused: Refused) -> bytes:
    return encoded({"status": refused.status, "error": refused.shown(request)})[1:] + b"\n"


def _operation(
    request: ApiRequest, given: dict[str, Json], namespace: str, caller: str | None
) -> Callable[[], Answer]:
    """What a line asks for. Raises Refused."""
    where = valid(Where, given)
    room = where.namespace if where.namespace is not None else namespace
    whose = where.caller if where.caller is not None else caller
    if where.op == "submit":
        submission = valid(TaskSubmission, given)
        return lambda: _submit(request, room, whose, submission)
    if where.task_id is None:
        raise Refused(422, "invalid", "task_id: Field required.", "task_id")
    task_id = where.task_id
    if where.op == "update":
        updates = valid(TaskUpdates, given)
        return lambda: _update(request, room, whose, task_id, updates)
    if where.op == "transition":
        step = valid(Transition, given)
        return lambda: _transition(request, room, whose, task_id, step)
    return lambda: _feedback(request, room, whose, task_id, given.get("feedback"))


# ── Reading ────────────────────────────────────────────────────────────────
@router.get("", auth=may_view, response={200: TasksEnvelope, **ERRORS}, summary="List tasks, newest first")
def list_tasks(
    request: ApiRequest,
    namespace: Namespace = "",
    caller: Caller = None,
    context_id: UUID | None = None,
    state: Annotated[str | None, Query(max_length=STATE_LENGTH, description="In any dialect.")] = None,
    order: Annotated[Literal["newest", "oldest"], Query()] = "newest",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    length: Annotated[
        int | None, Query(ge=0, le=1000, description="Instead of `limit`, with `offset`.")
    ] = None,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    history_length: HistoryLength = None,
) -> HttpResponse:
    """`next_cursor` is null at the end. A page whose histories are long ends before its `limit`."""
    tasks = Task.objects.visible_to(request.auth).current(namespace).of_caller(caller)
    if context_id is not None:
        tasks = tasks.filter(context__owner=request.auth.owner, context__context_id=context_id)
    if state is not None:
        tasks = tasks.filter(state__in=words_like(state))
    ordered = _ordered(tasks, order).for_reading()
    if length is not None or offset:
        return _listed(list(ordered[offset : offset + (100 if length is None else length)]), history_length)
    if cursor is not None:
        ordered = ordered.filter(_beyond(cursor_of(cursor), order))
    found = list(ordered[: limit + 1])
    page = _in_one_page(found[:limit])
    more = len(page) < len(found)
    following = Cursor(page[-1].created_at, page[-1].pk) if more else None
    return _listed(page, history_length, following)


def _in_one_page(tasks: list[Task]) -> list[Task]:
    """As many as a page holds, and one at least."""
    size = 0
    for number, task in enumerate(tasks):
        size += task.run.size
        if number and size > PAGE_BYTES:
            return tasks[:number]
    return tasks


def _ordered(tasks: TaskQuerySet, order: str) -> TaskQuerySet:
    return tasks.order_by("created_at", "run") if order == "oldest" else tasks.order_by("-created_at", "-run")


def _beyond(place: Cursor, order: str) -> Q:
    """As a row comparison, so that the index is used."""
    way = "gt" if order == "oldest" else "lt"
    then = Q(**{f"created_at__{way}": place.created_at}) | Q(**{f"run__{way}": place.id})
    return Q(**{f"created_at__{way}e": place.created_at}) & then


def cursor_of(text: str) -> Cursor:
    try:
        return Cursor.parse(text)
    except ValueError as error:
        raise Refused(422, "invalid", f"cursor: {error}.", "cursor") from None


def _listed(tasks: list[Task], history_length: int | None, following: Cursor | None = None) -> HttpResponse:
    runs = [task.run_id for task in tasks]
    said, made = histories(runs, history_length), artifacts_of(runs)
    data = [
        {**present_task(task), "history": texts(said[task.pk]), "artifacts": texts(made[task.pk])}
        for task in tasks
    ]
    return shown({"data": data, "next_cursor": str(following) if following else None})


@router.get("/count", auth=may_view, response={200: CountEnvelope, **ERRORS}, summary="Count tasks")
def count_tasks(
    request: ApiRequest,
    namespace: Namespace = "",
    caller: Caller = None,
    state: Annotated[str | None, Query(max_length=STATE_LENGTH, description="In any dialect.")] = None,
) -> HttpResponse:
    tasks = Task.objects.visible_to(request.auth).current(namespace).of_caller(caller)
    if state is not None:
        tasks = tasks.filter(state__in=words_like(state))
    return shown({"data": {"count": tasks.count()}})


@router.get(
    "/push-configs",
    auth=may_submit,
    response={200: ObjectEnvelope, **ERRORS},
    summary="All push configurations of a namespace, by task",
)
def list_push_configs(request: ApiRequest, namespace: Namespace = "", caller: Caller = None) -> HttpResponse:
    tasks = Task.objects.allowing(request.auth, Action.SUBMIT).current(namespace).of_caller(caller)
    found = {str(task_id): raw(config) for task_id, config in push_configs(tasks).items()}
    return shown({"data": found})


@router.get("/{task_id}", auth=may_view, response={200: TaskEnvelope, **ERRORS}, summary="Get a task")
def get_task(
    request: ApiRequest,
    task_id: UUID,
    namespace: Namespace = "",
    caller: Caller = None,
    history_length: HistoryLength = None,
    historyLength: HistoryLength = None,
) -> HttpResponse:
    task = _there(request, namespace, caller, task_id)
    length = history_length or historyLength
    said = histories([task.pk], length)[task.pk]
    made = artifacts_of([task.pk])[task.pk] if task.run.artifact_count else []
    data = {**present_task(task), "history": texts(said), "artifacts": texts(made)}
    about = {"cancel_requested": present_cancel(task.run), "late": False, "cleared": False}
    return shown({"data": data, **about})


@router.get(
    "/{task_id}/owner", auth=may_view, response={200: CallerEnvelope, **ERRORS}, summary="Whose a task is"
)
def get_owner(request: ApiRequest, task_id: UUID, namespace: Namespace = "") -> HttpResponse:
    """A caller of null is nobody: the task has no owner among the agent's callers."""
    tasks = Task.objects.visible_to(request.auth).current(namespace).filter(task_id=task_id)
    found = tasks.values_list("caller").first()
    if found is None:
        raise unknown("task", task_id)
    return shown({"data": {"caller": found[0]}})


def _there(
    request: ApiRequest, namespace: str, caller: str | None, task_id: UUID, action: Action = Action.VIEW
) -> Task:
    task = find_task(list(owner_ids(request.auth, action)), namespace, task_id, caller)
    if task is None or task.cleared_at is not None:
        raise unknown("task", task_id)
    return task


def unknown(what: str, wanted: UUID) -> Refused:
    return Refused(404, "not_found", f"{what.capitalize()} {wanted} not found", f"{what}_id")


def shown(body: dict[str, Any]) -> HttpResponse:
    return HttpResponse(encoded(body), content_type="application/json")


# ── Feedback and push configuration ────────────────────────────────────────
@router.get(
    "/{task_id}/feedback",
    auth=may_view,
    response={200: ObjectsEnvelope, **ERRORS},
    summary="All feedback to a task, oldest first",
)
def get_feedback(
    request: ApiRequest, task_id: UUID, namespace: Namespace = "", caller: Caller = None
) -> HttpResponse:
    return shown({"data": raw(task_feedback(_there(request, namespace, caller, task_id)))})


@router.post(
    "/{task_id}/feedback",
    auth=may_rate,
    response={201: ObjectEnvelope, **ERRORS},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object"},
                    "example": {"feedback": "great", "rating": 5, "metadata": {}},
                }
            },
        }
    },
    summary="Give feedback to a task",
)
def post_feedback(
    request: ApiRequest, task_id: UUID, namespace: Namespace = "", caller: Caller = None
) -> HttpResponse:
    """Any object: it is kept as it is, behind those that were given. A `rating` from 1 to 5 counts as one."""
    given = json_of(request.body)
    return answered(request, lambda: _feedback(request, namespace, caller, task_id, given))


@router.get(
    "/{task_id}/push-config",
    auth=may_submit,
    response={200: ObjectEnvelope, 409: RefusedEnvelope, **ERRORS},
    summary="The push configuration of a task",
)
def get_push_config(
    request: ApiRequest, task_id: UUID, namespace: Namespace = "", caller: Caller = None
) -> HttpResponse:
    task = _there(request, namespace, caller, task_id, Action.SUBMIT)
    try:
        config = push_config_of(task)
    except Unsealable as error:
        raise Refused(409, "unsealable", str(error)) from None
    if config is None:
        raise Refused(404, "not_found", f"Task {task_id} has no push configuration", "task_id")
    return shown({"data": raw(config)})


@router.put(
    "/{task_id}/push-config",
    auth=may_submit,
    response={200: ObjectEnvelope, **ERRORS},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object"},
                    "example": {
                        "id": "6226507c-0000-4000-8000-000000000000",
                        "url": "https://example.com/push",
                    },
                }
            },
        }
    },
    summary="Keep the push configuration of a task",
)
def set_push_config(
    request: ApiRequest, task_id: UUID, namespace: Namespace = "", caller: Caller = None
) -> HttpResponse:
    """Kept encrypted, for the agent to have it after a restart; the agent itself sends what it tells."""
    config = free_object(json_of(request.body), "A push configuration")

    def write() -> Answer:
        put_push_config(_held_now(request, namespace, caller, task_id), config)
        return Answer({"data": {"task_id": str(task_id)}})

    return answered(request, write)


@router.delete(
    "/{task_id}/push-config",
    auth=may_submit,
    response={200: ObjectEnvelope, **ERRORS},
    summary="Forget the push configuration of a task",
)
def delete_push_config(
    request: ApiRequest, task_id: UUID, namespace: Namespace = "", caller: Caller = None
) -> HttpResponse:
    """Also where there is none."""

    def write() -> Answer:
        put_push_config(_held_now(request, namespace, caller, task_id), None)
        return Answer({"data": {"task_id": str(task_id)}})

    return answered(request, write)


def _held_now(request: ApiRequest, namespace: str, caller: str | None, task_id: UUID) -> Task:
    task = _held(request, namespace, caller, task_id, Action.SUBMIT)
    if task.cleared_at is not None:
        raise unknown("task", task_id)
    return task
