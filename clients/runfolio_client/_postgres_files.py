"""The file store on Runfolio's own PostgreSQL, by the functions of its schema (`file_write` and others)."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import sql

from runfolio_client._files import Files, Held, LockLost, Names, lock_number
from runfolio_client.errors import OperationTimeout

T = TypeVar("T")

_POLL = 0.02  # seconds
_MANY = 20  # names of owners in an error
# A vanished peer is noticed, on both ends; over a unix socket these are passed over.
_VIGILANT = {"connect_timeout": 10, "keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3}
_SESSION = (
    "SELECT set_config('tcp_keepalives_idle', '1', false), set_config('tcp_keepalives_interval', '1', false),"
    " set_config('tcp_keepalives_count', '1', false), set_config('statement_timeout', %s, false)"
)

# Worth another try: the connection broke or none was made, the server restarts, ended an idle one or has no
# place (57P, 53300), or two statements waited for each other (40).
_MAY_PASS = {None, "57P01", "57P02", "57P03", "57P05", "53300", "40P01", "40001"}
_MOST_MILLISECONDS = 2**31 - 1  # that PostgreSQL takes

_ROOM = "FROM file JOIN file_namespace AS room ON room.id = namespace_id WHERE owner_id = %s AND name = %s"
_BELOW = "path >= %s || '/' AND path < %s || '0'"  # 0 comes after the slash
_WRITE = "SELECT file_write(%s, %s, %s, %s, count => %s)"
_READ = f"SELECT content {_ROOM} AND path = %s"
_DELETE = "SELECT file_delete(%s, %s, %s)"
_EXISTS = f"SELECT EXISTS (SELECT {_ROOM} AND path = %s) OR EXISTS (SELECT {_ROOM} AND {_BELOW})"
_TOP = f"SELECT DISTINCT split_part(path, '/', 1) || CASE WHEN path LIKE '%%/%%' THEN '/' ELSE '' END {_ROOM}"
# Made of names of our own; values are parameters.
_LIST = (
    "SELECT DISTINCT split_part(rest, '/', 1) || CASE WHEN rest LIKE '%%/%%' THEN '/' ELSE '' END"  # noqa: S608
    f" FROM (SELECT substring(path FROM %s) AS rest {_ROOM} AND {_BELOW}) AS below"
)
_TRY_LOCK = "SELECT answer, marks FROM file_try_lock(%s, %s, %s, %s)"
_IS_LEASED = "SELECT file_is_leased(%s, %s, %s)"
_MARKS = "SELECT file_marks(%s, %s, %s)"


class PostgresFiles(Files):
    """Files of a namespace in the tables of Runfolio; see `openhands.PostgreSQLFileStore`."""

    def __init__(
        self, dsn: str, namespace: str | UUID, *, owner: str | None, schema: str | None, timeout: float
    ) -> None:
        super().__init__(namespace, timeout)
        self._dsn = _as_libpq(dsn)
        self._schema = _checked_identifier(schema) if schema is not None else None
        self._pid, self._guard, self._idle = _nothing_yet()
        connection = self._connect()
        try:
            self._owner = _owner_id(connection, owner)
        except BaseException:
            connection.close()
            raise
        self._check_in(connection)

    def close(self) -> None:
        if self._pid != os.getpid():
            return
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # ── The verbs ──────────────────────────────────────────────────────────
    def _put(self, at: str, body: bytes, held: Held | None, count: int | None) -> str:
        (answer,) = self._one("write", at, _WRITE, self._owner, self.namespace, at, body, count)
        return str(answer)

    def _get(self, at: str) -> bytes | None:
        row = self._one("read", at, _READ, self._owner, self.namespace, at)
        return None if row is None else bytes(row[0])

    def _children(self, at: str) -> Names:
        if at == "":
            rows = self._ask("list", at, _TOP, self._owner, self.namespace)
        else:
            rows = self._ask("list", at, _LIST, len(at) + 2, self._owner, self.namespace, at, at)
        return [name for (name,) in rows]

    def _remove(self, at: str, held: Held | None) -> None:
        self._ask("delete", at, _DELETE, self._owner, self.namespace, at)

    def _is_there(self, at: str) -> bool:
        room = (self._owner, self.namespace)
        (found,) = self._one("exists", at, _EXISTS, *room, at, *room, at, at)
        return bool(found)

    def _take(self, at: str, timeout: float) -> Held:
        """The connection of a lock is nobody else's while it is held: when it dies, the lock goes with it."""
        timeout = timeout if timeout >= 0 else float("inf")
        ends = time.monotonic() + timeout
        return self._on_fresh("lock", at, lambda connection: self._lock(connection, at, ends), timeout)

    def _give_back(self, held: Held) -> None:
        connection = held.lock
        try:
            connection.execute("SELECT pg_advisory_unlock(%s)", [lock_number(self.namespace, held.path)])
        except psycopg.OperationalError:  # the lock went with the connection
            connection.close()
        else:
            self._check_in(connection)

    # ── Locks ──────────────────────────────────────────────────────────────
    def _lock(self, connection: psycopg.Connection[Any], at: str, ends: float) -> Held:
        number = lock_number(self.namespace, at)
        room = (self._owner, self.namespace, at)
        answer, marks = _first(connection, _TRY_LOCK, *room, number)
        if answer == "taken":
            _wait_for_lock(connection, number, ends)
        if answer != "locked":
            while _first(connection, _IS_LEASED, *room)[0]:  # by somebody who comes over HTTP
                if time.monotonic() >= ends:
                    raise BlockingIOError
                time.sleep(_POLL)
            (marks,) = _first(connection, _MARKS, *room)
        return Held(at, os.getpid(), set(marks), connection)

    # ── Connections ────────────────────────────────────────────────────────
    def _one(self, operation: str, at: str, statement: str, *values: Any) -> Any:
        rows = self._ask(operation, at, statement, *values)
        return rows[0] if rows else None

    def _ask(self, operation: str, at: str, statement: str, *values: Any) -> list[Any]:
        """The rows; each statement is a transaction that is as good a second time as the first."""
        held = self._held()
        if held is None:
            return self._on_fresh(operation, at, lambda connection: _rows(connection, statement, values))
        try:
            return _rows(held.lock, statement, values)
        except psycopg.errors.QueryCanceled as error:
            raise _timed_out(operation, at, self.timeout, error) from error
        except psycopg.OperationalError as error:
            raise LockLost(
                f"{operation} of {at}: the connection that held the lock was lost ({error})"
            ) from error

    def _on_fresh(
        self, operation: str, at: str, step: Callable[[psycopg.Connection[Any]], T], timeout: float = 0.0
    ) -> T:
        """What `step` gives on an idle or a new connection, tried again while connections break.

        For `timeout` seconds, if that is longer than other operations may take.
        """
        timeout = max(timeout, self.timeout)
        ends = time.monotonic() + timeout
        pause = 0.0
        while True:
            try:
                return self._once(step)
            except psycopg.OperationalError as error:
                if isinstance(error, psycopg.errors.QueryCanceled) or time.monotonic() + pause >= ends:
                    raise _timed_out(operation, at, timeout, error) from error
                if error.sqlstate not in _MAY_PASS:
                    raise
            time.sleep(pause)
            pause = min(max(pause * 2, 0.05), 1.0)

    def _once(self, step: Callable[[psycopg.Connection[Any]], T]) -> T:
        connection = self._check_out()
        try:
            result = step(connection)
        except BaseException:
            connection.close()  # and with it whatever it holds or does by now
            raise
        if not isinstance(result, Held):
            self._check_in(connection)
        return result

    def _check_out(self) -> psycopg.Connection[Any]:
        if self._pid != os.getpid():  # after a fork: those connections are the parent's
            self._pid, self._guard, self._idle = _nothing_yet()
        with self._guard:
            connection = self._idle.pop() if self._idle else None
        return connection or self._connect()

    def _check_in(self, connection: psycopg.Connection[Any]) -> None:
        with self._guard:
            self._idle.append(connection)

    def _connect(self) -> psycopg.Connection[Any]:
        options: dict[str, Any] = {name: value for name, value in _VIGILANT.items() if name not in self._dsn}
        connection = psycopg.connect(self._dsn, autocommit=True, application_name="runfolio-files", **options)
        connection.execute(_SESSION, [_milliseconds(self.timeout)])
        if self._schema is not None:
            connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self._schema)))
        connection.prepare_threshold = 0  # what follows is asked often
        return connection


def _nothing_yet() -> tuple[int, threading.Lock, list[psycopg.Connection[Any]]]:
    """This process, which has no connections yet, and what guards them."""
    return os.getpid(), threading.Lock(), []


def _wait_for_lock(connection: psycopg.Connection[Any], number: int, ends: float) -> None:
    """Raises BlockingIOError; PostgreSQL serves those who wait in the order in which they came."""
    left = ends - time.monotonic()
    if left <= 0:
        raise BlockingIOError
    limit = connection.execute("SHOW statement_timeout").fetchone()
    try:
        _first(connection, "SELECT set_config('statement_timeout', %s, false)", _milliseconds(left))
        _first(connection, "SELECT pg_advisory_lock(%s)", number)
        _first(connection, "SELECT set_config('statement_timeout', %s, false)", *(limit or ("0",)))
    except psycopg.errors.QueryCanceled:
        raise BlockingIOError from None


def _milliseconds(seconds: float) -> str:
    """As statement_timeout takes them: 0 is for ever."""
    return "0" if seconds == float("inf") else str(min(max(1, int(seconds * 1000)), _MOST_MILLISECONDS))


def _timed_out(operation: str, at: str, seconds: float, error: Exception) -> OperationTimeout:
    return OperationTimeout(f"{operation} of {at} timed out after {seconds:g} s: {error}")


def _first(connection: psycopg.Connection[Any], statement: str, *values: Any) -> Any:
    return _rows(connection, statement, values)[0]


def _rows(connection: psycopg.Connection[Any], statement: str, values: Any) -> list[Any]:
    return connection.execute(statement, values, binary=True).fetchall()


def _owner_id(connection: psycopg.Connection[Any], name: str | None) -> int:
    """The owner of that name, or the only one. Raises ValueError, which names them."""
    try:
        owners = connection.execute("SELECT id, name FROM owner ORDER BY name").fetchall()
    except psycopg.errors.UndefinedTable as error:
        raise ValueError(
            "this database has no tables of Runfolio: name its own, as `manage.py database_url` prints it, "
            "or the schema that they are in"
        ) from error
    found = [number for number, known in owners if name is None or known == name]
    if len(found) == 1:
        return int(found[0])
    names = ", ".join(known for _, known in owners[:_MANY]) or "none yet"
    raise ValueError(f"name the owner of the files with owner=; there are: {names}")


def _as_libpq(dsn: str) -> str:
    """SQLAlchemy's and asyncpg's spellings, which stand in the .env of those who use them, as libpq's."""
    return re.sub(r"([?&])ssl=", r"\1sslmode=", re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", dsn))


def _checked_identifier(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]{0,62}", name):
        raise ValueError(f"the schema {name[:60]!r} is no name of a schema")
    return name
