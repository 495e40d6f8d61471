"""The embedded server: real clusters in folders of their own, started, broken and started again."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from project import postgres
from project.postgres import APP, OWNER, SUPERUSER, PostgresError, Server

ROOT = Path(__file__).resolve().parent.parent
LONG = "a-long-name-of-a-folder-" * 5  # 120 characters

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder with a short path that everybody can walk to, as a home often is."""
    with tempfile.TemporaryDirectory(prefix="rf-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "data"


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster that was started once; copying it is faster than making each test's own."""
    with Server(tmp_path_factory.mktemp("new"), durable=False) as server:
        pass
    return server.data


@pytest.fixture
def server(data: Path, new: Path) -> Iterator[Server]:
    subprocess.run(["cp", "-a", new, data], check=True)
    server = Server(data, durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def kept() -> Iterator[Server]:
    """A server for tests that only look."""
    with (
        tempfile.TemporaryDirectory(prefix="rf-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        Server(Path(folder) / "data", durable=False) as server,
    ):
        yield server


def query(server: Server, statement: str, role: str = APP) -> object:
    with psycopg.connect(server.url(role), autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[call-overload]
        return cursor.fetchone()[0] if cursor.description else None


def note(server: Server, text: str) -> None:
    query(server, "CREATE TABLE IF NOT EXISTS note (text text)", OWNER)
    query(server, f"INSERT INTO note VALUES ('{text}')")


def postmaster(server: Server) -> int:
    return int((server.folder / "postmaster.pid").read_text().split()[0])


def leave_orphan(data: Path) -> int:
    """A server whose supervisor was killed where the kernel does not pass that on; its process id."""
    script = f"""
        import os, pathlib
        from project import postgres, processes
        processes._libc = None
        server = postgres.Server(pathlib.Path({str(data)!r}), durable=False)
        server.start()
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT)
    return int((data / "postgres" / "postmaster.pid").read_text().split()[0])


def everything_in(folder: Path) -> dict[Path, object]:
    """Each file's content, mode, owner and time of change."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[path] = (data, status.st_mode, status.st_uid, status.st_mtime_ns)
    return found


def as_nobody(server: Server, role: str) -> str:
    """What somebody else on this machine gets when connecting."""
    psql = [server.programs / "psql", "--no-psqlrc", "-c", "SELECT 1", server.url(role)]
    somebody = {"user": 65534, "group": 65534, "extra_groups": []}
    return subprocess.run(psql, cwd="/", capture_output=True, text=True, **somebody).stderr


class TestServing:
    def test_it_works(self, kept: Server) -> None:
        assert kept.is_alive()
        assert query(kept, "SELECT current_user") == "runfolio_app"

    def test_another_process_finds_it_by_its_folder(self, kept: Server) -> None:
        assert postgres.address(kept.data) == (kept.url(APP), kept.url(OWNER))

    def test_neither_role_is_a_superuser(self, kept: Server) -> None:
        powerful = "SELECT count(*) FROM pg_roles WHERE rolsuper AND rolname LIKE 'runfolio%'"
        assert query(kept, powerful) == 0

    def test_the_app_role_cannot_run_programs(self, kept: Server) -> None:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            query(kept, "COPY (SELECT 1) TO PROGRAM 'id'")

    def test_the_app_role_cannot_make_tables(self, kept: Server) -> None:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            query(kept, "CREATE TABLE mine (id int)")

    def test_the_app_role_uses_what_the_owner_makes(self, kept: Server) -> None:
        query(kept, "CREATE TABLE counted (id serial, name text)", OWNER)
        query(kept, "INSERT INTO counted (name) VALUES ('one')")
        query(kept, "UPDATE counted SET name = 'two'")
        assert query(kept, "DELETE FROM counted RETURNING name") == "two"

    def test_the_app_role_has_limits_and_the_owner_may_take_its_time(self, kept: Server) -> None:
        assert query(kept, "SHOW transaction_timeout") == "1h"
        assert query(kept, "SHOW transaction_timeout", OWNER) == "0"
        assert query(kept, "SHOW idle_in_transaction_session_timeout", OWNER) == "1h"

    def test_it_compares_texts_alike_on_every_machine(self, kept: Server) -> None:
        rule = "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = 'runfolio'"
        assert query(kept, rule) == "bC.UTF-8"

    def test_data_is_checksummed(self, kept: Server) -> None:
        assert query(kept, "SHOW data_checksums", SUPERUSER) == "on"

    def test_nothing_is_on_tcp(self, kept: Server) -> None:
        assert query(kept, "SHOW listen_addresses", SUPERUSER) == ""

    def test_it_never_runs_as_root(self, kept: Server) -> None:
        assert kept.account.uid != 0
        assert kept.folder.stat().st_uid == kept.account.uid

    def test_the_socket_folder_is_private(self, kept: Server) -> None:
        assert (kept.folder / "socket").stat().st_mode & 0o777 == 0o700

    def test_writes_are_on_disk_unless_nobody_will_miss_them(self, data: Path, kept: Server) -> None:
        with Server(data) as server:
            assert query(server, "SHOW fsync", SUPERUSER) == "on"
        assert query(kept, "SHOW fsync", SUPERUSER) == "off"

    def test_no_folder_above_changes(self, data: Path) -> None:
        above = [*data.parents]
        before = [(path.stat().st_mode, path.stat().st_uid) for path in above]
        with Server(data, durable=False):
            pass
        assert [(path.stat().st_mode, path.stat().st_uid) for path in above] == before

    def test_a_given_folder_keeps_its_mode(self, data: Path) -> None:
        data.mkdir(mode=0o755)
        with Server(data, durable=False):
            assert data.stat().st_mode & 0o7777 == 0o755
            assert data.stat().st_uid == os.geteuid()


class TestStrangers:
    @as_root
    @pytest.mark.parametrize("name", ["data", LONG])
    def test_nobody_reaches_the_socket(self, data: Path, name: str) -> None:
        with Server(data.with_name(name), durable=False) as server:
            for role in (APP, OWNER, SUPERUSER):
                assert "Permission denied" in as_nobody(server, role)

    @as_root
    def test_nobody_is_refused_even_at_an_open_socket(self, data: Path) -> None:
        with Server(data.with_name(LONG), durable=False) as server:
            folder = postgres._recorded(server.data)[0]  # type: ignore[index]
            folder.chmod(0o755)
            (folder / ".s.PGSQL.5432").chmod(0o777)
            assert "Peer authentication failed" in as_nobody(server, SUPERUSER)

    @as_root
    def test_a_folder_that_the_system_user_cannot_walk_to_works(self, data: Path) -> None:
        data.parent.chmod(0o700)
        with Server(data, durable=False) as server:
            assert server.is_alive()
        assert data.parent.stat().st_mode & 0o7777 == 0o700

    def test_a_socket_folder_that_others_can_enter_is_not_used(self, data: Path) -> None:
        with Server(data.with_name(LONG), durable=False) as server:
            folder = postgres._recorded(server.data)[0]  # type: ignore[index]
            folder.chmod(0o777)
            assert postgres.address(server.data) is None
            folder.chmod(0o700)
            assert postgres.address(server.data) is not None

    def test_a_linked_socket_folder_is_not_used(self, data: Path) -> None:
        with Server(data.with_name(LONG), durable=False) as server:
            folder = postgres._recorded(server.data)[0]  # type: ignore[index]
            moved = folder.rename(folder.with_name(f"{folder.name}-moved"))
            folder.symlink_to(moved)
            assert postgres.address(server.data) is None
            folder.unlink()
            moved.rename(folder)


class TestStopping:
    def test_a_restart_keeps_the_data(self, server: Server) -> None:
        note(server, "kept")
        server.stop()
        assert postgres.address(server.data) is None
        server.start()
        assert query(server, "SELECT text FROM note") == "kept"

    @on_linux
    def test_it_leaves_no_process(self, server: Server) -> None:
        pid = postmaster(server)
        server.stop()
        assert not Path(f"/proc/{pid}").exists()

    def test_a_long_path_works_and_leaves_no_folder(self, data: Path) -> None:
        server = Server(data.with_name(LONG), durable=False)
        with server:
            folder = postgres._recorded(server.data)[0]  # type: ignore[index]
            assert folder.stat().st_mode & 0o7777 == 0o700
            assert query(server, "SELECT 1") == 1
        assert not folder.exists()

    def test_an_open_transaction_does_not_hold_it_up(self, server: Server) -> None:
        with psycopg.connect(server.url()) as connection:
            connection.execute("SELECT 1")
            began = time.monotonic()
            server.stop()
            assert time.monotonic() - began < 5
            connection.close()

    def test_a_stopped_server_that_hangs_is_ended(self, server: Server) -> None:
        os.kill(postmaster(server), signal.SIGSTOP)
        began = time.monotonic()
        server.stop(hurry=lambda: True)
        assert time.monotonic() - began < 15
        server.start()
        assert server.is_alive()


class TestStartingAfterTrouble:
    @pytest.mark.parametrize("text", ["", "12", "no number\n", "0\n", "-1\n", "\0\0\0\0"])
    def test_a_pid_file_that_is_cut_off(self, server: Server, text: str) -> None:
        server.stop()
        (server.folder / "postmaster.pid").write_text(text)
        server.start()
        assert server.is_alive()

    def test_a_pid_file_with_the_number_of_a_foreign_process(self, server: Server) -> None:
        """Of the server's own user, whom PostgreSQL's own check would take for a postmaster."""
        complete = (server.folder / "postmaster.pid").read_text().split("\n", 1)[1]
        server.stop()
        identity = {"user": server.account.uid} if os.geteuid() == 0 else {}
        foreign = subprocess.Popen(["sleep", "60"], **identity)  # type: ignore[call-overload]
        (server.folder / "postmaster.pid").write_text(f"{foreign.pid}\n{complete}")
        server.start()
        assert server.is_alive()
        assert foreign.poll() is None
        foreign.kill()
        foreign.wait()

    def test_a_left_over_socket(self, server: Server) -> None:
        server.stop()
        folder = server.folder / "socket"
        folder.mkdir(mode=0o700)
        (folder / ".s.PGSQL.5432").touch()
        (folder / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
        server.start()
        assert server.is_alive()

    def test_a_killed_postmaster(self, server: Server) -> None:
        note(server, "kept")
        os.kill(postmaster(server), signal.SIGKILL)
        while not server.has_ended():
            time.sleep(0.01)
        before = server.url()
        server.start()
        assert query(server, "SELECT text FROM note") == "kept"
        assert server.url() == before

    def test_a_crash_with_much_to_replay(self, server: Server) -> None:
        """RELIABILITY.md D2: within 30 s, also with more than there is here."""
        query(server, "CREATE TABLE much AS SELECT repeat('x', 1000) FROM generate_series(1, 100_000)", OWNER)
        os.kill(postmaster(server), signal.SIGKILL)
        while not server.has_ended():
            time.sleep(0.01)
        began = time.monotonic()
        server.start()
        assert query(server, "SELECT count(*) FROM much") == 100_000
        assert time.monotonic() - began < 30

    @pytest.mark.parametrize("name", ["data", LONG])
    def test_an_orphan_is_ended_and_its_data_served(self, data: Path, name: str) -> None:
        orphan = leave_orphan(data.with_name(name))
        with Server(data.with_name(name), durable=False) as server:
            assert query(server, "SELECT 1") == 1
            assert postmaster(server) != orphan
            assert not postgres._is_postgres_of(orphan, server.folder)

    @on_linux
    def test_a_killed_supervisor_takes_the_server_along(self, data: Path) -> None:
        script = f"""
            import os, pathlib
            from project.postgres import Server
            server = Server(pathlib.Path({str(data)!r}), durable=False)
            server.start()
            print((server.folder / "postmaster.pid").read_text().split()[0], flush=True)
            os.kill(os.getpid(), 9)
        """
        command = [sys.executable, "-c", textwrap.dedent(script)]
        pid = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
        until = time.monotonic() + 10
        while postgres._is_postgres_of(int(pid), data / "postgres") and time.monotonic() < until:
            time.sleep(0.05)
        assert not postgres._is_postgres_of(int(pid), data / "postgres")

    def test_an_interrupted_initdb(self, data: Path) -> None:
        class Interrupted(Exception):
            pass

        def interrupt() -> None:
            if (data / "postgres.unfinished" / "base").exists():
                raise Interrupted

        server = Server(data, durable=False)
        with pytest.raises(Interrupted):
            server.start(interrupt)
        assert not (data / "postgres").exists()
        server.start()
        assert server.is_alive()
        server.stop()


class TestRefusing:
    def test_a_second_server_on_the_same_folder(self, kept: Server) -> None:
        with pytest.raises(PostgresError, match="Another Runfolio uses the database in"):
            Server(kept.data).start()
        assert kept.is_alive()

    def test_two_at_once_on_a_new_folder(self, data: Path) -> None:
        script = f"""
            import pathlib, sys
            from project.postgres import PostgresError, Server
            server = Server(pathlib.Path({str(data)!r}), durable=False)
            try:
                server.start()
                print("serves", flush=True)
            except PostgresError as error:
                print(error, flush=True)
            sys.stdin.read()
            server.stop()
        """
        command = [sys.executable, "-c", textwrap.dedent(script)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        both = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]  # type: ignore[call-overload]
        said = sorted(process.stdout.readline() for process in both)
        for process in both:
            process.communicate()
        assert said[0].startswith("Another Runfolio uses the database")
        assert said[1] == "serves\n"

    def test_data_of_another_major_version_is_left_as_it_is(self, server: Server) -> None:
        server.stop()
        (server.folder / "PG_VERSION").write_text("17\n")
        before = everything_in(server.folder)
        with pytest.raises(PostgresError, match="holds data of PostgreSQL 17, this Runfolio brings 18"):
            server.start()
        server.stop()
        assert everything_in(server.folder) == before

    def test_data_of_another_major_version_comes_with_the_commands_to_run(self, server: Server) -> None:
        server.stop()
        (server.folder / "PG_VERSION").write_text("17\n")
        with pytest.raises(PostgresError) as refusal:
            server.start()
        commands = [
            "manage.py backup FILE",
            f"mv {server.folder} {server.folder}-17",
            "manage.py restore FILE",
        ]
        places = [str(refusal.value).index(command) for command in commands]
        assert places == sorted(places)

    def test_a_folder_that_is_no_cluster(self, data: Path) -> None:
        (data / "postgres").mkdir(parents=True)
        server = Server(data, durable=False)
        if os.geteuid() == 0:
            os.chown(data / "postgres", server.account.uid, server.account.gid)
        with pytest.raises(PostgresError, match=r"is no data folder of PostgreSQL\. Move it away"):
            server.start()
        server.stop()

    @as_root
    def test_a_cluster_of_another_user(self, server: Server) -> None:
        server.stop()
        os.chown(server.folder, 65534, 65534)
        with pytest.raises(PostgresError, match=r"belongs to nobody, and PostgreSQL would run as runfolio\."):
            server.start()

    def test_a_failed_start_shows_the_end_of_the_log(self, server: Server) -> None:
        server.stop()
        with (server.folder / "postgresql.conf").open("a") as file:
            file.write("no_such_setting = 1\n")
        with pytest.raises(PostgresError, match='unrecognized configuration parameter "no_such_setting"'):
            server.start()


def test_the_log_is_kept_short(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_LOG_LIMIT", 100)
    server.keep_log_short()
    assert server.log.stat().st_size == 0
    with pytest.raises(psycopg.errors.DivisionByZero):
        query(server, "SELECT 1 / 0")
    until = time.monotonic() + 5
    while b"division by zero" not in server.log.read_bytes() and time.monotonic() < until:
        time.sleep(0.01)
    assert server.log.read_bytes().lstrip(b"\0") == server.log.read_bytes()
