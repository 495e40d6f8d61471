"""`manage.py import agentevals`: the runs and results of its database (CONTRACTS.md 1.11)."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command

from runs.models import Owner, Result, Run, delete_runs
from runs.models.imports import ImportPosition
from tests.importers.sources import AGENTEVALS, Database, a_database

RUN = UUID("c14c21da-43e7-4923-898f-6c61b2a37072")
SPEC: dict[str, Any] = {
    "approach": "trace_replay",
    "target": {"kind": "http", "baseUrl": "https://me:sesame@jaeger/api/traces", "traceId": "ab" * 8},
    "evalSet": {"eval_set_id": "helm_eval_set", "name": "Helm"},
    "evalConfig": {"evaluators": [{"name": "tool_trajectory_avg_score", "type": "builtin"}]},
    "sinks": [{"kind": "http_webhook", "url": "http://hook", "headers": {"Authorization": "Bearer hunter2"}}],
    "context": {},
    "credentialRefs": None,
}

# As the database has it.
STORED = {
    **{key: SPEC[key] for key in ("approach", "sinks", "context")},
    "target": {"kind": "http", "base_url": SPEC["target"]["baseUrl"], "trace_id": "ab" * 8},
    "eval_set": SPEC["evalSet"],
    "eval_config": SPEC["evalConfig"],
    "credential_refs": None,
}


@pytest.fixture
def source() -> Iterator[Database]:
    with a_database() as database:
        database.execute(AGENTEVALS.format(schema="agentevals"))
        yield database


def at(minute: int) -> datetime:
    return datetime(2026, 11, 20, 22, minute, tzinfo=UTC)


def add_run(source: Database, run_id: UUID = RUN, minute: int = 1, **columns: Any) -> None:
    given = {"status": "succeeded", "approach": "trace_replay", "spec": STORED, "attempt": 1}
    times = {"created_at": at(minute), "started_at": at(minute + 1), "finished_at": at(minute + 2)}
    source.insert("agentevals.run", run_id=run_id, **{**given, **times, **columns})


def add_result(source: Database, run_id: UUID = RUN, result_id: str = "r1", **columns: Any) -> None:
    given = {
        "eval_set_item_id": "item",
        "eval_set_item_name": "Item",
        "evaluator_name": "tool_trajectory_avg_score",
        "evaluator_type": "builtin",
        "status": "passed",
        "score": 1.0,
        "per_invocation_scores": (1.0, None),
        "details": {"comparisons": []},
        "latency_ms": 10,
        "created_at": at(2),
    }
    source.insert("agentevals.result", result_id=result_id, run_id=run_id, **{**given, **columns})


def run_it(source: Database, *options: str) -> str:
    out = io.StringIO()
    call_command("import", "agentevals", source.url, *options, stdout=out)
    return out.getvalue()


def test_it_works(owner: Owner, source: Database) -> None:
    summary = {
        "agents": ["helm_agent"],
        "result_counts": {"passed": 1},
        "performance_metrics": {"models": ["gpt-4.1-mini"]},
    }
    add_run(source, summary=summary)
    add_result(source)
    assert "Taken: 1 runs, 1 results." in run_it(source)
    run = Run.objects.get(pk=RUN)
    assert (run.status, run.agent, run.model, run.title) == (
        "succeeded",
        "helm_agent",
        "gpt-4.1-mini",
        "Helm",
    )
    assert (run.created_at, run.started_at, run.finished_at) == (at(1), at(2), at(3))
    assert (run.attempt, run.passed_count, run.score, run.summary) == (1, 1, 1.0, summary)
    result = Result.objects.get(pk="r1")
    assert (result.run_id, result.status, result.per_invocation_scores) == (RUN, "passed", [1.0, None])
    assert (result.details, result.latency_ms, result.created_at) == ({"comparisons": []}, 10, at(2))


@pytest.mark.parametrize("stored", [STORED, SPEC], ids=["python's names", "json's names"])
def test_secrets_of_a_spec_are_sealed(owner: Owner, source: Database, stored: Any) -> None:
    add_run(source, spec=stored)
    run_it(source)
    run = Run.objects.get(pk=RUN)
    assert "hunter2" not in str(run.spec)
    assert "sesame" not in str(run.spec)
    assert run.full_spec == SPEC


def test_done_again_it_changes_nothing(owner: Owner, source: Database) -> None:
    add_run(source)
    add_result(source)
    run_it(source)
    before = Run.objects.values().get(pk=RUN)
    said = run_it(source)
    assert "Taken: nothing." in said
    assert "There already: 1 runs." in said
    assert Run.objects.values().get(pk=RUN) == before


def test_what_has_not_ended_comes_when_it_has(owner: Owner, source: Database) -> None:
    add_run(source, status="queued", finished_at=None)
    assert "1 runs that have not ended" in run_it(source)
    assert not Run.objects.exists()
    source.execute("UPDATE agentevals.run SET status = 'failed', error = 'no', finished_at = now()")
    run_it(source)
    assert (Run.objects.get().status, Run.objects.get().error) == ("failed", "no")


def test_it_goes_on_where_it_was(owner: Owner, source: Database) -> None:
    add_run(source)
    run_it(source)
    later = uuid4()
    add_run(source, later, minute=20)
    assert "Taken: 1 runs." in run_it(source)
    position = ImportPosition.objects.get()
    assert (position.at, position.read_count) == (at(22), 2)


def test_more_runs_than_one_batch_are_all_taken(owner: Owner, source: Database) -> None:
    source.execute(
        """
        INSERT INTO agentevals.run (run_id, status, approach, spec, created_at, finished_at)
        SELECT gen_random_uuid(), 'succeeded', 'trace_replay', '{}', '2026-01-01', '2026-01-02'
        FROM generate_series(1, 230)
        """
    )
    assert "Taken: 230 runs." in run_it(source)
    assert Run.objects.count() == 230


def test_a_run_that_was_deleted_here_stays_deleted(owner: Owner, source: Database) -> None:
    add_run(source)
    run_it(source)
    delete_runs(Run.objects.all(), by="tests", reason="a test")
    assert "deleted here" in run_it(source)
    assert Run.objects.get().deleted_at is not None


def test_an_id_of_another_owner_is_left_out_and_told(owner: Owner, source: Database, make_run: Any) -> None:
    other = Owner.objects.create(name="other")
    Run.objects.record_past(other, "succeeded", at(1), id=RUN, kind="task", finished_at=at(2))
    add_run(source)
    out = io.StringIO()
    with pytest.raises(CommandError, match="Not all of it is here"):
        call_command("import", "agentevals", source.url, "--owner", owner.name, stdout=out)
    assert f"run {RUN}: its id is taken here" in out.getvalue()
    assert Run.objects.get().owner == other


def test_damaged_rows_do_not_stop_it(owner: Owner, source: Database) -> None:
    add_run(source, spec=[1], minute=1)
    good = uuid4()
    add_run(source, good, minute=10, spec={}, summary=["odd"])
    add_result(source, good, score=float("nan"), per_invocation_scores=(float("inf"), 0.5))
    out = io.StringIO()
    with pytest.raises(CommandError, match="Not all of it is here"):
        call_command("import", "agentevals", source.url, stdout=out)
    assert f"run {RUN}: it is left out" in out.getvalue()
    assert Run.objects.get().pk == good
    assert (Result.objects.get().score, Result.objects.get().per_invocation_scores) == (None, [None, 0.5])


def test_a_schema_without_its_tables_is_named(owner: Owner, source: Database) -> None:
    with pytest.raises(CommandError, match="--schema can be: agentevals"):
        run_it(source, "--schema", "elsewhere")


def test_a_database_that_cannot_be_opened_is_an_error_without_its_password(owner: Owner) -> None:
    with pytest.raises(CommandError, match="cannot be opened") as error:
        call_command("import", "agentevals", "postgresql://me:hunter2@127.0.0.1:1/x", stdout=io.StringIO())
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("postgresql://me:hun%zzter2@127.0.0.1/x", "is not a PostgreSQL address"),
        ("postgresql://me:hun@ter2@127.0.0.1:1/x", "write %40"),
        ("mysql://me:hunter2@127.0.0.1/x", "starts with 'mysql'"),
    ],
)
def test_an_address_that_is_none_is_told_without_its_password(
    owner: Owner, address: str, reason: str
) -> None:
    with pytest.raises(CommandError, match=reason) as error:
        call_command("import", "agentevals", address, stdout=io.StringIO())
    assert "ter2" not in str(error.value)
    assert not str(error.value).endswith("..")
