"""`tasks/get`, `list`, `cancel` and `feedback`."""

from uuid import UUID

from django.db import transaction
from django.utils import timezone

from runs.api.a2a.caller import Answer, Caller, as_task, state_now
from runs.api.a2a.params import Params
from runs.api.a2a.rpc import Code, RpcError, Unreadable
from runs.api.a2a.shape import present_tasks
from runs.api.task_bodies import instant
from runs.exact import Json, clean_text
from runs.models import Action, Run, Status, request_cancel, transition
from runs.models.context import Context
from runs.models.paging import Cursor
from runs.models.run import PAYLOADS, RunQuerySet
from runs.models.task import Task, give_task_feedback
from runs.query import status_meaning
from runs.query.statuses import canonical_status

MOST = 1000  # tasks or contexts in one answer
LARGEST = 32 * 2**20  # bytes of history and artifacts in one answer, roughly
_UNREAD = tuple(name for name in PAYLOADS if name != "metadata")
# Words of A2A's that say more than the status that they share with another one.
_FINER = ("auth-required", "payment-required", "trust-verification-required", "rejected", "resumed")


def get(caller: Caller, params: Params) -> Answer:
    task_id, length = params.uuid("task_id"), params.count("history_length")
    return _shown(caller.task(task_id, Action.VIEW), length)


def list_(caller: Caller, params: Params) -> Answer:
    """Newest first; the header `X-Next-Cursor` is there while more follow.

    Bindu drops `length` and always gives everything. Here `limit` or `length` counts, and without one it is
    as much as fits into LARGEST, at most MOST.
    """
    runs = _asked(caller, params)
    size, offset = page_of(params)
    if (cursor := cursor_of(params)) is not None:
        runs = runs.older_than(cursor.created_at, cursor.id)
    found = list(runs[offset : offset + size + 1])
    shown = _fitting(found[:size]) if not offset else found[:size]
    tasks = present_tasks([as_task(run) for run in shown], params.count("history_length"))
    return Answer(tasks, next_page(shown, more=len(found) > len(shown)))


def cancel(caller: Caller, params: Params) -> Answer:
    """Ends the task at once, whoever works at it.

    That is what `tasks/cancel` means to Bindu's clients: they show what the answer says, so an open task that
    was only asked to stop would look as if the cancel had been refused (CONTRACTS.md 2.2). It is honest as
    long as nothing more comes of the task, and nothing does: what its agent still writes is late, and the
    answer to that tells it who asked and when (DESIGN.md 3.9). That the agent has seen it is noted apart.
    """
    task = caller.task(params.uuid("task_id"), Action.CANCEL)
    by = caller.token.display_name
    with transaction.atomic():
        run = Run.objects.select_for_update(of=("self",)).get(pk=task.run_id, owner=caller.token.owner)
        if run.is_final:
            raise RpcError(
                Code.REFUSED,
                f"Task cannot be canceled in '{state_now(task, run)}' state. "
                "Tasks can only be canceled while pending or running.",
            )
        request_cancel(run, by)
        if not run.is_final:  # one that nobody has begun has ended with that
            transition(run, Status.CANCELLED, raw_status="canceled", by=by)
    return _shown(caller.task(task.task_id, Action.CANCEL))


def give_feedback(caller: Caller, params: Params) -> Answer:
    """Keeps the dict that Bindu would keep. What it cannot do without, and here may be left out, is the
    rating and the metadata."""
    task_id, said = params.uuid("task_id"), params.text("feedback")
    rating, metadata = params.whole("rating"), params.optional_object("metadata")
    task = caller.task(task_id, Action.RATE)
    given: dict[str, Json] = {
        "task_id": str(task.task_id),
        "feedback": said,
        **({} if rating is None else {"rating": rating}),
        **({} if metadata is None else {"metadata": metadata}),
        "timestamp": instant(timezone.now()),
    }
    give_task_feedback(task, caller.token, given)
    return Answer({"message": "Feedback submitted successfully", "task_id": str(task.task_id)})


# ── Lists, of contexts as well ─────────────────────────────────────────────
def page_of(params: Params) -> tuple[int, int]:
    """How many are asked for, at most MOST, and how many are passed over."""
    sizes = (params.count(name) for name in ("limit", "length"))
    size = next((size for size in sizes if size is not None), MOST)
    return min(size, MOST), params.count("offset") or 0


def cursor_of(params: Params) -> Cursor | None:
    given = params.optional_text("cursor")
    try:
        return None if given is None else Cursor.parse(given)
    except ValueError as error:
        raise Unreadable(f"params.cursor is {error}") from None


def next_page(shown: list, *, more: bool) -> dict[str, str]:
    """The header that leads on from the last row that is shown."""
    return {"X-Next-Cursor": str(Cursor(shown[-1].created_at, shown[-1].pk))} if more and shown else {}


def _shown(task: Task, history_length: int | None = None) -> Answer:
    (shown,) = present_tasks([task], history_length)
    return Answer(shown)


def _asked(caller: Caller, params: Params) -> RunQuerySet:
    runs = caller.runs(Action.VIEW).select_related("task__context").defer(*_UNREAD)
    if (context_id := params.optional_uuid("context_id")) is not None:
        runs = _in_context(caller, runs, context_id)
    if (state := params.optional_text("state")) is not None:
        runs = _in_state(runs, state)
    return runs.newest_first()


def _in_context(caller: Caller, runs: RunQuerySet, context_id: UUID) -> RunQuerySet:
    """Of every agent that has a context of this id; of what came by another way it is the session's."""
    contexts = Context.objects.visible_to(caller.token).current(caller.namespace)
    sessions = contexts.filter(context_id=context_id).values_list("pk", flat=True)
    return runs.filter(session__in=[*sessions, context_id])


def _in_state(runs: RunQuerySet, state: str) -> RunQuerySet:
    """A state in any dialect; one of A2A's own words finds that word alone."""
    word = canonical_status(state)
    if word is None:
        return runs.filter(raw_status=clean_text(state))
    meaning = status_meaning(word)
    if meaning.raw_statuses:
        named = runs.filter(raw_status__in=meaning.raw_statuses)
        return named.filter(status__in=meaning.statuses) if meaning.statuses else named
    return runs.filter(status__in=meaning.statuses).exclude(raw_status__in=_FINER)


def _fitting(runs: list[Run]) -> list[Run]:
    """The first ones that an answer can hold, and always one."""
    total = 0
    for number, run in enumerate(runs):
        total += run.size
        if total > LARGEST and number:
            return runs[:number]
    return runs
