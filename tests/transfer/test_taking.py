"""What comes in from a file, and what does not (issue 5, point 9)."""

import gzip
import io
import json
import uuid
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from runs.models import (
    OVERALL,
    Artifact,
    Attempt,
    Change,
    Criterion,
    Delivery,
    Event,
    Feedback,
    FeedbackVersion,
    Owner,
    Result,
    Run,
    Session,
    User,
    Webhook,
    append_events,
    correction,
    delete_runs,
    give_feedback,
    put_artifact,
)
from runs.models.counters import differences
from runs.models.deletion import purge
from runs.models.result import record_results
from runs.models.task import Update, artifacts_of, find_task, submit_task, update_task
from runs.models.webhook import claim_delivery
from runs.query import Query
from runs.sealing import seal
from runs.transfer.reading import Lines
from runs.transfer.taking import take
from tests.pages.helpers import make_task, said
from tests.transfer.files import (
    AT,
    OTHER,
    RUN,
    a_file,
    a_moment,
    an_event,
    changed,
    exported,
    of,
    records,
    taken,
    written,
)


@pytest.fixture
def other(db: None) -> Owner:
    return Owner.objects.create(name="other")


def make_everything(owner: Owner, person: User) -> Run:
    """An ended evaluation of a task, with one of everything that a run can have."""
    session = Session.objects.open(owner, "api", "chat", "helm")
    judged = make_task(owner, said("question", "user"), said("answer\x00"), session=session, title="judged")
    Run.objects.filter(pk=judged.pk).update(status="failed", finished_at=timezone.now(), error="broke")
    append_events(Run.objects.get(pk=judged.pk), [said("too late")])
    put_artifact(
        judged, "a", "report.pdf", content=b"\x00\x01\xff" * 100, media_type="application/pdf", past=True
    )
    put_artifact(judged, "b", "parts", parts=[{"kind": "text", "text": "lone \ud800"}], past=True)
    run = Run.objects.record_past(
        owner,
        "succeeded",
        timezone.now() - timedelta(hours=1),
        kind="evaluation",
        session=session,
        title="evaluation",
        judged=judged,
        spec={"target": {"kind": "run"}, "context": {"headers": {"Authorization": "Bearer s3cret"}}},
        finished_at=timezone.now(),
    )
    record_results(
        run,
        [
            Result(
                id="a" * 64,
                run=run,
                item_id="1",
                item_name="one",
                evaluator_name="judge",
                evaluator_type="builtin",
                status="passed",
                score=0.5,
                details={"why": "because"},
            )
        ],
    )
    for rating in (2, 5):
        give_feedback(run, person, rating, "better now" if rating == 5 else "bad")
    give_feedback(run, person, 3, criterion="tone")
    Attempt.objects.create(
        run=run, owner=owner, number=1, worker_id="w/1", ended_at=timezone.now(), outcome="succeeded"
    )
    hook = Webhook.objects.create(
        run=run, kind="http_webhook", shown="https://there", sealed=seal({"url": "https://there/s3cret"})
    )
    Delivery.objects.create(run=run, webhook=hook, phase="final", body="{}")
    with correction(person.actor, "a better name"):
        Run.objects.filter(pk=run.pk).update(title="corrected")
    Criterion.objects.create(owner=owner, key="tone", label="Tone")
    return run


def emptied(data: bytes) -> bytes:
    """The file, while nothing of it is in the database any more."""
    with connection.cursor() as cursor:
        for what, model in (("runs", Run), ("sessions", Session)):
            ids = list(model.objects.values_list("pk", flat=True))
            cursor.execute(f"SELECT purge_{what}(%s, 'tests', 'tests')", [ids])
    Criterion.objects.all().delete()
    return data


def without_people(data: bytes) -> list[dict]:
    """The records, without what an import must change: who people are, and where rows lie."""
    hidden = {"author", "actor", "actor_name", "object_id", "exported_at", "owner", "webhook_id"}
    kept = []
    for one in records(data):
        if one["record"] == "webhook":
            hidden_here = {*hidden, "id"}
        elif one["record"] == "delivery":
            hidden_here = {*hidden, "state", "error", "ended_at"}
        else:
            hidden_here = hidden
        kept.append({key: value for key, value in one.items() if key not in hidden_here})
    return kept


# ── The same comes out ─────────────────────────────────────────────────────
def test_what_comes_in_is_what_went_out(owner, other, alice):
    run = make_everything(owner, alice)
    data = emptied(exported(alice))
    report = taken(data, owner)
    assert (report.taken, report.refused, report.problems) == (2, 0, [])
    assert report.is_whole
    assert without_people(exported(alice)) == without_people(data)
    assert Run.objects.get(pk=run.pk).judged.title == "judged"


def test_lists_say_what_the_rows_say(owner, alice):
    make_everything(owner, alice)
    taken(emptied(exported(alice)), owner)
    assert list(differences()) == []


def test_texts_that_postgresql_cannot_hold_come_back_exactly(owner, alice):
    make_everything(owner, alice)
    taken(emptied(exported(alice)), owner)
    event = Event.objects.get(seq=2, kind="message")
    assert event.full_payload["parts"][0]["text"] == "answer\x00"
    assert Artifact.objects.get(artifact_id="b").full_parts[0]["text"] == "lone \ud800"


def test_what_came_late_is_late_again(owner, alice):
    make_everything(owner, alice)
    taken(emptied(exported(alice)), owner)
    late = Event.objects.get(kind="late_write")
    assert late.full_payload["kind"] == "message"
    assert late.full_payload["payload"]["parts"][0]["text"] == "too late"


def test_what_was_said_is_found_again(owner, alice, signed_in):
    from runs.models.listing import find_runs
    from runs.query import parse

    make_everything(owner, alice)
    taken(emptied(exported(alice)), owner)
    for query in ("question", "source:api", "evaluator:judge"):
        assert find_runs(parse(query, timezone.now()), alice).runs, query


def test_a_gzipped_file_is_understood(owner, alice):
    make_task(owner, said("hello"))
    data = gzip.compress(emptied(exported(alice)))
    assert taken(data, owner).taken == 1


def test_criteria_come_along_where_the_importer_may_define_them(owner, alice):
    make_everything(owner, alice)
    data = emptied(exported(alice))
    assert taken(data, owner, defines=False).criteria == 0
    assert not Criterion.objects.exists()
    assert taken(data, owner, defines=True).criteria == 1


# ── No secrets, no rights ──────────────────────────────────────────────────
def test_no_secret_is_in_the_file(owner, alice):
    make_everything(owner, alice)
    assert b"s3cret" not in exported(alice)


def test_people_become_names_that_nobody_signs_in_as(owner, alice):
    make_everything(owner, alice)
    taken(emptied(exported(alice)), owner)
    assert set(Feedback.objects.values_list("author", "author_name")) == {
        (f"import:{alice.actor} alice", "alice")
    }
    assert set(Change.objects.values_list("actor", flat=True)) == {"import:alice"}


def test_a_second_import_of_an_import_keeps_the_names(owner, alice):
    make_everything(owner, alice)
    taken(emptied(exported(alice)), owner)
    again = emptied(exported(alice))
    taken(again, owner)
    assert {one["author"] for one in of(exported(alice), "feedback")} == {f"import:{alice.actor} alice"}


def test_nothing_is_sent_from_here(owner, alice):
    make_everything(owner, alice)
    taken(emptied(exported(alice)), owner)
    assert claim_delivery([], timedelta(seconds=30)) is None
    assert "not sent from here" in Delivery.objects.get().error


def test_earlier_ratings_come_along(owner, alice):
    make_everything(owner, alice)
    taken(emptied(exported(alice)), owner)
    feedback = Feedback.objects.get(criterion=OVERALL)
    versions = FeedbackVersion.objects.filter(feedback=feedback).values_list("rating", flat=True)
    assert (feedback.rating, list(versions)) == (5, [2, 5])


def test_an_evaluation_that_had_not_ended_is_left_out(owner, alice, make_run):
    make_run()
    report = taken(emptied(exported(alice)), owner)
    assert report.taken == 0
    assert sum(report.skipped.values()) == 1


# ── Once ───────────────────────────────────────────────────────────────────
def test_a_second_time_nothing_happens(owner, alice):
    make_everything(owner, alice)
    data = emptied(exported(alice))
    taken(data, owner)
    before = exported(alice)
    report = taken(data, owner)
    assert (report.taken, report.there, report.problems) == (0, 2, [])
    assert without_people(exported(alice)) == without_people(before)


def test_after_a_stop_it_goes_on(owner, alice):
    for number in range(3):
        make_task(owner, said(f"{number}"))
    data = emptied(exported(alice))
    for report in take(Lines(io.BytesIO(data)), owner, True):
        if report.taken == 1:
            break
    report = taken(data, owner)
    assert (report.taken, report.there) == (2, 1)


def test_links_are_made_when_their_run_comes_later(owner, alice):
    make_everything(owner, alice)
    data = emptied(exported(alice))
    judged = of(data, "run")[0]["id"] if of(data, "run")[0]["judged"] is None else of(data, "run")[1]["id"]
    lines = records(data)
    start = next(i for i, one in enumerate(lines) if one["record"] == "run" and one["id"] == judged)
    end = next(i for i, one in enumerate(lines) if one["record"] == "run_end" and one["run"] == judged)
    without = [*lines[:start], *lines[end + 1 :]]
    taken(written(without), owner)
    assert Run.objects.get(kind="evaluation").judged is None
    taken(data, owner)
    assert str(Run.objects.get(kind="evaluation").judged_id) == judged


def test_another_run_under_a_known_id_is_refused(owner, alice):
    kept = make_task(owner, said("mine"), title="mine")
    other_run = changed(
        exported(alice), lambda one: {**one, "created_at": AT} if one["record"] == "run" else one
    )
    report = taken(other_run, owner)
    assert report.refused == 1
    assert "another run has the id" in report.problems[0][1]
    assert Run.objects.get(pk=kept.pk).title == "mine"


def test_a_run_that_has_gone_on_since_is_left_as_it_is(owner, alice):
    kept = make_task(owner, said("one"))
    data = exported(alice)
    append_events(kept, [said("two")])
    report = taken(data, owner)
    assert "other contents" in report.problems[0][1]
    assert Event.objects.filter(run=kept).count() == 2


def test_a_run_that_was_deleted_here_stays_deleted(owner, alice):
    run = make_task(owner, said("one"))
    data = exported(alice)
    delete_runs(Run.objects.filter(pk=run.pk), "alice", "a mistake")
    assert taken(data, owner).taken == 0
    assert Run.objects.get(pk=run.pk).deleted_at is not None


# ── Other owners' things ───────────────────────────────────────────────────
def test_nobody_writes_into_another_owners_run(owner, other, alice):
    run = make_task(owner, said("mine"))
    report = taken(exported(alice), other)
    assert report.problems[0][1] == f"the run's id {run.pk} is taken"
    assert not Run.objects.filter(owner=other).exists()


def test_nobody_writes_into_another_owners_session(owner, other, alice):
    theirs = Session.objects.open(owner, "api", "theirs")
    session = {
        "record": "session",
        "id": str(theirs.pk),
        "key": "mine",
        "source": "api",
        "created_at": AT,
        "last_activity_at": AT,
    }
    lines = records(a_file(an_event(), run={"session": str(theirs.pk)}))
    report = taken(written([lines[0], session, *lines[1:]]), other)
    assert report.taken == 0
    assert not theirs.runs.exists()


def test_nobody_overwrites_another_owners_result(owner, other, alice):
    make_everything(owner, alice)
    result = {
        "record": "result",
        "id": "a" * 64,
        "item_id": "1",
        "item_name": "x",
        "evaluator_name": "mine",
        "evaluator_type": "builtin",
        "status": "failed",
        "created_at": AT,
    }
    report = taken(a_file(result), other)
    assert (report.taken, report.refused) == (0, 1)
    assert Result.objects.get(id="a" * 64).evaluator_name == "judge"


def test_a_judged_run_of_another_owner_is_no_link(owner, other, alice):
    theirs = make_task(owner, said("x"))
    taken(a_file(run={"judged": str(theirs.pk), "kind": "evaluation"}), other)
    assert Run.objects.get(pk=RUN).judged is None


# ── Files that are wrong ───────────────────────────────────────────────────
def test_a_file_that_breaks_off_is_told_loudly(owner):
    whole = a_file(an_event())
    cut = b"".join(whole.splitlines(keepends=True)[:-1])
    report = taken(cut, owner)
    assert (report.taken, report.is_whole) == (1, False)


def test_a_run_that_breaks_off_is_not_taken(owner):
    lines = a_file(an_event(), an_event(2)).splitlines(keepends=True)
    report = taken(b"".join(lines[:3]), owner)
    assert report.taken == 0
    assert "ends in the middle of the run" in report.problems[0][1]
    assert not Event.objects.exists()


def test_a_last_line_that_is_not_true_is_told(owner):
    lines = records(a_file(an_event()))
    lines[-1]["runs"] = 2
    report = taken(written(lines), owner)
    assert not report.is_whole
    assert "the export had 2 runs" in report.problems[0][1]


def test_an_export_that_said_that_it_broke_off_is_not_whole(owner):
    lines = records(a_file(an_event()))[:-1]
    report = taken(written([*lines, {"record": "error", "complete": False, "message": "no disk"}]), owner)
    assert not report.is_whole
    assert "no disk" in report.problems[0][1]


def test_a_gzip_that_breaks_off_is_told(owner):
    report = taken(gzip.compress(a_file(an_event()))[:-20], owner)
    assert not report.is_whole


BROKEN = {
    "no JSON": (b"{", "this is not JSON"),
    "no UTF-8": (b'{"record": "event\xff"}', "this is not JSON"),
    "no object": (b"[1, 2]", "this is no record"),
    "no name": (b'{"seq": 1}', "this is no record"),
    "nothing of a run": (b'{"record": "password"}', "nothing that a run has"),
    "a NUL in its name": (b'{"record": "\\u0000"}', "nothing that a run has"),
    "a surrogate in its name": (b'{"record": "\\ud800"}', "nothing that a run has"),
    "a number for a text": (json.dumps(an_event(kind=5)).encode(), "event: kind"),
    "a surrogate in a text": (
        b'{"record":"event","seq":1,"kind":"\\ud800","created_at":"%s"}' % AT.encode(),
        "kind",
    ),
    "a gap": (json.dumps(an_event(7)).encode(), "event 7 follows event 0"),
    "a number of no size": (json.dumps(an_event(input_tokens=2**70)).encode(), "input_tokens"),
    "a true number": (json.dumps(an_event(seq=True)).encode(), "seq"),
    "a time without zone": (json.dumps(an_event(created_at="2026-11-01T12:00:00")).encode(), "created_at"),
    "a time long ago": (json.dumps(an_event(created_at="0001-01-01T00:00:00+14:00")).encode(), "created_at"),
    "a number for a time": (json.dumps(an_event(created_at=10**30)).encode(), "created_at"),
    "money of no size": (json.dumps(an_event(cost="1e99")).encode(), "cost"),
    "no base64": (
        json.dumps({"record": "artifact", "artifact_id": "a", "content": "???", "created_at": AT}).encode(),
        "content",
    ),
    "a rating of 9": (
        json.dumps(
            {
                "record": "feedback",
                "author": "user:1",
                "author_name": "x",
                "criterion": "overall",
                "rating": 9,
                "created_at": AT,
                "updated_at": AT,
            }
        ).encode(),
        "rating",
    ),
    "a delivery of no webhook": (
        json.dumps(
            {
                "record": "delivery",
                "message_id": OTHER,
                "webhook_id": OTHER,
                "phase": "final",
                "body": "",
                "state": "dead",
                "next_try_at": AT,
                "created_at": AT,
            }
        ).encode(),
        "its webhook",
    ),
    "a change of a token": (
        json.dumps(
            {
                "record": "change",
                "actor": "x",
                "object_type": "token",
                "object_id": "1",
                "field": "x",
                "at": AT,
            }
        ).encode(),
        "nothing of a run",
    ),
}


@pytest.mark.parametrize(("line", "message"), BROKEN.values(), ids=BROKEN)
def test_a_wrong_line_is_told_and_its_run_not_taken(owner, line, message):
    lines = a_file(an_event()).splitlines()
    data = b"\n".join([*lines[:2], line, *lines[3:]])
    report = taken(data, owner)
    assert (report.taken, report.refused) == (0, 1)
    assert report.problems[0][0] == 3
    assert message in report.problems[0][1]
    assert not Run.objects.exists()


HEADS = {
    "an unknown status": {"status": "done"},
    "an unknown kind": {"kind": "dance"},
    "ended without an end": {"finished_at": None},
    "open with an end": {"status": "running"},
    "no id": {"id": "x"},
    "a spec that is a list": {"spec": []},
    "more events than there are": {"event_count": 5},
    "a session that is not there": {"session": OTHER},
    "a priority of no size": {"priority": 10**9},
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_wrong_run_is_told_and_not_taken(owner, head):
    report = taken(a_file(an_event(), run=head), owner)
    assert (report.taken, report.refused) == (0, 1)
    assert report.problems[0][0] == 2
    assert not Run.objects.exists()


def test_a_wrong_line_is_told_even_of_a_run_that_is_there(owner, alice):
    make_task(owner, said("one"))
    lines = exported(alice).splitlines()
    report = taken(b"\n".join([*lines[:3], b"{", *lines[3:]]), owner)
    assert (report.there, report.problems[0][0]) == (1, 4)


def test_the_run_after_a_wrong_one_is_taken(owner):
    wrong = records(a_file(an_event(kind=1)))
    right = records(a_file(an_event(), run={"id": OTHER}))
    end = {"record": "end", "complete": True, "runs": 2, "lines": 8}
    report = taken(
        written([*wrong[:-1], right[1], right[2], {"record": "run_end", "run": OTHER}, end]), owner
    )
    assert (report.taken, report.refused, report.is_whole) == (1, 1, True)


FIRST = {
    "of another format": {"record": "export", "format": "x", "version": 1, "parts": "everything"},
    "of another version": {
        "record": "export",
        "format": "runfolio.runs",
        "version": 2,
        "parts": "everything",
    },
    "of columns": {"record": "export", "format": "runfolio.runs", "version": 1, "parts": "columns"},
    "that is none": {"record": "run"},
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_a_wrong_first_line_stops_it(owner, first):
    report = taken(written([first, *records(a_file(an_event()))[1:]]), owner)
    assert report.stopped.startswith("line 1: ")
    assert not Run.objects.exists()


def test_an_empty_file_is_not_whole(owner):
    assert not taken(b"", owner).is_whole


def test_a_line_without_end_is_told_and_not_kept_in_memory(owner, settings):
    settings.MAX_BODY_BYTES = 10_000
    long = b'{"record":"event","payload":"' + b"x" * 100_000 + b'"}'
    lines = a_file(an_event()).splitlines()
    report = taken(b"\n".join([*lines[:2], long, *lines[3:]]), owner)
    assert report.problems[0] == (3, "the line is longer than 15,000 bytes")
    assert report.is_whole


def test_a_small_file_that_unpacks_to_a_huge_one_is_stopped(owner):
    bomb = gzip.compress(a_file(an_event()) + b" " * 50_000_000)
    *_, report = take(Lines(io.BytesIO(bomb), most=1_000_000), owner, True)
    assert "larger than this page takes" in report.stopped


def test_a_run_of_the_future_is_taken_as_it_says(owner):
    """Whatever a clock said: the list shows it where it belongs."""
    later = "2030-01-01T00:00:00Z"
    assert (
        taken(a_file(run={"created_at": later, "finished_at": later, "updated_at": later}), owner).taken == 1
    )


def test_a_run_has_its_own_times(owner):
    taken(a_file(an_event()), owner)
    run = Run.objects.get(pk=RUN)
    assert (run.created_at, run.finished_at, run.updated_at) == (a_moment(), a_moment(), a_moment())
    assert run.events.get().created_at == a_moment()
    assert run.pk == uuid.UUID(RUN)


def test_artifacts_of_an_agent_come_along_as_it_told_them(owner, alice):
    told = [
        {"artifact_id": "1", "parts": [{"kind": "text", "text": "a\x00"}], "metadata": {"signature": "x"}},
        {"artifact_id": "1", "parts": []},
        {"name": "no id"},
    ]
    task, _ = submit_task(owner, {"role": "user", "parts": []}, uuid.uuid4(), uuid.uuid4())
    with transaction.atomic():
        held = find_task([owner.pk], "", task.task_id, hold=True)
        assert held is not None
        update_task(held, [Update(artifacts=told)])
    file = exported(alice, Query())
    purge(Run.objects.all(), "retention", "why")

    report = taken(file, owner)

    assert report.problems == []
    assert [json.loads(text) for text in artifacts_of([task.run_id])[task.run_id]] == told
