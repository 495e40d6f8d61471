"""Somebody else's PostgreSQL, which is only read: by pages in an order that survives a stop."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from project.env import SettingError, database_from_url, vigilant

type Row = dict[str, Any]

_COUNTED = 200_000  # rows; of a larger table PostgreSQL's own estimate is good enough for a progress bar


class SourceError(Exception):
    """The source cannot be read; the text says why, without the password in its address."""


class Source:
    """A connection to it, in which nothing can be written. Its rows come as dicts."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    @property
    def place(self) -> str:
        """What tells this database from others: host, port and name."""
        info = self._connection.info
        return f"{info.host}:{info.port}/{info.dbname}"

    def rows(self, query: sql.Composable | str, **parameters: Any) -> list[Row]:
        try:
            return self._connection.execute(cast(Any, query), parameters).fetchall()
        except psycopg.Error as error:
            raise SourceError(f"{self.place} cannot be read: {_first_line(error)}") from error

    def streamed(self, query: sql.Composed, at_once: int, **parameters: Any) -> Iterator[Row]:
        """By a cursor on the server, so that memory holds `at_once` rows."""
        try:
            with self._connection.transaction(), self._connection.cursor(name="runfolio") as cursor:
                cursor.itersize = at_once
                cursor.execute(query, parameters)
                yield from cursor
        except psycopg.Error as error:
            raise SourceError(f"{self.place} cannot be read: {_first_line(error)}") from error

    def schemas_with(self, *tables: str) -> list[str]:
        """The schemas that have all of these tables."""
        query = """
            SELECT table_schema AS name FROM information_schema.tables
            WHERE table_name = ANY(%(tables)s) AND table_schema NOT IN ('pg_catalog', 'information_schema')
            GROUP BY 1 HAVING count(*) = %(number)s ORDER BY 1
        """
        return [row["name"] for row in self.rows(query, tables=list(tables), number=len(tables))]

    def about_how_many(self, table: sql.Identifier) -> int:
        """The rows of a table: counted, or what PostgreSQL thinks where it is large."""
        name = table.as_string(self._connection)
        estimate = self.rows(
            "SELECT reltuples::bigint AS n FROM pg_class WHERE oid = %(t)s::regclass", t=name
        )
        if estimate and estimate[0]["n"] > _COUNTED:
            return int(estimate[0]["n"])
        return int(self.rows(sql.SQL("SELECT count(*) AS n FROM {}").format(table))[0]["n"])


@contextmanager
def opened(url: str) -> Iterator[Source]:
    """Opens the database of a URL as users have it in their settings. Raises SourceError."""
    if url.partition("?")[0].count("@") > 1:
        raise SourceError("the database's address has more than one @: write %40 for those in the password")
    try:
        settings = vigilant(database_from_url(url, "the database's address"))
    except SettingError as error:
        raise SourceError(_without_password(url, str(error)).rstrip(".")) from None
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    given = {part: settings[key] for key, part in names.items() if settings[key]}
    options = {**settings["OPTIONS"], "application_name": "runfolio import"}
    try:
        connection = psycopg.connect(**given, **options, autocommit=True, row_factory=cast(Any, dict_row))
    except psycopg.Error as error:
        raise SourceError(f"the database cannot be opened: {_first_line(error)}") from None
    with connection:
        # By a statement, since a pooler may refuse it as an option of the connection.
        connection.execute("SET default_transaction_read_only = on")
        yield Source(cast(Any, connection))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _without_password(url: str, text: str) -> str:
    """What libpq says of an address may quote its password."""
    _, is_there, password = url.rpartition("@")[0].partition("://")[2].partition(":")
    return text.replace(password, "…") if is_there and password else text
