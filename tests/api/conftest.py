"""Fixtures of our own REST API and of agentevals'."""

from collections.abc import Callable
from typing import Any

import pytest

from runs.api import following
from runs.models import Run, Token, User
from runs.worker.execute import execute
from tests.api.agentevals import AgentEvals
from tests.api.rest import Rest


@pytest.fixture
def rest(token: str) -> Rest:
    return Rest(token)


@pytest.fixture
def strangers_rest(stranger: User) -> Rest:
    return Rest(Token.objects.issue(stranger.memberships.get().owner, "tests")[1])


@pytest.fixture
def agentevals(token: str) -> AgentEvals:
    return AgentEvals(token)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, claim: Callable[[], Any], launcher: Any) -> list[float]:
    """Whenever a request waits, one waiting run is executed. Gives for how long requests would have slept."""
    slept: list[float] = []

    def work(seconds: float) -> None:
        slept.append(seconds)
        if Run.objects.filter(status="queued").exists():
            execute(*claim(), launcher.start())

    monkeypatch.setattr(following, "pause_for", work)
    return slept
