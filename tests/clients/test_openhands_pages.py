"""A real OpenHands conversation as the worker shows it, while it goes on (issue 6, point 4)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from runs.models import Event, Owner, Run, Status, Token
from tests.clients.environments import run_script, running
from tests.conftest import eventually

SCRIPT = "openhands_conversation"
SOON = timedelta(seconds=5)  # a second, and what a machine takes on which other tests run


@pytest.fixture(params=["dsn", "http"])
def talk(request: pytest.FixtureRequest, owner: Owner, committed_db: dict[str, str]) -> list[str]:
    """What the script is told, for a new conversation on either store."""
    if request.param == "dsn":
        return ["dsn", committed_db["DATABASE_URL"], "none", str(uuid4())]
    secret = Token.objects.issue(owner, "tests")[1]
    return ["http", request.getfixturevalue("site"), secret, str(uuid4())]


def test_it_is_shown_while_it_goes_on(talk: list[str], start_worker: Callable[..., Any]) -> None:
    start_worker(WORKER_CONCURRENCY="1")
    with running("openhands", SCRIPT, "hang", *talk, "Which file is the biggest?"):
        run = eventually(lambda: Run.objects.filter(status=Status.RUNNING).first(), 60)
        eventually(lambda: run.events.filter(kind="tool_result").exists(), 60)
    assert run.session.key == talk[-1]
    assert run.session.title == run.title == "Which file is the biggest?"


def test_bursts_are_runs_with_what_they_used(talk: list[str], start_worker: Callable[..., Any]) -> None:
    start_worker(WORKER_CONCURRENCY="1")
    run_script("openhands", SCRIPT, "talk", *talk, "One")
    run_script("openhands", SCRIPT, "talk", *talk, "Two")  # resumed by another process
    eventually(lambda: Run.objects.filter(title="Two", status=Status.SUCCEEDED).exists(), 30)
    runs = Run.objects.filter(session__key=talk[-1]).order_by("created_at")
    assert [(run.title, run.status, run.input_tokens, run.output_tokens) for run in runs] == [
        ("One", Status.SUCCEEDED, 300, 30),
        ("Two", Status.SUCCEEDED, 300, 30),
    ]
    assert list(kinds_of(runs[0])) == [
        *(
            "message",
            "message",
            "tool_call",
            "tool_result",
            "tool_call",
            "tool_result",
            "tool_call",
            "message",
        )
    ]
    delays = [event.created_at - event.at for run in runs for event in run.events.exclude(kind="state")]
    print("from written to shown:", sorted(delays)[len(delays) // 2], "at most", max(delays))
    assert max(delays) < SOON


def kinds_of(run: Run) -> Any:
    return Event.objects.filter(run=run).exclude(kind="state").order_by("seq").values_list("kind", flat=True)
