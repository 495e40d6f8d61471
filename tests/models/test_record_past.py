"""Keeping what happened elsewhere or before, with its own times."""

from datetime import UTC, datetime, timedelta

from runs.models import Event, NewEvent, Run, Session, Usage, append_events, put_artifact

BEGAN = datetime(2026, 1, 2, 3, tzinfo=UTC)
ENDED = BEGAN + timedelta(minutes=5)


def record(owner, **fields) -> Run:
    return Run.objects.record_past(
        owner, "succeeded", BEGAN, kind="task", started_at=BEGAN, finished_at=ENDED, **fields
    )


def test_a_run_comes_in_as_it_ended(owner):
    record(owner, spec={"a": "\x00"}, agent="helm-agent")

    run = Run.objects.get()
    assert (run.status, run.created_at, run.finished_at, run.updated_at) == ("succeeded", BEGAN, ENDED, ENDED)
    assert run.full_spec == {"a": "\x00"}
    assert run.size == len('{"a": "\\u0000"}')


def test_its_history_follows_and_counts(owner):
    run = record(owner)
    said = {"parts": [{"text": "Where is it?"}]}
    append_events(run, [NewEvent("message", said, "user", occurred_at=BEGAN, usage=Usage(3))], past=True)
    put_artifact(run, "a", parts=[{"text": "There"}], past=True)

    run.refresh_from_db()
    assert (run.title, run.input_tokens, run.event_count, run.artifact_count) == ("Where is it?", 3, 1, 1)
    assert not Event.objects.filter(kind="late_write").exists()


def test_its_session_was_not_active_today(owner):
    session = Session.objects.open(owner, "tests", "old")
    Session.objects.update(last_activity_at=BEGAN - timedelta(days=1))
    run = record(owner, session=session)
    append_events(run, [NewEvent("message", {}, occurred_at=ENDED)], past=True)

    session.refresh_from_db()
    assert (session.last_activity_at, session.run_count) == (ENDED, 1)
