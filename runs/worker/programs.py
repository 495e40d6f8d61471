"""Running one program of the user's, bounded in every way (CONTRACTS.md 1.8; issue 4, point 5).

Only what lies in the operator's folders runs, with an environment and a folder of its own, and nothing
of it outlives the call: its processes are known by the folder's name in their environment, wherever
they have gone. What that does not find, descendants.end_descendants does at the end of the run.
"""

import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from runs.evaluators.base import Ran
from runs.evaluators.tool_errors import ProgramError
from runs.worker import descendants

GRACE = 1.0  # seconds between SIGTERM and SIGKILL
NICENESS = 5  # so that a program that eats all processors does not hold up the one who ends it
STDERR_KEPT = 64 * 1024  # bytes; its end is what tells why a program failed
_TICK = 0.05  # seconds between two looks at what the program's processes use
_CHUNK = 64 * 1024
_MB = 2**20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STRIPS_TYPES = (22, 6)  # the first node that can run TypeScript, behind a flag until it became the default
_STRIPS_TYPES_UNASKED = (22, 18)

# sh sets what its exec hands on. A function run between fork and exec would not be safe beside threads.
_LIMITED = """
ulimit -c 0; ulimit -d "$1"; ulimit -t "$(($2 + 1))"; ulimit -S -t "$2"; ulimit -f "$3"
shift 3
exec nice -n "$0" "$@"
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use. Memory, processor time and file size hold for each process, memory
    also for all its processes together, where the kernel tells (Linux)."""

    memory_mb: int = 1024
    cpu_seconds: int = 3600
    file_mb: int = 100
    processes: int = 64
    output_mb: int = 10


_starting = threading.RLock()  # reentrant: the signal handler that calls no_more may interrupt its holder
_no_more = False


def no_more() -> None:
    """From now on every program is refused: for a process that is about to end its descendants and itself.

    May be called from a signal handler, also while other threads start programs.
    """
    global _no_more
    with _starting:
        _no_more = True


def run_program(
    path: str,
    stdin: bytes,
    timeout: float,
    limits: Limits,
    folders: Sequence[str],
    *,
    python: str = sys.executable,
    scratch: str | None = None,
) -> Ran:
    """Runs the .py, .js or .ts file at `path`; a relative one is looked for in each of `folders`.

    `timeout` is in seconds of wall clock. The working folder is made in `scratch` and removed, except
    when this process ends while the program runs. Raises ProgramError when the program is refused or
    had to be ended; how it ended by itself is for the caller to judge.
    """
    command = _command(_allowed(path, folders), limits, python)
    return run_command(command, stdin, timeout, limits, scratch=scratch)


def run_command(
    command: Sequence[str],
    stdin: bytes,
    timeout: float,
    limits: Limits,
    *,
    environment: Mapping[str, str] | None = None,
    scratch: str | None = None,
) -> Ran:
    """Runs `command` as run_program does, with `environment` added to the little that it gets."""
    with TemporaryDirectory(prefix="runfolio-", dir=scratch, ignore_cleanup_errors=True) as home:
        process = _started(_limited(command, limits), home, {**_environment(home), **(environment or {})})
        family = _Family(process, home)
        try:
            return _Exchange(process, family, stdin, timeout, limits).result()
        finally:
            family.end()
            _close_pipes(process)


# What is run


def _allowed(path: str, folders: Sequence[str]) -> Path:
    """The real path of the file. What lies outside is refused alike whether it exists or not."""
    if not folders:
        raise ProgramError(
            "is not run: EVALUATOR_FOLDERS is empty, and only programs in folders that it names run"
        )
    roots = [Path(folder).resolve() for folder in folders]
    found = [real for root in roots if (real := _real(root, path)) and real.is_relative_to(root)]
    if not found:
        raise ProgramError("is not run: it does not lie in a folder that EVALUATOR_FOLDERS names")
    for real in found:
        if real.is_file():
            return real
    raise ProgramError("is not run: there is no such file in the folders that EVALUATOR_FOLDERS names")


def _real(root: Path, path: str) -> Path | None:
    """With all symbolic links followed, so that none leads out. None when it is no path at all."""
    try:
        return (root / path).resolve()
    except (ValueError, OSError, RuntimeError):
        return None


def _command(program: Path, limits: Limits, python: str) -> list[str]:
    match program.suffix.lower():
        case ".py":
            return [_python(program, python), str(program)]
        case ".js":
            return [*_node(limits), str(program)]
        case ".ts":
            return [*_node(limits), *_type_stripping(), str(program)]
        case suffix:
            raise ProgramError(f"is not run: {suffix or 'a name without an ending'} is none of .py, .js, .ts")


def _python(program: Path, python: str) -> str:
    """That of the virtual environment beside the program, else the configured one."""
    own = program.parent / ".venv" / "bin" / "python"
    if own.exists():
        return str(own)
    if (program.parent / "requirements.txt").exists():
        raise ProgramError(
            "is not run: the requirements.txt beside it is not installed. In its folder, run "
            "python -m venv .venv && .venv/bin/pip install -r requirements.txt"
        )
    return python


def _node(limits: Limits) -> list[str]:
    """V8 is told how much memory it has, so that it collects garbage instead of asking for more."""
    found = shutil.which("node")
    if not found:
        raise ProgramError("is not run: it needs Node.js, and there is no node on the worker's PATH")
    return [found, f"--max-old-space-size={limits.memory_mb * 3 // 4}"]


def _type_stripping() -> list[str]:
    """An older node still runs a .ts file that has no types in it."""
    version = _node_version()
    return ["--experimental-strip-types"] if _STRIPS_TYPES <= version < _STRIPS_TYPES_UNASKED else []


@cache
def _node_version() -> tuple[int, ...]:
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=10, check=False)
    numbers = done.stdout.strip().removeprefix("v").split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


# How it is run


def _limited(command: Sequence[str], limits: Limits) -> list[str]:
    """`ulimit` counts memory in kB and files in blocks of 512 bytes. Memory is what a process may write
    to (RLIMIT_DATA), not its addresses (RLIMIT_AS), of which node reserves many times what it uses."""
    data, file = limits.memory_mb * 1024, limits.file_mb * 2048
    return ["/bin/sh", "-c", _LIMITED, str(NICENESS), str(data), str(limits.cpu_seconds), str(file), *command]


def _environment(home: str) -> dict[str, str]:
    """All that the program learns of ours; no secret, no setting."""
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "HOME": home, "TMPDIR": home}


def _started(command: list[str], home: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with _starting:
        if _no_more:
            raise ProgramError("is not run: the run is being ended")
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home,
            env=environment,
            start_new_session=True,
        )


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with suppress(OSError):
                pipe.close()


class _Family:
    """A program's processes: those below it, and orphans that still carry the name of its folder."""

    def __init__(self, process: subprocess.Popen[bytes], home: str) -> None:
        self._process = process
        self._mark = home.encode()
        self._met: set[int] = set()

    def members(self) -> Iterator[int]:
        """Each once. Dead ones that nobody has collected are among them while the program itself lives."""
        seen = set()
        if self._process.poll() is None:
            yield self._process.pid
            for pid in descendants.descendants(self._process.pid):
                seen.add(pid)
                yield pid
        for pid in descendants.descendants(os.getpid()):
            if pid not in seen and pid != self._process.pid and self._is_marked(pid):
                seen.add(pid)
                yield pid
        self._met |= seen

    def end(self) -> None:
        descendants.end(self.members, self._is_gone, GRACE)
        for pid in self._met:  # those that we inherited, as a subreaper does
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def _is_gone(self) -> bool:
        return next(self.members(), None) is None

    def _is_marked(self, pid: int) -> bool:
        try:
            return self._mark in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False


class _Exchange:
    """Writes stdin and reads stdout and stderr at once, so that neither side waits for the other."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        family: _Family,
        stdin: bytes,
        timeout: float,
        limits: Limits,
    ) -> None:
        self._process = process
        self._family = family
        self._limits = limits
        self._timeout = timeout
        self._until = time.monotonic() + timeout
        self._look_at = time.monotonic() + _TICK
        self._unsent = memoryview(stdin)
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._stderr_size = 0
        self._selector = selectors.DefaultSelector()

    def result(self) -> Ran:
        with self._selector:
            self._register()
            while self._process.poll() is None:
                self._check_time()
                self._check_use()
                self._step()
            self._drain()
        code = self._process.returncode
        if code == -signal.SIGXCPU:
            raise ProgramError(f"used more than {self._limits.cpu_seconds} seconds of processor time")
        return Ran(code, bytes(self._stdout), bytes(self._stderr[-STDERR_KEPT:]))

    def _register(self) -> None:
        process = self._process
        assert process.stdin and process.stdout and process.stderr  # noqa: S101 - Popen was given pipes
        for pipe, event, act in (
            (process.stdin, selectors.EVENT_WRITE, self._write),
            (process.stdout, selectors.EVENT_READ, self._read_stdout),
            (process.stderr, selectors.EVENT_READ, self._read_stderr),
        ):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, event, act)

    def _step(self) -> None:
        wait = max(0.0, min(_TICK, self._until - time.monotonic()))
        if not self._selector.get_map():  # all said: only its end is awaited
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(wait)
            return
        for key, _ in self._selector.select(wait):
            if not key.data(key.fd):
                self._selector.unregister(key.fileobj)

    def _write(self, fd: int) -> bool:
        try:
            self._unsent = self._unsent[os.write(fd, self._unsent[:_CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:  # it does not want to read it all, which is its affair
            self._unsent = memoryview(b"")
        if not self._unsent and self._process.stdin:
            self._selector.unregister(self._process.stdin)
            with suppress(OSError):
                self._process.stdin.close()
        return True

    def _read_stdout(self, fd: int) -> bool:
        chunk = os.read(fd, _CHUNK)
        self._stdout += chunk
        self._check_size(len(self._stdout), "stdout")
        return bool(chunk)

    def _read_stderr(self, fd: int) -> bool:
        chunk = os.read(fd, _CHUNK)
        self._stderr_size += len(chunk)
        self._stderr += chunk
        if len(self._stderr) > 2 * STDERR_KEPT:
            del self._stderr[:-STDERR_KEPT]
        self._check_size(self._stderr_size, "stderr")
        return bool(chunk)

    def _drain(self) -> None:
        """What was written before the end. Processes it left behind may hold the pipes open."""
        for key in list(self._selector.get_map().values()):
            if key.events == selectors.EVENT_READ:
                with suppress(BlockingIOError):
                    while key.data(key.fd):
                        pass

    def _check_time(self) -> None:
        if time.monotonic() >= self._until:
            raise ProgramError(f"timed out after {self._timeout:g}s")

    def _check_size(self, size: int, name: str) -> None:
        if size > self._limits.output_mb * _MB:
            raise ProgramError(f"wrote more than {self._limits.output_mb} MB to {name}")

    def _check_use(self) -> None:
        """No limit of the kernel's counts a family (RLIMIT_NPROC counts all that a user has)."""
        if time.monotonic() < self._look_at:
            return
        members = set(self._family.members())
        if len(members) > self._limits.processes:
            raise ProgramError(f"had more than {self._limits.processes} processes")
        if sum(map(_resident, members)) > self._limits.memory_mb * _MB:
            raise ProgramError(f"used more than {self._limits.memory_mb} MB of memory")
        self._look_at = time.monotonic() + _TICK


def _resident(pid: int) -> int:
    """Bytes of memory that are the process's own; pages shared with the files they came from are not."""
    try:
        _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_bytes().split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * _PAGE
