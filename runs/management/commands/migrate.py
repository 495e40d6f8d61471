"""Django's migrate, as the owner of the tables, by one process at a time."""

from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import migrate
from django.db import connections
from psycopg import sql

# Any number does, as long as every Runfolio uses the same: the first bytes of "runfolio".
LOCK = 0x72756E666F6C696F
# History is written once, also for the role that serves (DESIGN.md 3.2).
APPEND_ONLY = ("event", "change", "feedback_version")


class Command(migrate.Command):
    help = "Migrates the database under an advisory lock, then lets the serving role in."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database="owner")

    def handle(self, *args: Any, **options: Any) -> None:
        with connections["owner"].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
            try:
                super().handle(*args, **options)
                _let_in(cursor)
            finally:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def _let_in(cursor: Any) -> None:
    """Grants the serving role what it needs and no more; with one role for both there is nothing to grant."""
    app, owner = connections["default"].settings_dict["USER"], connections["owner"].settings_dict["USER"]
    if app == owner:
        return
    role = sql.Identifier(app)
    tables = sql.SQL(", ").join(map(sql.Identifier, APPEND_ONLY))
    statements = [
        "GRANT USAGE ON SCHEMA public TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
        "REVOKE UPDATE, DELETE, TRUNCATE ON {tables} FROM {role}",
    ]
    for statement in statements:
        cursor.execute(sql.SQL(statement).format(role=role, tables=tables))
