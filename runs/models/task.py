"""Tasks as agents report them: the verbs of Bindu's Storage (issue 6, point 1; CONTRACTS.md 2.3).

A task is a run, and its row here says by which id its agent knows it. The ids are the client's, so all is
looked up by (owner, namespace, id), never by the run's id alone: two agents of one owner may use the same ids
and see nothing of each other. What was cleared stays as a tombstone, so that an agent that still writes to it
is answered quietly.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from uuid import UUID

from django.db import IntegrityError, connection, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from runs.exact import Json, clean_text, join_exact, split_exact
from runs.models.access import OwnedQuerySet
from runs.models.artifact import Artifact, told_artifacts
from runs.models.context import CALLER_LENGTH, NAMESPACE_LENGTH, Context, begin_context, find_context
from runs.models.event import Event, NewEvent, append_events
from runs.models.feedback import FeedbackVersion, give_feedback
from runs.models.ids import uuid7
from runs.models.owner import Owner
from runs.models.run import AGENT_LENGTH, Run, index_run
from runs.models.status import FINAL, Status, moved
from runs.models.token import Token
from runs.models.transition import request_cancels
from runs.query.statuses import WORDS as WORDS_OF_ALL
from runs.query.statuses import canonical_status, status_meaning
from runs.sealing import Unsealable, open_sealed, seal

log = logging.getLogger(__name__)

STATE_LENGTH = 100  # characters
_ERROR_LENGTH = 2_000
_TRIES = 8  # to make a task, while others make and clear the same one

# What A2A calls our statuses (CONTRACTS.md 4.2).
WORDS: dict[str, str] = {
    Status.QUEUED: "submitted",
    Status.RUNNING: "working",
    Status.INPUT_REQUIRED: "input-required",
    Status.PAUSED: "suspended",
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "canceled",
}


class TaskFinal(ValueError):
    """The task has ended and takes no further message; the text is Bindu's own."""

    def __init__(self, task: "Task") -> None:
        super().__init__(
            f"Cannot continue task {task.task_id}: Task is in terminal state '{task.state}' and is "
            "immutable. "
            "Create a new task with referenceTaskIds to continue the conversation."
        )


class OwnedByAnother(ValueError):
    """The context or task is another caller's (CONTRACTS.md 2.4)."""


class _ClearedMeanwhile(IntegrityError):
    """Somebody cleared the context while a task was made in it."""


class TaskQuerySet(OwnedQuerySet["Task"]):
    def current(self, namespace: str | None = None) -> Self:
        """Those that are not cleared: of one agent, or of all."""
        there = self.filter(cleared_at=None)
        return there if namespace is None else there.filter(namespace=namespace)

    def of_caller(self, caller: str | None) -> Self:
        """The caller's own; None asks for no caller."""
        return self if caller is None else self.filter(caller=caller)

    def for_reading(self) -> Self:
        """With their runs and contexts, but none of a run's payloads."""
        return self.select_related("run", "context").only(*_READ)


# A run's spec, and whatever else only evaluations have, may be large.
_OF_TASK = (
    *("run_id", "owner_id", "namespace", "task_id", "context_id", "caller", "state", "state_at"),
    *("created_at", "cleared_at", "metadata_exact"),
)
_OF_RUN = (
    *("id", "owner_id", "session_id", "kind", "status", "raw_status", "metadata", "size", "event_count"),
    *("artifact_count", "cancel_requested_at", "cancel_requested_by", "cancel_reason"),
)
_OF_CONTEXT = ("session_id", "owner_id", "context_id", "caller")
_READ = (
    *_OF_TASK,
    *(f"run__{name}" for name in _OF_RUN),
    *(f"context__{name}" for name in _OF_CONTEXT),
)


class Task(models.Model):
    """What an agent calls a task: its id there, whose it is, and in which state it is in A2A's words."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, primary_key=True, related_name="task")
    owner = models.ForeignKey(Owner, on_delete=models.PROTECT, related_name="tasks", db_index=False)
    namespace = models.CharField(
        max_length=NAMESPACE_LENGTH, blank=True, default="", help_text="An agent's own room."
    )
    task_id = models.UUIDField()
    context = models.ForeignKey(Context, on_delete=models.PROTECT, related_name="tasks", db_index=False)
    caller = models.CharField(  # noqa: DJ001  None: nobody's
        max_length=CALLER_LENGTH, null=True, blank=True, help_text="Who asked, as the agent knows them."
    )
    # Kept true by a trigger of the run, whoever moves it (triggers.tell_task).
    state = models.TextField(default="submitted", editable=False)
    state_at = models.DateTimeField(db_default=Now(), editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False, help_text="As that of its run.")
    cleared_at = models.DateTimeField(null=True, blank=True, editable=False)
    metadata_exact = models.TextField(null=True, editable=False)  # noqa: DJ001  None: the run's is exact
    push_config = models.BinaryField(
        null=True, editable=False, help_text="Where the agent itself tells about it, sealed."
    )

    objects: ClassVar = TaskQuerySet.as_manager()

    class Meta:
        db_table = "task"
        constraints = [
            # One that is there, and any that were cleared.
            models.UniqueConstraint(
                fields=["owner", "task_id", "namespace", "cleared_at"],
                name="task_once",
                nulls_distinct=False,
            )
        ]
        indexes = [
            models.Index(
                fields=["owner", "namespace", "-created_at", "-run"],
                name="task_list",
                condition=Q(cleared_at=None),
            ),
            models.Index(
                fields=["owner", "namespace", "state", "-created_at", "-run"],
                name="task_state_list",
                condition=Q(cleared_at=None),
            ),
            models.Index(
                fields=["owner", "namespace", "caller", "-created_at", "-run"],
                name="task_caller_list",
                condition=Q(cleared_at=None, caller__isnull=False),
            ),
            # With the cleared ones: before a context goes, PostgreSQL looks for tasks that point to it.
            models.Index(fields=["context", "created_at", "run"], name="task_context"),
            models.Index(
                fields=["owner", "namespace", "task_id"],
                name="task_push",
                condition=Q(push_config__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"task {self.task_id}"

    @property
    def metadata(self) -> dict[str, Json]:
        """Exactly as it came, unless it was corrected since."""
        if self.metadata_exact is not None:
            exact: dict[str, Json] = json.loads(self.metadata_exact)
            if _as_jsonb(split_exact(exact)[0]) == _as_jsonb(self.run.metadata):
                return exact
        return self.run.metadata if isinstance(self.run.metadata, dict) else {}


def _as_jsonb(value: Json) -> Json:
    """To be compared: what JSONB makes of a large float is a whole number."""
    return json.loads(json.dumps(value), parse_int=float)


# ── What is reported ───────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Update:
    """One step that an agent reports; a `state` of None leaves the task where it is."""

    state: str | None = None
    artifacts: Sequence[dict[str, Any]] = ()
    messages: Sequence[dict[str, Any]] = ()
    metadata: Mapping[str, Json] = field(default_factory=dict)


def status_of(state: str) -> Status | None:
    """Our status for a state in any dialect (CONTRACTS.md 4.2); None for a word that names none of ours."""
    word = canonical_status(state)
    statuses = status_meaning(word).statuses if word else ()
    return Status(statuses[0]) if statuses else None


def state_of(run: Run) -> str:
    """How a run stands in A2A's words: in its protocol's own while they say what the status says."""
    meant = status_of(run.raw_status) if run.raw_status else None
    if run.raw_status and (meant == run.status or (meant is None and not run.is_final)):
        return run.raw_status
    return WORDS[run.status]


def words_like(state: str) -> list[str]:
    """The words, of any dialect, that say the same as `state`."""
    meant = canonical_status(state)
    same = [word for word in WORDS_OF_ALL if canonical_status(word) == meant] if meant else []
    return [state, *same, *(word.replace("_", "-") for word in same)]


def submit_task(
    owner: Owner,
    message: dict[str, Any],
    task_id: UUID,
    context_id: UUID,
    *,
    namespace: str = "",
    caller: str | None = None,
    agent: str = "",
    metadata: Mapping[str, Json] | None = None,
) -> tuple[Task, bool]:
    """A new task with its first message, or one message more for an open task, which is then submitted
    again; and whether it is new.

    Of several at once that submit the same new task one makes it, and the others continue it. A task keeps
    the context that it has. Raises OwnedByAnother where context or task are another caller's, and TaskFinal.
    """
    said = {**message, "task_id": str(task_id), "context_id": str(context_id)}
    kept = dict(metadata or {})
    for run_id in _ids_to_try(task_id):
        try:
            with transaction.atomic():
                task = find_task([owner.pk], namespace, task_id, hold=True)
                context = find_context(owner, namespace, context_id)
                _require_own(context, caller)
                if task is not None and task.cleared_at is None:
                    _continue(task, caller, said, kept)
                    return task, False
                room = begin_context(context, owner, namespace, context_id, caller, agent)
                _require_own(room, caller)
                return _make(room, task_id, run_id, agent, said, kept), True
        except IntegrityError as error:
            taken = error  # the id, by another owner's run; or task or context changed just now
    raise taken


def open_task(
    owner: Owner, task_id: UUID, context_id: UUID, namespace: str = "", agent: str = ""
) -> tuple[Task, bool]:
    """The task of this id, `held`, and whether it is new: then without any message, for its agent does not
    report it here (models.pushed). One that was cleared stays so."""
    for run_id in _ids_to_try(task_id):
        task = find_task([owner.pk], namespace, task_id, hold=True)
        if task is not None:
            return task, False
        try:
            with transaction.atomic():
                found = find_context(owner, namespace, context_id)
                room = begin_context(found, owner, namespace, context_id, None, agent)
                return _make(room, task_id, run_id, agent, None, {}), True
        except IntegrityError as error:
            taken = error
    raise taken


def _ids_to_try(task_id: UUID) -> Iterator[UUID]:
    """For the run of a new task. The task's own is often taken, by one of its id that was cleared."""
    yield task_id
    for _ in range(_TRIES):
        yield uuid7()


def update_task(task: Task, updates: Sequence[Update], *, past: bool = False) -> bool:
    """Appends what an agent reports and moves the task, as one; `task` is held, in the same transaction.

    False: the task had ended. Nothing of it has changed then, and what came is kept as `late_write`
    (CONTRACTS.md 2.2), unless it is `past`: from before the end, and with no state. What comes after an
    update that ends the task is late as well.
    """
    if task.run.is_final and not past:
        _keep_late(task, updates, Status(task.run.status))
        return False
    change = _Change(Status(task.run.status), state_of(task.run), task.metadata)
    for number, update in enumerate(updates):
        if change.status in FINAL and not past:
            _apply(task, change)
            _keep_late(task, updates[number:], change.status)
            return True
        change.add(task, update)
    _apply(task, change)
    return True


def move_task(task: Task, from_state: str, to_state: str) -> bool:
    """Moves a task that is in this very state, whatever its dialect; `task` is held. Of many callers one
    is told True."""
    is_there = _plain(state_of(task.run)) == _plain(from_state)
    if task.cleared_at is not None or task.run.is_final or not is_there:
        return False
    return update_task(task, [Update(to_state)])


def _plain(state: str) -> str:
    return canonical_status(state) or state


def cancel_task(task: Task, by: str, reason: str = "") -> None:
    """Asks the agent to stop; a task that nobody has begun ends at once. Safe to repeat."""
    request_cancels(Run.objects.filter(pk=task.run_id), by, reason)


@dataclass
class _Change:
    """What some updates come to."""

    status: Status
    state: str
    metadata: dict[str, Json]
    events: list[NewEvent] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None

    def add(self, task: Task, update: Update) -> None:
        self.events += [_message(task, one) for one in update.messages]
        self.artifacts += update.artifacts
        self.metadata = {**self.metadata, **update.metadata}
        if update.state is not None:
            self._move(update.state, update.messages)

    def _move(self, state: str, messages: Sequence[dict[str, Any]]) -> None:
        """To a word that names no status of ours the task goes where it is."""
        to = status_of(state) or self.status
        if (to, state) != (self.status, self.state):
            step = {"from": self.status, "to": to, "raw": state}
            self.events.append(NewEvent(Event.Kind.STATE, step))
        if to == Status.FAILED and messages:
            self.error = clean_text(_words(messages[-1]))[:_ERROR_LENGTH] or None
        self.status, self.state = to, state


def _apply(task: Task, change: _Change) -> None:
    run = task.run
    columns: dict[str, Any] = {}
    if change.artifacts:
        columns |= _keep_artifacts(run, change.artifacts)
    if change.metadata != task.metadata:
        columns |= _keep_metadata(task, change.metadata)
    if change.error is not None:
        columns["error"] = change.error
    this = Run.objects.filter(pk=run.pk)
    if not run.is_final and (change.status, change.state) != (run.status, run.raw_status):
        moved(this, change.status, raw_status=change.state, **_standing(run, change.status), **columns)
    elif columns:
        this.update(updated_at=Now(), **columns)
    if change.events:
        append_events(run, change.events, past=True)  # what ends a task comes with its end
    if {"error", "metadata"} & set(columns):
        index_run(Run.objects.select_related("session").get(pk=run.pk))


def _standing(run: Run, to: Status) -> dict[str, Any]:
    if to == Status.RUNNING:
        return {"started_at": Coalesce(F("started_at"), Now())}
    if to == Status.CANCELLED and run.cancel_requested_at is not None:
        return {"cancel_acknowledged_at": Coalesce(F("cancel_acknowledged_at"), Now())}
    return {}


def _keep_late(task: Task, updates: Iterable[Update], ended: Status) -> None:
    """An agent that says again that its task has `ended` so has said nothing new."""
    new: list[NewEvent] = []
    for update in updates:
        new += [_message(task, one) for one in update.messages]
        new += [NewEvent("artifact", one) for one in update.artifacts]
        if update.metadata:
            new.append(NewEvent(Event.Kind.STATE, {"metadata": dict(update.metadata)}))
        if update.state is not None and status_of(update.state) != ended:
            new.append(NewEvent(Event.Kind.STATE, {"to": update.state, "raw": update.state}))
    if new:
        append_events(task.run, new)


def _require_own(context: Context | None, caller: str | None) -> None:
    if context is not None and context.cleared_at is None and context.caller != caller:
        raise OwnedByAnother(f"Context {context.context_id} is owned by a different caller.")


def _continue(task: Task, caller: str | None, said: dict[str, Any], metadata: dict[str, Json]) -> None:
    if task.caller != caller:
        raise OwnedByAnother(f"Task {task.task_id} is owned by a different caller.")
    if task.run.is_final:
        raise TaskFinal(task)
    change = _Change(Status(task.run.status), state_of(task.run), {**task.metadata, **metadata})
    change.events.append(_message_event(said))
    change.add(task, Update(WORDS[Status.QUEUED]))
    _apply(task, change)


def _make(
    context: Context,
    task_id: UUID,
    run_id: UUID,
    agent: str,
    said: dict[str, Any] | None,
    metadata: dict[str, Json],
) -> Task:
    held, exact = split_exact(metadata)
    run = Run(
        id=run_id,
        owner_id=context.owner_id,
        session=context.session,
        kind=Run.Kind.TASK,
        agent=clean_text(agent)[:AGENT_LENGTH],
        raw_status=WORDS[Status.QUEUED],
        metadata=held,
    )
    run.save(force_insert=True)
    # Which locked the session (triggers.count_runs): a context that is there by now stays while this goes on.
    if not Context.objects.filter(owner=context.owner_id, pk=context.pk, cleared_at=None).exists():
        raise _ClearedMeanwhile(f"context {context.context_id}")
    task = Task(
        run=run,
        owner_id=context.owner_id,
        namespace=context.namespace,
        task_id=task_id,
        context=context,
        caller=context.caller,
        metadata_exact=exact,
        created_at=run.created_at,
    )
    task.save(force_insert=True)
    index_run(run)
    if said is not None:
        append_events(run, [_message_event(said)])
    return task


def _message(task: Task, message: dict[str, Any]) -> NewEvent:
    ids = {"task_id": str(task.task_id), "context_id": str(task.context.context_id)}
    return _message_event({**message, **ids})


def _message_event(message: dict[str, Any]) -> NewEvent:
    """Without an id of its own: a message that is sent twice is twice in the history (CONTRACTS.md 2.3)."""
    role = message.get("role")
    return NewEvent(Event.Kind.MESSAGE, message, role=role if isinstance(role, str) else "")


def _words(message: Mapping[str, Any]) -> str:
    parts = message.get("parts")
    texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return " ".join(text for text in texts if isinstance(text, str))


def _keep_metadata(task: Task, metadata: dict[str, Json]) -> dict[str, Any]:
    held, exact = split_exact(metadata)
    if exact != task.metadata_exact:
        Task.objects.filter(pk=task.pk).update(metadata_exact=exact)
    return {"metadata": held}


def _keep_artifacts(run: Run, given: Sequence[dict[str, Any]]) -> dict[str, Any]:
    rows = told_artifacts(run, given, none_are_there=not run.artifact_count)
    Artifact.objects.bulk_create(rows)
    return {
        "artifact_count": F("artifact_count") + len(rows),
        "size": F("size") + sum(row.size for row in rows),
    }


def tasks_of(contexts: Sequence[Context]) -> dict[UUID, list[UUID]]:
    """The ids of their tasks by session, oldest first."""
    found: dict[UUID, list[UUID]] = defaultdict(list)
    rows = Task.objects.filter(context__in=contexts, cleared_at=None).order_by("created_at", "run")
    for session_id, task_id in rows.values_list("context", "task_id"):
        found[session_id].append(task_id)
    return found


# ── Feedback and push configuration ────────────────────────────────────────
def give_task_feedback(task: Task, author: Token, given: dict[str, Json]) -> None:
    """Keeps a dict of Bindu's as it is; what of it is a rating from 1 to 5 or a comment counts as that."""
    rating, comment, metadata = (given.get(name) for name in ("rating", "feedback", "metadata"))
    give_feedback(
        task.run,
        author,
        rating if type(rating) is int and 1 <= rating <= 5 else None,
        comment if isinstance(comment, str) else "",
        metadata=metadata if isinstance(metadata, dict) else None,
        raw=given,
    )


def task_feedback(task: Task) -> list[Json]:
    """Every dict that was given for the task, oldest first."""
    said = FeedbackVersion.objects.filter(feedback__run=task.run_id, raw__isnull=False).order_by("id")
    return [join_exact(raw, exact) for raw, exact in said.values_list("raw", "raw_exact")]


def put_push_config(task: Task, config: dict[str, Json] | None) -> None:
    """Keeps where the agent itself tells about the task, or forgets it; nothing is sent there from here."""
    sealed = None if config is None else seal(config)
    Task.objects.filter(pk=task.pk).update(push_config=sealed)


def push_config_of(task: Task) -> Json:
    """As it was given; None where there is none. Raises runs.sealing.Unsealable."""
    return None if task.push_config is None else open_sealed(task.push_config)


def push_configs(tasks: TaskQuerySet) -> dict[UUID, Json]:
    """Those that are kept, by task id; one that cannot be opened keeps nobody from the others."""
    found: dict[UUID, Json] = {}
    kept = tasks.filter(push_config__isnull=False).order_by("task_id").only("task_id", "push_config")
    for task in kept:
        try:
            found[task.task_id] = push_config_of(task)
        except Unsealable as error:
            log.warning("push configuration of task %s: %s", task.task_id, error)
    return found


# ── Reading them ───────────────────────────────────────────────────────────
def find_task(
    owners: Sequence[int], namespace: str, task_id: UUID, caller: str | None = None, *, hold: bool = False
) -> Task | None:
    """The task of one of these owners that an agent calls so, with its run and context; else the last one of
    that id that was cleared, and None if there never was one. `caller` leaves only theirs.

    With `hold` its run is locked, so that nobody else moves it in this transaction, and what comes back is
    what is there once whoever held it has let go. In SQL, because each request of an agent begins with it,
    and Django takes longer to write it than PostgreSQL to answer.
    """
    named = {"owners": list(owners), "namespace": namespace, "task_id": task_id, "caller": caller}
    return _one_task(_HELD if hold else _NAMED, named)


def task_now(task: Task) -> Task:
    """The task as it is by now, whoever moved it. Raises Task.DoesNotExist."""
    found = _one_task(_NOW, {"owner": task.owner_id, "run": task.run_id})
    if found is None:
        raise Task.DoesNotExist(task.run_id)
    return found


def _one_task(statement: str, parameters: dict[str, Any]) -> Task | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row = cursor.fetchone()
    if row is None:
        return None
    of_run, of_context = len(_OF_TASK), len(_OF_TASK) + len(_OF_RUN)
    task = _read(Task, _OF_TASK, row)
    task.run = _read(Run, _OF_RUN, row[of_run:])
    task.run.metadata = json.loads(task.run.metadata)
    task.context = _read(Context, _OF_CONTEXT, row[of_context:])
    return task


def _read[Row: models.Model](model: type[Row], names: Sequence[str], values: Sequence[Any]) -> Row:
    """A row whose other columns are read when they are needed; Django wants these in its own order."""
    given = dict(zip(names, values, strict=False))
    ordered = [str(one.attname) for one in model._meta.concrete_fields if one.attname in given]
    return model.from_db(connection.alias, ordered, [given[name] for name in ordered])


_COLUMNS = ", ".join(
    f"{table}.{name}"
    for table, names in (("task", _OF_TASK), ("run", _OF_RUN), ("context", _OF_CONTEXT))
    for name in names
)
_FROM = f"""
    SELECT {_COLUMNS} FROM task
    JOIN run ON run.id = task.run_id JOIN context ON context.session_id = task.context_id
"""
_NOW = f"{_FROM} WHERE task.owner_id = %(owner)s AND task.run_id = %(run)s"
_NAMED = f"""
    {_FROM} WHERE task.owner_id = ANY(%(owners)s) AND task.namespace = %(namespace)s
    AND task.task_id = %(task_id)s AND (%(caller)s::text IS NULL OR task.caller = %(caller)s)
    ORDER BY task.cleared_at DESC NULLS FIRST LIMIT 1
"""
# In this order, as whoever moves a run does it (triggers.tell_task); a row that is joined and not locked
# would be as it was before the wait.
_HELD = f"{_NAMED} FOR UPDATE OF run, task"


def histories(
    runs: Sequence[UUID], length: int | None = None, until: int | None = None
) -> dict[UUID, list[str]]:
    """The messages of these runs as JSON texts, oldest first: the last `length` of each, or all; none that
    came after the event `until`."""
    found: dict[UUID, list[str]] = defaultdict(list)
    if not runs:
        return found
    limits = {"runs": list(runs), "length": length or None, "until": until}
    with connection.cursor() as cursor:
        cursor.execute(_LAST_MESSAGES if length else _MESSAGES, limits)
        for run_id, text in cursor.fetchall():
            found[run_id].append(text)
    return found


_MESSAGES = """
    SELECT run_id, coalesce(payload_exact, payload::text) FROM event
    WHERE run_id = ANY(%(runs)s) AND kind = 'message' AND (%(until)s::integer IS NULL OR seq <= %(until)s)
    ORDER BY run_id, seq
"""
_LAST_MESSAGES = """
    SELECT run_id, said FROM unnest(%(runs)s::uuid[]) AS asked CROSS JOIN LATERAL (
        SELECT run_id, seq, coalesce(payload_exact, payload::text) AS said FROM event
        WHERE run_id = ANY(%(runs)s) AND run_id = asked AND kind = 'message'
        AND (%(until)s::integer IS NULL OR seq <= %(until)s)
        ORDER BY seq DESC LIMIT %(length)s
    ) AS last ORDER BY run_id, seq
"""


def artifacts_of(runs: Sequence[UUID]) -> dict[UUID, list[str]]:
    """The artifacts of these runs as JSON texts, in the order in which they came."""
    found: dict[UUID, list[str]] = defaultdict(list)
    if not runs:
        return found
    with connection.cursor() as cursor:
        cursor.execute(_ARTIFACTS, {"runs": list(runs)})
        for run_id, text in cursor.fetchall():
            found[run_id].append(text)
    return found


_ARTIFACTS = """
    SELECT run_id, coalesce(
        told_exact,
        (told || jsonb_build_object('parts', parts))::text,
        '{"artifact_id": ' || to_json(artifact_id) || ', "name": ' || to_json(name)
            || ', "parts": ' || coalesce(parts_exact, parts::text) || '}'
    ) FROM artifact WHERE run_id = ANY(%(runs)s) ORDER BY run_id, id
"""
