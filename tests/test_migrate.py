"""Migrations among live traffic, and code that meets a schema of another age (RELIABILITY.md D6)."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.migrations.loader import MigrationLoader
from psycopg import sql

from runs.management.commands import migrate
from tests import environment
from tests.conftest import ROOT, eventually

FUTURE = "9999_from_the_future"
NEXT = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("runs", {last!r})]
    operations = [migrations.RunSQL("ALTER TABLE run ADD COLUMN next integer")]
"""


@pytest.fixture
def empty_db() -> Iterator[dict[str, str]]:
    """A database without a table; gives its environment."""
    name = f"test_{uuid4().hex}"
    superuser = environment.url(os.environ["TEST_SUPERUSER"], "postgres")
    with psycopg.connect(superuser, autocommit=True) as session:
        session.execute(sql.SQL("CREATE DATABASE {} OWNER runfolio_owner").format(sql.Identifier(name)))
    yield environment.environment_of(name)
    environment.drop_database(name)


@pytest.fixture
def next_migration(
    committed_db: dict[str, str], tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version after this one, which adds a column to the run."""
    package = tmp_path / f"migrations_{uuid4().hex}"
    package.mkdir()
    for file in (ROOT / "runs" / "migrations").glob("*.py"):
        (package / file.name).write_text(file.read_text())
    (package / "9999_next.py").write_text(NEXT.format(last=last_migration()))
    monkeypatch.syspath_prepend(tmp_path)
    settings.MIGRATION_MODULES = {"runs": package.name}


def last_migration() -> str:
    return MigrationLoader(None).graph.leaf_nodes("runs")[0][1]


def start_migrate(database: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "manage.py", "migrate", "-v0", "--skip-checks"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **database}, **pipes)  # type: ignore[call-overload]


def connect(database: dict[str, str], key: str = "DATABASE_URL") -> psycopg.Connection:
    return psycopg.connect(database[key])


def migrations_of(database: dict[str, str]) -> list[tuple[str, str]]:
    with connect(database) as session:
        return session.execute("SELECT app, name FROM django_migrations ORDER BY 1, 2").fetchall()


def note_future_migration() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('runs', %s, now())", [FUTURE]
        )


def forget_last_migration() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM django_migrations WHERE app = 'runs' AND name = %s RETURNING 1", [last_migration()]
        )
        assert cursor.fetchone()


# ── Several at once, and killed ones ───────────────────────────────────────
def test_of_five_at_once_each_finds_it_done(empty_db):
    processes = [start_migrate(empty_db) for _ in range(5)]

    assert [process.communicate()[1] for process in processes] == [""] * 5
    assert [process.returncode for process in processes] == [0] * 5
    found = migrations_of(empty_db)
    assert ("runs", last_migration()) in found
    assert len(found) == len(set(found))


def test_one_that_was_killed_half_way_completes_when_run_again(empty_db):
    with connect(empty_db, "DATABASE_MIGRATE_URL") as holder:
        holder.execute("CREATE TABLE artifact ()")  # uncommitted: its own must wait for ours
        process = start_migrate(empty_db)
        eventually(lambda: waits_for_a_lock(empty_db))
        process.kill()
        process.communicate()
        holder.rollback()
    assert ("runs", "0001_initial") not in migrations_of_owner(empty_db)

    again = start_migrate(empty_db)

    assert (again.communicate()[1], again.returncode) == ("", 0)
    assert ("runs", last_migration()) in migrations_of(empty_db)


def waits_for_a_lock(database: dict[str, str]) -> bool:
    with connect(database, "DATABASE_MIGRATE_URL") as session:  # others' waits are not shown
        return bool(
            session.execute(
                """SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
                AND wait_event_type = 'Lock' AND wait_event <> 'advisory'"""
            ).fetchone()
        )


def migrations_of_owner(database: dict[str, str]) -> list[tuple[str, str]]:
    return migrations_of({"DATABASE_URL": database["DATABASE_MIGRATE_URL"]})


# ── Locks ──────────────────────────────────────────────────────────────────
def test_writers_wait_no_longer_than_the_lock_timeout(next_migration, committed_db, make_run, monkeypatch):
    """A long reader holds up the migration, and the migration all writers behind it."""
    monkeypatch.setattr(migrate, "_PAUSE", 0.2)
    run = make_run()
    reader = connect(committed_db)
    reader.execute("SELECT count(*) FROM run")
    threading.Timer(2.5, reader.close).start()

    with waits_of_a_writer(committed_db, run.pk) as waits:
        call_command("migrate", verbosity=0)

    with connection.cursor() as cursor:
        cursor.execute("SELECT next FROM run")
    assert 0.5 < max(waits) < 1.8  # the lock timeout of a second, and a busy machine


def test_a_lock_that_is_never_given_up_is_told(next_migration, committed_db, monkeypatch):
    monkeypatch.setattr(migrate, "_TRIES", 2)
    monkeypatch.setattr(migrate, "_PAUSE", 0)
    with connect(committed_db) as reader:
        reader.execute("SELECT count(*) FROM run")

        with pytest.raises(CommandError, match="in use by a long transaction, 2 times in a row"):
            call_command("migrate", verbosity=0)


class waits_of_a_writer:
    """Writes to one run all the time; gives how long each write took, in seconds."""

    def __init__(self, database: dict[str, str], run_id: object) -> None:
        self.database, self.run_id, self.waits = database, run_id, [0.0]
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.write)

    def write(self) -> None:
        with connect(self.database) as session:
            session.autocommit = True
            while not self.stopping.wait(0.01):
                began = time.monotonic()
                session.execute("UPDATE run SET title = title WHERE id = %s", [self.run_id])
                self.waits.append(time.monotonic() - began)

    def __enter__(self) -> list[float]:
        self.thread.start()
        return self.waits

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join()


# ── A newer schema than the code ───────────────────────────────────────────
@pytest.mark.parametrize("command", ["migrate", "prepare"])
def test_a_newer_schema_is_refused(committed_db, settings, tmp_path, command):
    settings.RUNFOLIO_DATA = tmp_path
    note_future_migration()

    with pytest.raises(CommandError, match=f"newer than this Runfolio: it has the migration runs.{FUTURE}"):
        call_command(command)


def test_a_newer_schema_is_refused_without_migrations_at_start_too(committed_db, settings, tmp_path):
    settings.RUNFOLIO_DATA, settings.RUN_MIGRATIONS_ON_STARTUP = tmp_path, False
    note_future_migration()

    with pytest.raises(CommandError, match="newer than this Runfolio"):
        call_command("prepare")


def test_what_an_app_left_that_is_no_longer_here_is_no_newer_schema(committed_db):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('gone', '0001', now())")

    call_command("migrate", verbosity=0)


def test_a_refusal_leaves_nothing_locked(committed_db):
    note_future_migration()
    with pytest.raises(CommandError):
        call_command("migrate")

    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        assert cursor.fetchone() == (0,)
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)


# ── An older schema than the code ──────────────────────────────────────────
@pytest.mark.parametrize("command", ["worker", "prepare"])
def test_an_older_schema_is_told_at_the_start(committed_db, settings, tmp_path, command):
    settings.RUNFOLIO_DATA, settings.RUN_MIGRATIONS_ON_STARTUP = tmp_path, False
    forget_last_migration()

    with pytest.raises(
        CommandError, match=rf"lacks 1 .* first runs\.{last_migration()}\. Run manage.py migrate"
    ):
        call_command(command)


def test_the_web_server_waits_for_the_migration_and_then_serves(committed_db, gunicorn):
    forget_last_migration()

    ready, api, alive = (get(gunicorn, path) for path in ("/readyz", "/api/runs", "/healthz"))
    assert (ready[0], api[0], alive[0]) == (503, 503, 200)
    assert "Run manage.py migrate." in json.loads(api[1])["detail"]

    with connection.cursor() as cursor:
        values = [last_migration()]
        cursor.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('runs', %s, now())", values
        )
    eventually(lambda: get(gunicorn, "/readyz")[0] == 200)


def get(port: int, path: str) -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("GET", path)
    response = client.getresponse()
    return response.status, response.read()
