"""Reading for a long time as of one moment, past a pooler and outside the pool (DESIGN.md 3.8)."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler
from psycopg import IsolationLevel

_ALIAS = "default"


def in_one_snapshot(chunks: Generator[bytes]) -> Iterator[bytes]:
    """The same chunks, for which every statement of `chunks` sees the database as of the first one.

    A connection of its own holds the snapshot, and goes when the last chunk is taken or nobody takes more.
    Between two chunks the thread has its own connection back.
    """
    reader = open_reader()
    try:
        while True:
            with _instead(reader):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk
    finally:
        with _instead(reader):
            chunks.close()  # and with it its cursors
            reader.close()


def open_reader() -> BaseDatabaseWrapper:
    """A connection to PostgreSQL itself, in one transaction from its first statement on."""
    given = settings.DATABASE_DIRECT
    options = {name: value for name, value in given["OPTIONS"].items() if name != "pool"}
    options["isolation_level"] = IsolationLevel.REPEATABLE_READ
    return ConnectionHandler({_ALIAS: {**given, "OPTIONS": options, "AUTOCOMMIT": False}})[_ALIAS]


@contextmanager
def _instead(reader: BaseDatabaseWrapper) -> Iterator[None]:
    """What asks for the database in this thread asks `reader`."""
    before = connections[_ALIAS]
    connections[_ALIAS] = reader
    try:
        yield
    finally:
        connections[_ALIAS] = before
