"""`/api/contexts`: the conversations that tasks belong to (issue 6, point 1; CONTRACTS.md 2.3)."""

from typing import Annotated
from uuid import UUID

from django.db.models import Q
from django.http import HttpResponse
from ninja import Query, Router

from runs.api.docs import body_of
from runs.api.once import Answer, answered, raw
from runs.api.task_bodies import (
    CallerEnvelope,
    ClearedEnvelope,
    ContextData,
    ContextEnvelope,
    ContextMessages,
    ContextsEnvelope,
    CountEnvelope,
    ObjectsEnvelope,
    TasksEnvelope,
    body_as,
    present_context,
)
from runs.api.tasks import (
    CLEARED,
    ERRORS,
    Caller,
    HistoryLength,
    Namespace,
    cursor_of,
    list_tasks,
    may_delete,
    may_submit,
    may_view,
    shown,
    unknown,
)
from runs.api.token_auth import ApiRequest
from runs.models import Action, Context
from runs.models.context import (
    append_context_messages,
    clear_context,
    context_messages,
    open_context,
    put_context_data,
)
from runs.models.paging import Cursor
from runs.models.task import tasks_of

router = Router(tags=["Tasks of agents"])


@router.get(
    "", auth=may_view, response={200: ContextsEnvelope, **ERRORS}, summary="List contexts, newest first"
)
def list_contexts(
    request: ApiRequest,
    namespace: Namespace = "",
    caller: Caller = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    length: Annotated[
        int | None, Query(ge=0, le=1000, description="Instead of `limit`, with `offset`.")
    ] = None,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> HttpResponse:
    contexts = Context.objects.visible_to(request.auth).current(namespace).of_caller(caller)
    ordered = contexts.order_by("-opened_at", "-session").only("context_id", "opened_at")
    if length is not None or offset:
        return _listed(list(ordered[offset : offset + (100 if length is None else length)]))
    if cursor is not None:
        ordered = ordered.filter(_older_than(cursor_of(cursor)))
    found = list(ordered[: limit + 1])
    page = found[:limit]
    return _listed(page, Cursor(page[-1].opened_at, page[-1].pk) if len(found) > limit else None)


def _older_than(place: Cursor) -> Q:
    """As a row comparison, so that the index is used."""
    earlier = Q(opened_at__lt=place.created_at) | Q(session__lt=place.id)
    return Q(opened_at__lte=place.created_at) & earlier


def _listed(contexts: list[Context], following: Cursor | None = None) -> HttpResponse:
    tasks = tasks_of(contexts)
    data = [
        {
            "context_id": str(one.context_id),
            "task_count": len(tasks[one.pk]),
            "task_ids": [str(task_id) for task_id in tasks[one.pk]],
        }
        for one in contexts
    ]
    return shown({"data": data, "next_cursor": str(following) if following else None})


@router.get(
    "/{context_id}", auth=may_view, response={200: ContextEnvelope, **ERRORS}, summary="Get a context"
)
def get_context(
    request: ApiRequest, context_id: UUID, namespace: Namespace = "", caller: Caller = None
) -> HttpResponse:
    return shown({"data": present_context(_there(request, namespace, caller, context_id))})


@router.put(
    "/{context_id}",
    auth=may_submit,
    response={200: ContextEnvelope, **ERRORS},
    openapi_extra=body_of(ContextData),
    summary="Keep data with a context",
)
def put_context(
    request: ApiRequest, context_id: UUID, namespace: Namespace = "", caller: Caller = None
) -> HttpResponse:
    """Instead of what is there. A context that is new is made."""
    given = body_as(ContextData, request.body)

    def write() -> Answer:
        context = _opened(request, namespace, caller, context_id, given.caller)
        put_context_data(context, given.data)
        return Answer({"data": {**present_context(context), "data": raw(given.data)}})

    return answered(request, write)


@router.delete(
    "/{context_id}",
    auth=may_delete,
    response={200: ClearedEnvelope, **ERRORS},
    summary="Clear a context with its tasks",
)
def clear(
    request: ApiRequest, context_id: UUID, namespace: Namespace = "", caller: Caller = None
) -> HttpResponse:
    """People can restore it for some days; the agent sees nothing of it any more. Its open tasks end: what
    an agent still writes to them is answered, and changes nothing."""

    def write() -> Answer:
        context = _there(request, namespace, caller, context_id, Action.DELETE)
        return Answer({"data": {"tasks": clear_context(context, request.auth.display_name, CLEARED)}})

    return answered(request, write)


@router.get(
    "/{context_id}/owner",
    auth=may_view,
    response={200: CallerEnvelope, **ERRORS},
    summary="Whose a context is",
)
def get_owner(request: ApiRequest, context_id: UUID, namespace: Namespace = "") -> HttpResponse:
    return shown({"data": {"caller": _there(request, namespace, None, context_id).caller}})


@router.get(
    "/{context_id}/tasks",
    auth=may_view,
    response={200: TasksEnvelope, **ERRORS},
    summary="List a context's tasks, oldest first",
)
def list_tasks_of_context(
    request: ApiRequest,
    context_id: UUID,
    namespace: Namespace = "",
    caller: Caller = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    length: Annotated[
        int | None, Query(ge=0, le=1000, description="Instead of `limit`, with `offset`.")
    ] = None,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    history_length: HistoryLength = None,
) -> HttpResponse:
    """A context that is not there has none, as in Bindu."""
    return list_tasks(
        request,
        namespace,
        caller,
        context_id,
        order="oldest",
        limit=limit,
        cursor=cursor,
        length=length,
        offset=offset,
        history_length=history_length,
    )


@router.get(
    "/{context_id}/messages",
    auth=may_view,
    response={200: ObjectsEnvelope, **ERRORS},
    summary="A context's own messages, oldest first",
)
def get_messages(
    request: ApiRequest, context_id: UUID, namespace: Namespace = "", caller: Caller = None
) -> HttpResponse:
    """Those that were appended to it, not those of its tasks."""
    context = _there(request, namespace, caller, context_id)
    return shown({"data": [raw(one.full_payload) for one in context_messages(context)]})


@router.post(
    "/{context_id}/messages",
    auth=may_submit,
    response={200: CountEnvelope, **ERRORS},
    openapi_extra=body_of(ContextMessages),
    summary="Append messages to a context",
)
def append_messages(
    request: ApiRequest, context_id: UUID, namespace: Namespace = "", caller: Caller = None
) -> HttpResponse:
    """A context that is new is made."""
    given = body_as(ContextMessages, request.body)

    def write() -> Answer:
        context = _opened(request, namespace, caller, context_id, given.caller)
        append_context_messages(context, given.messages)
        return Answer({"data": {"count": len(given.messages)}})

    return answered(request, write)


def _there(
    request: ApiRequest, namespace: str, caller: str | None, context_id: UUID, action: Action = Action.VIEW
) -> Context:
    contexts = Context.objects.allowing(request.auth, action).current(namespace).of_caller(caller)
    context = contexts.select_related("session").filter(context_id=context_id).first()
    if context is None:
        raise unknown("context", context_id)
    return context


def _opened(
    request: ApiRequest, namespace: str, caller: str | None, context_id: UUID, begun_by: str | None
) -> Context:
    """The context, made if it is new; another caller's is as if it were missing, and not to be had."""
    whose = caller if begun_by is None else begun_by
    context = open_context(request.auth.owner, context_id, namespace, whose)
    if whose is not None and context.caller != whose:
        raise unknown("context", context_id)
    return context
