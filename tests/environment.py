"""The tests' PostgreSQL: one cluster a session, one database a test process, made from a migrated template.

Loaded as a pytest plugin (pyproject.toml), because Django reads its settings before any conftest.
"""

import atexit
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
from psycopg import sql

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "runfolio_template"


def _prepare() -> None:
    # Playwright keeps a loop in the thread of the test, which Django would take for asynchronous code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    os.environ.update(ENV_FILE=os.devnull, DATABASE_POOL_SIZE="0", SECRET_KEY="tests", PUBLIC_URL="")
    if "TEST_SERVER" not in os.environ:  # the first process: those that xdist starts inherit what it sets
        _start_server()
    process = os.environ.get("PYTEST_XDIST_WORKER", "main")
    os.environ.update(environment_of(create_database(f"test_{process}")))


def _start_server() -> None:
    from project.postgres import SUPERUSER, Server

    folder = tempfile.TemporaryDirectory(prefix="runfolio-tests-", ignore_cleanup_errors=True)
    server = Server(Path(folder.name) / "data", durable=False)
    server.start()
    atexit.register(folder.cleanup)
    atexit.register(server.stop)
    os.environ["TEST_DATA"] = folder.name
    os.environ["TEST_SERVER"] = server.url("ROLE", "NAME")
    os.environ["TEST_SUPERUSER"] = SUPERUSER
    _run_sql(f"CREATE DATABASE {TEMPLATE} OWNER runfolio_owner")
    migrated = {**os.environ, **environment_of(TEMPLATE)}
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "-v0", "--skip-checks"], cwd=ROOT, env=migrated, check=True
    )


def create_database(name: str) -> str:
    """A new database like the template; one of that name goes."""
    drop_database(name)
    _run_sql(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} OWNER runfolio_owner")
    return name


def create_empty_database(name: str) -> None:
    """For what is no Runfolio: the database of another system."""
    _run_sql(f"CREATE DATABASE {name} OWNER runfolio_owner")


def drop_database(name: str) -> None:
    _run_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def environment_of(name: str) -> dict[str, str]:
    """The settings of a process that uses this database."""
    return {
        "DATABASE_URL": url("runfolio_app", name),
        "DATABASE_MIGRATE_URL": url("runfolio_owner", name),
        "RUNFOLIO_DATA": os.environ["TEST_DATA"],
    }


def url(role: str, name: str) -> str:
    return os.environ["TEST_SERVER"].replace("ROLE", role).replace("NAME", name)


def _run_sql(statement: str) -> None:
    with psycopg.connect(url(os.environ["TEST_SUPERUSER"], "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL(statement))  # type: ignore[arg-type]


_prepare()
