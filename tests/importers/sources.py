"""Databases to import from: a second one of the tests' server, with the tables of other systems in it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg

from runs.importers.database import opened
from tests import environment


class Database:
    """An empty database; `url` is how an importer opens it."""

    def __init__(self, name: str) -> None:
        self.url = environment.url("runfolio_owner", name)

    def execute(self, statements: str, parameters: Sequence[Any] | None = None) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statements, parameters)  # type: ignore[call-overload]

    def insert(self, table: str, **columns: Any) -> None:
        """A row; dicts and lists become JSON, a tuple becomes an array."""
        values = [_value(value) for value in columns.values()]
        names = ", ".join(f'"{name}"' for name in columns)
        places = ", ".join(["%s"] * len(columns))
        self.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", values)

    def opened(self) -> Any:
        return opened(self.url)


@contextmanager
def a_database() -> Iterator[Database]:
    name = f"source_{uuid4().hex}"
    environment.create_empty_database(name)
    yield Database(name)
    environment.drop_database(name)


def _value(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value)
    return list(value) if isinstance(value, tuple) else value


# As its own migrations make them (CONTRACTS.md 1.11).
AGENTEVALS = """
    CREATE SCHEMA {schema};
    CREATE TABLE {schema}.run (
        run_id uuid PRIMARY KEY,
        status text NOT NULL CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
        approach text NOT NULL, spec jsonb NOT NULL, attempt int NOT NULL DEFAULT 0, worker_id text,
        claimed_at timestamptz, lease_expires_at timestamptz, cancel_requested boolean NOT NULL DEFAULT false,
        error text, summary jsonb, created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz,
        finished_at timestamptz
    );
    CREATE TABLE {schema}.result (
        result_id text PRIMARY KEY, run_id uuid NOT NULL REFERENCES {schema}.run ON DELETE CASCADE,
        eval_set_item_id text NOT NULL, eval_set_item_name text NOT NULL, evaluator_name text NOT NULL,
        evaluator_type text NOT NULL, status text NOT NULL, score float8,
        per_invocation_scores float8[] NOT NULL DEFAULT '{{}}', trace_id text, span_id text,
        details jsonb NOT NULL DEFAULT '{{}}', error_text text, tokens_used jsonb, latency_ms int,
        created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz
    );
"""

# As its own code makes them (CONTRACTS.md 2.1).
BINDU = """
    CREATE SCHEMA IF NOT EXISTS {schema};
    CREATE TABLE {schema}.contexts (
        id uuid PRIMARY KEY, owner_did varchar(255), context_data jsonb NOT NULL DEFAULT '{{}}',
        message_history jsonb DEFAULT '[]', created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE {schema}.tasks (
        id uuid PRIMARY KEY, context_id uuid NOT NULL REFERENCES {schema}.contexts ON DELETE CASCADE,
        owner_did varchar(255), kind varchar(50) NOT NULL, state varchar(50) NOT NULL,
        state_timestamp timestamptz NOT NULL, history jsonb NOT NULL DEFAULT '[]',
        artifacts jsonb DEFAULT '[]', metadata jsonb DEFAULT '{{}}',
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX ON {schema}.tasks (updated_at);
    CREATE TABLE {schema}.task_feedback (
        id serial PRIMARY KEY, task_id uuid NOT NULL REFERENCES {schema}.tasks ON DELETE CASCADE,
        feedback_data jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE {schema}.webhook_configs (
        task_id uuid PRIMARY KEY REFERENCES {schema}.tasks ON DELETE CASCADE, config jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now()
    );
"""
