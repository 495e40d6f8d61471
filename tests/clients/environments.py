"""The environments of the real packages: named by the operator, or made once in .venv-clients."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import HeaderParser
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / ".venv-clients"
REQUIREMENTS = Path(__file__).parent / "requirements"
SCRIPTS = Path(__file__).parent / "scripts"
NAMES = ("bindu", "openhands", "otel", "agentevals")
PIP = ["-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "--quiet"]


class EnvironmentUnavailable(Exception):
    """A package cannot be installed; the text names it and says what to do."""


@cache
def python_of(name: str) -> str:
    """The interpreter with this package and what runfolio_client needs: BINDU_PYTHON and the like, or ours.

    Raises EnvironmentUnavailable; a package that cannot be had is a failure, never a test left out.
    """
    given = os.environ.get(f"{name.upper()}_PYTHON")
    if given:
        _check(name, given)
        return given
    with _one_at_a_time(name):
        return str(_made(name))


def environment_of(name: str, **more: str) -> dict[str, str]:
    """The variables of a script there: runfolio_client can be imported, and nothing of ours leaks."""
    ours = ("DJANGO_", "DATABASE_", "TEST_", "PYTEST_", "RUNFOLIO_", "VIRTUAL_ENV", "PYTHONPATH")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {**kept, "PYTHONPATH": str(ROOT / "clients"), "PYTHONUNBUFFERED": "1", **more}


def command_of(name: str, script: str | Path, *arguments: str) -> list[str]:
    """What runs scripts/<script>.py, or the file of that path, in the environment of that package."""
    path = script if isinstance(script, Path) else SCRIPTS / f"{script}.py"
    return [python_of(name), str(path), *arguments]


def run_script(name: str, script: str | Path, *arguments: str, timeout: float = 240, **variables: str) -> str:
    """What a script prints; fails with all that it said where it does not end well."""
    with tempfile.TemporaryDirectory() as folder:  # some packages write logs where they are started
        answer = subprocess.run(
            command_of(name, script, *arguments),
            cwd=folder,
            env=environment_of(name, **variables),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    assert answer.returncode == 0, (
        f"ended with {answer.returncode}: {answer.stdout[-2000:]}{answer.stderr[-4000:]}"
    )
    return answer.stdout


@contextmanager
def running(
    name: str, script: str | Path, *arguments: str, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """A script that serves or waits; killed at the end. Its output goes to the test's own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            command_of(name, script, *arguments),
            cwd=folder,
            env=environment_of(name, **variables),
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _check(name: str, python: str) -> None:
    names = [re.split(r"[=<>~\[]", requirement)[0] for requirement in _requirements(name)]
    asks = f"import importlib.metadata as m; [m.version(name) for name in {names}]"
    answer = subprocess.run([python, "-c", asks], capture_output=True, text=True)
    if answer.returncode != 0:
        raise EnvironmentUnavailable(
            f"{name.upper()}_PYTHON={python} lacks a package of tests/clients/requirements/{name}.txt: "
            f"{(answer.stderr.strip().splitlines() or ['it does not run'])[-1]}"
        )


def _requirements(name: str) -> list[str]:
    return (REQUIREMENTS / f"{name}.txt").read_text().split()


@contextmanager
def _one_at_a_time(name: str) -> Iterator[None]:
    """Two test processes that need the same environment: the second waits for what the first installs."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _made(name: str) -> Path:
    folder, wanted = FOLDER / name, (REQUIREMENTS / f"{name}.txt").read_text()
    python, kept = folder / "bin" / "python", folder / "requirements.txt"
    if python.exists() and kept.exists() and kept.read_text() == wanted:
        return python
    print(f"Installing {name} into {folder.relative_to(ROOT)}; this happens once.", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    _install(name, python)
    kept.write_text(wanted)  # last: half an installation is made anew
    return python


def _install(name: str, python: Path) -> None:
    if _pip(python, "install", "-r", str(REQUIREMENTS / f"{name}.txt")) == 0:
        return
    print(f"{name} asks for a release that cannot be had: installing it without that bound.", flush=True)
    for requirement in _requirements(name):
        if _pip(python, "install", requirement, silent=True) != 0:
            _install_loosely(python, requirement)


def _install_loosely(python: Path, requirement: str) -> None:
    """Its needs, each as wanted or else in any release, and then itself without looking at them again.

    openhands-sdk, for one, asks for a certifi newer than some indexes have (CONTRACTS.md 0, surprise 16).
    """
    with tempfile.TemporaryDirectory() as folder:
        if _pip(python, "download", "--no-deps", "--dest", folder, requirement) != 0:
            raise EnvironmentUnavailable(f"{requirement} cannot be installed; the lines above say why.")
        (wheel,) = Path(folder).iterdir()
        needs = [_obtainable(python, need) for need in _needs(wheel)]
        if _pip(python, "install", *needs) or _pip(python, "install", "--no-deps", str(wheel)):
            raise EnvironmentUnavailable(f"{requirement} cannot be installed; the lines above say why.")


def _needs(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        headers = HeaderParser().parsestr(archive.read(metadata).decode())
    return [need for need in headers.get_all("Requires-Dist", []) if "extra ==" not in need]


def _obtainable(python: Path, need: str) -> str:
    if _pip(python, "install", "--dry-run", "--no-deps", need, silent=True) == 0:
        return need
    loose = re.split(r"[<>=!~;( ]", need)[0]
    print(f"No release meets {need}: taking any {loose}.", flush=True)
    return loose


def _pip(python: Path, *arguments: str, silent: bool = False) -> int:
    """The exit code; `silent` where a failure is an answer."""
    output = subprocess.DEVNULL if silent else None
    command = [python, *PIP, *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output).returncode


if __name__ == "__main__":
    for each in sys.argv[1:] or NAMES:
        print(each, python_of(each))
