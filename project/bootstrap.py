"""Makes .venv and runs a command in it: `python -m project.bootstrap REQUIREMENTS COMMAND...`.

Needs nothing installed, runs on Python 3.8 as well (to fetch a newer one), and can be interrupted at
any moment: it leaves no process, and the next time puts right what was left half done.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Iterator, NoReturn, Sequence  # noqa: UP035  Python 3.8

from project.processes import spawn, wait_for

BASE = Path(__file__).resolve().parent.parent
ENVIRONMENT = BASE / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
UNFINISHED = ENVIRONMENT / "unfinished"  # there while pip installs: half a package can look like a whole
FETCHED = BASE / ".venv-python"
LEAST = (3, 12)

_asked: list[int] = []


class BootstrapError(Exception):
    """The environment cannot be made; the text is one sentence for the person who called make."""


def main() -> NoReturn:
    requirements, command = sys.argv[1], sys.argv[2:]
    ending = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup started us
        ending.remove(signal.SIGHUP)
    for number in ending:
        signal.signal(number, lambda number, _: _asked.append(number))
    try:
        with _one_at_a_time():
            if not _is_complete(requirements):
                _install(requirements)
    except BootstrapError as error:
        sys.exit(f"runfolio: {error}")
    # From here on a signal ends us at once; one that came before must not be lost.
    for number in ending:
        signal.signal(number, signal.SIG_DFL)
    _check()
    os.execv(PYTHON, [str(PYTHON), *command])  # noqa: S606


def _check() -> None:
    if _asked:
        sys.exit(128 + _asked[0])


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two makes in one clone: the second waits for what the first installs."""
    folder = os.open(BASE, os.O_RDONLY)
    try:
        told = False
        while not _locked(folder):
            if not told:
                print("Waiting for another make that is installing.", flush=True)
            told = True
            time.sleep(0.1)
            _check()
        yield
    finally:
        os.close(folder)


def _locked(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_complete(requirements: str) -> bool:
    kept = ENVIRONMENT / requirements
    same = kept.exists() and kept.read_bytes() == (BASE / requirements).read_bytes()
    return same and not UNFINISHED.exists() and _environment_runs()


def _install(requirements: str) -> None:
    if UNFINISHED.exists() or not _environment_runs():
        _make_environment()
    print(f"Installing {requirements} into .venv; this happens once.", flush=True)
    UNFINISHED.touch()
    options = ["--quiet", "--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes"]
    if _run([PYTHON, "-m", "pip", "install", *options, "-r", requirements]) != 0:
        raise BootstrapError(f"{requirements} could not be installed; the lines above say why.")
    shutil.copyfile(BASE / requirements, ENVIRONMENT / requirements)
    UNFINISHED.unlink()


def _environment_runs() -> bool:
    if not PYTHON.exists():
        return False
    return _run([PYTHON, "-c", f"import pip, sys; sys.exit(sys.version_info < {LEAST})"], quiet=True) == 0


def _make_environment() -> None:
    python = sys.executable if sys.version_info >= LEAST else _fetched_python()
    if ENVIRONMENT.exists():
        shutil.rmtree(ENVIRONMENT)
    if _run([python, "-m", "venv", ENVIRONMENT]) != 0:
        raise BootstrapError(f"{python} cannot make {ENVIRONMENT}; the lines above say why.")


def _fetched_python() -> str:
    """A Python of our own in the clone, fetched by uv, itself from the package index."""
    print("There is no Python 3.12 or newer here: fetching one with uv.", flush=True)
    helper = BASE / ".venv-uv"
    uv = shutil.which("uv") or str(helper / "bin" / "uv")
    if not Path(uv).exists():
        _run([sys.executable, "-m", "venv", "--clear", helper])
        _run([helper / "bin" / "python", "-m", "pip", "install", "--quiet", "uv"])
    if Path(uv).exists():
        _run([uv, "python", "install", "--install-dir", FETCHED, "3.12"])
    for python in sorted(FETCHED.glob("*/bin/python3")):
        if _run([python, "-c", "import ensurepip"], quiet=True) == 0:
            return str(python)
    raise BootstrapError(
        "Python 3.12 could not be fetched. Install Python 3.12 or newer, then call make again."
    )


def _run(command: Sequence[str | os.PathLike[str]], quiet: bool = False) -> int:
    """The exit code of a helper that ends when we are told to, and with us if we are killed."""
    environment = {**os.environ, "PIP_USER": "0"}
    output = os.open(os.devnull, os.O_WRONLY) if quiet else None
    try:
        process = spawn(command, signal.SIGKILL, cwd=BASE, env=environment, stdout=output, stderr=output)
    except OSError as error:
        raise BootstrapError(f"{command[0]} cannot be run: {error.strerror}.") from error
    finally:
        if output is not None:
            os.close(output)
    code = wait_for(process, _check)
    _check()
    return code


if __name__ == "__main__":
    main()
