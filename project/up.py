"""The supervisor behind `manage.py up`: starts everything, watches over it, stops it all, PostgreSQL last.

Signals only raise a count that every wait looks at, so that none can fall between the start of a
process and our knowing of it. Children have sessions of their own: a Ctrl-C reaches only us.
"""

import contextlib
import errno
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

from project.postgres import PostgresError, Server
from project.processes import end_group, kill_group, spawn, started_at, text_of, wait_for

GRACE = 15.0  # seconds for requests and runs at work to come to an end
_STEADY = 30.0  # seconds after which a child counts as started
_TRIES = 5  # deaths in a row, each sooner than that, until we give up
_LONGEST_PAUSE = 10.0  # seconds between two tries
_ANSWER_WITHIN = 60.0  # seconds: for the web server to serve, for a hanging PostgreSQL to be replaced
_LOCK = "up.lock"


class UpError(Exception):
    """It cannot start or go on; the text is one line for the person who started it."""


class _Stop(Exception):
    """Somebody asked us to stop."""


@dataclass
class Child:
    """A process that runs for as long as we do."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0
    deaths: int = 0
    due: float = 0

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass
class Plan:
    """What to run. `prepare` is a command that ends by itself and prints a JSON object as its last line."""

    data: Path
    host: str
    port: int
    address: str
    server: Server | None
    children: list[Child]
    prepare: Sequence[str] | None = None
    announce: Callable[[dict[str, Any]], str] = lambda prepared: ""
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    more_ports: Sequence[int] = ()
    throw_away: bool = False


def run(plan: Plan) -> int:
    """Runs until asked to stop (exit code 0), or until it cannot go on (1)."""
    return Supervisor(plan).run()


class Supervisor:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._asked = 0
        self._lock: IO[str] | None = None
        self._prepared: dict[str, Any] = {}
        self._announced = False
        self._answer_by = 0.0
        self._database_tries = 0
        self._database_due = 0.0
        self._database_seen = 0.0

    def run(self) -> int:
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # else nohup started us
            signal.signal(signal.SIGHUP, self._note)
        try:
            self._start()
            self._watch()
        except _Stop:
            return 0
        except (UpError, PostgresError, OSError) as error:
            _say(f"runfolio: {error}", sys.stderr)
            return 1
        finally:
            self._stop()

    def _note(self, *_: object) -> None:
        self._asked += 1

    def _check(self) -> None:
        if self._asked:
            raise _Stop

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._check()
            time.sleep(0.05)

    # ── Start ──────────────────────────────────────────────────────────────

    def _start(self) -> None:
        left_over = self._take_lock()
        self._end_left_overs(left_over)
        self._check_port(patience=GRACE if left_over else 0)
        if self.plan.throw_away:
            self._throw_away()
        self._check()
        if self.plan.server is not None:
            self._start_database(self.plan.server)
        if self.plan.prepare is not None:
            self._prepare(self.plan.prepare)
        self._answer_by = time.monotonic() + _ANSWER_WITHIN

    def _take_lock(self) -> dict[str, Any]:
        """Makes sure that we are the only one; what an earlier one that did not end cleanly left written."""
        self.plan.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        lock = os.fdopen(os.open(self.plan.data / _LOCK, flags, 0o600), "r+")
        written = _read(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = f"process {written['pid']} at {written['address']}" if written else "another process"
            raise UpError(f"Runfolio already runs on {self.plan.data}: {who}.") from None
        self._lock = lock
        return written

    def _write_lock(self, text: str | None = None) -> None:
        """Who we are and what we started, for a second start and for the start after a crash."""
        if self._lock is None:
            return
        children = [child.process.pid for child in self.plan.children if child.process is not None]
        record = {
            "pid": os.getpid(),
            "address": self.plan.address,
            "children": {pid: started_at(pid) for pid in children},
        }
        with contextlib.suppress(OSError):  # a full disk must not end what runs
            self._lock.seek(0)
            self._lock.truncate()
            self._lock.write(json.dumps(record) if text is None else text)
            self._lock.flush()

    def _end_left_overs(self, left_over: dict[str, Any]) -> None:
        """Where the kernel did not end the children of a killed supervisor, we do: the port must be free."""
        for pid, started in left_over.get("children", {}).items():
            if started and started_at(int(pid)) == started:
                kill_group(int(pid))
        self._write_lock()

    def _check_port(self, patience: float) -> None:
        until = time.monotonic() + patience
        while (problem := self._port_problem()) is not None:
            if time.monotonic() >= until:
                raise UpError(problem)
            self._pause(0.2)

    def _port_problem(self) -> str | None:
        ports = (self.plan.port, *self.plan.more_ports)
        return next(filter(None, (_port_problem(self.plan.host, port) for port in ports)), None)

    def _start_database(self, server: Server) -> None:
        began = time.monotonic()
        told = False

        def between() -> None:
            nonlocal told
            self._check()
            if not told and time.monotonic() - began > 5:
                _say("PostgreSQL is still starting; after a crash it first puts its data right.")
                told = True

        server.start(between)
        self._database_seen = time.monotonic()
        self.plan.environment.pop("DATABASE_URL_FILE", None)
        self.plan.environment.pop("DATABASE_MIGRATE_URL_FILE", None)
        self.plan.environment["DATABASE_URL"] = server.url()
        self.plan.environment["DATABASE_MIGRATE_URL"] = server.url("runfolio_owner")

    def _prepare(self, command: Sequence[str]) -> None:
        with tempfile.TemporaryFile() as output:
            process = self._spawn(command, signal.SIGKILL, stdout=output)
            if wait_for(process, self._check) != 0:
                raise UpError("The database could not be prepared; the lines above say why.")
            self._prepared = json.loads(text_of(output).splitlines()[-1])

    def _spawn(self, command: Sequence[str], death_signal: int, **options: Any) -> subprocess.Popen[bytes]:
        return spawn(command, death_signal, env=self.plan.environment, **options)

    # ── While it runs ──────────────────────────────────────────────────────

    def _watch(self) -> NoReturn:
        while True:
            if self._database_serves():
                for child in self.plan.children:
                    self._keep_running(child)
            if not self._announced:
                self._announce_when_it_serves()
            self._pause(0.2)

    def _database_serves(self) -> bool:
        """Whether PostgreSQL runs, which it does again after this if it can at all.

        We never give up on it: what ends it, a full disk for one, often passes without our doing.
        """
        server = self.plan.server
        now = time.monotonic()
        if server is None:
            return True
        if not server.has_ended() and not self._hangs(server, now):
            server.keep_log_short()
            return True
        if now < self._database_due:
            return False
        _say("PostgreSQL ended by itself. Starting it again.")
        try:
            self._start_database(server)
        except PostgresError as error:
            self._database_tries += 1
            pause = min(2**self._database_tries, _LONGEST_PAUSE)
            self._database_due = time.monotonic() + pause
            _say(f"{error}\nTrying again in {pause:.0f} seconds.", sys.stderr)
            return False
        self._database_tries = 0
        return True

    def _hangs(self, server: Server, now: float) -> bool:
        """Whether it has not answered for a minute; asks every few seconds."""
        if now - self._database_seen < 5:
            return False
        if server.is_alive():
            self._database_seen = time.monotonic()
        return now - self._database_seen > _ANSWER_WITHIN

    def _keep_running(self, child: Child) -> None:
        now = time.monotonic()
        if child.is_running() or now < child.due:
            return
        if child.process is not None:
            self._count_death(child, child.process, now)
            if now < child.due:
                return
        child.process = self._spawn(child.command, signal.SIGTERM)
        child.started = time.monotonic()
        self._write_lock()

    def _count_death(self, child: Child, process: subprocess.Popen[bytes], now: float) -> None:
        code, child.process = process.returncode, None
        kill_group(process.pid)  # what it left would hold the port
        child.deaths = 1 if now - child.started > _STEADY else child.deaths + 1
        if child.deaths >= _TRIES:
            raise UpError(f"The {child.name} ended {_TRIES} times in a row (last with {code}). Giving up.")
        child.due = now + min(0.25 * 2**child.deaths, _LONGEST_PAUSE)
        _say(f"The {child.name} ended by itself ({code}). Starting it again.", sys.stderr)

    def _announce_when_it_serves(self) -> None:
        if _answers(self.plan.host, self.plan.port):
            self._announced = True
            _say(self.plan.announce(self._prepared))
        elif time.monotonic() > self._answer_by:
            raise UpError(f"The web server does not answer on port {self.plan.port}. Giving up.")

    # ── Stop ───────────────────────────────────────────────────────────────

    def _stop(self) -> None:
        """Ends children, then PostgreSQL. A further signal makes it quick, but skips nothing."""
        asked = self._asked
        if self._announced:
            _say("Stopping.")
        self._stop_children(lambda: self._asked > asked)
        if self.plan.server is not None:
            self.plan.server.stop(lambda: self._asked > asked)
        if self._lock is not None:
            if self.plan.throw_away:
                self._throw_away()
            self._write_lock("")
            self._lock.close()

    def _stop_children(self, hurry: Callable[[], bool]) -> None:
        running = [child.process for child in self.plan.children if child.process is not None]
        for process in running:
            end_group(process, signal.SIGTERM)
        until = time.monotonic() + GRACE
        while running:
            too_long = time.monotonic() > until or hurry()
            for process in running:
                if too_long or process.poll() is not None:
                    kill_group(process.pid)  # with what it started
                    process.wait()
            running = [process for process in running if process.returncode is None]
            time.sleep(0.02)

    def _throw_away(self) -> None:
        """Empties the folder of STORAGE_TYPE=memory, except for our lock."""
        for path in self.plan.data.iterdir():
            if path.name == _LOCK:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _read(lock: IO[str]) -> dict[str, Any]:
    """What the lock's holder wrote; nothing if it ended cleanly, or is just about to write."""
    with contextlib.suppress(ValueError):
        record = json.loads(lock.read())
        if isinstance(record, dict) and {"pid", "address", "children"} <= record.keys():
            return record
    return {}


def _port_problem(host: str, port: int) -> str | None:
    """One line saying why nothing can listen there, None if it can."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found[:1]:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen(1)
    except socket.gaierror:
        return f"HOST={host} is no address of this machine. Set HOST=127.0.0.1."
    except PermissionError:
        return f"Port {port} needs more rights than we have. Set PORT to one above 1023, such as PORT=8000."
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"Port {port} on {host} is taken by another program. Stop that, or set another PORT."
        return f"Nothing can listen on {host}, port {port} ({error.strerror}). Set HOST and PORT."
    return None


def _answers(host: str, port: int) -> bool:
    """Whether the web server serves /healthz."""
    there = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    connection = http.client.HTTPConnection(there, port, timeout=2)
    try:
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _say(text: str, where: IO[str] | None = None) -> None:
    """Prints, even to a terminal that was closed."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=where or sys.stdout, flush=True)
