"""What `make test` runs: the checks, then all tests with the Chromium that is found or fetched here."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKS = [
    ["-m", "ruff", "check"],
    ["-m", "ruff", "format", "--check"],
    ["-m", "mypy"],
    ["manage.py", "makemigrations", "--check", "--dry-run"],
]
NO_CHROMIUM = "The tests need Chromium: on Debian `apt install chromium`, or set CHROMIUM."


def main() -> None:
    # subprocess.run ends its child when an exception passes through it; a bare SIGTERM would not.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    clean = [passes(check) for check in CHECKS] == [True] * len(CHECKS)
    if "--check" in sys.argv:
        sys.exit(not clean)
    os.environ["CHROMIUM"] = next(filter(runs, candidates()), None) or sys.exit(NO_CHROMIUM)
    code = subprocess.run([sys.executable, "-m", "pytest", "-n", "2", *sys.argv[1:]]).returncode
    sys.exit(code or not clean)


def passes(check: list[str]) -> bool:
    # Without a database to ask, makemigrations compares the models with the files alone.
    environment = {**os.environ, "DATABASE_POOL_SIZE": "0"}
    passed = subprocess.run([sys.executable, "-W", "ignore", *check], env=environment).returncode == 0
    if not passed:
        print(f"Failed: python {' '.join(check)}", flush=True)
    return passed


def candidates() -> Iterator[str | None]:
    """Paths to try in turn; the later ones fetch what they name."""
    yield os.environ.get("CHROMIUM")
    for name in ("chromium", "chromium-browser", "google-chrome"):
        yield shutil.which(name)
    yield from_playwright()
    yield from_debian()


def runs(program: str | None) -> bool:
    """Whether it starts; Ubuntu's chromium-browser, for one, may only tell to install another package."""
    if not program:
        return False
    try:
        return subprocess.run([program, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def from_playwright() -> str | None:
    print("No Chromium here: playwright fetches its own.", flush=True)
    if subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"]).returncode != 0:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


def from_debian() -> str | None:
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists() or not shutil.which("apt-get"):
        return None
    print("That failed: installing the system's chromium.", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "-q", "update"], env=quiet)
    subprocess.run(["apt-get", "-qy", "install", "--no-install-recommends", "chromium"], env=quiet)
    return shutil.which("chromium")


if __name__ == "__main__":
    main()
