"""Appending an event to an OpenHands conversation on either store, against its own LocalFileStore (issue 6)."""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

from bench.server import ROOT
from runs.models import Owner, Token
from tests.clients.environments import environment_of, python_of

CALLS = 40
LIMITS = {"DSN": 2, "HTTP": 4}


def main(runs: int, rounds: int) -> None:
    token = Token.objects.issue(Owner.objects.create(name="bench"), "bench")[1]
    script = ROOT / "bench" / "files_append.py"
    with _web() as url:
        told = subprocess.run(
            [
                python_of("openhands"),
                "-P",
                str(script),
                os.environ["DATABASE_URL"],
                url,
                token,
                str(rounds),
                str(CALLS),
            ],
            env=environment_of("openhands"),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    for what, measured in json.loads(told.splitlines()[-1]).items():
        medians = {store: statistics.median(seconds) * 1000 for store, seconds in measured.items()}
        for store, milliseconds in medians.items():
            limit = f"limit: {LIMITS[store]} x" if store in LIMITS and what == "append" else ""
            ratio = milliseconds / medians["Local"]
            print(f"{f'{what}, {store}':58} {milliseconds:9.3f} ms {ratio:7.2f} x  {limit}", flush=True)


@contextmanager
def _web() -> Iterator[str]:
    """The web server as `make up` starts it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "project.wsgi", "--worker-class=gthread", "--threads=32"]
    server = subprocess.Popen(
        [*command, f"--bind=127.0.0.1:{port}", "--no-control-socket", "--log-level=warning"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_POOL_SIZE": "16"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url)
        yield url
    finally:
        server.terminate()
        server.wait()


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            urlopen(f"{url}/readyz", timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the web server did not start")
