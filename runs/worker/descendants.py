"""Ending every process that came of this one, whatever it did to get away (issue 4, points 3 and 5).

On Linux a subreaper inherits the orphans among its descendants, so that neither a session of its own
nor a double fork hides a process. Elsewhere orphans go to init, and only the tree that still hangs
together is found. Standard library only: evaluators' processes use it, which have no Django.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_POLL = 0.005  # seconds between two looks at who is left
_KILLED = 0.2  # seconds that a killed process may take to be gone, before somebody new is looked for
_PATIENCE = 5.0  # seconds after which those that not even SIGKILL ended (waiting inside the kernel) are left

_PROC = Path("/proc")
# What a process's children are, without looking at all processes; not every kernel keeps it.
_LISTS = Path(f"/proc/self/task/{os.getpid()}/children").exists()


def become_subreaper() -> None:
    """From now on this process, and no fork of it, inherits the orphans among its descendants."""
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def end_descendants(grace: float) -> None:
    """Ends every descendant: SIGTERM, then, `grace` seconds later, SIGKILL, until none is left.

    Collects them all, also those that ended by themselves: nobody can wait for them any more. Without
    a child, which means without a descendant, it costs one system call.
    """
    if _any_child():
        end(lambda: descendants(os.getpid()), lambda: not _any_child(), grace)


def end(members: Callable[[], Iterator[int]], gone: Callable[[], bool], grace: float) -> None:
    """Ends the processes that `members` gives whenever it is asked, until `gone` says that it is done."""
    for pid in members():
        tell(pid, signal.SIGTERM)
        tell(pid, signal.SIGCONT)  # a stopped process hears nothing else
    if _within(grace, gone):
        return
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        _kill(members)
        if _within(_KILLED, gone):
            return


def descendants(root: int) -> Iterator[int]:
    """Parents before their children, the living and those not collected yet.

    Each is given out before its children are looked up: who stops it first misses none of them.
    """
    children = _children_from_lists if _LISTS else _children_from_table()
    todo = children(root)
    while todo:
        pid = todo.pop()
        yield pid
        todo += children(pid)


def tell(pid: int, signal_number: int) -> None:
    """Sends a signal; one who is gone, or not ours to signal, gets none."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal_number)


def _kill(members: Callable[[], Iterator[int]]) -> None:
    """Stops all before it kills any: the stopped do not fork, so a look that finds nobody new is enough."""
    stopped: set[int] = set()
    while fresh := _stop_others(members, stopped):
        stopped |= fresh
    for pid in stopped:
        tell(pid, signal.SIGKILL)


def _stop_others(members: Callable[[], Iterator[int]], stopped: set[int]) -> set[int]:
    fresh = set()
    for pid in members():
        if pid not in stopped:
            tell(pid, signal.SIGSTOP)
            fresh.add(pid)
    return fresh


def _within(seconds: float, gone: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not gone():
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL)
    return True


def _any_child() -> bool:
    """Collects the children that have ended; whether any is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _children_from_lists(pid: int) -> list[int]:
    """Each thread has a list of those it started."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (thread / "children").read_bytes().split())
    return found


def _children_from_table() -> Callable[[int], list[int]]:
    """From one look at all processes."""
    children: dict[int, list[int]] = {}
    for pid, parent in _from_proc() if _PROC.is_dir() else _from_ps():
        children.setdefault(parent, []).append(pid)
    return lambda pid: children.get(pid, [])


def _from_proc() -> Iterator[tuple[int, int]]:
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            # The name comes in parentheses and may hold any character; state and parent follow it.
            yield int(folder.name), int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])


def _from_ps() -> Iterator[tuple[int, int]]:
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=True).stdout
    for line in listing.splitlines():
        pid, parent = line.split()
        yield int(pid), int(parent)
