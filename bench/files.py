"""Appending an event to an OpenHands conversation on either store, against its own LocalFileStore (issue 6)."""

import json
import os
import statistics
import subprocess

from bench.server import ROOT, web_server
from runs.models import Owner, Token
from tests.clients.environments import environment_of, python_of

CALLS = 40
LIMITS = {"DSN": 2, "HTTP": 4}


def main(runs: int, rounds: int) -> None:
    token = Token.objects.issue(Owner.objects.create(name="bench"), "bench")[1]
    script = ROOT / "bench" / "files_append.py"
    with web_server() as port:
        told = subprocess.run(
            [
                python_of("openhands"),
                "-P",
                str(script),
                os.environ["DATABASE_URL"],
                f"http://127.0.0.1:{port}",
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
