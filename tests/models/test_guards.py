"""What PostgreSQL itself refuses, as the role that serves (DESIGN.md 3.2, 3.6, 3.10)."""

from datetime import UTC, datetime

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction
from django.db.utils import ProgrammingError

from runs.models import (
    Change,
    Feedback,
    FeedbackVersion,
    NewEvent,
    Run,
    Session,
    append_events,
    correction,
    give_feedback,
)


def refused(sql: str, *params: object) -> str:
    """The class of the error that the statement ends in."""
    with (
        pytest.raises((IntegrityError, ProgrammingError)) as caught,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql, params)
    return type(caught.value.__cause__).__name__


def test_the_serving_role_is_no_superuser_and_owns_nothing(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname, rolsuper, rolcreatedb FROM pg_roles WHERE rolname = user")
        assert cursor.fetchone() == ("runfolio_app", False, False)
        cursor.execute("SELECT count(*) FROM pg_tables WHERE tableowner = user")
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize("table", ["event", "change", "feedback_version"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {}"])
def test_history_is_written_once(db, table, statement):
    assert refused(statement.format(table)) == "InsufficientPrivilege"


@pytest.mark.parametrize("table", ["run", "session", "event", "result", "feedback", "change"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_nothing_recorded_is_deleted_directly(db, table, statement):
    """What is to go for good goes through purge_runs and purge_sessions."""
    assert refused(statement.format(table)) == "InsufficientPrivilege"


def test_who_says_that_it_purges_may_not(make_run):
    run = make_run()
    append_events(run, [NewEvent("message", {})])

    message = refused("SELECT set_config('runfolio.purging', 'on', true); DELETE FROM event")

    assert message == "InsufficientPrivilege"


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE run DISABLE TRIGGER ALL",
        "ALTER TABLE event DISABLE TRIGGER USER",
        "SET session_replication_role = replica",
        "DROP TRIGGER {} ON run",
        "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "DROP FUNCTION {}() CASCADE",
        "ALTER TABLE run DROP CONSTRAINT run_final_is_finished",
        "CREATE TRIGGER zz BEFORE UPDATE ON run FOR EACH ROW EXECUTE FUNCTION {}()",
        "CREATE TABLE public.own (id int)",
        "SET ROLE runfolio_owner",
    ],
)
def test_the_guards_cannot_be_taken_away(db, statement):
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'pgtrigger_final_needs_reason%%'")
        (trigger,) = cursor.fetchone()

    assert refused(statement.format(trigger)) == "InsufficientPrivilege"


def test_a_running_evaluation_keeps_its_lease(make_run, claim):
    make_run()
    run, _ = claim()

    for column in ("worker_id", "claimed_at", "lease_expires_at"):
        assert refused(f"UPDATE run SET {column} = NULL WHERE id = %s", run.pk) == "CheckViolation"


def test_a_running_task_needs_no_lease(owner):
    """The control of the test above."""
    run = Run.objects.open_task(owner)

    assert Run.objects.filter(pk=run.pk).update(status="running") == 1


def test_an_author_has_one_feedback_on_a_criterion(make_run, alice):
    feedback = give_feedback(make_run(), alice, 3)
    copy = """
        INSERT INTO feedback (run_id, author, author_name, criterion, comment, metadata)
        SELECT run_id, author, author_name, %s, '', '{}' FROM feedback WHERE id = %s
    """

    assert refused(copy, "overall", feedback.pk) == "UniqueViolation"
    with connection.cursor() as cursor:
        cursor.execute(copy, ["tone", feedback.pk])
        assert cursor.rowcount == 1


def test_a_trigger_guards_history_where_one_role_does_it_all(committed_db, make_run):
    run = make_run()
    append_events(run, [NewEvent("message", {})])

    with (
        psycopg.connect(committed_db["DATABASE_MIGRATE_URL"]) as owner,
        pytest.raises(psycopg.Error) as caught,
    ):
        owner.execute("DELETE FROM event")

    assert "append-only" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        "status = 'done'",
        "status = 'running'",
        "status = 'succeeded'",
        "finished_at = now()",
        "kind = 'chore'",
        "rating_average = 6",
        "attempt = -1",
    ],
)
def test_a_run_cannot_be_in_a_state_that_makes_no_sense(make_run, change):
    run = make_run()

    assert refused(f"UPDATE run SET {change} WHERE id = %s", run.pk) == "CheckViolation"


@pytest.mark.parametrize(
    ("change", "guard"),
    [
        ("outcome = 'lost'", "CheckViolation"),
        ("ended_at = now()", "CheckViolation"),
        ("number = 1", "UniqueViolation"),
    ],
)
def test_an_attempt_has_one_number_and_ends_somehow_or_not_at_all(make_run, claim, change, guard):
    run = make_run()
    claim()[1].release()
    claim()

    where = "WHERE run_id = %s AND number = 2"
    assert refused(f"UPDATE attempt SET {change} {where}", run.pk) == guard


@pytest.mark.parametrize(
    ("table", "change", "guard"),
    [
        ("webhook", "kind = 'carrier_pigeon'", "CheckViolation"),
        ("webhook", "position = 0", "UniqueViolation"),
        ("delivery", "state = 'lost'", "CheckViolation"),
    ],
)
def test_what_is_to_be_told_and_where_makes_sense(make_run, claim, table, change, guard):
    run = make_run(spec={"target": {}, "sinks": [{"kind": "stdout"}, {"kind": "stdout"}]})
    claim()[1].succeed({})

    assert refused(f"UPDATE {table} SET {change} WHERE run_id = %s", run.pk) == guard


@pytest.mark.parametrize("rating", [0, 6, -1])
def test_a_rating_is_from_1_to_5(make_run, alice, rating):
    feedback = give_feedback(make_run(), alice, 3)

    assert refused("UPDATE feedback SET rating = %s WHERE id = %s", rating, feedback.pk) == "CheckViolation"


@pytest.mark.parametrize("rating", [0, 6, 2.5, "5", True])
def test_feedback_takes_no_other_rating(make_run, alice, rating):
    with pytest.raises(ValueError, match="whole number from 1 to 5"):
        give_feedback(make_run(), alice, rating)


def test_one_author_has_one_rating_and_every_version_is_kept(make_run, alice):
    run = make_run()

    for rating, comment in ((3, "so so"), (5, "on second thoughts"), (None, "no opinion")):
        give_feedback(run, alice, rating, comment)

    run.refresh_from_db()
    feedback = Feedback.objects.get(run=run)
    assert (feedback.rating, feedback.comment) == (None, "no opinion")
    assert list(FeedbackVersion.objects.values_list("rating", flat=True)) == [3, 5, None]
    assert (run.rating_average, run.rating_count) == (None, 0)


def test_a_run_knows_the_average_of_its_ratings(make_run, alice, stranger):
    run = make_run()
    give_feedback(run, alice, 2)
    give_feedback(run, stranger, 5)

    run.refresh_from_db()
    assert (run.rating_average, run.rating_count) == (3.5, 2)


def test_events_are_numbered_from_one_without_gaps(make_run):
    run = make_run()
    append_events(run, [NewEvent("message", {"n": 1}), NewEvent("message", {"n": 2})])
    append_events(run, [NewEvent("message", {"n": 3})])

    assert list(run.events.values_list("seq", "payload__n")) == [(1, 1), (2, 2), (3, 3)]


def test_a_session_knows_its_runs(make_run, owner):
    first, second = (Session.objects.open(owner, "api", key) for key in ("first", "second"))
    run = make_run(session=first)
    make_run(session=first)

    Run.objects.filter(pk=run.pk).update(session=second)

    assert list(Session.objects.order_by("key").values_list("run_count", flat=True)) == [1, 1]
    second.refresh_from_db()
    assert second.last_activity_at == run.created_at.replace(microsecond=0)


# ── Corrections ────────────────────────────────────────────────────────────
def test_a_final_status_does_not_change_without_a_reason(make_run):
    run = make_run(status="failed", finished_at=datetime.now(UTC), error="broken")

    assert refused("UPDATE run SET status = 'succeeded' WHERE id = %s", run.pk) == "CheckViolation"


def test_a_correction_changes_a_final_status_and_is_recorded(make_run):
    run = make_run(status="failed", finished_at=datetime.now(UTC), error="broken")

    with correction("user:7", "the cluster was at fault", "request-1"):
        Run.objects.filter(pk=run.pk).update(status="succeeded", error=None)

    changes = list(
        Change.objects.order_by("field").values_list("field", "old", "new", "actor", "reason", "request_id")
    )
    who = ("user:7", "the cluster was at fault", "request-1")
    assert changes == [("error", "broken", None, *who), ("status", "failed", "succeeded", *who)]
    assert {change.run_id for change in Change.objects.all()} == {run.pk}


def test_raw_sql_is_recorded_with_the_role_that_did_it(make_run):
    run = make_run(title="old")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE run SET title = 'new' WHERE id = %s", [run.pk])

    change = Change.objects.get()
    assert (change.field, change.old, change.new, change.actor) == (
        "title",
        "old",
        "new",
        "database:runfolio_app",
    )


def test_the_work_of_the_pipeline_is_no_correction(make_run, claim):
    make_run(title="")
    _, held = claim()
    held.describe(None, agent="helm-agent", title="What is installed?")
    held.succeed({"trace_count": 1})

    assert not Change.objects.exists()


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_correction_needs_a_reason(db, reason):
    with pytest.raises(ValueError, match="reason"), correction("user:7", reason):
        pass


def test_what_follows_a_correction_is_none(make_run, django_assert_num_queries):
    run = make_run(metadata={"a": 1})
    with correction("user:7", "why"):
        Run.objects.filter(pk=run.pk).update(metadata={"a": 2})
    Run.objects.filter(pk=run.pk).update(metadata={"a": 3})

    assert [change.new for change in Change.objects.all()] == [{"a": 2}]


# ── Access ─────────────────────────────────────────────────────────────────
def test_what_is_not_yours_is_not_there(make_run, alice, stranger):
    run = make_run()

    assert Run.objects.visible_to(alice).get() == run
    assert not Run.objects.visible_to(stranger).exists()


def test_a_deactivated_person_sees_nothing(make_run, alice):
    make_run()
    alice.is_active = False

    assert not Run.objects.visible_to(alice).exists()
