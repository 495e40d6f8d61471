from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from django.db.backends.utils import CursorWrapper

from project import dumps
from project.dumps import Contents, DumpError
from project.postgres import PostgresError
from runs import schema
from runs.management.commands.migrate import alone

_COUNTED = ("run", "session", "event", "result", "artifact", "feedback", "change", "token", '"user"')


class Command(BaseCommand):
    help = "Puts a backup in place of the database, wholly or not at all, and migrates it to this version."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="what manage.py backup wrote; its origin must be trusted")
        parser.add_argument("--replace", action="store_true", help="also where there are runs: they go")

    def handle(self, *args: Any, file: Path, replace: bool, **options: Any) -> None:
        if settings.EMBEDDED and settings.STORAGE_TYPE == "memory":
            raise CommandError("STORAGE_TYPE=memory keeps nothing. Set STORAGE_TYPE=postgres to restore.")
        try:
            dumps.check(file)
            with dumps.running_database(), alone(), connections["owner"].cursor() as cursor:
                _refuse(cursor, _known(file), replace)
                dumps.restore(file.absolute())
                call_command("migrate", verbosity=0, interactive=False)
                cursor.execute("ANALYZE")  # a backup holds no statistics
                self._tell(cursor)
        except (DumpError, PostgresError) as error:
            raise CommandError(str(error)) from error

    def _tell(self, cursor: CursorWrapper) -> None:
        self.stdout.write("Restored:")
        for table in _COUNTED:
            cursor.execute(f"SELECT count(*) FROM {table}")  # noqa: S608  our own names
            self.stdout.write(f"{_number(cursor):>12,} {table.strip('"')}")


def _known(file: Path) -> Contents:
    """What the backup holds; CommandError for what this code could not serve."""
    found = dumps.contents(file)
    if newer := schema.unknown(found.migrations):
        raise CommandError(
            f"{file} was made by a newer Runfolio: it has the migration {', '.join(newer)}. "
            "Restore it with that Runfolio; nothing was changed."
        )
    return found


def _refuse(cursor: CursorWrapper, backup: Contents, replace: bool) -> None:
    """CommandError where the restore would take away what nobody said may go."""
    if foreign := _foreign_tables(cursor, backup):
        raise CommandError(
            f"The database holds what is not Runfolio's: {', '.join(foreign)}. "
            "Restore into an empty database."
        )
    if not replace and _has_runs(cursor):
        raise CommandError("The database has runs in it. Add --replace to put the backup in their place.")
    if others := _others(cursor):
        raise CommandError(
            f"Runfolio is still connected to the database (connections: {others}). Stop its web servers "
            "and workers (make up, if that started them), then restore again."
        )


def _foreign_tables(cursor: CursorWrapper, backup: Contents) -> list[str]:
    """Tables and views of `public` that neither the backup nor this code knows; extensions' do not count."""
    cursor.execute(
        """SELECT relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
          AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
        ORDER BY relname"""
    )
    known = backup.tables.union(connections["owner"].introspection.django_table_names())
    return [name for (name,) in cursor.fetchall() if name not in known]


def _has_runs(cursor: CursorWrapper) -> bool:
    cursor.execute("SELECT to_regclass('public.run') IS NOT NULL")
    if cursor.fetchone() == (False,):
        return False
    cursor.execute("SELECT EXISTS (SELECT FROM run)")
    return cursor.fetchone() == (True,)


def _others(cursor: CursorWrapper) -> int:
    """How many sessions of our two roles there are in this database, besides this one."""
    roles = [connections[alias].settings_dict["USER"] for alias in ("default", "owner")]
    cursor.execute(
        """SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = ANY(%s) AND pid <> pg_backend_pid()""",
        [roles],
    )
    return _number(cursor)


def _number(cursor: CursorWrapper) -> int:
    row = cursor.fetchone()
    return int(row[0]) if row else 0
