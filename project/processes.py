"""Child processes that end with us: own session, and the kernel's word for it where it gives one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from typing import IO, Any, Callable, Sequence  # noqa: UP035  bootstrap.py runs on Python 3.8

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def spawn(
    command: Sequence[str | os.PathLike[str]], death_signal: int, **options: Any
) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own, so that a terminal's Ctrl-C reaches only us.

    On Linux it gets `death_signal` when we die, however we die. The kernel ties that to the thread that
    called, so call this from the main thread. Elsewhere the next start has to find what was left.
    """
    return subprocess.Popen(
        command,
        stdin=options.pop("stdin", subprocess.DEVNULL),
        start_new_session=True,
        # Runs after subprocess has changed the user: a change of user clears the parent-death signal.
        preexec_fn=_die_with(os.getpid(), death_signal),
        **options,
    )


def wait_for(process: subprocess.Popen[bytes], between: Callable[[], None]) -> int:
    """The exit code of a short-lived helper; `between` is called while waiting and may raise to end it."""
    try:
        while True:
            try:
                return process.wait(0.05)
            except subprocess.TimeoutExpired:
                between()
    except BaseException:
        end_group(process, signal.SIGKILL)
        process.wait()
        raise


def end_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Sends a signal to a spawned process and its descendants, if any are left."""
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        process.send_signal(number)


def kill_group(leader: int) -> None:
    """Ends what is left of a spawned process and its descendants; the leader may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def started_at(pid: int) -> str:
    """When a process began, as `ps` tells: with its id that names a process. Empty where nobody knows."""
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    try:
        shown = subprocess.run(
            command, capture_output=True, text=True, env={"LC_ALL": "C", "PATH": os.defpath}
        )
    except OSError:
        return ""
    return shown.stdout.strip()


def text_of(file: IO[bytes]) -> str:
    """What a helper wrote to a temporary file, for people to read."""
    file.seek(0)
    return file.read().decode(errors="replace").strip()


def _die_with(parent: int, number: int) -> Callable[[], None] | None:
    if _libc is None:
        return None

    def arrange() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return arrange
