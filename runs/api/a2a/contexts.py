"""`contexts/list` and `contexts/clear`."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from runs.api.a2a.caller import Answer, Caller
from runs.api.a2a.params import Params
from runs.api.a2a.tasks import cursor_of, next_page, page_of
from runs.models import Action, Session, delete_session
from runs.models.context import Context, clear_context

_WHY = "contexts/clear"


def list_(caller: Caller, params: Params) -> Answer:
    """Newest first, as a page of `tasks/list`; `historyLength` is Bindu's name for the limit."""
    size, offset = page_of(params)
    if (length := params.count("history_length")) is not None:
        size = min(size, length)
    sessions = caller.sessions(Action.VIEW).newest_first()
    if (cursor := cursor_of(params)) is not None:
        sessions = sessions.older_than(cursor.created_at, cursor.id)
    found = list(sessions[offset : offset + size + 1])
    shown = found[:size]
    ids = _task_ids(caller, shown)
    rows = [
        {"context_id": _context_id(session), "task_count": len(ids[session.pk]), "task_ids": ids[session.pk]}
        for session in shown
    ]
    return Answer(rows, next_page(shown, more=len(found) > size))


def clear(caller: Caller, params: Params) -> Answer:
    """Puts the context and its tasks away; who works at an open one learns of it as of a cancel."""
    context_id = params.uuid("context_id")
    context = caller.context(context_id, Action.DELETE)
    if isinstance(context, Context):
        clear_context(context, caller.token.display_name, _WHY)
    else:
        delete_session(context, caller.token.display_name, _WHY)
    return Answer({"message": f"Context {context_id} and all associated tasks cleared successfully"})


def _context_id(session: Session) -> str:
    context: Context | None = getattr(session, "context", None)
    return str(context.context_id if context else session.pk)


def _task_ids(caller: Caller, sessions: Sequence[Session]) -> dict[UUID, list[str]]:
    """By session, oldest first."""
    found: dict[UUID, list[str]] = defaultdict(list)
    tasks = caller.runs(Action.VIEW).filter(session__in=sessions)
    rows = tasks.order_by("created_at", "id").values_list("session", "id", "task__task_id")
    for session_id, run_id, task_id in rows:
        found[session_id].append(str(task_id or run_id))
    return found
