"""Nobody gets away: each test runs in a process of its own, for whom its children are all there is."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from runs.worker import descendants

ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="orphans are inherited on Linux only")

PRELUDE = """
import os, signal, sys, time
from runs.worker.descendants import become_subreaper, descendants, end_descendants

def pids(count):
    "The ids that `count` processes write into the pipe."
    return [int(os.read(told, 16)) for _ in range(count)]

def tell_and_sleep():
    os.write(tells, f"{os.getpid():<16}".encode())
    while True:
        time.sleep(60)

told, tells = os.pipe()
"""

DAEMON = """
if not os.fork():
    os.setsid()
    if not os.fork():
        os.setsid()
        os.close(1)
        os.close(2)
        tell_and_sleep()
    os._exit(0)
os.wait()
print(*pids(1))
end_descendants(0.2)
"""


def run(body: str, *, subreaper: bool = True) -> str:
    """What `body` prints, run in a process that may start and end others."""
    code = PRELUDE + ("become_subreaper()\n" if subreaper else "") + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_is_ended():
    pid = run("""
        if not os.fork():
            tell_and_sleep()
        print(*pids(1))
        end_descendants(1.0)
    """)
    assert not alive(pid)


@linux
def test_a_daemon_is_ended():
    assert not alive(run(DAEMON))


@linux
def test_without_a_subreaper_a_daemon_gets_away():
    """The control of the test above."""
    pid = run(DAEMON, subreaper=False)
    assert alive(pid)
    os.kill(int(pid), signal.SIGKILL)


def test_one_who_ignores_sigterm_is_killed_after_the_grace():
    took, pid = run("""
        if not os.fork():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            tell_and_sleep()
        found = pids(1)
        began = time.monotonic()
        end_descendants(0.5)
        print(time.monotonic() - began, *found)
    """).split()
    assert not alive(pid)
    assert 0.5 <= float(took) < 1.5


def test_one_who_heeds_sigterm_may_put_things_in_order():
    assert (
        run("""
        if not os.fork():
            def goodbye(*_):
                print("in order", flush=True)
                os._exit(0)
            signal.signal(signal.SIGTERM, goodbye)
            tell_and_sleep()
        pids(1)
        end_descendants(2.0)
    """)
        == "in order\n"
    )


def test_a_stopped_process_is_ended():
    pid = run("""
        if not (child := os.fork()):
            tell_and_sleep()
        print(*pids(1))
        os.kill(child, signal.SIGSTOP)
        end_descendants(1.0)
    """)
    assert not alive(pid)


def test_a_fork_bomb_loses():
    left, seen = run("""
        if not os.fork():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            for _ in range(7):
                os.fork()
            tell_and_sleep()
        pids(128)
        seen = len(list(descendants(os.getpid())))
        end_descendants(0.1)
        print(len(list(descendants(os.getpid()))), seen)
    """).split()
    assert (left, int(seen)) == ("0", 128)


@linux
def test_processes_that_live_on_in_their_children_lose():
    left, running = run("""
        if not os.fork():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            for _ in range(4):
                os.fork()
            until = time.monotonic() + 20  # if nobody ends it
            while time.monotonic() < until:
                if os.fork():
                    os._exit(0)
            os._exit(0)
        time.sleep(0.3)
        running = len(list(descendants(os.getpid())))
        end_descendants(0.1)
        print(len(list(descendants(os.getpid()))), running)
    """).split()
    assert left == "0"
    assert int(running) > 8


def test_children_that_ended_by_themselves_are_collected():
    assert (
        run("""
        if not os.fork():
            os._exit(0)
        time.sleep(0.1)
        end_descendants(1.0)
        print(list(descendants(os.getpid())))
    """)
        == "[]\n"
    )


def test_with_nobody_to_end_it_costs_next_to_nothing():
    took = run("""
        began = time.monotonic()
        for _ in range(1000):
            end_descendants(1.0)
        print((time.monotonic() - began) / 1000)
    """)
    assert float(took) < 0.0005


@pytest.mark.parametrize("source", ["_from_proc", "_from_ps"])
def test_kernels_without_lists_of_children_are_looked_through(monkeypatch, source):
    if source == "_from_proc" and not Path("/proc").is_dir():
        pytest.skip("there is no /proc")
    monkeypatch.setattr(descendants, "_LISTS", False)
    monkeypatch.setattr(descendants, "_from_proc", getattr(descendants, source))
    with subprocess.Popen(["sleep", "60"]) as child:
        time.sleep(0.05)
        assert child.pid in list(descendants.descendants(os.getpid()))
        child.kill()
