"""Whether the database's schema and this code fit together (RELIABILITY.md D6)."""

from collections.abc import Iterable

from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

type Migration = tuple[str, str]  # app and name


def newer() -> str | None:
    """One line for people if the owner's database has a migration that this code does not know."""
    found = unknown(MigrationRecorder(connections["owner"]).applied_migrations())
    if not found:
        return None
    return (
        f"The database is newer than this Runfolio: it has the migration {', '.join(found)}. "
        "Start the newer Runfolio, or restore a backup that this one made."
    )


def older() -> str | None:
    """One line for people if the database lacks a migration of this code. The database's errors pass."""
    executor = MigrationExecutor(connections["default"])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not plan:
        return None
    return (
        f"The database is older than this Runfolio: it lacks {len(plan)} of its migrations, "
        f"first {plan[0][0]}. Run manage.py migrate."
    )


def unknown(applied: Iterable[Migration]) -> list[str]:
    """Those that no file of this code holds. Of apps that it has not it cannot judge."""
    loader = MigrationLoader(None)
    replaced = {key for migration in loader.disk_migrations.values() for key in migration.replaces}
    known = loader.disk_migrations.keys() | replaced
    return sorted(
        f"{app}.{name}" for app, name in applied if app in loader.migrated_apps and (app, name) not in known
    )
