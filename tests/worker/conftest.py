"""Workers in this process, whose evaluators' processes share one fork server, and programs to judge with."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from runs.models import Run
from runs.worker import loop
from runs.worker.job import Job, Launcher
from tests.worker.specs import Programs

QUICK = {"WORKER_POLL": 0.05, "WORKER_HEARTBEAT": 0.2, "WORKER_LEASE": 30.0}
STOPS_WITHIN = 20.0  # seconds


class Lent:
    """The tests' fork server, for one worker."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def start(self) -> Job:
        return self._launcher.start()

    def warm_up(self) -> None:
        self._launcher.warm_up()

    def stop(self) -> None:
        """The next worker uses it as well."""


@pytest.fixture
def direct(committed_db: dict[str, str], settings: Any) -> None:
    """Who listens does so on the test's own database."""
    settings.DATABASE_DIRECT = connections.settings["default"]


@pytest.fixture
def work(
    direct: None, launcher: Launcher, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> Iterator[Callable[..., loop.EvaluationWorker]]:
    """Starts a worker in a thread, with quick settings or those that are given; it stops at the end."""
    monkeypatch.setattr(loop, "Launcher", lambda: Lent(launcher))
    started: list[tuple[loop.EvaluationWorker, threading.Thread]] = []

    def start(**given: Any) -> loop.EvaluationWorker:
        for name, value in {**QUICK, **given}.items():
            setattr(settings, name, value)
        worker = loop.EvaluationWorker()
        thread = threading.Thread(target=worker.run)
        thread.start()
        started.append((worker, thread))
        return worker

    yield start
    for worker, _ in started:
        worker.stop()
    for _, thread in started:
        thread.join(STOPS_WITHIN)
        assert not thread.is_alive(), "the worker does not stop"


@pytest.fixture
def programs(tmp_path: Path, settings: Any) -> Programs:
    """The operator's folder of evaluators."""
    settings.EVALUATOR_FOLDERS = [str(tmp_path)]
    return Programs(tmp_path)


def has_ended(run: Run) -> bool:
    run.refresh_from_db()
    return run.is_final


def ended_as(run: Run) -> list[str]:
    """How each attempt ended, in order; "" for the one under way."""
    return list(run.attempts.order_by("number").values_list("outcome", flat=True))
