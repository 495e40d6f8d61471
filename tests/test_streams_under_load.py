"""With as many streams as there may be, everybody else is served as before (issue 6, "Done when")."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT, answers, eventually

STREAMS, POOL = 6, 3  # more streams than connections: a stream that held one would leave none
OPEN_FOR = 3.0  # seconds


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def process(committed_db: dict[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "gunicorn", "project.wsgi", "--worker-class=gthread", "--threads=32"]
    limits = {"MAX_STREAMS": str(STREAMS), "DATABASE_POOL_SIZE": str(POOL)}
    started = subprocess.Popen(
        [*command, f"--bind=127.0.0.1:{port}", "--no-control-socket", "--log-level=warning"],
        cwd=ROOT,
        env={**os.environ, **committed_db, **limits},
    )
    eventually(lambda: answers(port))
    yield started
    started.terminate()
    started.wait()


def get(port: int, token: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    return connection.getresponse()


def test_the_runs_list_answers_and_no_pool_runs_short(process, port, token, make_run):
    run = make_run()
    streams = [get(port, token, "/stream/ui-updates") for _ in range(STREAMS)]
    assert [stream.status for stream in streams] == [200] * STREAMS
    for stream in streams:
        assert stream.readline() == b'data: {"synced":{}}\n'

    until = time.monotonic() + OPEN_FOR
    while time.monotonic() < until:
        answer = get(port, token, "/api/runs")
        assert answer.status == 200
        assert json.loads(answer.read())["data"][0]["runId"] == str(run.pk)

    refused = get(port, token, "/stream/ui-updates")
    assert (refused.status, refused.getheader("Retry-After")) == (503, "5")
    assert "MAX_STREAMS" in json.loads(refused.read())["detail"]


def test_a_server_that_is_told_to_stop_does_not_wait_for_them(process, port, token):
    stream = get(port, token, "/stream/ui-updates")
    assert stream.readline() == b'data: {"synced":{}}\n'

    process.terminate()

    assert stream.read() == b"\n"
    process.wait(10)  # a third of what gunicorn would wait
