"""How the database is: figures that name nobody, each asked for at most a few seconds (issue 5, point 11)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor

PATIENCE = 5  # seconds for one statement

# Whose rows they are; what stands in none of them is the rest.
_GROUPS = {
    "History": ("run", "session", "event", "change"),
    "Results and ratings": ("result", "feedback", "feedback_version", "attempt", "webhook", "delivery"),
    "Artifacts": ("artifact", "file"),
    "Search": ("search_doc", "search_block", "search_term"),
}


@contextmanager
def patient() -> Iterator[None]:
    """No statement in it takes longer than PATIENCE. What it raises has taken nothing else with it."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{PATIENCE}s'")
        yield
        cursor.execute("SET LOCAL statement_timeout TO DEFAULT")


@dataclass(frozen=True, slots=True)
class Database:
    """`bytes` on disk; `guarded`: who serves may not alter the history (DESIGN.md 3.2)."""

    version: str
    bytes: int
    since: datetime
    guarded: bool


@dataclass(frozen=True, slots=True)
class Space:
    """A group of tables: bytes of its rows and of its indexes."""

    name: str
    rows: int
    indexes: int


@dataclass(frozen=True, slots=True)
class Dead:
    """A table and how many of its rows are left over from changes, until autovacuum has been there."""

    table: str
    dead: int
    live: int
    cleaned_at: datetime | None

    @property
    def share(self) -> float:
        return self.dead / max(1, self.dead + self.live)


@dataclass(frozen=True, slots=True)
class Activity:
    """Connections, and the transaction that is open for longest: `oldest` is None where none is."""

    connections: int
    most: int
    oldest: timedelta | None
    pid: int | None
    state: str
    blocked: int


def database() -> Database:
    ((version, size, since, may_alter),) = _ask(
        "SELECT current_setting('server_version'), pg_database_size(current_database()),"
        " pg_postmaster_start_time(), has_table_privilege('event', 'UPDATE')"
    )
    return Database(str(version).split()[0], size, since, not may_alter)


def space() -> list[Space]:
    """The groups, the largest first."""
    sizes = {name: (total - indexes, indexes) for name, total, indexes in _ask(_SIZES)}
    named = {table: group for group, tables in _GROUPS.items() for table in tables}
    found: dict[str, tuple[int, int]] = {}
    for table, (rows, indexes) in sizes.items():
        group = named.get(table, "The rest")
        before = found.get(group, (0, 0))
        found[group] = before[0] + rows, before[1] + indexes
    spaces = [Space(name, *both) for name, both in found.items()]
    return sorted(spaces, key=lambda one: -(one.rows + one.indexes))


def dead(least: int = 10_000, most: int = 3) -> list[Dead]:
    """The tables with most dead rows, as PostgreSQL estimates them; fewer than `least` are fine."""
    return [Dead(*row) for row in _ask(_DEAD, [least, most])]


def activity() -> Activity:
    """Of other roles' transactions PostgreSQL tells only who may read all statistics."""
    ((connections, most, oldest, pid, state, blocked),) = _ask(_ACTIVITY)
    return Activity(connections, most, oldest, pid, state or "", blocked)


def missing_migrations() -> Sequence[str]:
    """The migrations that this version has and the database has not."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def _ask(sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


_SIZES = """
    SELECT relname, pg_total_relation_size(oid), pg_indexes_size(oid) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
_DEAD = """
    SELECT relname, n_dead_tup, n_live_tup, greatest(last_autovacuum, last_vacuum) FROM pg_stat_user_tables
    WHERE n_dead_tup >= %s ORDER BY n_dead_tup DESC LIMIT %s
"""
_ACTIVITY = """
    WITH client AS (
        SELECT pid, xact_start, state, cardinality(pg_blocking_pids(pid)) > 0 AS waits FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND datname = current_database()
    ), oldest AS (
        SELECT pid, clock_timestamp() - xact_start AS age, state FROM client
        WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1
    )
    SELECT (SELECT count(*) FROM client), current_setting('max_connections')::integer,
        (SELECT age FROM oldest), (SELECT pid FROM oldest), (SELECT state FROM oldest),
        (SELECT count(*) FROM client WHERE waits)
"""
