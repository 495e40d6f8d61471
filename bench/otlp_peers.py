"""How fast others take the same traces, until they can be asked for: Phoenix and MLflow, as they come.

Each runs from an interpreter that has it (PHOENIX_PYTHON, MLFLOW_PYTHON), on an SQLite of its own.
"""

import json
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.otlp_traces import requests

TRACES = 1_500  # enough to see the rate of what takes minutes for more
_PHOENIX_COUNT = "{ projects { edges { node { recordCount } } } }"


def rates(at_once: int, spans: int) -> Iterator[tuple[str, float]]:
    """Name and spans a second of each that there is; `spans` are those of one trace."""
    for name, python, measure in (
        ("Phoenix", os.environ.get("PHOENIX_PYTHON"), _phoenix),
        ("MLflow", os.environ.get("MLFLOW_PYTHON"), _mlflow),
    ):
        if not python:
            print(f"{name}: set {name.upper()}_PYTHON to an interpreter that has it", flush=True)
            continue
        yield name, TRACES * spans / measure(python, requests(TRACES, at_once), TRACES * spans)


def _phoenix(python: str, bodies: list[bytes], spans: int) -> float:
    port = 18_432
    command = [python, "-m", "phoenix.server.main", "serve"]
    ports = {"PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(port + 1)}

    def count() -> int:
        answer = _asked(f"http://127.0.0.1:{port}/graphql", {"query": _PHOENIX_COUNT})
        return sum(edge["node"]["recordCount"] for edge in answer["data"]["projects"]["edges"])

    with _served(command, "PHOENIX_WORKING_DIR", ports, count):
        return _seconds(f"http://127.0.0.1:{port}/v1/traces", bodies, {}, lambda: count() >= spans)


def _mlflow(python: str, bodies: list[bytes], spans: int) -> float:
    port = 18_434
    where = f"http://127.0.0.1:{port}"
    database = ["--backend-store-uri", "sqlite:///mlflow.db", "--port", str(port)]
    last = ExportTraceServiceRequest.FromString(bodies[-1]).resource_spans[0].scope_spans[0].spans[-1]

    def alive() -> bool:
        return bool(_asked(f"{where}/health"))

    def is_there() -> bool:
        return "trace" in _asked(f"{where}/api/3.0/mlflow/traces/tr-{last.trace_id.hex()}")

    with _served([python, "-m", "mlflow", "server", *database], "MLFLOW_HOME", {}, alive):
        return _seconds(f"{where}/v1/traces", bodies, {"x-mlflow-experiment-id": "0"}, is_there)


@contextmanager
def _served(
    command: list[str], folder: str, variables: dict[str, str], check: Callable[[], object]
) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="runfolio-bench-", ignore_cleanup_errors=True) as home:
        environ = {**os.environ, folder: home, **variables}
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(
            command, cwd=home, env=environ, stdout=quiet, stderr=quiet, start_new_session=True
        )
        try:
            _until(lambda: _answers(check), 180)
            yield
        finally:
            os.killpg(process.pid, 15)
            process.wait()


def _answers(check: Callable[[], object]) -> bool:
    try:
        check()
    except (OSError, ValueError):
        return False
    return True


def _seconds(url: str, bodies: list[bytes], headers: dict[str, str], is_there: Callable[[], bool]) -> float:
    began = time.perf_counter()
    for body in bodies:
        sent = {"Content-Type": "application/x-protobuf", **headers}
        urllib.request.urlopen(urllib.request.Request(url, body, sent), timeout=300).read()
    _until(lambda: _answers(is_there) and is_there(), 300)
    return time.perf_counter() - began


def _asked(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    text = urllib.request.urlopen(request, timeout=60).read()
    return json.loads(text) if text.startswith(b"{") else {"text": text}


def _until(check: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not check():
        if time.monotonic() > until:
            raise SystemExit("it did not answer in time")
        time.sleep(0.05)
