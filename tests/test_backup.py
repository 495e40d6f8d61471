"""Backup and restore on real clusters, with live writers, damaged files and kills (RELIABILITY.md D7)."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from psycopg import sql

from project import dumps, postgres, system_user
from project.dumps import DumpError
from project.postgres import Server
from runs.models import Event, NewEvent, Run, Token, append_events
from tests import environment
from tests.conftest import ROOT, eventually
from tests.test_migrate import FUTURE, note_future_migration

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runfolio.backup"


@pytest.fixture
def backup(committed_db, make_run, file: Path) -> Path:
    """One of a database with a run."""
    make_run(title="kept")
    call_command("backup", str(file), stdout=StringIO())
    return file


def restore(file: Path, *options: str) -> str:
    """Restores as a process of its own would: with no other connection than its own."""
    connections["default"].close()
    out = StringIO()
    call_command("restore", str(file), *options, stdout=out)
    return out.getvalue()


def content(session: psycopg.Connection | None = None) -> dict[str, tuple[int, str]]:
    """How many rows each table has, and a hash of them all."""
    with (session or connections["owner"]).cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        found = {}
        for (table,) in cursor.fetchall():
            rows = sql.SQL("SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {} t")
            cursor.execute(rows.format(sql.Identifier(table)))  # type: ignore[arg-type]
            found[table] = cursor.fetchone()
    return found


# ── There and back ─────────────────────────────────────────────────────────
def test_every_table_comes_back_as_it_was(committed_db, alice, token, make_run, file):
    run = make_run(title="before")
    append_events(run, [NewEvent(kind="message", payload={"text": "\u2028 \ufffd 'quoted'\\"})])
    with connection.cursor() as cursor:  # a correction, which leaves a change
        cursor.execute("SELECT set_config('runfolio.reason', 'a typo', false)")
        cursor.execute("UPDATE run SET title = 'after' WHERE id = %s", [run.pk])
    before = content()
    call_command("backup", str(file), stdout=StringIO())
    make_run(title="too late")
    Token.objects.all().delete()

    said = restore(file, "--replace")

    assert content() == before
    assert before["change"][0] > 0
    assert Token.objects.authenticate(token) is not None
    assert "           1 run\n" in said


def test_the_guards_come_back(backup):
    guards = (
        "SELECT tgrelid::regclass::text, tgname, obj_description(oid) FROM pg_trigger WHERE NOT tgisinternal"
    )
    before = sorted(rows_of(guards))
    restore(backup, "--replace")

    assert sorted(rows_of(guards)) == before
    with pytest.raises(Exception, match="permission denied for table event"), connection.cursor() as cursor:
        cursor.execute("DELETE FROM event")


def test_new_rows_get_new_numbers(backup, make_run):
    restore(backup, "--replace")

    make_run(title="the next one")
    assert Run.objects.count() == 2


def rows_of(query: str) -> list[tuple[object, ...]]:
    with connections["owner"].cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def test_what_was_acknowledged_before_the_backup_is_in_it(committed_db, make_run, file):
    run = make_run()
    with writers(run) as acknowledged:
        eventually(lambda: len(acknowledged) > 20)
        before = set(acknowledged)
        call_command("backup", str(file), stdout=StringIO())
        meanwhile = len(acknowledged) - len(before)
    live = dict(Event.objects.values_list("pk", "seq"))

    restore(file, "--replace")

    restored = dict(Event.objects.values_list("pk", "seq"))
    assert before <= set(restored)
    assert restored.items() <= live.items()
    assert sorted(restored.values()) == list(range(1, len(restored) + 1))
    assert Run.objects.get().event_count == len(restored)  # of the same moment
    assert meanwhile > 0  # nobody waited for the backup


@contextmanager
def writers(run: Run) -> Iterator[list[int]]:
    """Two of them append to the run; gives the ids of the events that were committed."""
    acknowledged: list[int] = []
    stopping = threading.Event()

    def write() -> None:
        while not stopping.is_set():
            events = append_events(run, [NewEvent(kind="message", payload={"text": "x" * 100})])
            acknowledged.extend(event.pk for event in events)
        connections.close_all()

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield acknowledged
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def test_a_backup_of_an_older_version_is_migrated(committed_db, make_run, file):
    make_run()
    call_command("migrate", "axes", "0009", verbosity=0)
    call_command("backup", str(file), stdout=StringIO())
    call_command("migrate", verbosity=0)
    before = content().keys()

    restore(file, "--replace")

    assert content().keys() == before
    assert rows_of("SELECT 1 FROM django_migrations WHERE app = 'axes' AND name LIKE '0010%'")


# ── The file ───────────────────────────────────────────────────────────────
def test_nobody_else_can_read_the_file_and_nothing_lies_beside_it(backup):
    assert backup.stat().st_mode & 0o777 == 0o600
    assert list(backup.parent.iterdir()) == [backup]


def test_pg_restore_reads_it(backup):
    command = [system_user.installed_programs() / "pg_restore", "--list", backup]

    assert (
        "TABLE DATA public run " in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )


def test_a_place_where_nothing_can_be_written_is_named(committed_db, tmp_path):
    with pytest.raises(
        CommandError, match=r"No file can be made in .*/missing \(No such file or directory\)"
    ):
        call_command("backup", str(tmp_path / "missing" / "file"))
    with pytest.raises(CommandError, match="is a folder: name a file in it"):
        call_command("backup", str(tmp_path))


@as_root
def test_a_full_disk_leaves_the_file_of_yesterday(committed_db, make_run, tmp_path):
    make_run()
    with small_disk(tmp_path) as folder:
        file = folder / "runfolio.backup"
        file.write_text("yesterday's")
        before = content()

        with pytest.raises(CommandError, match="No space left on device"):
            call_command("backup", str(file))

        assert file.read_text() == "yesterday's"
        assert list(folder.iterdir()) == [file]
    assert content() == before


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this root may not mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_killed_backup_leaves_the_file_of_yesterday(committed_db, file):
    file.write_text("yesterday's")
    with superuser() as holder:
        holder.execute('LOCK TABLE "change"')
        process = start(committed_db, "backup", str(file))
        eventually(lambda: sessions(holder, waiting="Lock"))
        process.kill()
        process.wait()
        holder.rollback()
        eventually(lambda: not sessions(holder))  # pg_dump went along

    assert file.read_text() == "yesterday's"


def test_a_stopped_backup_leaves_nothing_behind(committed_db, file):
    with superuser() as holder:
        holder.execute('LOCK TABLE "change"')
        process = start(committed_db, "backup", str(file))
        eventually(lambda: sessions(holder, waiting="Lock"))
        process.send_signal(signal.SIGTERM)

        assert process.wait(20) == 143
    assert list(file.parent.iterdir()) == []


def start(database: dict[str, str], *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env={**os.environ, **database},
        stdout=subprocess.DEVNULL,
    )


def superuser() -> psycopg.Connection:
    """A session that restore does not count, in the test's own database."""
    name = connections["owner"].settings_dict["NAME"]
    return psycopg.connect(environment.url(os.environ["TEST_SUPERUSER"], name))


def sessions(holder: psycopg.Connection, waiting: str = "%") -> int:
    """How many sessions the owner has in this database, all or those that wait for a lock."""
    holder.execute("SELECT pg_stat_clear_snapshot()")
    query = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND usename = 'runfolio_owner' AND coalesce(wait_event_type, '') LIKE %s"""
    return holder.execute(query, [waiting]).fetchone()[0]  # type: ignore[index]


# ── What is not restored ───────────────────────────────────────────────────
def flip(file: Path, place: float) -> None:
    data = bytearray(file.read_bytes())
    data[int((len(data) - 1) * place)] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda file, place=place: flip(file, place) for place in (0, 0.2, 0.5, 0.9, 1)),
        *(lambda file, size=size: os.truncate(file, size) for size in (0, 3, 40_000)),
        lambda file: os.truncate(file, file.stat().st_size - 1),
        lambda file: file.write_bytes(file.read_bytes() + b"\n"),
        lambda file: file.write_text("a shopping list"),
    ],
    ids=[
        "flip-0",
        "flip-20",
        "flip-50",
        "flip-90",
        "flip-100",
        "empty",
        "3-bytes",
        "half",
        "1-less",
        "1-more",
        "text",
    ],
)
def test_a_damaged_file_is_refused_before_anything_happens(backup, damage: Callable[[Path], object]):
    before = content()
    damage(backup)

    with pytest.raises(CommandError, match="is damaged, cut off, or no backup made by"):
        restore(backup, "--replace")

    assert content() == before


def test_a_missing_file_is_named(committed_db, file):
    with pytest.raises(CommandError, match=f"There is no file {file}"):
        restore(file)


def test_a_file_that_pg_restore_cannot_read_is_refused(backup):
    """Such as one of a newer pg_dump: whole, but not for us."""
    backup.write_bytes(b"PGDMP from the future")
    dumps._seal(backup)
    before = content()

    with pytest.raises(CommandError, match="pg_restore: error"):
        restore(backup, "--replace")

    assert content() == before


def test_a_backup_of_a_newer_version_is_refused(committed_db, file):
    note_future_migration()
    call_command("backup", str(file), stdout=StringIO())

    with pytest.raises(CommandError, match=f"made by a newer Runfolio: it has the migration runs.{FUTURE}"):
        restore(file, "--replace")


def test_runs_are_replaced_only_when_that_is_said(backup):
    before = content()

    with pytest.raises(CommandError, match=r"has runs in it\. Add --replace"):
        restore(backup)

    assert content() == before


def test_a_database_that_is_in_use_is_not_replaced(backup, committed_db):
    still = r"still connected to the database \(connections: 2\)\. Stop its"
    web, worker = (psycopg.connect(committed_db["DATABASE_URL"]) for _ in range(2))

    with web, worker, pytest.raises(CommandError, match=still):
        restore(backup, "--replace")


def test_others_tables_are_not_taken_away(backup):
    with connections["owner"].cursor() as cursor:
        cursor.execute("CREATE TABLE invoices ()")

    with pytest.raises(CommandError, match="holds what is not Runfolio's: invoices"):
        restore(backup, "--replace")


def test_a_database_without_runfolio_is_not_backed_up(committed_db, file):
    with connections["owner"].cursor() as cursor:
        cursor.execute("DROP TABLE run CASCADE")

    with pytest.raises(CommandError, match="the database has no Runfolio in it"):
        call_command("backup", str(file))

    assert not file.exists()


def test_a_restore_killed_half_way_changes_nothing(backup, committed_db):
    """It is held up after everything was dropped, by an uncommitted table of the same name."""
    with connections["owner"].cursor() as cursor:
        cursor.execute("DROP TABLE django_admin_log")
    before = content()
    connections.close_all()
    with superuser() as holder:
        holder.execute("CREATE TABLE django_admin_log ()")
        process = start(committed_db, "restore", "--replace", str(backup))
        eventually(lambda: sessions(holder, waiting="Lock"))
        process.kill()
        process.wait()
        holder.rollback()
        eventually(lambda: not sessions(holder))

    assert content() == before


def test_a_failing_statement_changes_nothing(backup, monkeypatch):
    """As on a server that lacks what the backup needs."""
    monkeypatch.setattr(dumps, "_DROP", b"SELECT 1;")
    before = content()

    with pytest.raises(CommandError, match="already exists"):
        restore(backup, "--replace")

    assert content() == before


# ── The embedded server, and moving to another ─────────────────────────────
@pytest.fixture(scope="module")
def embedded() -> Iterator[Path]:
    """A data folder with Runfolio in it, whose server is stopped."""
    with tempfile.TemporaryDirectory(prefix="rf-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        data = Path(folder) / "data"
        with Server(data, durable=False):
            manage("prepare", RUNFOLIO_DATA=str(data))
        yield data


@pytest.fixture
def older_server() -> Iterator[str]:
    """A PostgreSQL 16 with roles of other names, as somebody else may run it; gives its superuser's URL."""
    programs = system_user.installed_programs().parents[1] / "pginstall" / "bin"
    user = system_user.account()
    with tempfile.TemporaryDirectory(prefix="rf-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.chown(folder, user.uid, user.gid)
        identity = {"user": user.uid, "group": user.gid} if os.geteuid() == 0 else {}
        options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **identity}
        initdb = [programs / "initdb", "-D", "c", "--username=postgres", "--auth=trust", "--no-sync"]
        try:
            subprocess.run(initdb, check=True, **options)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("the wheel brings no PostgreSQL 16, or the system user cannot reach it")
        settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        process = subprocess.Popen([programs / "postgres", "-D", "c", *settings], **options)
        superuser = f"postgresql://postgres@/postgres?host={folder}"
        eventually(lambda: answers(superuser))
        yield superuser
        process.send_signal(signal.SIGINT)
        process.wait()


def answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def manage(*command: str, **settings: str) -> str:
    """Runs a command with these settings alone; gives what it says, right or wrong."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DATABASE_")}
    done = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env={**inherited, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout


def test_a_stopped_server_is_started_for_the_backup_and_a_new_folder_for_the_restore(embedded, file):
    assert "holds the database" in manage("backup", str(file), RUNFOLIO_DATA=str(embedded))
    assert postgres.address(embedded) is None

    new = embedded.with_name("new")
    assert "           1 user\n" in manage("restore", str(file), RUNFOLIO_DATA=str(new))
    assert postgres.address(new) is None
    with Server(new, durable=False) as server, psycopg.connect(server.url()) as session:
        assert session.execute('SELECT username FROM "user"').fetchone() == ("admin",)


def test_a_running_server_is_backed_up_and_goes_on(embedded, file):
    with Server(embedded, durable=False) as server:
        assert "holds the database" in manage("backup", str(file), RUNFOLIO_DATA=str(embedded))
        assert server.is_alive()


def test_an_embedded_database_moves_to_an_older_server_with_other_roles(embedded, older_server, file):
    with psycopg.connect(older_server, autocommit=True) as session:
        for statement in ("ROLE boss LOGIN", "ROLE staff LOGIN", "DATABASE history OWNER boss"):
            session.execute(f"CREATE {statement}")  # type: ignore[call-overload]
    app, owner = (
        older_server.replace("/postgres?", "/history?").replace("//postgres@", f"//{role}@")
        for role in ("staff", "boss")
    )
    manage("backup", str(file), RUNFOLIO_DATA=str(embedded))

    said = manage("restore", str(file), DATABASE_URL=app, DATABASE_MIGRATE_URL=owner)

    assert "           1 user\n" in said
    with psycopg.connect(app) as session:
        assert session.execute('SELECT username FROM "user"').fetchone() == ("admin",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("DELETE FROM event")


def test_a_folder_without_a_database_is_not_backed_up(tmp_path, file):
    said = manage("backup", str(file), RUNFOLIO_DATA=str(tmp_path / "none"))

    assert f"There is no database in {tmp_path / 'none'}" in said
    assert not (tmp_path / "none").exists()


# ── Programs ───────────────────────────────────────────────────────────────
def test_a_newer_server_needs_its_programs_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(DumpError, match=r"server is PostgreSQL 19, .* \(Debian: postgresql-client-19\)"):
        dumps._programs(19)

    (tmp_path / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 19.1'\n")
    (tmp_path / "pg_dump").chmod(0o755)
    assert dumps._programs(19) == tmp_path


def test_the_wheels_programs_serve_older_servers():
    assert dumps._programs(15) == system_user.installed_programs()


def test_a_password_is_not_on_the_command_line(monkeypatch):
    monkeypatch.setitem(connections["owner"].settings_dict, "PASSWORD", "correct horse")
    monkeypatch.setitem(vars(connections["owner"]), "pg_version", 180_000)

    client = dumps._client()
    assert "correct" not in client.where
    assert client.environment["PGPASSWORD"] == "correct horse"
