"""The PostgreSQL that is crashed, and what it notes of the runs for us."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from project.postgres import APP, DATABASE, OWNER, Server

ROOT = Path(__file__).resolve().parents[2]

# Every status that a run ever had, and everything that is written to one that does not run.
_NOTES = """
    CREATE TABLE chaos_status (
        number bigserial PRIMARY KEY, run_id uuid, old text, new text, attempt integer, worker text
    );
    CREATE TABLE chaos_stray (run_id uuid, what text, status text);
    GRANT SELECT ON chaos_status, chaos_stray TO runfolio_app;
    CREATE FUNCTION chaos_note_status() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO chaos_status (run_id, old, new, attempt, worker)
        VALUES (NEW.id, CASE TG_OP WHEN 'UPDATE' THEN OLD.status END, NEW.status, NEW.attempt, NEW.worker_id);
        RETURN NULL;
    END $$;
    CREATE FUNCTION chaos_note_stray() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO chaos_stray SELECT run.id, TG_TABLE_NAME, run.status FROM run
        WHERE run.id = NEW.run_id AND run.status <> 'running';
        RETURN NULL;
    END $$;
    CREATE TRIGGER chaos_status AFTER INSERT OR UPDATE OF status ON run
        FOR EACH ROW EXECUTE FUNCTION chaos_note_status();
    CREATE TRIGGER chaos_stray AFTER INSERT OR UPDATE ON result
        FOR EACH ROW EXECUTE FUNCTION chaos_note_stray();
    CREATE TRIGGER chaos_stray AFTER INSERT ON event
        FOR EACH ROW EXECUTE FUNCTION chaos_note_stray();
"""

# As runs/migrations/0003_pipeline.py has it, but for the conditions on worker, attempt and status.
_UNFENCED_END = """
    CREATE OR REPLACE FUNCTION end_run(
        target uuid, worker text, try integer, verdict text, its_error text, its_summary jsonb
    ) RETURNS text LANGUAGE plpgsql AS $$
    DECLARE
        latest timestamptz := statement_timestamp();
        ended text;
    BEGIN
        UPDATE run SET status = verdict, error = its_error, summary = its_summary,
            worker_id = NULL, claimed_at = NULL, lease_expires_at = NULL,
            finished_at = latest, updated_at = latest
        WHERE id = target AND cancel_requested_at IS NULL
        RETURNING status INTO ended;
        IF ended IS NULL THEN
            UPDATE run SET status = 'cancelled', error = 'cancelled by request',
                cancel_acknowledged_at = latest,
                worker_id = NULL, claimed_at = NULL, lease_expires_at = NULL,
                finished_at = latest, updated_at = latest
            WHERE id = target
            RETURNING status INTO ended;
        END IF;
        RETURN ended;
    END $$;
"""


class Scratch:
    """The server, to be crashed from the main thread."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def crash(self) -> float:
        """Kills it and starts it again; gives the seconds that it was away."""
        began = time.monotonic()
        assert self._server._process is not None
        self._server._process.kill()
        self._server._process.wait()
        self._server.start()
        return time.monotonic() - began

    def take_the_fence_out(self) -> None:
        self.run(_UNFENCED_END)

    def run(self, statement: str) -> None:
        with psycopg.connect(self._server.url(OWNER, DATABASE)) as owner:
            owner.execute(statement)  # type: ignore[call-overload]


@contextmanager
def running(folder: Path) -> Iterator[Scratch]:
    """Starts and migrates it, and points this process's settings, and its workers', at it."""
    server = Server(folder / "data", durable=True)
    server.start()
    try:
        os.environ.update(
            DATABASE_URL=server.url(APP, DATABASE),
            DATABASE_MIGRATE_URL=server.url(OWNER, DATABASE),
            RUNFOLIO_DATA=str(folder),
            DATABASE_POOL_SIZE="0",
            SECRET_KEY="chaos",
            ENV_FILE=os.devnull,
            LOG_LEVEL="ERROR",
            DJANGO_SETTINGS_MODULE="project.settings",
        )
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, check=True)
        scratch = Scratch(server)
        scratch.run(_NOTES)
        yield scratch
    finally:
        server.stop()
