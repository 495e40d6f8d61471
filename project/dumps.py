"""Backups and their return (RELIABILITY.md D7): pg_dump's custom format, then a checksum of the whole.

pg_dump checks only the rows it compressed, not the statements that make tables and triggers, so the file
ends with a SHA-256 of ours; pg_restore does not read that far.
"""

import hashlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from django.conf import settings
from django.db import connections
from psycopg.conninfo import make_conninfo

from project import env, postgres, system_user
from project.postgres import APP, MAJOR, OWNER, Server
from project.processes import end_group, spawn, text_of, wait_for
from project.system_user import SystemUserError

_SEAL = b"\nrunfolio sha256 "  # then 64 hexadecimal digits
_SEAL_LENGTH = len(_SEAL) + 64
_CHUNK = 2**20  # bytes
_OURS = {"django_migrations", "run", "event"}  # tables that every Runfolio has
_FIRST_WITH_TRANSACTION_TIMEOUT = 17

# What a restore replaces. Extensions and what they made stay: only a superuser may make some of them.
_DROP = b"""
DO $$
DECLARE statement text;
BEGIN
    -- All names before the first is dropped: what goes along with a table has none any more.
    FOREACH statement IN ARRAY ARRAY(
        SELECT format('DROP TABLE %s CASCADE', oid::regclass) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
          AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
        UNION ALL
        SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', oid::regprocedure) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proowner = current_user::regrole
          AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
        ORDER BY 1 DESC
    )
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;
"""


class DumpError(Exception):
    """A backup cannot be made or restored; the text is for the person who asked, and says what to do."""


class Contents(NamedTuple):
    """What a backup holds."""

    tables: set[str]  # and views, of the schema `public`
    migrations: list[tuple[str, str]]  # app and name


@contextmanager
def running_database() -> Iterator[None]:
    """The database runs in here: the embedded server is started, and stopped again, unless one runs.

    A SIGTERM ends it as an exception does, so that nothing half made is left.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if settings.EMBEDDED and postgres.address(settings.RUNFOLIO_DATA) is None:
            with Server(settings.RUNFOLIO_DATA) as server:
                _connect_to(server)
                yield
                connections.close_all()
        else:
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def save(path: Path) -> int:
    """Writes the database as of one moment to `path`, wholly or not at all; its size in bytes.

    Writers go on meanwhile: pg_dump reads one snapshot, under locks that only changes of the schema wait for.
    """
    client = _client()
    with _beside(path) as unfinished:
        arguments = ["--format=custom", "--schema=public", "--no-password", "--lock-wait-timeout=60s"]
        _output_of(client, "pg_dump", *arguments, f"--file={unfinished}", f"--dbname={client.where}")
        if _OURS - _contents(client, unfinished).tables:
            raise DumpError("There is nothing to back up: the database has no Runfolio in it.")
        _seal(unfinished)
        return unfinished.stat().st_size


def check(path: Path) -> None:
    """Reads the whole file; DumpError unless it is what `save` wrote, to the last bit."""
    if not path.is_file():
        raise DumpError(f"There is no file {path}.")
    try:
        with path.open("rb") as file:
            length = max(0, os.fstat(file.fileno()).st_size - _SEAL_LENGTH)
            digest = _digest(file, length)
            sealed = file.read() == _SEAL + digest
    except OSError as error:
        raise DumpError(f"{path} cannot be read ({error.strerror}).") from error
    if not sealed:
        raise DumpError(
            f"{path} is damaged, cut off, or no backup made by manage.py backup: nothing was restored."
        )


def contents(path: Path) -> Contents:
    """What a checked backup holds; DumpError for one that these programs cannot read."""
    return _contents(_client(), path)


def restore(path: Path) -> None:
    """Puts the backup in place of all that the schema `public` holds, in one transaction of the owner's.

    Roles and rights are not restored: `manage.py migrate` grants them to the roles of this place.
    """
    client = _client()
    options = ["--no-owner", "--no-privileges", "--schema=public"]
    with (
        _running(client, "pg_restore", *options, "--file=-", str(path), stdout=subprocess.PIPE) as script,
        _running(
            client,
            "psql",
            *("--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", f"--dbname={client.where}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        ) as psql,
    ):
        with suppress(BrokenPipeError):  # psql ended, and tells why
            _feed(client, script, psql)
        psql.wait_for_success()


# ── The file ───────────────────────────────────────────────────────────────


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A file of mode 0600 that takes the place of `path`, on disk, unless something is raised."""
    if path.is_dir():
        raise DumpError(f"{path} is a folder: name a file in it.")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".unfinished", dir=path.parent)
    except OSError as error:
        raise DumpError(f"No file can be made in {path.parent} ({error.strerror}).") from error
    unfinished = Path(name)
    try:
        yield unfinished
        os.fsync(descriptor)
        unfinished.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise DumpError(f"{path} cannot be written ({error.strerror}).") from error
    finally:
        os.close(descriptor)
        unfinished.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """A rename is on disk once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _seal(path: Path) -> None:
    with path.open("r+b") as file:
        digest = _digest(file, path.stat().st_size)
        file.write(_SEAL + digest)


def _digest(file: IO[bytes], length: int) -> bytes:
    """The SHA-256 of the first `length` bytes in hexadecimal; leaves `file` behind them."""
    digest = hashlib.sha256()
    while length and (chunk := file.read(min(_CHUNK, length))):
        digest.update(chunk)
        length -= len(chunk)
    return digest.hexdigest().encode()


# ── PostgreSQL's programs ──────────────────────────────────────────────────


class _Client(NamedTuple):
    """Programs that suit the server, and where the owner's database is."""

    folder: Path
    server: int  # its major version
    where: str  # without the password, which `ps` would show
    environment: dict[str, str]


def _client() -> _Client:
    given = connections["owner"].settings_dict
    keys = {"dbname": "NAME", "user": "USER", "host": "HOST", "port": "PORT"}
    parts = {part: given[key] for part, key in keys.items() if given[key]}
    options = {name: value for name, value in given["OPTIONS"].items() if name != "pool"}
    where = make_conninfo(**parts, **options)
    password = {"PGPASSWORD": given["PASSWORD"]} if given["PASSWORD"] else {}
    server = connections["owner"].pg_version // 10_000  # type: ignore[attr-defined]
    return _Client(_programs(server), server, where, {**os.environ, **password, "LC_ALL": "C"})


def _programs(server: int) -> Path:
    """The folder of pg_dump, pg_restore and psql no older than the server: the wheel's, else the PATH's."""
    with suppress(SystemUserError):
        if int(MAJOR) >= server:
            return system_user.installed_programs()
    found = shutil.which("pg_dump")
    if found is not None and _major(found) >= server:
        return Path(found).parent
    raise DumpError(
        f"The server is PostgreSQL {server}, and there is no pg_dump {server} or newer here. Install its "
        f"client programs (Debian: postgresql-client-{server}) and put them on the PATH."
    )


def _major(program: str) -> int:
    shown = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", shown)
    return int(found[1]) if found else 0


def _contents(client: _Client, path: Path) -> Contents:
    listing = _output_of(client, "pg_restore", "--format=custom", "--list", str(path))
    tables = set(
        re.findall(r"^\d+; \d+ \d+ (?:TABLE|VIEW|MATERIALIZED VIEW) public (\S+) ", listing, re.MULTILINE)
    )
    if "django_migrations" not in tables:
        return Contents(tables, [])
    select = ["--data-only", "--schema=public", "--table=django_migrations"]
    rows = _output_of(client, "pg_restore", *select, "--file=-", str(path))
    return Contents(tables, _migrations(rows))


def _migrations(script: str) -> list[tuple[str, str]]:
    """The rows of a `COPY public.django_migrations (…) FROM stdin`."""
    found = re.search(r"^COPY \S+ \((.*)\) FROM stdin;\n(.*?)^\\\.$", script, re.MULTILINE | re.DOTALL)
    if found is None:
        return []
    columns = found[1].split(", ")
    rows = [dict(zip(columns, line.split("\t"), strict=True)) for line in found[2].splitlines()]
    return [(row["app"], row["name"]) for row in rows]


def _output_of(client: _Client, program: str, *arguments: str) -> str:
    with tempfile.TemporaryFile() as output, _running(client, program, *arguments, stdout=output) as process:
        process.wait_for_success()
        return text_of(output)


class _Process:
    """One of PostgreSQL's programs at work."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self.process, self.errors = process, errors

    def wait_for_success(self) -> None:
        if wait_for(self.process, lambda: None) != 0:
            raise DumpError(text_of(self.errors) or f"It ended with {self.process.returncode}.")


@contextmanager
def _running(
    client: _Client, program: str, *arguments: str, stdout: IO[bytes] | int, stdin: int = subprocess.DEVNULL
) -> Iterator[_Process]:
    """It is ended, with what it was doing, when the block ends before it."""
    with tempfile.TemporaryFile() as errors:
        process = spawn(
            [str(client.folder / program), *arguments],
            signal.SIGKILL,
            env=client.environment,
            stdin=stdin,
            stdout=stdout,
            stderr=errors,
        )
        try:
            yield _Process(process, errors)
        finally:
            end_group(process, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()


def _feed(client: _Client, script: _Process, psql: _Process) -> None:
    """Says COMMIT only after the whole script: whatever is killed before then, nothing has changed."""
    source, into = script.process.stdout, psql.process.stdin
    assert source is not None and into is not None  # noqa: S101  both are pipes
    if client.server >= _FIRST_WITH_TRANSACTION_TIMEOUT:
        into.write(b"SET transaction_timeout = 0;\n")
    into.write(b"BEGIN;\n" + _DROP)
    # pg_restore 18 always sets it, and a PostgreSQL before 17 does not know it: that line is left out.
    into.writelines(itertools.takewhile(lambda line: not line.startswith(b"SET transaction_timeout"), source))
    shutil.copyfileobj(source, into, _CHUNK)
    script.wait_for_success()
    into.write(b"COMMIT;\n")
    into.close()


def _connect_to(server: Server) -> None:
    """Django's connections were set when no server ran."""
    for alias, role in (("default", APP), ("owner", OWNER)):
        connections[alias].settings_dict.update(env.database_from_url(server.url(role)) or {})
