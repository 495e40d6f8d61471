"""What agentevals' own server answers of the same files. Arguments: a trace file, an eval set, a config.

Prints `evaluate`, `stream` and `convert` as JSON; the stream's events are without their names.
"""

import json
import sys
from pathlib import Path

from agentevals.api.app import create_app
from fastapi.testclient import TestClient


def main(trace: str, eval_set: str, config: str) -> None:
    client = TestClient(create_app())
    traces = ("trace_files", ("trace.json", Path(trace).read_bytes(), "application/json"))
    files = [traces, ("eval_set_file", ("set.json", Path(eval_set).read_bytes(), "application/json"))]
    stream = client.post("/api/evaluate/stream", files=files, data={"config": config}).text
    told = (line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: "))
    answers = {
        "evaluate": client.post("/api/evaluate", files=files, data={"config": config}).json(),
        "stream": [json.loads(one) for one in told],
        "convert": client.post("/api/convert", files=[traces]).json(),
    }
    print(json.dumps(answers))


main(*sys.argv[1:4])
