"""Reading what is new of a conversation into its session, its runs and their events (issue 6, point 4).

A run is a burst of work: it begins with a user's message, or with what comes first, and ends when the
conversation does, or when the next message comes after the agent has acted. A batch is one transaction, so
that whatever ends a worker, each event is there once.

OpenHands writes times without a zone. They are kept as they are, in the event; where times are compared, it
is by when a file was written here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import md5
from typing import Any
from uuid import UUID, uuid5

from django.db import connection

from runs.api.strict_json import JsonError
from runs.exact import Json, clean_text, split_exact
from runs.models import (
    Event,
    NewEvent,
    Owner,
    Run,
    Session,
    Status,
    Usage,
    acknowledge_cancel,
    append_events,
    transition,
)
from runs.models.conversation import Conversation, looked_at
from runs.models.ids import uuid7
from runs.models.run import AGENT_LENGTH
from runs.models.session import KEY_LENGTH
from runs.openhands.events import Outcome, Told, told
from runs.openhands.state import State, Used, read_state, run_status, spelled

SOURCE = "openhands"
AT_ONCE = 200  # events of a batch
ROOM = 2_000_000  # bytes of its files; one that is larger is a batch of its own
LONGEST = 50_000_000  # bytes of an event that is read
GIVEN_UP_AFTER = 3  # failures over one event; it is passed over then

_RUNS = UUID("6f70656e-6861-5e64-8d73-72756e666f6c")  # the ids of runs are made within it
_BASE = "base_state.json"
_EVENT = re.compile(r"events/event-(\d{5,})-([0-9a-fA-F-]{8,})\.json")
_NAMED = r"^events/event-\d{5,}-[0-9a-fA-F-]{8,}\.json$"
_SHOWN = 20_000  # characters of what is not JSON
_NOTHING = Used()
_MOMENT = timedelta(microseconds=1)
_ENDED = {
    Outcome.ANSWERED: (Status.SUCCEEDED, "finished"),
    Outcome.FAILED: (Status.FAILED, "error"),
    Outcome.STOPPED: (Status.CANCELLED, "paused"),
    Outcome.UNKNOWN: (Status.CANCELLED, "interrupted"),
}


@dataclass(frozen=True, slots=True)
class File:
    """`content` is None where it is too large to be read."""

    path: str
    content: bytes | None
    size: int
    at: datetime

    @property
    def index(self) -> int:
        return int(self._named[1])

    @property
    def event_id(self) -> str:
        return self._named[2]

    @property
    def _named(self) -> re.Match[str]:
        found = _EVENT.fullmatch(self.path)
        if found is None:
            raise ValueError(f"{self.path} is no event's file")
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """What is there of a conversation, all at one instant. `has_last`: the event that was read last."""

    version: int
    base: File | None
    has_last: bool
    events: list[File]
    is_all: bool

    @property
    def is_nothing(self) -> bool:
        return self.base is None and not self.has_last and not self.events


def read_on(conversation: Conversation) -> None:
    """Takes in the next batch of a conversation that the caller's transaction holds."""
    found = _look(conversation)
    if found.is_nothing:
        _note_deletion(conversation)
        looked_at(conversation, found.version)
        return
    state = _state(found.base)
    if _starts_over(conversation, found, state):
        found = _look(conversation)
    _read(conversation, found, state)
    if found.is_all and conversation.replaying:
        conversation.replaying, conversation.read_count = False, _count(conversation)
    looked_at(conversation, found.version if found.is_all else None)


def run_id_of(owner: Owner, key: str, event_id: str) -> UUID:
    """The id of the run that begins with this event, in the session of this key."""
    return uuid5(_RUNS, f"{owner.pk}/{key}/{event_id}")


# ── What is there ──────────────────────────────────────────────────────────
def _look(conversation: Conversation) -> Found:
    """One statement, thus one snapshot: OpenHands writes an event first and the state after it."""
    width = max(5, len(str(conversation.next_index)))
    given = {
        "namespace": conversation.pk,
        "base": _BASE,
        "last": conversation.last_path,
        "first": f"events/event-{conversation.next_index:0{width}d}",
        "end": f"events/event-{'9' * width}~",
        "named": _NAMED.replace("{5,}", f"{{{width}}}"),
        "most": 1 if conversation.failures else AT_ONCE,
        "room": ROOM,
        "longest": LONGEST,
    }
    rows: dict[str, list[tuple[Any, ...]]] = {"version": [], "base": [], "last": [], "event": []}
    with connection.cursor() as cursor:
        cursor.execute(_LOOK, given)
        for what, number, *file in cursor.fetchall():
            rows[what].append((number, *file))
    events = sorted((_file(*row) for row in rows["event"]), key=lambda file: file.path)
    return Found(
        version=rows["version"][0][0],
        base=next((_file(*row) for row in rows["base"]), None),
        has_last=bool(rows["last"]),
        events=events,
        is_all=not events or (rows["event"][0][0] == len(events) and events[-1].index + 1 < 10**width),
    )


def _file(number: int, path: str, content: Any, size: int, at: datetime) -> File:
    return File(path, None if content is None else bytes(content), size, at)


_LOOK = """
    WITH near AS (
        SELECT *, sum(size) OVER (ORDER BY path) - size AS before, row_number() OVER (ORDER BY path) AS place,
            count(*) OVER () AS number
        FROM (
            SELECT id, path, size FROM file
            WHERE namespace_id = %(namespace)s AND path >= %(first)s AND path < %(end)s AND path ~ %(named)s
            ORDER BY path LIMIT %(most)s + 1
        ) AS ahead
    )
    SELECT 'version', version, '', NULL::bytea, 0, NULL::timestamptz
    FROM file_namespace WHERE id = %(namespace)s
    UNION ALL SELECT 'base', 0, path, CASE WHEN size <= %(longest)s THEN content END, size, updated_at
    FROM file WHERE namespace_id = %(namespace)s AND path = %(base)s
    UNION ALL SELECT 'last', 0, path, NULL, 0, NULL
    FROM file WHERE namespace_id = %(namespace)s AND path = %(last)s
    UNION ALL SELECT 'event', near.number, file.path,
        CASE WHEN file.size <= %(longest)s THEN content END, file.size, updated_at
    FROM near JOIN file ON file.id = near.id WHERE before <= %(room)s AND place <= %(most)s
"""


def _count(conversation: Conversation) -> int:
    """How many event files there are, read or not."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM file WHERE namespace_id = %s"
            " AND path >= 'events/event-' AND path < 'events/event-:'",
            [conversation.pk],
        )
        return int(cursor.fetchone()[0])


def _state(base: File | None) -> State:
    """Of a state that is missing or cannot be read nothing is known; the events tell how it went then."""
    if base is None:
        return State()
    try:
        return read_state(base.content or b"")
    except JsonError as wrong:
        return State(problem=f"{_BASE} cannot be read: {wrong if base.content else 'it is too large'}")


# ── Files that are not what they were ────────────────────────────────────────
def _starts_over(conversation: Conversation, found: Found, state: State) -> bool:
    """Whether it is to be read from its beginning, and readies it for that.

    Another conversation in the place of the one that was there is a session of its own. Where files were
    replaced, or are there now before those that were read, what is known is passed over and the rest is
    appended: nothing that was shown goes away.
    """
    if conversation.key and state.key and conversation.key != state.key:
        _forget(conversation)
        conversation.session_id, conversation.key, conversation.replaying = None, "", False
        conversation.input_tokens, conversation.output_tokens, conversation.cost = 0, 0, Decimal(0)
        return True
    was_replaced = bool(conversation.last_path) and not found.has_last
    if was_replaced or (not found.events and _count(conversation) > conversation.read_count):
        _rewind(conversation)
        return True
    return False


def _rewind(conversation: Conversation) -> None:
    conversation.next_index, conversation.last_path, conversation.read_count = 0, "", 0
    conversation.replaying = True


def _forget(conversation: Conversation) -> None:
    _rewind(conversation)
    conversation.run_id, conversation.run_began_at, conversation.last_event_at = None, None, None
    conversation.has_acted, conversation.outcome, conversation.response_id = False, "", ""
    conversation.damaged = {}


def _note_deletion(conversation: Conversation) -> None:
    """The session stays; if the files come back, what is known of them is passed over."""
    session, run = conversation.session, conversation.run
    if session is None:
        return
    _set_metadata(session, {"files": "deleted"})
    if run is not None and not run.is_final:
        transition(run, Status.CANCELLED, raw_status="deleted")
    _rewind(conversation)


# ── Taking in ──────────────────────────────────────────────────────────────
def _read(conversation: Conversation, found: Found, state: State) -> None:
    if found.base is None and not found.events and conversation.session_id is None:
        return  # no conversation
    conversation.key = state.key or conversation.key
    session = _session(conversation, found, state)
    batch = _Batch(conversation, session, state)
    batch.mend()
    for file in found.events:
        batch.take(file)
    if found.is_all:
        batch.settle()
    batch.flush()
    if found.is_all:
        batch.report()
    _fill(session, conversation, state)


class _Batch:
    """Events on their way into the runs of one conversation."""

    def __init__(self, conversation: Conversation, session: Session, state: State) -> None:
        self.conversation = conversation
        self.session = session
        self.state = state
        self.run = conversation.run
        self.pending: list[NewEvent] = []

    def take(self, file: File) -> None:
        """In the run that it belongs to, which may begin with it."""
        conversation = self.conversation
        new, one = self._read(file)
        known = conversation.replaying and self._known(file.event_id)
        if known:
            self._go_to(known)
        else:
            if self._begins(one):
                self._open(file)
            if file.index > conversation.next_index:
                self._note_gap(conversation.next_index, file.index - 1)
            self.pending.append(replace(new, usage=self._usage(one), occurred_at=file.at))
        conversation.has_acted |= one.acts
        conversation.outcome = conversation.outcome if one.outcome is None else one.outcome
        conversation.next_index, conversation.last_path = file.index + 1, file.path
        conversation.last_event_at = file.at
        conversation.read_count += 1

    def mend(self) -> None:
        """Reads again what could not be read and has changed since."""
        before = self.conversation.damaged
        if not before or self.run is None:
            return
        sums = _sums(self.conversation, list(before))
        self.conversation.damaged = {path: before[path] for path in sums if sums[path] == before[path]}
        for path in sorted(sums.keys() - self.conversation.damaged.keys()):
            if file := _one_file(self.conversation, path):
                self.pending.append(replace(self._read(file)[0], occurred_at=file.at))
            if file and file.size > ROOM:
                self.flush()

    def settle(self) -> None:
        """What was used beyond what single events tell goes with the last one. Without any it waits for the
        note of how the run goes on: a state is often written a moment after its events."""
        rest = self._unaccounted()
        if self.pending and rest != _NOTHING:
            last = self.pending[-1]
            told_ = Used(
                last.usage.input_tokens or 0, last.usage.output_tokens or 0, last.usage.cost or Decimal(0)
            )
            self.pending[-1] = replace(last, usage=(told_ + rest).as_usage())
            self._given += rest

    def flush(self) -> None:
        """Appends what is pending to the run that it belongs to."""
        if self.run is not None and self.pending:
            append_events(self.run, self.pending, past=not _was_cancelled(self.run))
            if self.conversation.has_acted and self.run.status == Status.QUEUED:
                self._move(Status.RUNNING, "running")
        self.pending = []

    def report(self) -> None:
        """How the conversation stands is how its last run does, until that has ended."""
        run, raw, rest = self.run, self.state.status, self._unaccounted()
        if run is None or not raw:
            return
        status = run_status(raw, has_acted=self.conversation.has_acted)
        is_of_before = status == Status.QUEUED and raw != "idle"  # all that is known is how that one ended
        if status == Status.PAUSED and run.cancel_requested_at is not None:
            acknowledge_cancel(run)
            status = Status.CANCELLED
        if not run.is_final and not is_of_before and self._move(status, raw, rest):
            self._given += rest
        elif raw != "running" and rest.input_tokens + rest.output_tokens:
            payload = {"input_tokens": rest.input_tokens, "output_tokens": rest.output_tokens}
            append_events(run, [NewEvent("usage", payload, "system", usage=rest.as_usage())], past=True)
            self._given += rest

    def _go_to(self, run: Run) -> None:
        """To the run that has the next event already."""
        self.flush()
        if self.run is None or self.run.pk != run.pk:
            self.conversation.has_acted, self.conversation.outcome = False, Outcome.UNKNOWN
        self.run, self.conversation.run_id = run, run.pk
        self.conversation.run_began_at = run.created_at

    def _begins(self, one: Told) -> bool:
        run = self.run
        if run is None or run.deleted_at is not None:
            return True
        if _was_cancelled(run):  # what its agent writes nevertheless is late
            return one.begins
        if run.is_final:
            return one.begins or one.acts
        return one.begins and self.conversation.has_acted

    def _open(self, file: File) -> None:
        conversation = self.conversation
        self.flush()
        if self.run is not None and not self.run.is_final and self.run.deleted_at is None:
            self._move(*_ENDED[Outcome(conversation.outcome)])
        before = conversation.run_began_at
        began = file.at if before is None else max(file.at, before + _MOMENT)  # the thread keeps their order
        self.run = _new_run(conversation, self.session, self.state, file, began)
        conversation.run_id, conversation.run_began_at = self.run.pk, began
        conversation.has_acted, conversation.outcome = False, Outcome.UNKNOWN

    def _move(self, status: Status, raw: str, used: Used = _NOTHING) -> bool:
        """False where it stands there already, or has ended meanwhile."""
        run = self.run
        if run is None or (run.status, run.raw_status) == (status, raw):
            return False
        if status != Status.QUEUED:
            Run.objects.filter(pk=run.pk, started_at=None).update(started_at=run.created_at)
        error = _error_of(run, raw) if status == Status.FAILED else None
        at = self.conversation.last_event_at
        moved = transition(run, status, raw_status=raw, error=error, at=at, usage=used.as_usage())
        run.refresh_from_db(fields=["status", "raw_status", "cancel_requested_at"])
        return moved

    def _read(self, file: File) -> tuple[NewEvent, Told]:
        """The event of a file; in place of one that cannot be read, what is wrong with it."""
        failures = self.conversation.failures
        try:
            if failures >= GIVEN_UP_AFTER:
                raise JsonError(f"it cannot be kept ({self.conversation.error})")
            if file.content is None:
                raise JsonError(f"it has {file.size:,} bytes, and {LONGEST:,} are read at most")
            one = told(file.content)
        except JsonError as wrong:
            self.conversation.damaged[file.path] = _sum(file)
            payload = {"message": _complaint(file, wrong, is_shown=failures < GIVEN_UP_AFTER)}
            event_id = f"{file.event_id}/{_sum(file)}"
            return NewEvent(Event.Kind.ERROR, payload, "system", event_id), Told("", "", None)
        return NewEvent(one.kind, one.payload, one.role, file.event_id), one

    def _known(self, event_id: str) -> Run | None:
        """The run of this conversation that has the event."""
        runs = Run.objects.filter(session=self.session, events__event_id=event_id)
        return runs.order_by("created_at").first()

    def _note_gap(self, first: int, last: int) -> None:
        which = f"Event {first} is" if first == last else f"Events {first} to {last} are"
        message = f"{which} missing among this conversation's files. What follows is shown nevertheless."
        self.pending.append(
            NewEvent(Event.Kind.ERROR, {"message": message}, "system", f"missing/{first}-{last}")
        )

    def _usage(self, one: Told) -> Usage:
        """What the model's answer used that the event comes from, with the first of its events."""
        if not one.response_id or one.response_id == self.conversation.response_id:
            return Usage()
        self.conversation.response_id = clean_text(one.response_id)
        used = self.state.by_response.get(one.response_id, Used())
        if used.beyond(self._unaccounted()) != _NOTHING:
            return Usage()  # it was told before
        self._given += used
        return used.as_usage()

    def _unaccounted(self) -> Used:
        """What the conversation used and none of its runs has been given; after a reset it counts anew."""
        used, given = self.state.used, self._given
        if self.state.has_usage and used.input_tokens < given.input_tokens:
            self._given = given = used
        return used.beyond(given)

    @property
    def _given(self) -> Used:
        conversation = self.conversation
        return Used(conversation.input_tokens, conversation.output_tokens, conversation.cost)

    @_given.setter
    def _given(self, used: Used) -> None:
        conversation = self.conversation
        conversation.input_tokens, conversation.output_tokens = used.input_tokens, used.output_tokens
        conversation.cost = used.cost


def _new_run(conversation: Conversation, session: Session, state: State, file: File, began: datetime) -> Run:
    """Its id follows from the conversation and its first event, unless somebody has taken that id."""
    owner = conversation.namespace.owner
    run_id = run_id_of(owner, session.key, file.event_id)
    if Run.objects.filter(pk=run_id).exists():
        run_id = uuid7()
    tags = {"tags": split_exact(state.tags)[0]} if state.tags else {}
    return Run.objects.record_past(
        owner,
        Status.QUEUED,
        began,
        id=run_id,
        session=session,
        kind=Run.Kind.TASK,
        raw_status="idle" if state.status == "idle" else "",
        agent=_agent(state),
        model=state.model,
        metadata=tags,
    )


def _was_cancelled(run: Run) -> bool:
    """By a person, whatever the agent went on to do."""
    return run.status == Status.CANCELLED and run.cancel_requested_at is not None


def _error_of(run: Run, raw: str) -> str:
    told_ = Event.objects.filter(run=run, kind=Event.Kind.ERROR).order_by("-seq").first()
    payload = told_.full_payload if told_ is not None else {}
    said = [payload.get("code"), payload.get("message")] if isinstance(payload, dict) else []
    if raw == "stuck":
        return "OpenHands found the agent stuck: it repeated itself."
    return ": ".join(str(one) for one in said if one) or "OpenHands reports an error and does not say which."


def _complaint(file: File, wrong: JsonError, *, is_shown: bool) -> str:
    said = f"{file.path} cannot be read: {wrong}. It is read again when it changes."
    if file.content is None or not is_shown:
        return said
    return f"{said}\n\n{file.content[: _SHOWN * 4].decode('utf-8', 'replace')[:_SHOWN]}"


def _sum(file: File) -> str:
    content = str(file.size).encode() if file.content is None else file.content
    return md5(content, usedforsecurity=False).hexdigest()


def _sums(conversation: Conversation, paths: Sequence[str]) -> dict[str, str]:
    """What `_sum` gives of those that are there, without taking them all into memory."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT path, md5(CASE WHEN size <= %s THEN content ELSE convert_to(size::text, 'UTF8') END)"
            " FROM file WHERE namespace_id = %s AND path = ANY(%s)",
            [LONGEST, conversation.pk, list(paths)],
        )
        return dict(cursor.fetchall())


def _one_file(conversation: Conversation, path: str) -> File | None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 0, path, CASE WHEN size <= %s THEN content END, size, updated_at FROM file"
            " WHERE namespace_id = %s AND path = %s",
            [LONGEST, conversation.pk, path],
        )
        row = cursor.fetchone()
        return None if row is None else _file(*row)


# ── The session ────────────────────────────────────────────────────────────
def _session(conversation: Conversation, found: Found, state: State) -> Session:
    """A person may have deleted it: what is new brings it back, what is known does not."""
    session = conversation.session
    if session is None:
        session = _first_session(conversation, state)
        began = found.events[0].at if found.events else found.base and found.base.at
        Session.objects.filter(pk=session.pk, started_at=None).update(started_at=began)
    elif session.deleted_at is not None and found.events and not conversation.replaying:
        session = Session.objects.open(session.owner, session.source, session.key)
    conversation.session_id = session.pk
    return session


def _first_session(conversation: Conversation, state: State) -> Session:
    """By the conversation's id; of a copy that lies in another namespace, with that one's name."""
    namespace = conversation.namespace
    key = clean_text(state.key or spelled(namespace.name))
    session = Session.objects.open(namespace.owner, SOURCE, key[:KEY_LENGTH], _agent(state))
    others = Conversation.objects.filter(session_id=session.pk).exclude(pk=conversation.pk)
    if not others.exists():
        return session
    return Session.objects.open(
        namespace.owner, SOURCE, f"{key[:100]} in {namespace.name}"[:KEY_LENGTH], _agent(state)
    )


def _fill(session: Session, conversation: Conversation, state: State) -> None:
    """What it is called, and where it comes from."""
    if not session.title:
        first = Run.objects.filter(session=session).exclude(title="").order_by("created_at")
        if title := first.values_list("title", flat=True).first():
            Session.objects.filter(pk=session.pk).update(title=title)
    about: dict[str, Json] = {
        "conversation": conversation.key,
        "namespace": conversation.namespace.name,
        "workspace": state.workspace,
        "tags": state.tags,
        "problem": state.problem,
    }
    _set_metadata(session, {name: value or None for name, value in about.items()} | {"files": None})


def _set_metadata(session: Session, about: dict[str, Json]) -> None:
    """Those keys; one that is None goes."""
    before = session.metadata if isinstance(session.metadata, dict) else {}
    merged = {**before, **split_exact(about)[0]}
    kept = {name: value for name, value in merged.items() if value is not None}
    if kept != session.metadata:
        Session.objects.filter(pk=session.pk).update(metadata=kept)


def _agent(state: State) -> str:
    """Most are of the kind Agent, which tells nobody anything."""
    return state.agent[:AGENT_LENGTH] if state.agent not in ("", "Agent") else "OpenHands"
