"""What `make test-clients` runs: the tests of all parts, or of those that are named (PARTS="bindu otel")."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.clients.environments import NAMES, EnvironmentUnavailable, python_of
from tests.run import NO_CHROMIUM, candidates, runs

FOLDER = Path(__file__).parent
# What else needs the same environment; agentevals' own engine is an evaluator here.
MORE = {
    "agentevals": ["tests/evaluators/test_agentevals_engine.py"],
}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parts = sys.argv[1:] or list(NAMES)
    if unknown := set(parts) - set(NAMES):
        sys.exit(
            f"PARTS={' '.join(sorted(unknown))}: there is no such part. Name some of: {' '.join(NAMES)}."
        )
    os.environ["CHROMIUM"] = next(filter(runs, candidates()), None) or sys.exit(NO_CHROMIUM)
    for part in parts:
        _prepare(part)
    tests = [
        str(path)
        for part in parts
        for path in (*sorted(FOLDER.glob(f"test_{part}*.py")), *MORE.get(part, []))
    ]
    # Others' packages take their time to start, several at once on a busy machine.
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--timeout=600", *tests]
    sys.exit(subprocess.run(command).returncode)


def _prepare(part: str) -> None:
    """Before the first test, so that no test's time goes into an installation."""
    try:
        os.environ[f"{part.upper()}_PYTHON"] = python_of(part)
    except EnvironmentUnavailable as error:
        sys.exit(f"{part}: {error}")


if __name__ == "__main__":
    main()
