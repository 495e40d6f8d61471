"""Databases of Bindu agents: each agent's schema with its contexts, tasks, feedback and webhooks
(CONTRACTS.md 2.1), as the tasks that the same agent would have reported here (models.task).

The agent's room here, its namespace, is called as its schema is, and "" for the schema `public`, so that an
agent that reports here from now on goes on with what it has.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import sql

from runs.exact import Json
from runs.importers.database import Row, Source, SourceError
from runs.importers.json_text import read
from runs.importers.report import Report
from runs.models import Owner
from runs.models.imports import Imported, ImportPosition
from runs.models.past import one_of_many
from runs.models.past_tasks import Here, PastContext, PastTask, Room, Said

SYSTEM = "bindu"
PUBLIC = "public"

_KEYS = 500  # rows of which it is asked at a time whether they are new
_TASKS, _BYTES = 200, 2**20  # of one transaction; bytes as PostgreSQL has compressed them
_ROWS, _TEXT = 20, 2**23  # of them that are fetched at a time, and characters that are written at a time
_LARGE = 2**18  # such bytes; what has more is read message by message
_MESSAGES = 1_000  # of such a task, that are written at a time
_TOLD = ("contexts", "tasks", "messages", "artifacts", "feedback", "webhooks")
_OVERLAP = timedelta(minutes=1)  # read again each time: who began earlier may have committed later


def take(source: Source, owner: Owner, schemas: Sequence[str] | None = None) -> Iterator[Report]:
    """Takes in what is new or has changed since the last time, of all schemas or of these, and gives the
    report so far after each batch, which is one transaction. May be stopped and done again.

    Raises SourceError where there are no tables of Bindu's.
    """
    there = agents_in(source)
    for schema in schemas or there or [PUBLIC]:
        if schema not in there:
            names = ", ".join(there) or "none"
            raise SourceError(
                f"no schema {schema!r} with Bindu's tables is there; those that have them: {names}"
            )
    report = Report("tasks")
    agents = [_Agent(source, owner, schema, report) for schema in schemas or there]
    report.expected = sum(agent.expected() for agent in agents)
    yield report
    for agent in agents:
        yield from agent.take()


def agents_in(source: Source) -> list[str]:
    """The schemas that have Bindu's tables."""
    query = """
        SELECT table_schema AS name FROM information_schema.columns
        WHERE (table_name, column_name) IN
            (('tasks', 'history'), ('tasks', 'state_timestamp'), ('contexts', 'context_data'))
        GROUP BY 1 HAVING count(*) = 3 ORDER BY 1
    """
    return [row["name"] for row in source.rows(query)]


class _Agent:
    """One schema."""

    def __init__(self, source: Source, owner: Owner, schema: str, report: Report) -> None:
        self.source, self.owner, self.schema, self.report = source, owner, schema, report
        report.taken.update(dict.fromkeys(_TOLD, 0))  # in this order
        self.room = Room(owner, "" if schema == PUBLIC else schema, _name(schema))
        self.owner_did = _owner_did(source, schema)
        self.positions = {
            table: ImportPosition.objects.of(owner, SYSTEM, source.place, f"{schema}.{table}")
            for table in _ORDER
        }

    def expected(self) -> int:
        """About how many tasks are to be read."""
        at = self.positions["tasks"].at
        if at is None:
            return self.source.about_how_many(sql.Identifier(self.schema, "tasks"))
        return int(self._rows("SELECT count(*) AS n FROM {tasks} WHERE updated_at > %(at)s", at=at)[0]["n"])

    def take(self) -> Iterator[Report]:
        """Contexts first, since tasks point to them, and then what points to tasks."""
        query = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = %(schema)s"
        there = {row["name"] for row in self.source.rows(query, schema=self.schema)}
        steps = {
            "contexts": self._contexts,
            "tasks": self._tasks,
            "task_feedback": self._feedback,
            "webhook_configs": self._configs,
        }
        for table, step in steps.items():
            for rows in self._pages(table) if table in there else ():
                for _ in step(rows):
                    yield self.report

    @contextmanager
    def _one_of_many(self, table: str) -> Iterator[None]:
        """A transaction that no other import of this table comes between."""
        with one_of_many():
            self.positions[table].hold()
            yield

    # ── Contexts ───────────────────────────────────────────────────────────
    def _contexts(self, rows: Sequence[Row]) -> Iterator[None]:
        with self._one_of_many("contexts"):
            self._open(self.room.unknown({row["id"] for row in rows}))
            self._move("contexts", rows)
        yield

    def _open(self, ids: Iterable[UUID]) -> None:
        """Makes those that are not here."""
        missing = self.room.missing(set(ids))
        rows = self._rows(_CONTEXTS, ids=missing) if missing else []
        self.report.taken["contexts"] += self.room.open([self._context(row) for row in rows])

    def _context(self, row: Row) -> PastContext:
        where = f"context {row['id']}"
        return PastContext(
            context_id=row["id"],
            caller=row["owner_did"],
            data=self._object(row["context_data"], where, "context_data"),
            messages=[self._said(text, where) for text in row["messages"]],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )

    # ── Tasks ──────────────────────────────────────────────────────────────
    def _tasks(self, rows: Sequence[Row]) -> Iterator[None]:
        for batch in _batches(rows):
            with self._one_of_many("tasks"):
                self._take_tasks(batch)
                self.report.read += self._move("tasks", batch)
            yield

    def _take_tasks(self, rows: Sequence[Row]) -> None:
        known = self._held({row["id"]: row["at"] for row in rows})
        new = [row for row in rows if row["id"] not in known]
        self._add([row["id"] for row in new if row["bytes"] <= _LARGE])
        for row in new:
            if row["bytes"] > _LARGE:
                self._add_large(row["id"])
        for row in rows:
            if row["id"] in known:
                self._look_again(row, known[row["id"]])

    def _held(self, changed_at: Mapping[UUID, datetime]) -> dict[UUID, Here]:
        """What is here of tasks; those that have changed since are locked."""
        known = self.room.known(list(changed_at))
        changed = {
            here.run_id: here
            for task_id, here in known.items()
            if here.imported is not None and here.imported.changed_at != changed_at[task_id]
        }
        for run_id, imported in self.room.hold(changed).items():
            changed[run_id].imported = imported
        return known

    def _add(self, ids: Sequence[UUID]) -> None:
        """However well PostgreSQL has compressed them: memory holds some text at a time."""
        waiting, size = list[PastTask](), 0
        for row in self.source.streamed(self._sql(_WHOLE_TASKS), _ROWS, ids=ids) if ids else ():
            size += sum(map(len, row["messages"])) + sum(map(len, row["made"]))
            waiting.append(self._whole_task(row))
            if size >= _TEXT:
                self._add_whole(waiting)
                waiting, size = [], 0
        if waiting:
            self._add_whole(waiting)

    def _whole_task(self, row: Row) -> PastTask:
        return replace(
            self._task(row),
            messages=[self._message(text, row["id"]) for text in row["messages"]],
            artifacts=[self._artifact(text, row["id"]) for text in row["made"]],
        )

    def _add_whole(self, tasks: Sequence[PastTask]) -> None:
        self._open(task.context_id for task in tasks)
        self.room.add(tasks)
        self.report.taken["tasks"] += len(tasks)

    def _add_large(self, task_id: UUID) -> None:
        """Some of its messages at a time, so that a history of any size fits."""
        for task in self._bare(task_id):
            self._open([task.context_id])
            pieces = self._pieces(task, 0, 0)
            run_id = self.room.add([next(pieces, task)])[task_id]
            for piece in pieces:
                self.room.go_on(run_id, piece)
            self.report.taken["tasks"] += 1

    def _look_again(self, row: Row, here: Here) -> None:
        if here.is_deleted:
            self.report.skipped["tasks that were deleted here: restore them instead"] += 1
        elif here.imported is None:
            self.report.skipped["tasks that their agent has told here itself: they stay as they are"] += 1
        elif here.imported.changed_at == row["at"]:
            self.report.there += 1
        else:
            self._bring_up_to_date(row["id"], here.imported)

    def _bring_up_to_date(self, task_id: UUID, had: Imported) -> None:
        for task in self._bare(task_id):
            for piece in self._pieces(task, had.messages, had.artifacts):
                self.room.go_on(had.run_id, piece)
            if not self.room.move(had.run_id, task):
                self.report.skipped[f"changes of tasks to {task.state} that ended otherwise here"] += 1
            self.report.changed["tasks"] += 1

    def _bare(self, task_id: UUID) -> list[PastTask]:
        """The task without its history; none if it was deleted there just now."""
        return [self._task(row) for row in self._rows(_BARE_TASKS, ids=[task_id])]

    def _pieces(self, task: PastTask, messages: int, artifacts: int) -> Iterator[PastTask]:
        """The same task with what its history and artifacts have beyond so many, some at a time."""
        texts = self._elements(task.task_id, "history", messages)
        for some in _by_size(self._message(text, task.task_id) for text in texts):
            yield replace(task, messages=some)
        texts = self._elements(task.task_id, "artifacts", artifacts)
        for some in _by_size(self._artifact(text, task.task_id) for text in texts):
            yield replace(task, artifacts=some)

    def _elements(self, task_id: UUID, column: str, after: int) -> Iterator[str]:
        query = self._sql(_elements_sql(column))
        for row in self.source.streamed(query, 20, id=task_id, after=after):
            yield row["one"]

    def _task(self, row: Row) -> PastTask:
        where = f"task {row['id']}"
        if row["is_damaged"]:
            self.report.note(where, "its history is no list; it is kept as one message")
        return PastTask(
            task_id=row["id"],
            context_id=row["context_id"],
            caller=row["owner_did"],
            state=row["state"],
            state_at=row["state_timestamp"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            metadata=self._object(row["metadata"], where, "metadata"),
            last=self._said(row["last"], where),
        )

    def _message(self, text: str, task_id: UUID) -> Said:
        self.report.taken["messages"] += 1
        return self._said(text, f"task {task_id}", "a message")

    def _artifact(self, text: str, task_id: UUID) -> Said:
        self.report.taken["artifacts"] += 1
        return self._said(text, f"task {task_id}", "an artifact")

    # ── What points to tasks ───────────────────────────────────────────────
    def _feedback(self, rows: Sequence[Row]) -> Iterator[None]:
        with self._one_of_many("task_feedback"):
            for row, run_id in self._pointing("feedback", rows, "task_id"):
                said = self._said(row["body"], f"feedback {row['id']}", "it")
                self.report.taken["feedback"] += self.room.rate(run_id, said.value, row["at"])
            self._move("task_feedback", rows)
        yield

    def _configs(self, rows: Sequence[Row]) -> Iterator[None]:
        with self._one_of_many("webhook_configs"):
            for row, run_id in self._pointing("webhooks", rows, "id"):
                config = self._object(row["body"], f"webhook of task {row['id']}", "config")
                self.report.taken["webhooks"] += self.room.configure(run_id, config)
            self._move("webhook_configs", rows)
        yield

    def _pointing(self, what: str, rows: Sequence[Row], column: str) -> Iterator[tuple[Row, UUID]]:
        """Those of the rows whose tasks came from there, and their runs. Tasks that are newer than our last
        look at them are taken now: their feedback would not be read again."""
        ids = {row[column] for row in rows}
        known = self.room.known(list(ids))
        self.room.hold([here.run_id for here in known.values()])
        if new := ids - set(known):
            self._take_tasks(self._rows(_KEYS_OF_TASKS, ids=list(new)))
            known |= self.room.known(list(new))
        for row in rows:
            here = known.get(row[column])
            if here is not None and here.imported is not None and not here.is_deleted:
                yield row, here.run_id
            else:
                self.report.skipped[f"{what} of tasks that are not as they were imported"] += 1

    # ── Reading ────────────────────────────────────────────────────────────
    def _pages(self, table: str) -> Iterator[list[Row]]:
        """The keys of its rows in the order in which they changed, from a little before where we were."""
        key, at, more = _ORDER[table]
        query = f"""
            SELECT {key} AS id, {at} AS at{more} FROM {{{table}}} {{where}} ORDER BY {at}, {key} LIMIT {_KEYS}
        """
        began = self.positions[table].at
        after: tuple[datetime, Any] | None = None
        while True:
            if after is None:
                where = sql.SQL(f"WHERE {at} > %(at)s") if began else sql.SQL("")
                rows = self._rows(query, where=where, at=began and began - _OVERLAP)
            else:
                where = sql.SQL(f"WHERE ({at}, {key}) > (%(at)s, %(key)s)")
                rows = self._rows(query, where=where, at=after[0], key=after[1])
            if not rows:
                return
            yield rows
            after = (rows[-1]["at"], rows[-1]["id"])

    def _move(self, table: str, rows: Sequence[Row]) -> int:
        """Notes how far that is; gives how many of the rows were not read before."""
        position = self.positions[table]
        new = sum(1 for row in rows if position.at is None or row["at"] > position.at)
        position.move(rows[-1]["at"], new)
        return new

    def _rows(self, query: str, where: sql.Composable | None = None, **parameters: Any) -> list[Row]:
        return self.source.rows(self._sql(query, where), **parameters)

    def _sql(self, query: str, where: sql.Composable | None = None) -> sql.Composed:
        tables = {table: sql.Identifier(self.schema, table) for table in _ORDER}
        return sql.SQL(query).format(**tables, owner_did=self.owner_did, where=where or sql.SQL(""))

    def _said(self, text: str | None, where: str, what: str = "") -> Said:
        """With `what`, it is told where this is no object."""
        value = read(text or "null")
        if what and value.problem:
            self.report.note(where, f"in {what}: {value.problem}")
        elif what and not isinstance(value.value, dict):
            self.report.note(where, f"{what} is no object; it is kept as it is")
        return Said(value.text, value.value)

    def _object(self, text: str | None, where: str, what: str) -> dict[str, Json]:
        value = self._said(text, where).value
        if value is None or isinstance(value, dict):
            return value or {}
        self.report.note(where, f"its {what} is no object; it is kept under the key unreadable")
        return {"unreadable": value}


def _owner_did(source: Source, schema: str) -> sql.Composable:
    """The column that says whose a row is; nobody's in tables of before it was there."""
    query = """
        SELECT FROM information_schema.columns
        WHERE table_schema = %(schema)s AND table_name IN ('tasks', 'contexts') AND column_name = 'owner_did'
    """
    return sql.Identifier("owner_did") if len(source.rows(query, schema=schema)) == 2 else sql.SQL("NULL")


# Its key, when it changed, and what else is asked of all rows before any is fetched.
_ORDER = {
    "contexts": ("id", "updated_at", ""),
    "tasks": (
        *("id", "updated_at"),
        ", pg_column_size(history) + coalesce(pg_column_size(artifacts), 0) AS bytes",
    ),
    "task_feedback": ("id", "created_at", ", task_id, feedback_data::text AS body"),
    "webhook_configs": ("task_id", "updated_at", ", config::text AS body"),
}


def _as_list(column: str) -> str:
    """SQL for a column that ought to be a list, as one."""
    return f"""CASE WHEN jsonb_typeof({column}) = 'array' THEN {column}
        WHEN {column} IS NULL OR jsonb_typeof({column}) = 'null' THEN '[]'::jsonb
        ELSE jsonb_build_array({column}) END"""


def _texts_of(column: str) -> str:
    return f"ARRAY(SELECT one::text FROM jsonb_array_elements({_as_list(column)}) AS one)"


def _task_sql(messages: str, artifacts: str) -> str:
    return f"""
        SELECT id, context_id, {{owner_did}} AS owner_did, state, state_timestamp, created_at, updated_at,
            metadata::text AS metadata, {messages} AS messages, {artifacts} AS made,
            coalesce(jsonb_typeof(history), 'null') NOT IN ('array', 'null') AS is_damaged,
            CASE WHEN state = 'failed' THEN ({_as_list("history")} -> -1)::text END AS last
        FROM {{tasks}} WHERE id = ANY(%(ids)s)
    """


_WHOLE_TASKS = _task_sql(_texts_of("history"), _texts_of("artifacts"))
_BARE_TASKS = _task_sql("ARRAY[]::text[]", "ARRAY[]::text[]")
_KEYS_OF_TASKS = f"SELECT id, updated_at AS at{_ORDER['tasks'][2]} FROM {{tasks}} WHERE id = ANY(%(ids)s)"
_CONTEXTS = f"""
    SELECT id, {{owner_did}} AS owner_did, context_data::text AS context_data,
        {_texts_of("message_history")} AS messages, created_at, updated_at
    FROM {{contexts}} WHERE id = ANY(%(ids)s)
"""


def _elements_sql(column: str) -> str:
    return f"""
        SELECT one::text AS one
        FROM {{tasks}}, jsonb_array_elements({_as_list(column)}) WITH ORDINALITY AS list (one, number)
        WHERE id = %(id)s AND number > %(after)s ORDER BY number
    """


def _batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The tasks of a page in pieces of bounded size; a large one is a piece of its own."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        if batch and (len(batch) == _TASKS or size + row["bytes"] > _BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row["bytes"]
    if batch:
        yield batch


def _by_size(said: Iterable[Said]) -> Iterator[list[Said]]:
    """Some at a time, of about a megabyte."""
    some: list[Said] = []
    size = 0
    for one in said:
        some.append(one)
        size += len(one.text)
        if len(some) >= _MESSAGES or size >= 2**20:
            yield some
            some, size = [], 0
    if some:
        yield some


def _name(schema: str) -> str:
    """What lists call the agent: of its DID the part that is neither the same for all nor a number."""
    if schema == PUBLIC:
        return ""
    return re.sub(r"^did_bindu_|_[0-9a-f]{8}(_[0-9a-f]{1,12})*$", "", schema)
