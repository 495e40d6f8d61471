"""Conversations in real workers: shown soon, shared, taken over, none kept waiting."""

import os
import signal
import threading
from datetime import timedelta

from django.db import connections
from django.utils import timezone

from runs.models import Conversation, Event, File, FileNamespace, Run, Status
from runs.models.conversation import next_conversation
from runs.worker import conversations
from runs.worker.conversations import read_next
from tests.conftest import eventually
from tests.openhands.talk import Talk

LONG = 1_500  # events: several batches


def test_a_worker_shows_what_is_written_while_it_runs(work, owner):
    work()
    talk = Talk(owner)
    talk.work()
    eventually(lambda: Run.objects.filter(status=Status.SUCCEEDED).exists())
    talk.work("And the smallest?")
    eventually(lambda: [run.status for run in talk.runs] == [Status.SUCCEEDED] * 2)


def test_two_workers_share_a_store_that_was_filled_before_and_do_nothing_twice(
    committed_db, owner, start_worker
):
    talks = [Talk(owner) for _ in range(12)]
    for talk in talks:
        talk.work("One")
        talk.work("Two")
    for _ in range(2):
        start_worker(WORKER_CONCURRENCY="1")
    eventually(lambda: not FileNamespace.objects.unread().exists(), 60)
    for talk in talks:
        assert [(run.title, run.status) for run in talk.runs] == [
            ("One", Status.SUCCEEDED),
            ("Two", Status.SUCCEEDED),
        ]
        assert len(talk.events()) == talk.count


def test_what_a_killed_worker_had_begun_is_taken_up_by_the_next(committed_db, owner, start_worker):
    talk = long_talk(owner)
    worker = start_worker(WORKER_CONCURRENCY="1")
    eventually(lambda: Event.objects.exists(), 60)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    start_worker(WORKER_CONCURRENCY="1")
    eventually(lambda: not FileNamespace.objects.unread().exists(), 60)
    assert [event.event_id for event in talk.events()] == [path[-41:-5] for path in paths_of(talk)]


def test_one_that_a_worker_holds_is_passed_over(committed_db, owner):
    held, other = Talk(owner), Talk(owner)
    held.work()
    conversations.adopt_namespaces()
    taken, done = threading.Event(), threading.Event()
    holder = threading.Thread(target=hold, args=(taken, done))
    holder.start()
    assert taken.wait(20)
    other.work()
    assert read_next()
    assert other.runs[0].status == Status.SUCCEEDED
    assert not read_next()
    done.set()
    holder.join()


def test_a_new_one_does_not_wait_for_a_store_that_was_filled_long_ago(db, owner):
    long_talk(owner)
    read_next()
    FileNamespace.objects.update(updated_at=timezone.now() - timedelta(days=1))
    new = Talk(owner)
    new.work()
    read_next(newest=True)
    assert new.runs[0].status == Status.SUCCEEDED


def test_a_store_that_was_filled_long_ago_does_not_wait_for_new_ones(db, owner):
    old = Talk(owner)
    old.work()
    read_next()
    old.work("More")
    Conversation.objects.update(due_at=timezone.now(), looked_at=timezone.now() - timedelta(days=1))
    new = Talk(owner)
    new.work()
    conversations.adopt_namespaces()
    Conversation.objects.exclude(namespace=old.namespace).update(looked_at=timezone.now())
    read_next(newest=False)
    assert len(old.runs) == 2


def test_a_failure_is_noted_and_tried_again_later(db, owner, monkeypatch):
    def break_down(conversation: Conversation) -> None:
        raise ArithmeticError

    Talk(owner).work()
    monkeypatch.setattr(conversations, "read_on", break_down)
    assert read_next()
    assert not read_next()
    conversation = Conversation.objects.get()
    assert (conversation.failures, conversation.due_at > timezone.now()) == (1, True)
    assert "worker's log" in conversation.error


def test_nothing_to_read_is_found_out_in_one_statement(db, owner, django_assert_num_queries):
    talk = Talk(owner)
    talk.work()
    read_next()
    with django_assert_num_queries(1):
        assert not read_next()


def hold(taken: threading.Event, done: threading.Event) -> None:
    """Holds the next conversation, as a worker does that is slow."""
    with next_conversation(newest=True):
        taken.set()
        done.wait(60)
    connections.close_all()


def long_talk(owner):
    """A conversation of LONG events, that were there before anybody looked."""
    talk = Talk(owner)
    talk.save("idle")
    talk.ask()
    one = File.objects.get(namespace=talk.namespace, path__startswith="events/")
    files = []
    for index in range(1, LONG):
        event_id = f"{index:08x}-0000-4000-8000-000000000000"
        content = bytes(one.content).replace(one.path[-41:-5].encode(), event_id.encode())
        files.append(File(namespace=talk.namespace, path=talk.path(index, event_id), content=content))
    File.objects.bulk_create(files)
    talk.count = LONG
    return talk


def paths_of(talk):
    files = File.objects.filter(namespace=talk.namespace, path__startswith="events/").order_by("path")
    return files.values_list("path", flat=True)
