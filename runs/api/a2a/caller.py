"""Who asks, and the tasks and contexts that they reach: every agent's of their owner, whatever they came by.

What another way in recorded is shown as the task that it would be: a run of kind task without a row of
models.task becomes one that is not saved, with the run's own id, in the context of its session.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Exists, OuterRef, Q

from runs.api.a2a.rpc import Code, RpcError, Unreadable
from runs.exact import Json
from runs.models import Action, Run, Session, Token
from runs.models.context import Context
from runs.models.run import RunQuerySet
from runs.models.session import SessionQuerySet
from runs.models.task import WORDS, Task, state_of


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method came to, and HTTP headers; `runs.api.once.encoded` writes it."""

    result: Json
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caller:
    """A token, and the one agent's room that it asks for; None: all of them."""

    token: Token
    namespace: str | None = None

    def runs(self, action: Action) -> RunQuerySet:
        """Those that are tasks: a restored one whose agent has begun another of its id is none."""
        there = Run.objects.allowing(self.token, action).filter(kind=Run.Kind.TASK)
        runs = there.filter(task__cleared_at=None)
        return runs if self.namespace is None else runs.filter(task__namespace=self.namespace)

    def sessions(self, action: Action) -> SessionQuerySet:
        """Those that have a task, or that an agent opened as a context."""
        sessions = Session.objects.allowing(self.token, action).select_related("context")
        if self.namespace is not None:
            return sessions.filter(context__namespace=self.namespace)
        tasks = Run.objects.filter(session=OuterRef("pk"), kind=Run.Kind.TASK, deleted_at=None)
        return sessions.filter(Q(context__isnull=False) | Exists(tasks))

    def find_task(self, task_id: UUID, action: Action) -> Task | None:
        """None: there is none of this id, or it is another owner's. Raises Unreadable where several agents
        have one."""
        named = Task.objects.allowing(self.token, action).current(self.namespace).filter(task_id=task_id)
        found = _only(list(named.for_reading()), "task", task_id)
        if found is None and self.namespace is None:
            run = self.runs(action).select_related("session").filter(pk=task_id, task=None).first()
            return None if run is None else as_task(run)
        return found

    def task(self, task_id: UUID, action: Action) -> Task:
        """The same. Raises RpcError where there is none."""
        task = self.find_task(task_id, action)
        if task is None:
            raise RpcError(Code.REFUSED, "Task not found")
        return task

    def context(self, context_id: UUID, action: Action) -> Context | Session:
        """Raises RpcError where there is none, and Unreadable where several agents have one of this id."""
        named = Context.objects.allowing(self.token, action).current(self.namespace)
        own = list(named.filter(context_id=context_id).select_related("session"))
        found = _only(own, "context", context_id) or self._session(context_id, action)
        if found is None:
            raise RpcError(Code.REFUSED, f"Context {context_id} not found")
        return found

    def _session(self, session_id: UUID, action: Action) -> Session | None:
        if self.namespace is not None:
            return None
        return self.sessions(action).filter(pk=session_id, context=None).first()


def as_task(run: Run) -> Task:
    """The run's task; of one that came in by another way, the task that it would be."""
    task: Task | None = getattr(run, "task", None)
    return task or Task(
        run=run,
        owner_id=run.owner_id,
        task_id=run.pk,
        context=Context(context_id=run.session_id or run.pk),
        state=WORDS[run.status],
        state_at=run.finished_at or run.updated_at,
        created_at=run.created_at,
    )


def state_now(task: Task, run: Run) -> str:
    """How the task stands, by its run as it was read last."""
    return WORDS[run.status] if task._state.adding else state_of(run)


def _only[Row: (Task, Context)](rows: list[Row], word: str, asked: UUID) -> Row | None:
    if len(rows) > 1:
        rooms = ", ".join(repr(row.namespace) for row in rows[:5])
        raise Unreadable(f"several agents have a {word} {asked}: name one with ?namespace= ({rooms})")
    return rows[0] if rows else None
