"""A PostgreSQL of the benchmarks' own: durable, with the settings that `make up` has, gone at the end."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
