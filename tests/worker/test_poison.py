"""Poison beside good runs: it ends with a readable reason, and the others succeed (RELIABILITY.md R8)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runs.models import Run
from runs.worker import loop
from runs.worker.job import Launcher
from tests.conftest import eventually
from tests.worker.conftest import Lent, ended_as, has_ended
from tests.worker.specs import BUILTIN, spec_of

MEMORY_MB = 400

# What another package brings by an entry point, which runs inside the evaluation's process.
PACKAGE = """
import os, signal
from runs.evaluators import Config, Verdict

class Poison:
    description = "Ends badly."
    default_threshold = 0.5
    needs_eval_case = False
    waits = False
    Config = Config

class Exits(Poison):
    name = "exits"
    def judge(self, task):
        os._exit(137)

class Killed(Poison):
    name = "killed"
    def judge(self, task):
        os.kill(os.getpid(), signal.SIGKILL)

class Loops(Poison):
    name = "loops"
    def judge(self, task):
        while True:
            pass

class Greedy(Poison):
    name = "greedy"
    def judge(self, task):
        return len(bytearray(2 * 2**30))

class Raises(Poison):
    name = "raises"
    def judge(self, task):
        raise ValueError("half of it \\x00 is \\ud800 missing")

class Talks(Poison):
    name = "talks"
    def judge(self, task):
        os.write(1, b'{"summary": {}}\\n' * 1000)
        return Verdict(1.0, [])
"""
NAMES = ("Exits", "Killed", "Loops", "Greedy", "Raises", "Talks")


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[None]:
    """Workers of this test have the package installed."""
    (tmp_path / "poison.py").write_text(PACKAGE)
    about = tmp_path / "poison-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: poison\nVersion: 1.0\n")
    points = "\n".join(f"{name.lower()} = poison:{name}" for name in NAMES)
    (about / "entry_points.txt").write_text(f"[runfolio.evaluators]\n{points}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("runs.models.queue.pause_after", lambda crashes: 0.05)
    settings.EVALUATOR_MEMORY = MEMORY_MB
    own = Launcher()
    own.warm_up()
    yield monkeypatch.setattr(loop, "Launcher", lambda: Lent(own))
    own.stop()


def test_each_poison_ends_with_its_reason_and_the_good_runs_succeed(make_run, work, poisoned):
    poison = {name.lower(): with_evaluator(make_run, name.lower()) for name in NAMES}
    good = [make_run() for _ in range(10)]
    work(WORKER_CONCURRENCY=3, RUN_DEADLINE=2.0, RUN_MAX_ATTEMPTS=3)

    eventually(lambda: all(map(has_ended, [*good, *poison.values()])), 40)

    assert {run.status for run in good} == {"succeeded"}
    assert {attempt for run in good for attempt in ended_as(run)} == {"succeeded"}
    assert_failed(poison["exits"], ["crashed"] * 3, "ended its process in 3 attempts", "exited with code 137")
    assert_failed(poison["killed"], ["crashed"] * 3, "killed by signal 9")
    assert "in killed on" in poison["killed"].error
    assert_failed(poison["loops"], ["failed"], "deadline_exceeded")
    assert_errored(poison["greedy"], "MemoryError")
    assert_errored(poison["raises"], "half of it \ufffd is \ufffd missing")
    assert poison["talks"].status == "succeeded"


def with_evaluator(make_run: Any, name: str) -> Run:
    """Judged by a good evaluator first."""
    run: Run = make_run(spec=spec_of(None, BUILTIN, {"type": "builtin", "name": name}))
    return run


def assert_failed(run: Run, attempts: list[str], *said: str) -> None:
    assert (run.status, ended_as(run)) == ("failed", attempts)
    for text in said:
        assert text in run.error
    assert run.results.get().evaluator_name == "turn_count"  # what was found out before stays


def assert_errored(run: Run, said: str) -> None:
    assert (run.status, run.errored_count, run.passed_count) == ("succeeded", 1, 1)
    assert said in run.results.get(status="errored").error
