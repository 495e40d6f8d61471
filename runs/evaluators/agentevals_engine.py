"""`engine: agentevals`: the reference itself as evaluator, in a process and an environment of its own
(issue 4, point 5; CONTRACTS 1.13). 946 MB with all it needs, so it is never a part of ours.

What runs there is bounded as programs are, and knows no secret but the run's own credentials. A metric
of its that calls a model does so past our outgoing rules; those are refused unless `network` is given.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from runs.evaluators.base import EvaluationError
from runs.evaluators.tool_errors import ProgramError
from runs.worker.programs import Limits, run_command

CHILD = Path(__file__).with_name("agentevals_child.py")
VERSIONS = "0.11."
LIMITS = Limits(memory_mb=4096, output_mb=100)
_VERSION = "from importlib.metadata import version; print(version('agentevals-cli'))"
_TIMEOUT = 20  # seconds
# So that nothing in it asks the network at start (litellm fetches its prices) or reports home.
_QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "OTEL_SDK_DISABLED": "true"}

_INSTALL = (
    "make an environment for it, python -m venv agentevals && agentevals/bin/pip install "
    "'agentevals-cli>=0.11,<0.12', and set AGENTEVALS_PYTHON to its bin/python"
)
_found: dict[str, str] = {}


def available(python: str) -> str | None:
    """The version of agentevals that `python` has, None without one. Only a version found is remembered."""
    if not python or not Path(python).is_file():
        return None
    if python not in _found and (version := said_by(python, _VERSION)):
        _found[python] = version
    return _found.get(python)


def evaluate(
    document: Any,
    trace_format: str | None,
    eval_set: dict[str, Any] | None,
    params: dict[str, Any],
    run_id: UUID,
    *,
    python: str,
    timeout: float,
    credentials: Mapping[str, str] | None = None,
    network: bool = False,
    limits: Limits = LIMITS,
    scratch: str | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The outcomes, each a dict of Outcome's fields, and the summary, both as agentevals has them.

    `document`, `eval_set` and `params` are as they were sent; `timeout` in seconds for the whole, of
    which about five pass before the first evaluation. Raises EvaluationError where there is no engine,
    or where it cannot read the document or the eval set.
    """
    _check(python)
    job = {
        "run_id": str(run_id),
        "document": document,
        "trace_format": trace_format,
        "eval_set": eval_set,
        "params": params,
        "credentials": dict(credentials or {}),
        "network": network,
    }
    answer = _run(json.dumps(job).encode(), python, timeout, limits, scratch)
    if "error" in answer:
        raise EvaluationError(answer["error"])
    return answer["outcomes"], answer["summary"]


def _check(python: str) -> None:
    version = available(python)
    if version is None:
        raise EvaluationError(f"engine agentevals is not installed here: {_INSTALL}")
    if not version.startswith(VERSIONS):
        raise EvaluationError(f"engine agentevals is {version} here, and {VERSIONS}x is needed: {_INSTALL}")


def _run(job: bytes, python: str, timeout: float, limits: Limits, scratch: str | None) -> dict[str, Any]:
    """Credentials go in with the job: the environment of a process can be read by others of its user."""
    command = [python, "-I", str(CHILD)]
    try:
        ran = run_command(command, job, timeout, limits, environment=_QUIET, scratch=scratch)
    except ProgramError as error:
        raise EvaluationError(f"engine agentevals {error}") from None
    try:
        answer = json.loads(ran.stdout)
    except ValueError:
        said = ran.stderr.decode(errors="replace").strip().splitlines()
        why = f": {said[-1]}" if said else ""
        raise EvaluationError(f"engine agentevals ended with code {ran.exit_code}{why}") from None
    return dict(answer)


def said_by(python: str, line: str) -> str:
    """What a line of Python prints in that interpreter's environment; empty where it cannot."""
    try:
        done = subprocess.run(
            [python, "-I", "-c", line],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            env={},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
