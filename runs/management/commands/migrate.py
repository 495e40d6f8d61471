"""Django's migrate, as the owner of the tables, by one process at a time, never in the way of writers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import Error, OperationalError, connections
from psycopg import errors, sql

from runs import schema

# Any number does, as long as every Runfolio uses the same: the first bytes of "runfolio".
LOCK = 0x72756E666F6C696F
# History is written once, also for the role that serves (DESIGN.md 3.2).
APPEND_ONLY = ("event", "change", "feedback_version", "deletion")
# What is recorded goes by purge_runs and purge_sessions alone (models.deletion).
UNDELETABLE = ("run", "session", "artifact", "result", "feedback")

# Whoever waits for a table's lock holds up all that come after, so nobody waits longer (RELIABILITY.md D6).
_LOCK_TIMEOUT = "1s"
_TRIES = 30
_PAUSE = 1.0  # seconds, in which the writers that were held up get on


class Command(migrate.Command):
    help = "Migrates the database under an advisory lock, then lets the serving role in."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database="owner")

    def handle(self, *args: Any, **options: Any) -> None:
        with alone(), connections["owner"].cursor() as cursor:
            if problem := schema.newer():
                raise CommandError(problem)
            cursor.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
            try:
                self._migrate(*args, **options)
                _let_in(cursor)
            finally:
                with suppress(Error):  # a lost connection has no settings
                    cursor.execute("RESET lock_timeout")

    def _migrate(self, *args: Any, **options: Any) -> None:
        """Goes on where it was held up: each migration is a transaction of its own."""
        for attempt in range(1, _TRIES + 1):
            try:
                super().handle(*args, **options)
                return
            except OperationalError as error:
                if not isinstance(error.__cause__, errors.LockNotAvailable):
                    raise
                if attempt == _TRIES:
                    raise CommandError(
                        f"A table is in use by a long transaction, {_TRIES} times in a row "
                        f"({str(error).splitlines()[0]}). End that, then run migrate again."
                    ) from error
                self.stderr.write("A table is in use by a long transaction: trying again.")
                time.sleep(_PAUSE)


@contextmanager
def alone() -> Iterator[None]:
    """Waits until nobody else migrates or restores this database; then nobody else does in here.

    The owner's session may nest it.
    """
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        try:
            yield
        finally:
            with suppress(Error):  # a lost connection holds no lock
                cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def _let_in(cursor: Any) -> None:
    """Grants the serving role what it needs and no more; with one role for both there is nothing to grant."""
    app, owner = connections["default"].settings_dict["USER"], connections["owner"].settings_dict["USER"]
    if app == owner:
        return
    role = sql.Identifier(app)
    once, kept = (sql.SQL(", ").join(map(sql.Identifier, names)) for names in (APPEND_ONLY, UNDELETABLE))
    statements = [
        "GRANT USAGE ON SCHEMA public TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
        "REVOKE UPDATE, DELETE, TRUNCATE ON {once} FROM {role}",
        "REVOKE DELETE, TRUNCATE ON {kept} FROM {role}",
        # Purging runs as the owner of the tables: not for anybody else who may connect.
        "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {role}",
    ]
    for statement in statements:
        cursor.execute(sql.SQL(statement).format(role=role, once=once, kept=kept))
