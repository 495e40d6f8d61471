"""`verify_counters`: what lists show is what the rows say (issue 3, point 6)."""

import threading
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections
from django.utils import timezone

from runs.models import (
    Choice,
    Claim,
    NewEvent,
    Owner,
    Result,
    Run,
    Session,
    Usage,
    append_events,
    claim_next,
    counters,
    finish,
    give_feedback,
    merge_metadata,
    put_artifact,
    rollup,
)


@pytest.fixture
def task(owner, alice) -> Run:
    """A task with some of everything, late writes among it."""
    session = Session.objects.open(owner, "tests", "a session")
    run = Run.objects.open_task(owner, session, agent="helm-agent", metadata={"team": "core"})
    append_events(run, [NewEvent("message", {"text": "ä\x00"}, usage=Usage(3, 4, Decimal("0.5")))])
    put_artifact(run, "a", parts=[{"text": "ö"}])
    give_feedback(run, alice, 4)
    finish(run, "succeeded")
    append_events(run, [NewEvent("message", {}, usage=Usage(100))])
    return run


@pytest.fixture
def evaluation(make_run) -> Run:
    run = make_run(spec={"name": "Überprüfung", "limit": 1e-7, "exact": 1e300})
    claimed = claim_next("tests", timedelta(seconds=30))
    assert claimed is not None
    claim = Claim(run.pk, "tests", claimed.attempt)
    rows = enumerate(zip(("passed", "failed", "passed"), (0.1, 0.2, 0.6), strict=True))
    claim.record(
        Result(
            id=f"{run.pk}{number}",
            run=run,
            item_id="i",
            item_name="i",
            evaluator_name="judge",
            evaluator_type="builtin",
            status=status,
            score=score,
        )
        for number, (status, score) in rows
    )
    claim.succeed({})
    return run


def damage(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def found() -> list[str]:
    return [difference.column for difference in counters.differences()]


def test_what_the_verbs_keep_is_true(task, evaluation):
    assert list(counters.differences()) == []


COLUMNS = [
    *((f"{name}_count", "7") for name in ("event", "artifact", "passed", "failed", "errored", "skipped")),
    *(("score", "0.9"), ("rating_average", "1.5"), ("rating_count", "9"), ("rating", "2")),
    *(("input_tokens", "NULL"), ("output_tokens", "0"), ("cost", "0.25"), ("size", "size + 1")),
]


@pytest.mark.parametrize(("column", "value"), COLUMNS)
def test_a_wrong_column_of_a_run_is_found_and_made_true(task, evaluation, column, value):
    before = Run.objects.filter(pk=task.pk).values(column).get()
    damage(f"UPDATE run SET {column} = {value} WHERE id = %s", task.pk)

    assert found() == [column]
    assert [difference.column for difference in counters.repair()] == [column]
    assert Run.objects.filter(pk=task.pk).values(column).get() == before
    assert found() == []


def test_the_size_of_a_spec_is_counted_as_it_was_submitted(evaluation):
    damage("UPDATE run SET size = size - 1 WHERE id = %s", evaluation.pk)

    assert found() == ["size"]
    list(counters.repair())
    assert found() == []


def test_the_last_bit_of_an_average_is_no_difference(evaluation):
    damage("UPDATE run SET score = score + 1e-15 WHERE id = %s", evaluation.pk)

    assert found() == []


def test_a_lost_row_is_found(committed_db, evaluation):
    with psycopg.connect(committed_db["DATABASE_MIGRATE_URL"]) as owner:
        owner.execute("DELETE FROM result WHERE status = 'failed'")

    assert found() == ["failed_count", "score"]


def test_a_wrong_number_of_runs_is_found_and_made_true(task):
    damage("UPDATE session SET run_count = 7")

    assert found() == ["run_count"]
    list(counters.repair())
    assert Session.objects.get().run_count == 1


def test_a_session_that_was_active_later_than_it_says_is_found_and_made_true(task):
    damage("UPDATE session SET last_activity_at = '2020-01-01Z'")

    assert found() == ["last_activity_at"]
    list(counters.repair())
    assert Session.objects.get().last_activity_at > timezone.now() - timedelta(minutes=5)


def test_a_session_may_have_been_active_later_than_the_rows_that_are_left_say(task):
    damage("UPDATE session SET last_activity_at = now() + interval '1 minute'")

    assert found() == []


def test_wrong_sums_are_found_and_made_true(task, evaluation):
    rollup.fold()
    damage("UPDATE rollup SET succeeded_runs = succeeded_runs + 1 WHERE kind = 'task'")

    (difference,) = counters.differences()
    assert (difference.table, difference.counted) == ("rollup", "succeeded_runs -1")
    list(counters.repair())
    assert found() == []


def test_a_missing_choice_is_found_and_made_true(task, evaluation):
    choices = set(Choice.objects.values_list("field", "value"))
    assert {("agent", "helm-agent"), ("metadata", "team"), ("evaluator", "judge")} <= choices
    damage("DELETE FROM choice")

    assert len(found()) == len(choices)
    list(counters.repair())
    assert set(Choice.objects.values_list("field", "value")) == choices


def test_a_choice_that_no_run_has_goes_with_the_repair_and_is_no_mistake_before(task, owner):
    Choice.objects.create(owner=owner, field="agent", value="gone")

    assert found() == []
    list(counters.repair())
    assert not Choice.objects.filter(value="gone").exists()


def test_only_the_owner_that_is_asked_for_is_looked_at_and_repaired(task, owner):
    other = Owner.objects.create(name="another")
    damage("UPDATE run SET event_count = 7")
    damage("UPDATE session SET run_count = 7")
    damage("DELETE FROM choice")

    assert list(counters.differences(other)) == []
    assert list(counters.repair(other)) == []
    assert list(counters.repair(owner))
    assert found() == []


def test_more_runs_than_fit_in_a_batch_are_all_looked_at(owner, monkeypatch):
    monkeypatch.setattr(counters, "AT_ONCE", 2)
    for _ in range(5):
        Run.objects.open_task(owner)
    damage("UPDATE run SET event_count = 1")

    assert len(found()) == 5


def test_writers_that_append_meanwhile_are_neither_held_up_nor_taken_for_damage(committed_db, task, owner):
    run = Run.objects.open_task(owner, task.session)
    stop, written = threading.Event(), []

    def write() -> None:
        try:
            while not stop.is_set():
                written.extend(append_events(run, [NewEvent("message", {}, usage=Usage(1))]))
        finally:
            connections.close_all()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        seen = [difference for _ in range(20) for difference in counters.differences()]
        damage("UPDATE run SET event_count = event_count WHERE id = %s", run.pk)
        for _ in range(5):
            damage("UPDATE run SET input_tokens = 0 WHERE id = %s", run.pk)
            list(counters.repair())
    finally:
        stop.set()
        for writer in writers:
            writer.join()

    assert seen == []
    run.refresh_from_db()
    assert run.event_count == run.input_tokens == len(written) > 20
    assert found() == []


# ── The command ────────────────────────────────────────────────────────────
def verify(*arguments: str) -> str:
    out = StringIO()
    call_command("verify_counters", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_says_that_all_is_true(task):
    assert verify() == "All is true.\n"


def test_the_command_shows_what_differs_and_fails(task):
    damage("UPDATE run SET event_count = 7")
    out = StringIO()

    with pytest.raises(CommandError, match=r"1 differ.*--repair") as caught:
        call_command("verify_counters", stdout=out)

    assert caught.value.returncode == 1
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["table", "row", "column", "kept", "counted"],
        ["run", str(task.pk), "event_count", "7", "3"],
    ]


def test_the_command_repairs(task):
    damage("UPDATE run SET event_count = 7")

    assert verify("--repair").endswith("1 repaired.\n")
    assert verify() == "All is true.\n"


def test_the_command_knows_the_owner(task):
    assert verify("--owner", "platform") == "All is true.\n"
    with pytest.raises(CommandError, match="no owner nobody"):
        verify("--owner", "nobody")


def test_merged_metadata_is_a_choice_too(task, owner):
    run = Run.objects.open_task(owner)
    merge_metadata(run, {"stage": 1})

    assert found() == []
    assert Choice.objects.filter(field="metadata", value="stage").exists()
