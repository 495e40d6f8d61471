"""The fork server behind a worker: starts a process for each evaluation (DESIGN.md 6, issue 4, point 3).

It imports the evaluators once and forks, so that a process costs milliseconds and shares their memory. It
has no Django, no database and no secret. Of each evaluation there are two processes: the keeper, which holds
a pipe to the worker and ends all that its child began when the pipe closes, whoever closed it and why; and
the executor (runs.worker.executor), which evaluates. So not even the evaluator of a SIGKILLed worker stays.
"""

import contextlib
import gc
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import NoReturn

from runs.worker.descendants import become_subreaper, end_descendants

GRACE = 1.0  # seconds between SIGTERM and SIGKILL
NICENESS = 5  # more than the worker's own, which writes what they find out

type RunJobs = Callable[[socket.socket, str], None]
"""Takes the pipe to the worker, and a folder that is gone after the evaluation."""


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _give_way()
    run_jobs = _preloaded()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are not waited for
    control.send(b"r")
    while True:
        asked, handed, _, _ = socket.recv_fds(control, 1, 1)
        if not asked:
            return
        for number in handed:
            if os.fork() == 0:
                control.close()
                _keep(number, run_jobs)
            os.close(number)


def _give_way() -> None:
    """Evaluators run when nothing else wants to, or nearly: pages and database of a machine come first."""
    os.nice(NICENESS)
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _preloaded() -> RunJobs:
    """The executor, with all that it is going to need: nothing of that is imported a second time."""
    from runs.worker.executor import run_jobs, warm_up

    warm_up()
    gc.collect()
    gc.freeze()  # what is there now stays: the collector must not touch, and so copy, its pages
    return run_jobs


def _keep(number: int, run_jobs: RunJobs) -> NoReturn:
    """Lives as long as the evaluation, and leaves nothing of it behind."""
    os.setsid()
    become_subreaper()
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pipe = socket.socket(fileno=number)
    scratch = tempfile.mkdtemp(prefix="runfolio-run-")
    executor = os.fork()
    if executor == 0:
        _execute(pipe, run_jobs, scratch)
    try:
        _wait(pipe, wake, executor)
    finally:
        end_descendants(GRACE)
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(0)


def _execute(pipe: socket.socket, run_jobs: RunJobs, scratch: str) -> NoReturn:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    become_subreaper()
    os.dup2(2, 1)  # what an evaluator prints goes to the log
    code = 1
    try:
        run_jobs(pipe, scratch)
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def _wait(pipe: socket.socket, wake: int, executor: int) -> None:
    """Until the executor has ended, which the worker is told, or the worker has closed its end."""
    poll = select.poll()
    poll.register(pipe, 0)  # an end that was closed is told without being asked for
    poll.register(wake, select.POLLIN)
    while True:
        for number, _ in poll.poll():
            if number == wake:
                os.read(wake, 4096)
                ended, status = os.waitpid(executor, os.WNOHANG)
                if ended:
                    code = os.waitstatus_to_exitcode(status)
                    end_descendants(GRACE)
                    pipe.settimeout(GRACE)
                    pipe.sendall(b"\n" + json.dumps({"exit": code}).encode() + b"\n")
                    return
            else:
                return


if __name__ == "__main__":
    main()
