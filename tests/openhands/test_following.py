"""What the worker makes of a conversation's files: sessions, runs and events."""

import json
import tracemalloc
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from django.db import DataError

from runs.models import (
    Conversation,
    Event,
    File,
    FileNamespace,
    Run,
    Session,
    Status,
    delete_session,
    force_cancel,
    request_cancel,
)
from runs.models.counters import differences
from runs.openhands import following
from tests.openhands.talk import NAIVE, Talk, read_all, words


@pytest.fixture
def talk(owner):
    return Talk(owner)


# ── Sessions, runs, events ─────────────────────────────────────────────────
def test_a_burst_of_work_is_a_run_with_all_its_events_in_order(talk):
    talk.work()
    read_all()
    (run,) = talk.runs
    assert (run.status, run.raw_status, run.kind) == (Status.SUCCEEDED, "finished", "task")
    assert (run.title, run.agent, run.model) == ("Which file is the biggest?", "OpenHands", "gpt-4o")
    files = File.objects.filter(namespace=talk.namespace, path__startswith="events/").order_by("path")
    assert [event.event_id for event in talk.events()] == [path[19:-5] for path in names(files)]
    assert [event.kind for event in talk.events()] == [
        *("message", "message", "tool_call", "tool_result", "tool_call", "message")
    ]


def test_a_conversation_is_a_session_before_anything_is_said(talk):
    talk.state["tags"] = {"team": "blue"}
    talk.save()
    read_all()
    assert (talk.session.source, talk.session.agent, talk.session.run_count) == ("openhands", "OpenHands", 0)
    assert talk.session.metadata == {
        "conversation": talk.key,
        "namespace": talk.key,
        "workspace": "workspace/project",
        "tags": {"team": "blue"},
    }


def test_its_title_is_what_the_user_said_first(talk):
    talk.work("Sort\nthe files")
    talk.work("And again")
    read_all()
    assert talk.session.title == "Sort the files"


def test_its_key_is_the_conversations_id_however_the_namespace_is_spelled(owner):
    key = str(uuid4())
    talk = Talk(owner, name=UUID(key).hex, key=key)
    talk.save()
    read_all()
    assert talk.session.metadata["namespace"] == UUID(key).hex


def test_events_without_a_state_are_a_conversation_too(owner):
    key = str(uuid4())
    talk = Talk(owner, name=UUID(key).hex, key=key)
    talk.ask()
    talk.call()
    read_all()
    assert [run.status for run in talk.runs] == [Status.RUNNING]


def test_other_files_are_no_conversation(owner):
    talk = Talk(owner, name="profiles")
    talk.write("profiles/mine.json", {})
    read_all()
    assert not Session.objects.exists()
    assert not FileNamespace.objects.unread().exists()


def test_the_next_message_opens_a_run_in_the_same_session_and_the_first_stays_as_it_ended(talk):
    talk.work()
    read_all()
    ended = talk.runs[0].finished_at
    talk.work("And the smallest?")
    read_all()
    first, second = talk.runs
    assert (first.status, first.finished_at, first.event_count) == (Status.SUCCEEDED, ended, 8)
    assert (second.status, second.title) == (Status.SUCCEEDED, "And the smallest?")


def test_several_messages_before_the_agent_acts_are_one_burst(talk):
    talk.save()
    talk.ask("One")
    read_all()
    talk.ask("Two")
    talk.call()
    read_all()
    assert [run.title for run in talk.runs] == ["One"]


def test_the_id_of_a_run_follows_from_its_first_event(talk, owner):
    talk.save()
    first = talk.ask()
    read_all()
    assert talk.runs[0].pk == following.run_id_of(owner, talk.key, first)


def test_an_id_that_somebody_has_taken_stays_theirs(talk, owner, stranger):
    talk.save()
    first = talk.ask()
    taken = following.run_id_of(owner, talk.key, first)
    theirs = Run.objects.open_task(stranger.memberships.get().owner, run_id=taken)
    read_all()
    (run,) = talk.runs
    assert run.pk != theirs.pk
    assert Event.objects.filter(run=theirs).count() == 0


def test_two_namespaces_of_one_conversation_are_two_sessions(talk, owner):
    talk.work()
    read_all()
    copy = Talk(owner, name="copy", key=talk.key)
    for file in File.objects.filter(namespace=talk.namespace):
        copy.write(file.path, bytes(file.content))
    read_all()
    assert sorted(Session.objects.values_list("key", "run_count")) == sorted(
        [(talk.key, 1), (f"{talk.key} in copy", 1)]
    )


def test_it_stays_with_its_owner(talk, stranger, alice):
    talk.work()
    read_all()
    assert not Session.objects.visible_to(stranger).exists()
    assert Session.objects.visible_to(alice).count() == 1


# ── Status ─────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("idle", Status.PAUSED),
        ("running", Status.RUNNING),
        ("paused", Status.PAUSED),
        ("waiting_for_confirmation", Status.INPUT_REQUIRED),
        ("finished", Status.SUCCEEDED),
        ("error", Status.FAILED),
        ("stuck", Status.FAILED),
        ("deleting", Status.CANCELLED),
        ("dreaming", Status.RUNNING),
    ],
)
def test_the_run_stands_as_the_conversation_does(talk, raw, status):
    talk.ask()
    talk.call()
    talk.save(raw)
    read_all()
    assert [(run.status, run.raw_status) for run in talk.runs] == [(status, raw)]


def test_an_unanswered_message_is_queued(talk):
    talk.save("idle")
    talk.ask()
    read_all()
    assert [(run.status, run.raw_status) for run in talk.runs] == [(Status.QUEUED, "idle")]


def test_the_end_of_the_run_before_does_not_end_the_next(talk):
    """OpenHands leaves `error` as it is until it runs again."""
    talk.save()
    talk.ask()
    talk.add("ConversationErrorEvent", "environment", code="MaxIterationsReached", detail="500 were enough.")
    talk.save("error")
    talk.ask("Go on")
    read_all()
    assert [run.status for run in talk.runs] == [Status.FAILED, Status.QUEUED]


def test_a_failed_run_says_what_went_wrong(talk):
    talk.save()
    talk.ask()
    talk.add("ConversationErrorEvent", "environment", code="MaxIterationsReached", detail="500 were enough.")
    talk.save("error")
    read_all()
    assert talk.runs[0].error == "MaxIterationsReached: 500 were enough."


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (lambda talk: talk.answer(), Status.SUCCEEDED),
        (lambda talk: talk.finish(), Status.SUCCEEDED),
        (lambda talk: talk.add("PauseEvent", "user"), Status.CANCELLED),
        (lambda talk: talk.observe(), Status.CANCELLED),
        (
            lambda talk: talk.add("ConversationErrorEvent", "environment", code="Boom", detail="It broke."),
            Status.FAILED,
        ),
    ],
)
def test_runs_of_a_store_that_was_filled_before_end_as_their_events_tell(talk, last, status):
    talk.ask()
    talk.call()
    last(talk)
    talk.ask("And now?")
    talk.save("idle")
    read_all()
    first, second = talk.runs
    assert (first.status, second.status) == (status, Status.QUEUED)
    assert first.started_at <= first.finished_at <= second.created_at


def test_an_agent_that_goes_on_after_the_end_opens_a_run(talk):
    talk.ask()
    talk.call()
    talk.save("error")
    read_all()
    talk.observe()
    talk.call(call_id="c2")
    talk.save("running")
    read_all()
    first, second = talk.runs
    assert (first.status, second.status) == (Status.FAILED, Status.RUNNING)
    assert second.events.filter(kind="tool_call").count() == 1


def test_what_a_conversation_notes_after_the_end_belongs_to_the_run_that_ended(talk):
    talk.work()
    read_all()
    talk.add("HookExecutionEvent", "environment", hook_event_type="Stop", success=True)
    read_all()
    (run,) = talk.runs
    assert run.events.last().kind == "HookExecutionEvent"


# ── Cancelling ─────────────────────────────────────────────────────────────
def test_a_cancel_that_was_asked_for_is_done_when_the_conversation_pauses(talk):
    talk.ask()
    talk.call()
    talk.save("running")
    read_all()
    request_cancel(talk.runs[0], by="alice")
    talk.add("PauseEvent", "user")
    talk.save("paused")
    read_all()
    (run,) = talk.runs
    assert run.status == Status.CANCELLED
    assert run.cancel_acknowledged_at is not None


def test_what_an_agent_writes_after_a_person_ended_its_run_is_late(talk):
    talk.ask()
    talk.call()
    talk.save("running")
    read_all()
    force_cancel(talk.runs[0], "alice", "it hangs")
    talk.observe()
    talk.finish()
    read_all()
    (run,) = talk.runs
    assert run.status == Status.CANCELLED
    assert run.events.filter(kind="late_write").count() == 3


def test_after_a_cancelled_run_the_next_message_opens_another(talk):
    talk.save("idle")
    talk.ask()
    read_all()
    request_cancel(talk.runs[0], by="alice")
    talk.work("Again")
    read_all()
    assert [run.status for run in talk.runs] == [Status.CANCELLED, Status.SUCCEEDED]


# ── Times ──────────────────────────────────────────────────────────────────
def test_times_without_a_zone_are_kept_and_not_believed(talk):
    talk.work()
    read_all()
    file = File.objects.get(namespace=talk.namespace, path__contains="event-00001")
    event = talk.events()[1]
    assert event.occurred_at == file.updated_at
    assert event.payload["openhands"]["timestamp"] == NAIVE


def test_runs_keep_their_order_though_their_files_came_in_one_moment(talk):
    for number in range(5):
        talk.work(f"Question {number}")
    File.objects.update(updated_at=talk.namespace.created_at)
    read_all()
    assert [run.title for run in talk.runs] == [f"Question {number}" for number in range(5)]


# ── Tokens and cost ────────────────────────────────────────────────────────
def test_each_run_has_what_its_own_answers_used(talk):
    talk.ask("One")
    talk.call(llm_response_id=talk.use("r1", 100, 10, 0.001))
    talk.answer(llm_response_id=talk.use("r2", 200, 20, 0.002))
    talk.ask("Two")
    talk.answer(llm_response_id=talk.use("r3", 400, 40, 0.004))
    talk.save("finished")
    read_all()
    used = [(run.input_tokens, run.output_tokens, run.cost) for run in talk.runs]
    assert used == [(300, 30, Decimal("0.003000")), (400, 40, Decimal("0.004000"))]


def test_calls_of_one_answer_use_it_once(talk):
    talk.ask()
    response = talk.use("r1", 100, 10, 0.001)
    talk.call(llm_response_id=response)
    talk.save("running")
    read_all()
    talk.call(call_id="c2", llm_response_id=response)
    talk.observe()
    talk.finish()
    read_all()
    assert talk.runs[0].input_tokens == 100


def test_what_no_event_tells_counts_with_the_run_that_was_last(talk):
    talk.work("One")
    talk.save("idle")
    talk.ask("Two")
    talk.use("of a condenser", 70, 7, 0.0007)
    talk.answer()
    talk.save("finished")
    read_all()
    assert [run.input_tokens for run in talk.runs] == [None, 70]


def test_a_state_that_is_written_after_its_last_event_counts_as_well(talk):
    talk.save("idle")
    talk.ask()
    talk.answer(llm_response_id="r1")
    read_all()
    talk.use("r1", 100, 10, 0.001)
    talk.save("finished")
    read_all()
    assert (talk.runs[0].input_tokens, talk.runs[0].output_tokens) == (100, 10)
    assert [event.kind for event in talk.events()] == ["message", "message"]


def test_what_is_told_after_the_end_counts_with_the_run_that_ended(talk):
    talk.work()
    read_all()
    talk.use("r1", 100, 10, 0.001)
    talk.save("finished")
    read_all()
    assert (talk.runs[0].input_tokens, talk.events()[-1].kind) == (100, "usage")
    assert list(differences()) == []


def test_what_lists_show_of_it_is_true(talk):
    talk.ask()
    talk.call(llm_response_id=talk.use("r1", 100, 10, 0.0000017))
    talk.save("running")
    read_all()
    talk.observe()
    talk.answer(llm_response_id=talk.use("r2", 100, 10, 0.0000017))
    talk.save("finished")
    read_all()
    assert list(differences()) == []


# ── Read twice, replaced, deleted, damaged ─────────────────────────────────
def test_reading_again_what_is_known_changes_nothing(talk):
    talk.work()
    talk.work("Again")
    read_all()
    before = picture(talk)
    Conversation.objects.update(next_index=0, last_path="", read_count=0, replaying=True)
    FileNamespace.objects.update(read_version=0)
    read_all()
    assert picture(talk) == before


def test_a_file_that_is_written_again_as_it_was_changes_nothing(talk):
    talk.work()
    read_all()
    before = picture(talk)
    for file in File.objects.filter(namespace=talk.namespace):
        talk.write(file.path, bytes(file.content))
    read_all()
    assert picture(talk) == before


def test_events_that_replace_others_come_after_them(talk):
    """As after a gap: OpenHands cuts the log there and uses the numbers again."""
    talk.work()
    read_all()
    last = File.objects.filter(namespace=talk.namespace, path__startswith="events/event-00005").get()
    talk.delete(last.path)
    talk.count = 5
    talk.answer("It is b.txt.")
    read_all()
    assert [event.event_id for event in talk.events()][5] == last.path[19:-5]
    assert "It is b.txt." in json.dumps(talk.events()[-1].payload)
    assert talk.runs[0].status == Status.SUCCEEDED


def test_a_number_that_is_used_again_is_read(talk):
    talk.work()
    read_all()
    talk.count = 3
    talk.observe("twice")
    read_all()
    assert [event.payload.get("result") for event in talk.events("tool_result")] == ["a.txt", "twice"]


def test_another_conversation_in_the_same_place_is_a_session_of_its_own(talk, owner):
    talk.work()
    read_all()
    before = talk.session.pk
    talk.delete()
    other = Talk.__new__(Talk)
    other.__dict__ |= talk.__dict__ | {"key": str(uuid4()), "count": 0}
    other.state = talk.state | {"id": other.key}
    other.work()
    read_all()
    assert other.session.pk != before
    assert [len(one.runs) for one in (talk, other)] == [1, 1]


def test_the_session_of_a_deleted_conversation_stays(talk):
    talk.ask()
    talk.call()
    talk.save("running")
    read_all()
    talk.delete()
    read_all()
    (run,) = talk.runs
    assert (run.status, run.raw_status) == (Status.CANCELLED, "deleted")
    assert talk.session.metadata["files"] == "deleted"


def test_files_that_come_back_are_known(talk):
    talk.work()
    kept = {file.path: bytes(file.content) for file in File.objects.filter(namespace=talk.namespace)}
    read_all()
    before = picture(talk)
    talk.delete()
    read_all()
    for path, content in kept.items():
        talk.write(path, content)
    read_all()
    assert picture(talk) == before
    assert "files" not in talk.session.metadata


def test_a_gap_is_told_and_what_follows_is_shown(talk):
    talk.ask()
    talk.count = 3
    talk.call()
    talk.save("running")
    read_all()
    ask, gap, call = talk.events()
    assert gap.payload["message"].startswith("Events 1 to 2 are missing")
    assert (ask.kind, gap.kind, call.kind) == ("message", "error", "tool_call")


def test_what_fills_a_gap_later_is_read(talk):
    talk.ask()
    talk.count = 2
    talk.call()
    talk.save("running")
    read_all()
    talk.count = 1
    talk.instruct()
    read_all()
    assert [event.kind for event in talk.events()] == ["message", "error", "tool_call", "message"]


def test_a_damaged_file_is_shown_as_text_and_read_when_it_is_mended(talk):
    talk.ask()
    talk.write(talk.path(1, "abcdef01"), b'{"kind": "MessageEv')
    talk.count = 2
    talk.call()
    talk.save("running")
    read_all()
    assert '{"kind": "MessageEv' in talk.events("error")[0].payload["message"]
    mended = {"kind": "MessageEvent", "source": "agent", "llm_message": {"content": [words("Mended")]}}
    talk.write(talk.path(1, "abcdef01"), mended)
    read_all()
    assert talk.events()[-1].payload["parts"] == [{"kind": "text", "text": "Mended"}]
    assert Conversation.objects.get().damaged == {}


@pytest.mark.parametrize("content", [b"", b"[1", b"\xff\xfe", b"[]", b"null", b'{"id": 7, "stats": [1]}'])
def test_a_damaged_state_stops_nothing(talk, content):
    talk.write("base_state.json", content)
    talk.ask()
    talk.call()
    read_all()
    session = Session.objects.get()
    assert Run.objects.get(session=session).event_count == 3


def test_damaged_files_are_not_all_in_memory_at_once(talk):
    talk.work()
    for index in range(talk.count, talk.count + 20):
        talk.write(talk.path(index, str(uuid4())), b"[" + b"1" * 5_000_000)
    read_all()
    talk.save("running")
    tracemalloc.start()
    read_all()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("agent", "llm", "model"), "m" * 3000),
        (("stats", "usage_to_metrics", "agent", "accumulated_cost"), True),
        (("stats", "usage_to_metrics"), {str(n): {"accumulated_cost": 1e7} for n in range(12)}),
    ],
    ids=lambda value: str(value)[-20:],
)
def test_a_state_beyond_all_measure_stops_nothing(talk, path, value):
    talk.work()
    *folders, name = path
    place = talk.state
    for folder in folders:
        place = place[folder]
    place[name] = value
    talk.write("base_state.json", talk.state)
    read_all()
    assert [run.status for run in talk.runs] == [Status.SUCCEEDED]
    assert Conversation.objects.get().error == ""


def test_a_person_who_reads_learns_that_the_state_is_damaged(talk):
    talk.write("base_state.json", b"{")
    talk.ask()
    read_all()
    assert talk.session.metadata["problem"].startswith("base_state.json cannot be read")


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "1e5 \U0001f600 \u202e"])
def test_text_is_kept_exactly(talk, text):
    talk.ask(text)
    read_all()
    assert talk.events()[0].full_payload["parts"][0]["text"] == text


def test_an_event_that_postgresql_refuses_is_passed_over_at_last(talk, monkeypatch):
    monkeypatch.setattr(following, "append_events", refuse("poison", following.append_events))
    talk.ask()
    talk.call(arguments={"command": "poison"})
    talk.observe()
    talk.save("running")
    read_all()
    kinds = [event.kind for event in talk.events()]
    assert kinds == ["message", "error", "tool_result"]
    assert Conversation.objects.get().failures == 0


def test_a_conversation_that_cannot_be_read_on_does_not_hold_up_others(talk, owner, monkeypatch):
    monkeypatch.setattr(following, "append_events", refuse("poison", following.append_events))
    talk.ask("poison")
    other = Talk(owner)
    other.work()
    read_all()
    assert [run.status for run in other.runs] == [Status.SUCCEEDED]


# ── Deleted by people ──────────────────────────────────────────────────────
def test_what_is_new_brings_a_deleted_session_back_without_its_runs(talk):
    talk.work()
    read_all()
    delete_session(talk.session, "alice", "old")
    talk.save("finished")
    read_all()
    assert talk.session.deleted_at is not None
    talk.work("Another")
    read_all()
    assert talk.session.deleted_at is None
    assert [run.title for run in talk.runs] == ["Another"]


# ── Much ───────────────────────────────────────────────────────────────────
def test_a_long_conversation_is_read_in_batches(talk, monkeypatch):
    monkeypatch.setattr(following, "AT_ONCE", 3)
    for number in range(3):
        talk.work(f"Question {number}")
    assert read_all() >= 6
    assert [(run.status, run.event_count) for run in talk.runs] == [(Status.SUCCEEDED, 8)] + [
        (Status.SUCCEEDED, 7)
    ] * 2


def test_large_events_come_one_by_one(talk, monkeypatch):
    monkeypatch.setattr(following, "ROOM", 1000)
    talk.ask()
    for number in range(4):
        talk.call(call_id=f"c{number}")
        talk.observe("x" * 2000, call_id=f"c{number}")
    talk.save("running")
    assert read_all() > 3
    assert talk.runs[0].events.filter(kind="tool_result").count() == 4


def test_an_event_beyond_all_measure_is_told_of(talk, monkeypatch):
    monkeypatch.setattr(following, "LONGEST", 5000)
    talk.ask()
    talk.answer("x" * 6000)
    read_all()
    assert "5,000 are read at most" in talk.events("error")[0].payload["message"]


def test_numbers_of_six_digits_follow_those_of_five(talk):
    talk.save()
    talk.count = 99_998
    for number in range(4):
        talk.ask(f"Number {number}")
    read_all()
    assert [said(event) for event in talk.events("message")] == [f"Number {number}" for number in range(4)]


def names(files):
    return [file.path for file in files]


def said(event):
    return event.payload["parts"][0]["text"]


def picture(talk):
    runs = [(run.pk, run.status, run.event_count, run.input_tokens, run.cost) for run in talk.runs]
    return runs, [(event.pk, event.seq) for event in talk.events()], talk.session.title


def refuse(poison, append):
    """PostgreSQL refuses what holds the word."""

    def refusing(run, events, **given):
        if any(poison in json.dumps(event.payload) and event.kind != "error" for event in events):
            raise DataError("no such thing")
        return append(run, events, **given)

    return refusing
