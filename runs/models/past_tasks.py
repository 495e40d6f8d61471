"""Tasks and contexts that an agent kept elsewhere, many at once (issue 6, point 7; CONTRACTS.md 2.1).

They become what the same agent would have reported by models.task, with their own times, by statements that
each write the rows of many tasks.
"""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import batched
from typing import Any, cast
from uuid import UUID

from django.db import connection
from django.db.models import F

from runs.exact import Json, clean_text, split_exact
from runs.models.artifact import Artifact, told_artifacts
from runs.models.context import CALLER_LENGTH, SOURCE, Context, ContextMessage, open_context
from runs.models.event import TITLE_LENGTH, Event
from runs.models.feedback import FeedbackVersion, give_feedback
from runs.models.ids import uuid7
from runs.models.imports import Imported
from runs.models.owner import Owner
from runs.models.past import History, PastEvent
from runs.models.run import AGENT_LENGTH, Run, index_run
from runs.models.search import OF_RUN, event_doc, run_doc
from runs.models.session import Session
from runs.models.status import FINAL, Status, moved
from runs.models.task import Task, status_of
from runs.sealing import open_sealed, seal

_EVENTS = 500  # that are written at a time
_ERROR_LENGTH = 2_000  # characters
UNREADABLE = "unreadable"  # the kind of an event for what is no message, and no artifact


@dataclass(frozen=True, slots=True)
class Said:
    """A message or artifact: its JSON text, as a JSONB gave it, and its value."""

    text: str
    value: Json


@dataclass(frozen=True, slots=True)
class PastContext:
    context_id: UUID
    caller: str | None
    data: dict[str, Json]
    messages: Sequence[Said]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class PastTask:
    """A task as it stood at `updated_at`, and some of its history or all of it.

    `last` is its last message, which says why where it failed.
    """

    task_id: UUID
    context_id: UUID
    caller: str | None
    state: str
    state_at: datetime
    created_at: datetime
    updated_at: datetime
    metadata: dict[str, Json]
    last: Said
    messages: Sequence[Said] = ()
    artifacts: Sequence[Said] = ()

    @property
    def status(self) -> Status:
        """A word that names no status of ours is no end (CONTRACTS.md 4.2)."""
        return status_of(self.state) or Status.RUNNING


@dataclass(slots=True)
class Here:
    """What is here of a task: `imported` is None where its agent reported it here itself."""

    run_id: UUID
    is_deleted: bool
    imported: Imported | None


class Room:
    """The tasks and contexts of one agent, for one import. Where a transaction fails, so must this."""

    def __init__(self, owner: Owner, namespace: str, agent: str) -> None:
        self._owner, self._namespace = owner, namespace
        self._agent = clean_text(agent)[:AGENT_LENGTH]
        self._history = History(owner)

    def known(self, task_ids: Sequence[UUID]) -> dict[UUID, Here]:
        """Those of these tasks that are here, and those that were."""
        rows = Task.objects.filter(owner=self._owner, namespace=self._namespace, task_id__in=task_ids)
        here = {
            task_id: Here(run_id, cleared_at is not None, None)
            # One that is there comes after those of its id that were cleared.
            for task_id, run_id, cleared_at in rows.order_by(
                F("cleared_at").asc(nulls_last=True)
            ).values_list("task_id", "run_id", "cleared_at")
        }
        imported = Imported.objects.in_bulk([one.run_id for one in here.values()])
        for one in here.values():
            one.imported = imported.get(one.run_id)
        return here

    def hold(self, run_ids: Collection[UUID]) -> dict[UUID, Imported]:
        """Locks runs, for the caller's transaction, and gives what is here of them: an import of the same
        database by another address may have gone on with them.

        To be called before anything is written, since an agent locks a run before its session.
        """
        runs = Run.objects.select_for_update(of=("self",)).filter(pk__in=run_ids).order_by("pk")
        list(runs.values_list("pk"))
        return Imported.objects.in_bulk(list(run_ids))

    # ── Contexts ───────────────────────────────────────────────────────────
    def unknown(self, context_ids: Collection[UUID]) -> list[UUID]:
        """Those that never were here: one that was cleared comes again with a task of it, not by itself."""
        return sorted(
            set(context_ids) - set(self._contexts(context_ids).values_list("context_id", flat=True))
        )

    def missing(self, context_ids: Collection[UUID]) -> list[UUID]:
        there = self._contexts(context_ids).filter(cleared_at=None)
        return sorted(set(context_ids) - set(there.values_list("context_id", flat=True)))

    def open(self, contexts: Sequence[PastContext]) -> int:
        """Makes those of the contexts that are not here, and gives how many; whose one is stays as it is."""
        by_id = {one.context_id: one for one in contexts}
        new = [by_id[context_id] for context_id in self.missing(by_id)]
        known = set(self._contexts(by_id).values_list("context_id", flat=True))
        sessions = Session.objects.filter(
            owner=self._owner, source=SOURCE, namespace=self._namespace, key__in=map(str, by_id)
        )
        known |= {UUID(key) for key in sessions.values_list("key", flat=True)}
        for one in new:
            if one.context_id in known:  # it was cleared, or something else has made its session
                open_context(self._owner, one.context_id, self._namespace, one.caller, self._agent)
        self._make_contexts([one for one in new if one.context_id not in known])
        return len(new)

    def _contexts(self, context_ids: Collection[UUID]) -> Any:
        return Context.objects.filter(
            owner=self._owner, namespace=self._namespace, context_id__in=list(context_ids)
        )

    def _make_contexts(self, new: Sequence[PastContext]) -> None:
        sessions = [
            Session(
                owner=self._owner,
                source=SOURCE,
                namespace=self._namespace,
                key=str(one.context_id),
                agent=self._agent,
                created_at=one.created_at,
                started_at=one.created_at,
                last_activity_at=one.created_at.replace(microsecond=0),
            )
            for one in new
        ]
        Session.objects.bulk_create(sessions)
        contexts = Context.objects.bulk_create(map(self._context, sessions, new))
        ContextMessage.objects.bulk_create(
            ContextMessage(context=context, payload=said.value, created_at=one.created_at)
            for context, one in zip(contexts, new, strict=True)
            for said in one.messages
        )

    def _context(self, session: Session, one: PastContext) -> Context:
        data, exact = split_exact(one.data)
        return Context(
            session=session,
            owner=self._owner,
            namespace=self._namespace,
            context_id=one.context_id,
            caller=one.caller and one.caller[:CALLER_LENGTH],
            data=data,
            data_exact=exact,
            opened_at=one.created_at,
        )

    # ── Tasks ──────────────────────────────────────────────────────────────
    def add(self, tasks: Sequence[PastTask]) -> dict[UUID, UUID]:
        """Writes tasks that are not here, whose contexts are; gives the ids of their runs."""
        context_ids = {task.context_id for task in tasks}
        contexts = {one.context_id: one for one in self._contexts(context_ids).filter(cleared_at=None)}
        task_ids = [task.task_id for task in tasks]
        taken = set(Run.objects.filter(pk__in=task_ids).values_list("pk", flat=True))
        # In the order in which they began, as the search index has its blocks.
        told = [
            _Told(task, uuid7() if task.task_id in taken else task.task_id)
            for task in sorted(tasks, key=lambda task: task.created_at)
        ]
        runs = [self._run(one, contexts[one.task.context_id]) for one in told]
        Run.objects.bulk_create(runs)
        Task.objects.bulk_create([self._task(one, contexts[one.task.context_id]) for one in told])
        self._write(told, runs)
        Imported.objects.bulk_create(map(_imported, told))
        _note_activity(told)
        return {one.task.task_id: one.run_id for one in told}

    def go_on(self, run_id: UUID, task: PastTask) -> None:
        """Appends what `task` tells to the history of a task that `add` wrote, whatever its state."""
        run = Run.objects.select_for_update(of=("self",)).only(*_COUNTED).get(pk=run_id)
        one = _Told(task, run_id, run.event_count + 1, is_new=False)
        Run.objects.filter(pk=run_id).update(
            event_count=run.event_count + len(one.events),
            artifact_count=run.artifact_count + len(one.artifacts),
            size=run.size + one.size,
            updated_at=max(run.updated_at, task.updated_at),
        )
        self._write([one])
        Imported.objects.filter(pk=run_id).update(
            messages=F("messages") + len(task.messages), artifacts=F("artifacts") + len(task.artifacts)
        )
        _note_activity([one])

    def move(self, run_id: UUID, task: PastTask) -> bool:
        """Brings a task that `add` wrote where it stands there, with its metadata.

        False: it has ended here otherwise, and stays so.
        """
        run = Run.objects.select_for_update(of=("self",)).select_related("session").get(pk=run_id)
        Imported.objects.filter(pk=run_id).update(state=task.state, changed_at=task.updated_at)
        if run.status in FINAL:
            return run.status == task.status
        held, exact = split_exact(task.metadata)
        state = clean_text(task.state)
        moved(
            Run.objects.filter(pk=run_id),
            task.status,
            raw_status=state,
            metadata=held,
            error=_error(task),
            **_times(task),
        )
        Task.objects.filter(pk=run_id).update(metadata_exact=exact, state=state, state_at=task.state_at)
        run.refresh_from_db(fields=["error", "metadata"])
        index_run(run)
        return True

    def rate(self, run_id: UUID, given: Json, at: datetime) -> bool:
        """Keeps what somebody said of a task there, as it came; False: it is here already."""
        said = FeedbackVersion.objects.filter(feedback__run=run_id, feedback__author=_Elsewhere.actor)
        if any(one == given for one in said.filter(created_at=at).values_list("raw", flat=True)):
            return False
        rating, comment, metadata = (
            given.get(name) if isinstance(given, dict) else None
            for name in ("rating", "feedback", "metadata")
        )
        give_feedback(
            Run(pk=run_id),
            cast(Any, _Elsewhere),
            rating if type(rating) is int and 1 <= rating <= 5 else None,
            comment if isinstance(comment, str) else "",
            metadata=metadata if isinstance(metadata, dict) else None,
            at=at,
            raw=given,
        )
        return True

    def configure(self, run_id: UUID, config: dict[str, Json]) -> bool:
        """Keeps where the agent itself tells about a task, sealed; False: it is here already."""
        this = Task.objects.filter(pk=run_id)
        sealed = this.values_list("push_config", flat=True).get()
        if sealed is not None and open_sealed(sealed) == config:
            return False
        return bool(this.update(push_config=seal(config)))

    def _run(self, one: "_Told", context: Context) -> Run:
        task = one.task
        return Run(
            id=one.run_id,
            owner=self._owner,
            session_id=context.session_id,
            kind=Run.Kind.TASK,
            agent=self._agent,
            title=_title(task.messages),
            status=task.status,
            raw_status=clean_text(task.state),
            metadata=split_exact(task.metadata)[0],
            error=_error(task),
            created_at=task.created_at,
            updated_at=task.updated_at,
            event_count=len(one.events),
            artifact_count=len(one.artifacts),
            size=one.size,
            **_times(task),
        )

    def _task(self, one: "_Told", context: Context) -> Task:
        task = one.task
        return Task(
            run_id=one.run_id,
            owner=self._owner,
            namespace=self._namespace,
            task_id=task.task_id,
            context=context,
            caller=task.caller and task.caller[:CALLER_LENGTH],
            state=clean_text(task.state),
            state_at=task.state_at,
            created_at=task.created_at,
            metadata_exact=split_exact(task.metadata)[1],
        )

    def _write(self, told: Sequence["_Told"], new: Sequence[Run] = ()) -> None:
        """Their events and artifacts, and what all is found by."""
        ids = [one.run_id for one in told]
        found = Run.objects.filter(pk__in=ids).values_list("pk", "search_block")
        blocks = cast("dict[UUID, int]", dict(found))  # a trigger has filled it
        docs = ((run, run_doc(run.title, run.error, run.metadata, source=SOURCE)) for run in new)
        self._history.write_docs((run.pk, blocks[run.pk], OF_RUN, doc) for run, doc in docs)
        events = (event for one in told for event in one.past_events(blocks[one.run_id]))
        for some in _one_ahead(batched(events, _EVENTS)):  # their words take more memory than they do
            self._history.write(some)
        Artifact.objects.bulk_create([row for one in told for row in one.artifacts])


class _Elsewhere:
    """Who gave feedback there: nobody who is known here."""

    actor, display_name = "import:bindu", "Bindu"


_COUNTED = ("event_count", "artifact_count", "size", "updated_at")


class _Told:
    """What a task tells, as rows to be: artifacts, and events from number `first` on. `is_new`: nothing of
    it is here yet."""

    def __init__(self, task: PastTask, run_id: UUID, first: int = 1, *, is_new: bool = True) -> None:
        self.task, self.run_id, self._first = task, run_id, first
        odd = [said for said in task.artifacts if not isinstance(said.value, dict)]
        made = [said.value for said in task.artifacts if isinstance(said.value, dict)]
        self.events = [*task.messages, *odd]
        self.artifacts = told_artifacts(Run(pk=run_id), made, none_are_there=is_new) if made else []
        for row in self.artifacts:
            row.created_at = task.updated_at

    @property
    def size(self) -> int:
        return sum(len(one.text.encode()) for one in self.events) + sum(row.size for row in self.artifacts)

    def past_events(self, block: int) -> Iterator[PastEvent]:
        """Of the first it is known when it was said, and of the others by when."""
        for seq, said in enumerate(self.events, self._first):
            at = self.task.created_at if seq == 1 else self.task.updated_at
            is_message = isinstance(said.value, dict) and seq - self._first < len(self.task.messages)
            role = said.value.get("role") if is_message else ""
            yield PastEvent(
                run_id=self.run_id,
                block=block,
                seq=seq,
                kind=Event.Kind.MESSAGE if is_message else UNREADABLE,
                role=clean_text(role)[:50] if isinstance(role, str) else "",
                payload=said.text,
                at=at,
                doc=event_doc(said.value),
            )


def _one_ahead[Piece](pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Makes the next piece while PostgreSQL is at work on this one: each takes about half of the time."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = thread.submit(next, pieces, None)
            yield piece


def _imported(one: _Told) -> Imported:
    return Imported(
        run_id=one.run_id,
        state=one.task.state,
        messages=len(one.task.messages),
        artifacts=len(one.task.artifacts),
        changed_at=one.task.updated_at,
    )


def _times(task: PastTask) -> dict[str, datetime]:
    """When it began is told nowhere but for when it was submitted."""
    times = {} if task.status == Status.QUEUED else {"started_at": task.created_at}
    return {**times, "finished_at": max(task.state_at, task.created_at)} if task.status in FINAL else times


def _error(task: PastTask) -> str | None:
    return (_words(task.last.value)[:_ERROR_LENGTH] or None) if task.status == Status.FAILED else None


def _title(messages: Sequence[Said]) -> str:
    """The beginning of what a user said, as one line."""
    of_user = (
        one.value for one in messages if isinstance(one.value, dict) and one.value.get("role") == "user"
    )
    return " ".join(_words(next(of_user, None))[: TITLE_LENGTH * 4].split())[:TITLE_LENGTH]


def _words(message: Json) -> str:
    parts = message.get("parts") if isinstance(message, dict) else None
    texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return clean_text(" ".join(text for text in texts if isinstance(text, str)))


def _note_activity(told: Sequence[_Told]) -> None:
    with connection.cursor() as cursor:
        runs, times = [one.run_id for one in told], [one.task.updated_at for one in told]
        cursor.execute(_ACTIVITY, {"runs": runs, "times": times})


# A clock elsewhere may be ahead of ours.
_ACTIVITY = """
    UPDATE session SET last_activity_at = date_trunc('second', least(latest.at, statement_timestamp()))
    FROM (
        SELECT run.session_id, max(given.at) AS at
        FROM unnest(%(runs)s::uuid[], %(times)s::timestamptz[]) AS given (run_id, at)
        JOIN run ON run.id = given.run_id GROUP BY 1
    ) AS latest
    WHERE session.id = latest.session_id
    AND last_activity_at < date_trunc('second', least(latest.at, statement_timestamp()))
"""
