"""The worker's end of an evaluation's process: a line of JSON for each message, in both directions."""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

LONGEST_MESSAGE = 64 * 2**20  # bytes
_START = 60.0  # seconds that the fork server may take to import the evaluators
_READ = 2**16
_ROOT = Path(__file__).resolve().parents[2]
# What an evaluator's process may know of ours: no setting, no secret.
_PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONPATH"),
)

type Message = dict[str, Any]


class JobLost(Exception):
    """The process ended before it had said all; the text says how."""


class Job:
    """One evaluation in a process. Closing it ends the process and all that it started.

    `keep_pipe` takes the pipe of a process that may be given another evaluation, which is another Job.
    """

    def __init__(self, pipe: socket.socket, keep_pipe: Callable[[socket.socket], None]) -> None:
        self._pipe = pipe
        self._keep_pipe = keep_pipe
        self._read = bytearray()
        self._lock = threading.Lock()
        self._is_idle = self._is_over = False
        self.closed = False
        self.keep = True  # what was said before it was closed

    def send(self, message: Mapping[str, Any]) -> None:
        """Raises JobLost. Another thread may close the job meanwhile."""
        try:
            self._pipe.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise JobLost("it does not listen any more") from None

    def messages(self, patience: float) -> Iterator[Message | None]:
        """What the process says, until it is idle or has ended; None after `patience` seconds of silence.

        Raises JobLost where it ended otherwise than by itself.
        """
        while True:
            try:
                line = self._line(patience)
            except OSError:
                raise JobLost("it was ended") from None
            if line is None:
                yield None
                continue
            message = _parsed(line)
            if "idle" in message:
                self._is_idle = True
                return
            if "exit" in message:
                if message["exit"] != 0:
                    raise JobLost(_ending(message["exit"]))
                return
            if message:
                yield message

    def close(self, keep: bool = True) -> None:
        """From any thread: whoever reads gets a JobLost. The process ends within launcher.GRACE and a bit."""
        with self._lock:
            if self._is_over:
                return
            self.closed, self.keep = True, keep
            with contextlib.suppress(OSError):
                self._pipe.shutdown(socket.SHUT_RDWR)
            self._pipe.close()

    def done(self) -> None:
        """The evaluation is over: an idle process may be given another one, any other is ended."""
        with self._lock:
            self._is_over = self._is_idle and not self.closed
        if self._is_over:
            self._keep_pipe(self._pipe)
        else:
            self.close()

    def _line(self, patience: float) -> bytes | None:
        searched = 0
        while (at := self._read.find(b"\n", searched)) < 0:
            searched = len(self._read)
            if searched > LONGEST_MESSAGE:
                raise JobLost(f"it said more than {LONGEST_MESSAGE // 2**20} MB at once")
            if not _readable(self._pipe, patience):
                return None
            received = self._pipe.recv(_READ)
            if not received:
                raise JobLost("it was ended")
            self._read += received
        line = bytes(self._read[:at])
        del self._read[: at + 1]
        return line


def _readable(pipe: socket.socket, patience: float) -> bool:
    if pipe.fileno() < 0:
        raise OSError("closed")
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(patience * 1000))


def _parsed(line: bytes) -> Message:
    """What was cut off by the process's end is no message."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _ending(code: int) -> str:
    if code == -9:
        return "it was killed by signal 9 (was there not enough memory?)"
    return f"it was ended by signal {-code}" if code < 0 else f"it exited with code {code}"


class Launcher:
    """The fork server of this worker; started anew where it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._idle: list[socket.socket] = []

    def start(self) -> Job:
        """A process that waits for its order. Raises JobLost."""
        while (pipe := self._idle_pipe()) is not None:
            if not _readable(pipe, 0):  # it would say that it has ended
                return Job(pipe, self._keep)
            pipe.close()
        ours, theirs = socket.socketpair()
        with theirs:
            for _ in range(2):  # once more with a new one
                try:
                    with self._lock:
                        socket.send_fds(self._serving(), [b"s"], [theirs.fileno()])
                    return Job(ours, self._keep)
                except OSError:
                    self.stop()
        ours.close()
        raise JobLost("the fork server does not start")

    def _keep(self, pipe: socket.socket) -> None:
        with self._lock:
            self._idle.append(pipe)

    def end_idle(self) -> None:
        """Ends the processes that have nothing to do."""
        while (pipe := self._idle_pipe()) is not None:
            pipe.close()

    def _idle_pipe(self) -> socket.socket | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def warm_up(self) -> None:
        """Starts it, and waits until it has imported what it needs."""
        with contextlib.suppress(OSError), self._lock:
            self._serving()

    def stop(self) -> None:
        """The processes that it started live until their jobs are closed; the idle ones end."""
        self.end_idle()
        with self._lock:
            if self._control is not None:
                self._control.close()
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(1)
                if self._process.poll() is None:
                    self._process.kill()
                    self._process.wait()
            self._control = self._process = None

    def _serving(self) -> socket.socket:
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runs.worker.launcher", str(theirs.fileno())],
                cwd=_ROOT,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        ours.settimeout(_START)
        if ours.recv(1) != b"r":
            ours.close()
            raise OSError("the fork server ended")
        ours.settimeout(None)
        self._control = ours
        return ours
