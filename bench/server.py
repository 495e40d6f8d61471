"""A PostgreSQL of the benchmarks' own: durable, with the settings that `make up` has, gone at the end."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from project.postgres import APP, DATABASE, OWNER, SUPERUSER, Server

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def scratch_server() -> Iterator[None]:
    """Starts and migrates it, and points this process's settings at it; call before Django is set up."""
    with tempfile.TemporaryDirectory(prefix="runfolio-bench-", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder) / "data", durable=True)
        server.start()
        try:
            os.environ.update(
                DATABASE_URL=server.url(APP, DATABASE),
                DATABASE_MIGRATE_URL=server.url(OWNER, DATABASE),
                BENCH_SUPERUSER=server.url(SUPERUSER, DATABASE),
                RUNFOLIO_DATA=folder,
                DATABASE_POOL_SIZE="0",
                SECRET_KEY="bench",
                ENV_FILE=os.devnull,
                DJANGO_SETTINGS_MODULE="project.settings",
            )
            subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, check=True)
            yield
        finally:
            server.stop()


@contextmanager
def web_server(*options: str, application: str = "project.wsgi") -> Iterator[int]:
    """The web server on it, as `make up` starts it, with further `options` of gunicorn's; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", application, "--worker-class=gthread", "--threads=32"]
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_POOL_SIZE"}
    process = subprocess.Popen(
        [*command, f"--bind=127.0.0.1:{port}", "--no-control-socket", "--log-level=warning", *options],
        cwd=ROOT,
        env=environ,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/readyz")
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the web server did not start")
