"""The processes of evaluations: what they may know, how their ends are told, and what ends with them."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runs.models import Run
from runs.worker.execute import execute
from runs.worker.job import Job, JobLost, Launcher
from runs.worker.source import order_of
from tests.conftest import eventually
from tests.worker.conftest import ended_as
from tests.worker.specs import BUILTIN, DAEMON, GOOD, STUBBORN, is_gone, spec_of

ENVIRONMENT = """
import json, os
print(json.dumps({"score": 1.0, "details": {"environment": dict(os.environ)}}))
"""
SHORT = """
import os, pathlib, time
pathlib.Path({mark!r}).write_text(str(os.getpid()))
time.sleep(0.5)
print('{"score": 1.0}')
"""
PATIENCE = 0.2


@pytest.fixture
def ordered(make_run: Callable[..., Run], launcher: Launcher, db: None) -> Iterator[Callable[..., Job]]:
    """Starts the process of an evaluation by these evaluators."""
    jobs = []

    def start(*evaluators: dict[str, Any]) -> Job:
        run = make_run(spec=spec_of(None, *evaluators))
        job = launcher.start()
        jobs.append(job)
        job.send(order_of(run, run.full_spec, None))
        return job

    yield start
    for job in jobs:
        job.close()


def said(job: Job) -> list[dict[str, Any]]:
    return [message for message in job.messages(PATIENCE) if message]


def keepers(launcher: Launcher) -> list[int]:
    assert launcher._process is not None
    return [pid for pid in children(launcher._process.pid) if not is_gone(pid)]


def children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (thread / "children").read_text().split())
    return found


def executor_of(launcher: Launcher) -> int:
    """The one that evaluates, where there is one evaluation only."""
    (keeper,) = eventually(lambda: keepers(launcher))
    (executor, *_) = eventually(lambda: children(keeper))
    return int(executor)


@pytest.fixture(autouse=True)
def nobody_else(launcher: Launcher) -> Iterator[None]:
    """Each test begins and ends without a process of an evaluation."""
    launcher.warm_up()
    launcher.end_idle()
    eventually(lambda: not keepers(launcher))
    yield
    launcher.end_idle()
    eventually(lambda: not keepers(launcher))


# ── What it says ───────────────────────────────────────────────────────────
def test_an_evaluation_tells_its_history_its_outcomes_and_its_numbers(ordered):
    told = said(ordered(BUILTIN))

    kinds = list(dict.fromkeys(next(iter(message)) for message in told))
    assert kinds == ["about", "events", "start", "outcome", "summary"]
    assert told[-1]["summary"]["result_counts"]["passed"] == 1


def test_silence_is_told_of_so_that_what_is_there_can_be_written(ordered, programs):
    job = ordered(programs.add("slow", STUBBORN))
    eventually(lambda: programs.started("slow"))

    messages = job.messages(0.05)

    assert any(message is None for message in messages)


def test_several_run_at_once(ordered, programs):
    jobs = [ordered(BUILTIN, programs.add(f"p{number}", GOOD)) for number in range(4)]

    assert [said(job)[-1]["summary"]["result_counts"]["passed"] for job in jobs] == [2] * 4


# ── What it may know ───────────────────────────────────────────────────────
def test_no_setting_and_no_secret_of_the_worker_is_in_its_environment(ordered, programs, monkeypatch):
    monkeypatch.setenv("SOME_CANARY", "canary")
    own = Launcher()
    job = own.start()
    (keeper,) = eventually(lambda: keepers(own))

    known = Path(f"/proc/{keeper}/environ").read_bytes()
    job.close()
    own.stop()

    assert b"canary" not in known
    assert b"DATABASE_URL" not in known
    assert b"SECRET_KEY" not in known


def test_a_program_gets_less_still(ordered, programs):
    (outcome,) = [
        message["outcome"]
        for message in said(ordered(programs.add("e", ENVIRONMENT)))
        if "outcome" in message
    ]

    assert set(outcome["details"]["environment"]) <= {
        *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "HOME", "TMPDIR", "PWD", "SHLVL", "_", "OLDPWD"),
    }


# ── How it ends ────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGKILL, "killed by signal 9"), (signal.SIGSEGV, "ended by signal 11")]
)
def test_a_process_that_is_killed_is_told_of_and_its_programs_end(ordered, launcher, programs, number, told):
    job = ordered(programs.add("slow", DAEMON))
    process = eventually(lambda: programs.started("slow"))

    os.kill(executor_of(launcher), number)

    with pytest.raises(JobLost, match=told):
        said(job)
    eventually(lambda: is_gone(process), 5)


def test_a_closed_job_ends_all_that_it_began(ordered, launcher, programs):
    job = ordered(programs.add("slow", DAEMON))
    process = eventually(lambda: programs.started("slow"))

    job.close()

    eventually(lambda: is_gone(process), 5)
    eventually(lambda: not keepers(launcher), 5)


def test_a_stopped_evaluator_ends_as_well(ordered, launcher, programs):
    job = ordered(programs.add("slow", STUBBORN))
    process = eventually(lambda: programs.started("slow"))
    os.kill(executor_of(launcher), signal.SIGSTOP)
    os.kill(process, signal.SIGSTOP)

    job.close()

    eventually(lambda: is_gone(process), 5)


def test_whoever_reads_a_job_that_another_thread_closes_is_told(ordered, programs):
    job = ordered(programs.add("slow", STUBBORN))
    eventually(lambda: programs.started("slow"))
    threading.Timer(0.2, job.close).start()

    began = time.monotonic()
    with pytest.raises(JobLost):
        said(job)

    assert time.monotonic() - began < 2


def test_a_fork_server_that_was_killed_is_started_anew(make_run, claim, launcher):
    make_run(spec=spec_of(None, BUILTIN))
    launcher.warm_up()
    server = launcher._process
    assert server is not None
    server.kill()
    server.wait()

    run, held = claim()
    execute(run, held, launcher.start())

    assert Run.objects.get(pk=run.pk).status == "succeeded"


def test_a_process_of_a_fork_server_that_was_killed_goes_on(ordered, launcher, programs):
    """It has its own keeper; only new ones need a new server."""
    job = ordered(BUILTIN, programs.add("short", SHORT))
    own = launcher._process
    assert own is not None
    eventually(lambda: programs.started("short"))

    own.kill()
    own.wait()

    assert said(job)[-1]["summary"]["result_counts"]["passed"] == 2
    launcher.stop()
    launcher.warm_up()


# ── What the run says then ─────────────────────────────────────────────────
def test_the_attempt_says_where_its_process_died(make_run, claim, launcher, programs, monkeypatch):
    monkeypatch.setattr("runs.worker.execute.BATCH_SECONDS", 0.05)
    run = make_run(spec=spec_of(None, programs.add("slow", STUBBORN)))
    job = launcher.start()

    def kill_it() -> None:
        eventually(lambda: programs.started("slow"))
        os.kill(executor_of(launcher), signal.SIGKILL)

    killer = threading.Thread(target=kill_it)
    killer.start()
    execute(*claim(), job)
    killer.join()

    run.refresh_from_db()
    assert (run.status, run.crashes, run.run_after) == ("queued", 1, None)
    assert ended_as(run) == ["crashed"]
    reason = run.attempts.get().reason
    assert "killed by signal 9" in reason
    assert "in slow on" in reason


# ── One after the other ────────────────────────────────────────────────────
def test_a_process_that_ended_well_is_given_the_next_evaluation(ordered, launcher):
    job = ordered(BUILTIN)
    first = executor_of(launcher)
    said(job)
    job.done()

    said(ordered(BUILTIN))

    assert executor_of(launcher) == first


def test_closing_a_job_that_is_over_leaves_its_process_to_the_next(ordered, launcher):
    over = ordered(BUILTIN)
    said(over)
    over.done()

    following = ordered(BUILTIN)
    over.close()

    assert said(following)[-1]["summary"]["result_counts"]["passed"] == 1
