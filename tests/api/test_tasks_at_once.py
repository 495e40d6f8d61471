"""Many agents at once, and a server that dies between: nothing twice, nothing lost (CONTRACTS.md 2.3)."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import requests

from runs.models import Event, Run, Task
from tests.api.rest import Remote, message, submission
from tests.conftest import ROOT, Site, answers, eventually

AT_ONCE = 8


@pytest.fixture
def remote(site: Site, token: str) -> Remote:
    return Remote(site.url, token)


def all_at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [done.result() for done in [pool.submit(call) for call in calls]]


def test_many_who_submit_one_new_task_at_once_continue_it(remote):
    ids = {"task_id": str(uuid4()), "context_id": str(uuid4())}

    given = all_at_once([lambda: remote.post("/tasks", submission(**ids)) for _ in range(AT_ONCE)])

    assert sorted(status for status, _ in given) == [200] * (AT_ONCE - 1) + [201]
    assert len(remote.get(f"/tasks/{ids['task_id']}")[1]["data"]["history"]) == AT_ONCE
    assert Task.objects.count() == Run.objects.count() == 1


def test_many_who_submit_to_one_new_context_at_once_share_it(remote):
    context_id = str(uuid4())

    given = all_at_once(
        [lambda: remote.post("/tasks", submission(context_id=context_id)) for _ in range(AT_ONCE)]
    )

    assert [status for status, _ in given] == [201] * AT_ONCE
    assert remote.get("/contexts")[1]["data"][0]["task_count"] == AT_ONCE


def test_fifty_appends_and_twenty_swaps_leave_all_messages_and_one_winner(remote):
    said = submission()
    path = f"/tasks/{said['message']['task_id']}"
    remote.post("/tasks", said)
    step = {"from": "submitted", "to": "working"}
    appends = [
        lambda number=number: remote.post(f"{path}/updates", {"messages": [message(str(number))]})
        for number in range(50)
    ]
    swaps = [lambda: remote.post(f"{path}/transition", step) for _ in range(20)]

    given = all_at_once([*appends[:25], *swaps, *appends[25:]])

    assert [status for status, _ in given] == [200] * 70
    assert sum(answer["data"].get("moved", False) for _, answer in given) == 1
    task = remote.get(path)[1]["data"]
    assert (task["status"]["state"], len(task["history"])) == ("working", 51)
    assert {one["parts"][0]["text"] for one in task["history"]} == {"hello", *map(str, range(50))}


def test_of_two_with_one_key_at_once_one_is_done_and_both_get_its_answer(remote):
    said = submission()

    given = all_at_once([lambda: remote.post("/tasks", said, key="k") for _ in range(AT_ONCE)])

    assert given == [given[0]] * AT_ONCE
    assert Event.objects.filter(kind="message").count() == 1


def test_an_agent_that_writes_while_its_context_is_cleared_is_always_answered(remote):
    said = submission()
    task_id, context_id = said["message"]["task_id"], said["message"]["context_id"]
    remote.post("/tasks", said)

    def clear() -> int:
        return remote.http.delete(f"{remote.url}/contexts/{context_id}", timeout=60).status_code

    def write() -> int:
        return remote.post(f"/tasks/{task_id}/updates", {"messages": [message()]})[0]

    given = all_at_once([*[write] * 10, clear, *[write] * 10])

    assert given == [200] * 21
    kept = Event.objects.filter(run_id=task_id, kind__in=("message", "late_write"))
    assert kept.count() == 21


# ── A server that dies ─────────────────────────────────────────────────────
@pytest.fixture
def start_server(committed_db: dict[str, str]) -> Iterator[Callable[[], tuple[int, subprocess.Popen[bytes]]]]:
    """Starts real web servers on one port; they are killed at the end."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = []

    def start() -> tuple[int, subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "gunicorn", "project.wsgi", "--worker-class=gthread", "--threads=8"]
        server = subprocess.Popen(
            [*command, f"--bind=127.0.0.1:{port}", "--no-control-socket", "--log-level=error"],
            cwd=ROOT,
            env={**os.environ, **committed_db},
            start_new_session=True,
        )
        started.append(server)
        eventually(lambda: answers(port), 60)
        return port, server

    yield start
    for server in started:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def test_what_was_acknowledged_is_there_after_the_server_was_killed(start_server, token):
    port, server = start_server()
    remote = Remote(f"http://127.0.0.1:{port}", token)
    said = submission()
    path = f"/tasks/{said['message']['task_id']}"
    assert remote.post("/tasks", said)[0] == 201
    acknowledged: list[str] = []

    def write_on(number: int) -> None:
        mine = Remote(f"http://127.0.0.1:{port}", token)
        for turn in range(10_000):
            text = f"{number}.{turn}"
            try:
                status, _ = mine.post(f"{path}/updates", {"messages": [message(text)]}, key=text)
            except requests.RequestException:
                return
            assert status == 200
            acknowledged.append(text)

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write_on, number) for number in range(4)]
        eventually(lambda: len(acknowledged) > 40, 60)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        for writer in writers:
            writer.result()
    start_server()

    kept = [one["parts"][0]["text"] for one in remote.get(path)[1]["data"]["history"]]
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept))
