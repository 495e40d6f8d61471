"""The embedded PostgreSQL: one cluster in `<data>/postgres`, on a private unix socket, never on TCP.

It touches only its own: no folder that it did not make changes mode or owner, and no process is
signalled unless it is the postmaster of this very folder. `DATABASE_URL` switches it off.
"""

import contextlib
import fcntl
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

import psycopg
from psycopg import sql

from project import system_user
from project.processes import spawn, text_of, wait_for
from project.system_user import Account, SystemUserError

MAJOR = "18"
SUPERUSER, OWNER, APP, DATABASE = "postgres", "runfolio_owner", "runfolio_app", "runfolio"

# What settings point to while no server runs; the name of the folder is what people see in the error.
NOT_RUNNING = (
    f"postgresql://{APP}@/{DATABASE}?host=/runfolio-is-not-running",
    f"postgresql://{OWNER}@/{DATABASE}?host=/runfolio-is-not-running",
)

_PORT = 5432  # part of the socket's name, nothing else
_SOCKET = f".s.PGSQL.{_PORT}"
_LONGEST_SOCKET_PATH = 103  # bytes; macOS has the shortest limit
_PATIENCE = 60.0  # seconds without a new line in the log, after which a start has failed
_LOG_LIMIT = 10 * 2**20  # bytes; one older file of about that size is kept
_STILL_IN_USE = "pre-existing shared memory block"  # old server processes are still ending

_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "log_line_prefix": "%m [%p] %u ",
    "log_startup_progress_interval": "5s",  # recovery tells how far it is, and we wait while it does
    "log_timezone": "UTC",
    "timezone": "UTC",
    # A forgotten transaction ends some day, whoever began it. A statement at work is never cut by this.
    "idle_in_transaction_session_timeout": "1h",
    "client_connection_check_interval": "5s",  # no query goes on for a client that is gone
}
# Only for data that nobody will miss after a crash of the machine; one of the server alone loses nothing.
_CARELESS = {"fsync": "off", "full_page_writes": "off"}
# The serving role's transactions are short. Migrations and backups run as the owner, without these.
_APP_LIMITS = {"idle_in_transaction_session_timeout": "5min", "transaction_timeout": "1h"}


class PostgresError(Exception):
    """The embedded server cannot do what was asked; the text is for the person who started it."""


def default_data(base: Path) -> Path:
    """Where data goes unless RUNFOLIO_DATA says otherwise; `base` is the folder of the program."""
    return system_user.HOME if os.geteuid() == 0 else base / "data"


def address(data: Path) -> tuple[str, str] | None:
    """The URLs of the serving role and of the owner, on the server that now runs on `data`, else None."""
    record = _recorded(data)
    if record is None or not _is_listening(record[0]):
        return None
    return _url(*record, APP, DATABASE), _url(*record, OWNER, DATABASE)


class Server:
    """The PostgreSQL of one data folder. What goes wrong is a `PostgresError` in words for people.

    `durable=False` trades what a crash of the whole machine may cost for speed: for tests and for
    `STORAGE_TYPE=memory`. Use it from the main thread: the server ends when its thread does.
    """

    def __init__(self, data: Path, *, durable: bool = True) -> None:
        self.data = data.absolute()
        self.folder = self.data / "postgres"
        self.log = self.data / "postgres.log"
        self.durable = durable
        self._lock: IO[str] | None = None
        self._socket: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, between: Callable[[], None] = lambda: None) -> None:
        """Starts the server, or one that died again, and proves by a query that it serves.

        Makes the cluster, the roles and the database that are missing. `between` is called every
        0.1 s or so while waiting, and may raise to give up. Call `stop` after a failure as well.
        """
        try:
            self._make_ready(between)
            self._launch(between)
            self._make_roles()
        except (OSError, SystemUserError, psycopg.Error) as error:
            self._end()
            raise PostgresError(f"The database in {self.data} cannot be started. {error}") from error
        except BaseException:
            self._end()
            raise

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Ends the server cleanly within 30 s, else, or once in a `hurry`, by force; then tidies up.

        By force loses nothing that was acknowledged: the next start replays it.
        """
        self._end(hurry)
        if self._lock is None:
            return
        if self._socket is not None:
            shutil.rmtree(self._socket, ignore_errors=True)
        (self.data / "postgres.json").unlink(missing_ok=True)
        self._lock.close()
        self._lock = self._socket = None

    def url(self, role: str = APP, database: str = DATABASE) -> str:
        """Where to connect as `role`; libpq's own programs understand it as well."""
        if self._socket is None:
            raise PostgresError("The embedded PostgreSQL has not been started.")
        return _url(self._socket, self.account.name, role, database)

    def is_alive(self) -> bool:
        """Whether it answers a query, within about 5 seconds."""
        try:
            with self._connect("postgres") as connection:
                connection.execute("SELECT 1")
        except (psycopg.Error, PostgresError):
            return False
        return True

    def has_ended(self) -> bool:
        """Whether there is no server process (any more)."""
        return self._process is None or self._process.poll() is not None

    def keep_log_short(self) -> None:
        """Moves a long log aside; the server appends, so it goes on in the emptied file. Call it often."""
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            with contextlib.suppress(OSError):  # on a full disk the older lines are lost
                shutil.copy(self.log, self.log.with_name("postgres.log.1"))  # with its mode
            os.truncate(self.log, 0)

    def __enter__(self) -> "Server":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @cached_property
    def account(self) -> Account:
        """Whom the server runs as: never root."""
        return system_user.account()

    @cached_property
    def programs(self) -> Path:
        """The folder of initdb and postgres."""
        return system_user.programs(self.account)

    # ── Before it runs ─────────────────────────────────────────────────────

    def _make_ready(self, between: Callable[[], None]) -> None:
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        if not self.folder.exists():
            self._make_cluster(between)
        self._check_cluster()
        self._end_orphan(between)
        self._drop_misleading_pid_file()
        self._socket = self._make_socket_folder()
        _write(self.data / "postgres.json", json.dumps([str(self._socket), self.account.name]))
        users = {self.account.name, system_user.name_of(os.geteuid())}
        _write(self.folder / "pg_ident.conf", "".join(f'us "{name}" all\n' for name in users), self.account)
        _write(self.folder / "pg_hba.conf", "local all all peer map=us\n", self.account)

    def _take_lock(self) -> None:
        """One server object per folder, also among containers that share it; held until `stop`."""
        if self._lock is not None:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        lock = os.fdopen(os.open(self.data / "postgres.lock", flags, 0o600), "r+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise PostgresError(f"Another Runfolio uses the database in {self.data}.") from None
        self._lock = lock

    def _make_cluster(self, between: Callable[[], None]) -> None:
        """Made beside its place and then moved there, so that half a cluster is never taken for one."""
        unfinished = self.data / "postgres.unfinished"
        _remove(unfinished)
        _make_folder(unfinished, self.account)
        options = ["--username", SUPERUSER, "--encoding=UTF8", "--locale=C", "--data-checksums"]
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options += ["--auth-local=peer", "--auth-host=reject", "--no-instructions"]
        options += [] if self.durable else ["--no-sync"]
        with tempfile.TemporaryFile() as output:
            process = self._spawn("initdb", options, unfinished, signal.SIGKILL, output)
            if wait_for(process, between) != 0:
                raise PostgresError(f"The database in {self.data} cannot be made.\n{text_of(output)}")
        unfinished.rename(self.folder)

    def _check_cluster(self) -> None:
        owner = self.folder.lstat().st_uid
        if owner != self.account.uid or self.folder.is_symlink():
            raise PostgresError(
                f"{self.folder} belongs to {system_user.name_of(owner)}, and PostgreSQL would run as "
                f"{self.account.name}. Start as the user who made it, or set RUNFOLIO_DATA to another folder."
            )
        version = self.folder / "PG_VERSION"
        if not version.exists():
            raise PostgresError(
                f"{self.folder} is no data folder of PostgreSQL. Move it away, or set RUNFOLIO_DATA to "
                "another folder."
            )
        found = version.read_text().strip()
        if found != MAJOR:
            raise PostgresError(
                f"{self.folder} holds data of PostgreSQL {found}, this Runfolio brings {MAJOR}. Three steps "
                "bring it over. With the Runfolio that made it: manage.py backup FILE. Then: "
                f"mv {self.folder} {self.folder}-{found}. Then with this one: manage.py restore FILE."
            )

    def _end_orphan(self, between: Callable[[], None]) -> None:
        """Ends a postmaster of this folder that outlived its supervisor; we hold the lock, so it has none."""
        for number, seconds in ((signal.SIGINT, 20), (signal.SIGQUIT, 10), (signal.SIGKILL, 5)):
            pid = self._postmaster()
            if pid is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            until = time.monotonic() + seconds
            while self._postmaster() == pid and time.monotonic() < until:
                between()
                time.sleep(0.05)
        raise PostgresError(f"PostgreSQL still runs on {self.folder} and cannot be ended.")

    def _postmaster(self) -> int | None:
        """The process that the pid file names, if it is a PostgreSQL at work in this folder."""
        pid = self._pid_in_file()
        return pid if pid > 0 and _is_postgres_of(pid, self.folder) else None

    def _pid_in_file(self) -> int:
        try:
            return int((self.folder / "postmaster.pid").read_text().split("\n")[0])
        except (OSError, ValueError):
            return 0

    def _drop_misleading_pid_file(self) -> None:
        """Removes a pid file that is cut off or names a stranger, both of which PostgreSQL would not pass.

        Its other guard stays: a shared memory named after the folder's inode, which refuses a start
        while any process of an older server of this folder lives.
        """
        pid = self._pid_in_file()
        if pid <= 0 or _exists(pid):
            (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _make_socket_folder(self) -> Path:
        """A folder of mode 0700 with a path that fits a socket, the same one after a restart."""
        inside = self.folder / "socket"
        folder = inside if _fits(inside) else self._outside_folder()
        if folder == inside and not _is_private(folder, self.account.uid):
            _remove(folder)
            _make_folder(folder, self.account)
        for name in (_SOCKET, f"{_SOCKET}.lock"):
            (folder / name).unlink(missing_ok=True)
        return folder

    def _outside_folder(self) -> Path:
        """The one of the last start if it is still ours alone, else a new one whose name nobody can guess."""
        record = _recorded(self.data)
        if record is not None and record[0].name.startswith("runfolio-"):
            return record[0]
        base = Path(tempfile.gettempdir())
        if self.account.uid != os.geteuid() or not _fits(base / "runfolio-12345678"):
            base = Path("/tmp")  # noqa: S108  root's own may be closed to the system user; the name is random
        folder = Path(tempfile.mkdtemp(prefix="runfolio-", dir=base))
        os.chown(folder, self.account.uid, self.account.gid)
        return folder

    # ── While it runs ──────────────────────────────────────────────────────

    def _launch(self, between: Callable[[], None]) -> None:
        """Starts the process and waits until it serves, as long as its log shows progress."""
        until = time.monotonic() + _PATIENCE
        seen = begin = self._start_process()
        while not (self._says_ready() and self.is_alive()):
            between()
            size = self.log.stat().st_size
            if self.has_ended():
                text = _end_of(self.log, begin)
                if _STILL_IN_USE not in text or time.monotonic() > until:
                    raise PostgresError(f"PostgreSQL did not start. The end of {self.log}:\n{text}")
                time.sleep(0.5)
                begin = self._start_process()
            elif size != seen:
                seen, until = size, time.monotonic() + _PATIENCE
            elif time.monotonic() > until:
                text = _end_of(self.log, begin)
                raise PostgresError(f"PostgreSQL does not answer. The end of {self.log}:\n{text}")
            time.sleep(0.05)

    def _says_ready(self) -> bool:
        """A hint when to ask, so that our asking too early does not fill the log that shows progress."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        return lines[0] == str(self._process and self._process.pid) and lines[7:8] == ["ready   "]

    def _start_process(self) -> int:
        """Starts `postgres`; the place in the log, in bytes, where its own lines begin."""
        self.keep_log_short()
        inside = self._socket == self.folder / "socket"
        settings = _SETTINGS | ({} if self.durable else _CARELESS)
        # The server stands in its folder, so that a relative path does, whoever owns the folders above.
        settings["unix_socket_directories"] = "socket" if inside else str(self._socket)
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with os.fdopen(os.open(self.log, flags, 0o600), "ab") as log:
            begin = os.fstat(log.fileno()).st_size
            self._process = self._spawn("postgres", options, self.folder, signal.SIGINT, log)
        return begin

    def _spawn(
        self, program: str, options: list[str], folder: Path, death_signal: int, output: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Starts one of PostgreSQL's programs on `folder`, with nothing of our environment."""
        where, identity = str(folder), {}
        if self.account.uid != os.geteuid():
            # It could not walk to a folder below, say, /root; but it is put there before it becomes itself.
            where = "/proc/self/cwd"
            identity = {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        return spawn(
            [str(self.programs / program), "-D", where, *options],
            death_signal,
            cwd=folder,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdout=output,
            stderr=subprocess.STDOUT,
            umask=0o077,
            **identity,
        )

    def _end(self, hurry: Callable[[], bool] = lambda: False) -> None:
        for number, seconds in ((signal.SIGINT, 30), (signal.SIGQUIT, 5), (signal.SIGKILL, 10)):
            if self._process is None or self._process.poll() is not None:
                break
            self._process.send_signal(number)
            until = time.monotonic() + seconds
            while self._process.poll() is None and time.monotonic() < until:
                if number == signal.SIGINT and hurry():
                    break
                time.sleep(0.02)
        self._process = None

    def _make_roles(self) -> None:
        """Makes what is missing, and sets what a newer Runfolio may want otherwise."""
        with self._connect("postgres") as connection:
            for role in (OWNER, APP):
                if not _has(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", role):
                    connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
            if not self.durable:
                connection.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(sql.Identifier(OWNER)))
            for name, value in _APP_LIMITS.items():
                words = sql.Identifier(APP), sql.Identifier(name), value
                connection.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(*words))
            if not _has(connection, "SELECT 1 FROM pg_database WHERE datname = %s", DATABASE):
                names = sql.Identifier(DATABASE), sql.Identifier(OWNER)
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))
        with self._connect(DATABASE) as connection:
            for right in ("SELECT, INSERT, UPDATE, DELETE ON TABLES", "USAGE, SELECT ON SEQUENCES"):
                statement = f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT {right} TO {APP}"
                connection.execute(sql.SQL(statement))

    def _connect(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(SUPERUSER, database), autocommit=True, connect_timeout=5)


def _url(folder: Path, user: str, role: str, database: str) -> str:
    """`requirepeer` makes the client refuse a server that another user put in our server's place."""
    query = urlencode({"host": str(folder), "port": _PORT, "requirepeer": user})
    return f"postgresql://{role}@/{database}?{query}"


def _recorded(data: Path) -> tuple[Path, str] | None:
    """The socket folder and the server's user of the last start, if that folder is still only theirs."""
    try:
        folder, user = json.loads((data / "postgres.json").read_text())
        private = _is_private(Path(folder), pwd.getpwnam(user).pw_uid)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return (Path(folder), user) if private and _fits(Path(folder)) else None


def _is_listening(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        return probe.connect_ex(str(folder / _SOCKET)) == 0


def _fits(folder: Path) -> bool:
    """Whether a socket in it has a path that the system and libpq's `host` can take."""
    path = os.fsencode(folder / _SOCKET)
    return len(path) <= _LONGEST_SOCKET_PATH and b"," not in path


def _is_private(folder: Path, uid: int) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return status.st_mode == stat.S_IFDIR | 0o700 and status.st_uid == uid


def _make_folder(folder: Path, owner: Account) -> None:
    """Of mode 0700, and never by way of a link that somebody may have put there in between."""
    folder.mkdir(mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(descriptor, 0o700)
        os.fchown(descriptor, owner.uid, owner.gid)
    finally:
        os.close(descriptor)


def _write(path: Path, text: str, owner: Account | None = None) -> None:
    """Replaces a file as a whole, mode 0600, and follows no link that the folder's owner may have put."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        if owner is not None:
            os.fchown(file.fileno(), owner.uid, owner.gid)
    unfinished.replace(path)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_postgres_of(pid: int, folder: Path) -> bool:
    """A server stands in its data folder (where the system shows that), or names it on its command line."""
    if sys.platform != "linux":
        shown = subprocess.run(
            ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True
        )
        return f"postgres -D {folder} " in shown.stdout
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return name == "postgres" and Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def _end_of(log: Path, begin: int) -> str:
    """The last 20 lines after `begin`."""
    with log.open("rb") as file:
        file.seek(begin)
        return "\n".join(file.read()[-20_000:].decode(errors="replace").splitlines()[-20:])


def _has(connection: psycopg.Connection[Any], query: str, name: str) -> bool:
    return connection.execute(query, [name]).fetchone() is not None
