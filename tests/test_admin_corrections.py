"""Correcting what was recorded, through the admin."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.models import (
    Artifact,
    Change,
    Claim,
    Event,
    FeedbackVersion,
    NewEvent,
    Owner,
    Result,
    Run,
    Session,
    User,
    append_events,
    give_feedback,
    put_artifact,
)
from tests.admin_forms import change_url, correct, errors, opened

MakeRun = Callable[..., Run]


@pytest.fixture
def ended(make_run: MakeRun) -> Run:
    now = timezone.now()
    return make_run(status="failed", error="boom\nat line 2", started_at=now, finished_at=now)


@pytest.fixture
def result(ended: Run) -> Result:
    return Result.objects.create(
        id="a" * 64,
        run=ended,
        item_id="t",
        item_name="t",
        evaluator_name="e",
        evaluator_type="builtin",
        status="failed",
        score=0.25,
        details={"reason": "wrong"},
    )


def test_it_corrects_a_final_status_with_a_trace(admin_client: Client, admin: User, ended: Run) -> None:
    response = correct(admin_client, ended, "the harness had misread it", status="succeeded")

    assert response.status_code == 302
    ended.refresh_from_db()
    assert ended.status == "succeeded"
    change = Change.objects.get(run=ended)
    assert (change.field, change.old, change.new) == ("status", "failed", "succeeded")
    assert (change.actor, change.reason) == (admin.actor, "the harness had misread it")
    assert change.request_id == response["X-Request-Id"]


def test_it_shows_the_changes_on_the_page_of_the_row(admin_client: Client, ended: Run) -> None:
    correct(admin_client, ended, "the harness had misread it", status="succeeded")
    page = admin_client.get(change_url(ended)).content.decode()
    assert "the harness had misread it" in page
    assert "root" in page


def test_it_demands_a_reason(admin_client: Client, ended: Run) -> None:
    for reason in ("", "   "):
        assert "This field is required" in errors(correct(admin_client, ended, reason, title="other"))
    ended.refresh_from_db()
    assert ended.title == "A run"


def test_an_untouched_form_writes_nothing(admin_client: Client, ended: Run) -> None:
    before = Run.objects.values().get(pk=ended.pk)
    form = {**opened(admin_client, ended), "reason": "just looking"}
    page = admin_client.post(change_url(ended), form, follow=True)
    assert "nothing was written" in page.content.decode()
    assert Run.objects.values().get(pk=ended.pk) == before
    assert not Change.objects.exists()
    assert not LogEntry.objects.exists()


def test_it_writes_only_what_was_changed(admin_client: Client, ended: Run) -> None:
    form = opened(admin_client, ended)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        admin_client.post(change_url(ended), {**form, "reason": "a typo", "title": "Other"})
    written = [query["sql"] for query in queries if query["sql"].startswith('UPDATE "run"')]
    assert all("title" in sql and "status" not in sql.partition("WHERE")[0] for sql in written)
    assert Change.objects.get().field == "title"


def test_a_form_that_was_open_meanwhile_leaves_what_a_worker_wrote(
    admin_client: Client, make_run: MakeRun, claim: Callable[[], tuple[Run, Claim]]
) -> None:
    run = make_run()
    form = opened(admin_client, run)
    claim()[1].succeed({"trace_count": 1})

    response = admin_client.post(change_url(run), {**form, "reason": "a typo", "title": "Other"})

    assert response.status_code == 302
    run.refresh_from_db()
    assert (run.title, run.status, run.summary) == ("Other", "succeeded", {"trace_count": 1})


def test_it_refuses_to_overwrite_what_changed_since_the_form_was_opened(
    admin_client: Client, make_run: MakeRun
) -> None:
    run = make_run()
    form = opened(admin_client, run)
    Run.objects.filter(pk=run.pk).update(metadata={"by": "another"})

    sent = {**form, "reason": "mine", "metadata": '{"by": "me"}'}
    response = admin_client.post(change_url(run), sent)

    assert "has changed since" in errors(response)
    run.refresh_from_db()
    assert run.metadata == {"by": "another"}


def test_a_final_status_needs_its_end(admin_client: Client, make_run: MakeRun) -> None:
    assert "needs the time it finished at" in errors(correct(admin_client, make_run(), status="failed"))


def test_an_open_status_has_no_end(admin_client: Client, ended: Run) -> None:
    assert "leave this empty" in errors(correct(admin_client, ended, status="paused"))


def test_only_a_worker_makes_an_evaluation_run(admin_client: Client, ended: Run) -> None:
    typed = {"status": "running", "finished_at_0": "", "finished_at_1": ""}
    assert "Only a worker" in errors(correct(admin_client, ended, **typed))


def test_an_ended_evaluation_can_be_queued_again(
    admin_client: Client, ended: Run, claim: Callable[[], tuple[Run, Claim]]
) -> None:
    typed = {"status": "queued", "finished_at_0": "", "finished_at_1": ""}
    assert correct(admin_client, ended, **typed).status_code == 302
    assert claim()[0].pk == ended.pk


def test_a_worker_that_was_at_a_corrected_run_has_lost_it(
    admin_client: Client, make_run: MakeRun, claim: Callable[[], tuple[Run, Claim]]
) -> None:
    run = make_run()
    _, held = claim()
    typed = {"status": "failed", "finished_at_0": "2030-01-01", "finished_at_1": "00:00:00"}
    assert correct(admin_client, run, **typed).status_code == 302
    assert not held.extend(timedelta(seconds=30))


def test_what_only_the_database_refuses_is_an_error_of_the_form(
    admin_client: Client, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.admin.record.RunForm.consequences", lambda form: {"rating_average": 9})
    assert "run_rating_average" in errors(correct(admin_client, make_run(), title="Other"))


def test_a_corrected_spec_loses_its_exact_text(admin_client: Client, make_run: MakeRun) -> None:
    run = make_run({"target": {"kind": "inline"}, "note": "a\x00b\ud800"})
    assert "\\u0000" in opened(admin_client, run)["spec"]

    correct(admin_client, run, "the agent leaked NULs", spec='{"note": "ab"}')

    run.refresh_from_db()
    assert (run.spec, run.spec_exact) == ({"note": "ab"}, None)


def test_an_untouched_exact_spec_stays_exact(admin_client: Client, make_run: MakeRun) -> None:
    run = make_run({"target": {"kind": "inline"}, "note": "a\x00b\ud800"})
    correct(admin_client, run, title="Other")
    run.refresh_from_db()
    assert run.full_spec["note"] == "a\x00b\ud800"
    assert not Change.objects.filter(field__startswith="spec").exists()


def test_artifacts_keep_nuls_that_were_typed_escaped(admin_client: Client, ended: Run) -> None:
    artifact = put_artifact(ended, "report", parts=[{"kind": "text", "text": "hello"}], past=True)
    correct(admin_client, artifact, parts='[{"kind": "text", "text": "a\\u0000b"}]')
    artifact = Artifact.objects.get(pk=artifact.pk)
    assert artifact.full_parts == [{"kind": "text", "text": "a\x00b"}]
    assert artifact.size == 38


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ('{\n  "a": 1,\n  b\n}', "line 3 column 3"),
        ('{"a": NaN}', "line 1 column 7"),
        ('{"a": ', "line 1 column 6"),
        ('{"é": tru}', "line 1 column"),
        ("[" * 600 + "]" * 600, "levels deep"),
        ('{"a": "x\\u0000"}', "cannot be kept here"),
        ("null", "cannot be null"),
        ("9" * 5000, "out of range"),
        ('{"a": 1e400}', "out of range"),
        ('{"a": "\\ud800', "line 1 column"),
    ],
)
def test_json_is_read_strictly(admin_client: Client, ended: Run, typed: str, said: str) -> None:
    assert said in errors(correct(admin_client, ended, metadata=typed))


def test_what_is_too_large_to_edit_shows_its_size_and_stays(admin_client: Client, make_run: MakeRun) -> None:
    run = make_run({"target": {"kind": "inline"}, "note": "x" * 300_000})
    form = opened(admin_client, run)
    assert "spec" not in form
    page = admin_client.get(change_url(run)).content.decode()
    assert "293.0\xa0KB" in page
    assert len(page) < 100_000
    admin_client.post(change_url(run), {**form, "reason": "a typo", "title": "Other", "spec": "{}"})
    run.refresh_from_db()
    assert len(run.spec["note"]) == 300_000


def test_line_ends_and_outer_blanks_of_a_text_are_no_change(admin_client: Client, ended: Run) -> None:
    Run.objects.filter(pk=ended.pk).update(title="  two\nlines \r\n")
    correct(admin_client, ended, model="gpt")
    ended.refresh_from_db()
    assert ended.title == "  two\nlines \r\n"


def test_correcting_a_result_counts_the_run_again(admin_client: Client, ended: Run, result: Result) -> None:
    correct(admin_client, result, "the case was wrong", status="passed", score="1.0")
    ended.refresh_from_db()
    assert (ended.passed_count, ended.failed_count, ended.score) == (1, 0, 1.0)
    assert set(Change.objects.filter(run=ended).values_list("field", flat=True)) == {"status", "score"}


def test_correcting_feedback_counts_the_ratings_again(admin_client: Client, alice: User, ended: Run) -> None:
    feedback = give_feedback(ended, alice, 5, "great")
    correct(admin_client, feedback, "meant for another run", rating="2")
    ended.refresh_from_db()
    assert ended.rating_average == 2
    assert FeedbackVersion.objects.get().rating == 5  # what she sent


def test_a_rating_outside_1_to_5_is_refused(admin_client: Client, alice: User, ended: Run) -> None:
    feedback = give_feedback(ended, alice, 5)
    assert "1 to 5" in errors(correct(admin_client, feedback, rating="9"))


def test_a_session_moves_to_another_owner_with_its_runs(
    admin_client: Client, owner: Owner, make_run: MakeRun
) -> None:
    session = Session.objects.open(owner, "api", "c-1")
    run = make_run(session=session)
    other = Owner.objects.create(name="other")
    correct(admin_client, session, "filed wrongly", owner=str(other.pk))
    run.refresh_from_db()
    assert run.owner == other
    assert Change.objects.filter(field="owner_id", reason="filed wrongly").count() == 2


def test_a_run_cannot_point_at_another_owners(admin_client: Client, make_run: MakeRun) -> None:
    theirs = make_run(owner=Owner.objects.create(name="other"))
    assert "another owner" in errors(correct(admin_client, make_run(), judged=str(theirs.pk)))


def test_a_key_that_is_taken_is_an_error_of_the_form(admin_client: Client, owner: Owner) -> None:
    Session.objects.open(owner, "api", "c-1")
    session = Session.objects.open(owner, "api", "c-2")
    assert "source and key already" in errors(correct(admin_client, session, key="c-1"))


@pytest.mark.parametrize(
    "typed",
    [
        {"session": "not-an-id"},
        {"session": "\x00"},
        {"judged": "9" * 5000},
        {"title": "a\x00b"},
        {"started_at_0": "99999-99-99", "started_at_1": "x"},
        {"started_at_0": "0001-01-01", "started_at_1": "00:00:00"},
        {"status": "nonsense"},
        {"status": ""},
        {"initial-metadata": "{", "metadata": "[]"},
        {"initial-started_at_0": "\x00", "started_at_0": "2020-01-01", "started_at_1": "00:00"},
        {"initial-status": "x\x00", "status": "queued"},
    ],
)
def test_hostile_input_is_no_500(admin_client: Client, ended: Run, typed: dict[str, str]) -> None:
    assert correct(admin_client, ended, **typed).status_code in (200, 302)


@pytest.fixture
def rows(ended: Run, result: Result, alice: User) -> Iterator[list[Any]]:
    """A row of each kind of record."""
    event = append_events(ended, [NewEvent("message", {"parts": [{"kind": "text", "text": "hi"}]})])[0]
    feedback = give_feedback(ended, alice, 4, "fine")
    session = Session.objects.open(ended.owner, "api", "c-1")
    artifact = put_artifact(ended, "a", parts=[{"kind": "data", "data": {"x": 1}}], past=True)
    Run.objects.filter(pk=ended.pk).update(title="renamed")
    return [ended, session, event, artifact, result, feedback, feedback.versions.get(), Change.objects.get()]


def test_records_have_pages_and_are_not_added_or_deleted(admin_client: Client, rows: list[Any]) -> None:
    for row in rows:
        assert admin_client.get(change_url(row)).status_code == 200, row
        changelist = change_url(row).removesuffix(f"{row.pk}/change/")
        page = admin_client.get(changelist)
        assert page.status_code == 200, row
        assert "delete_selected" not in page.content.decode()
        assert admin_client.get(f"{changelist}add/").status_code == 403
        deletion = change_url(row).removesuffix("change/") + "delete/"
        assert admin_client.post(deletion, {"post": "yes"}).status_code == 403


def test_history_is_for_reading(admin_client: Client, rows: list[Any]) -> None:
    for row in rows:
        if isinstance(row, Event | FeedbackVersion | Change):
            assert admin_client.post(change_url(row), {"reason": "x"}).status_code == 403


def test_a_page_of_history_shows_its_payload_in_lines(admin_client: Client, rows: list[Any]) -> None:
    page = admin_client.get(change_url(rows[2])).content.decode()
    assert json.dumps([{"kind": "text", "text": "hi"}], indent=2).splitlines()[1].strip() in page
