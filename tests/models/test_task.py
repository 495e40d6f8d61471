"""What the database keeps of tasks and contexts (issue 6, point 1)."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.db.utils import DatabaseError
from django.utils import timezone

from runs.models import Artifact, Context, ContextMessage, Run, Session, Task, Token, put_artifact
from runs.models.context import clear_context, open_context
from runs.models.counters import differences
from runs.models.deletion import delete_session, purge, purge_sessions
from runs.models.pushed import Pushed, take_push
from runs.models.task import WORDS, Update, find_task, histories, submit_task, update_task
from runs.models.triggers import _A2A_WORDS
from tests.api.a2a import reported, submitted
from tests.api.rest import Rest, message, submission
from tests.api.test_tasks import ARTIFACT
from tests.conftest import eventually


@pytest.fixture
def rest(owner) -> Rest:
    return Rest(Token.objects.issue(owner, "tests")[1])


@pytest.fixture
def task(rest) -> Task:
    said = submission("What is the weather?")
    rest.post("/tasks", said)
    rest.post(
        f"/tasks/{said['message']['task_id']}/updates",
        {"state": "working", "messages": [message("a", "agent")], "artifacts": [ARTIFACT, ARTIFACT]},
    )
    rest.post(f"/tasks/{said['message']['task_id']}/feedback", {"rating": 4}, key="k")
    rest.post(f"/contexts/{said['message']['context_id']}/messages", {"messages": [message()]})
    return Task.objects.get()


def test_there_is_one_task_of_an_id_that_is_not_cleared(task, make_run):
    with pytest.raises(IntegrityError), transaction.atomic():
        Task.objects.create(
            run=make_run(), owner_id=task.owner_id, context_id=task.context_id, task_id=task.task_id
        )


def test_what_lists_show_of_its_run_is_what_there_is(task, owner):
    assert list(differences(owner)) == []


def test_all_of_a_task_goes_with_its_run(task):
    purge(Run.objects.filter(pk=task.run_id), "retention", "why")

    assert not Run.objects.exists()
    assert not Task.objects.exists()


def test_all_of_a_context_goes_with_its_session(task):
    session = Session.objects.get(context=task.context_id)
    delete_session(session, "alice", "why")
    purge(Run.objects.all(), "retention", "why")

    purge_sessions(Session.objects.filter(pk=session.pk), "retention", "why")

    assert not Session.objects.exists()
    assert not Context.objects.exists()
    assert not ContextMessage.objects.exists()


def test_a_context_with_tasks_stays_when_its_session_is_to_go(task):
    purge_sessions(Session.objects.all(), "retention", "why")

    assert Context.objects.exists()
    assert ContextMessage.objects.exists()


def test_messages_of_a_context_are_written_once(task):
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        ContextMessage.objects.update(payload={})


def test_an_artifact_that_is_put_takes_the_place_of_the_last_one_of_its_id(task):
    put_artifact(Run.objects.get(pk=task.run_id), "a-1", "result", [{"kind": "text", "text": "new"}])

    texts = [one.parts[0]["text"] for one in Artifact.objects.filter(run=task.run_id)]
    assert texts == ["hi", "new"]


def test_an_artifact_that_grows_after_it_was_told_is_given_back_whole(rest, task):
    put_artifact(Run.objects.get(pk=task.run_id), "a-1", parts=[{"kind": "text", "text": "!"}], append=True)

    last = rest.get(f"/tasks/{task.task_id}")[1]["data"]["artifacts"][-1]

    assert [part["text"] for part in last["parts"]] == ["hi", "!"]


def test_a_correction_of_metadata_is_what_counts(rest, owner):
    said = submission(metadata={"a": "\x00"})
    rest.post("/tasks", said)
    Run.objects.update(metadata={"a": "b"})

    assert rest.get(f"/tasks/{said['message']['task_id']}")[1]["data"]["metadata"] == {"a": "b"}


def test_a_context_is_opened_once(owner):
    session = Session.objects.open(owner, "a2a", "x")
    first = open_context(owner, session.pk, "room", "did:a")

    assert open_context(owner, session.pk, "room", "did:b").caller == "did:a"
    assert open_context(owner, session.pk, "another room", "did:b").pk != first.pk


def test_the_words_of_the_database_are_those_of_the_model():
    assert {str(status): word for status, word in WORDS.items()} == _A2A_WORDS


def test_a_long_history_is_read_at_its_end_alone(rest, task):
    rest.post(f"/tasks/{task.task_id}/updates", {"messages": [message(str(n)) for n in range(300)]})
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM event WHERE run_id = %s AND kind = 'message'", [task.run_id])
        assert cursor.fetchone() == (302,)

    assert len(histories([task.run_id], 3)[task.run_id]) == 3
    assert len(histories([task.run_id])[task.run_id]) == 302


def test_a_cleared_task_is_begun_anew_though_others_are_faster_several_times(owner, make_run, monkeypatch):
    before, taken = submitted(owner), make_run().pk
    clear_context(context_of(before), "alice", "why")
    ids = iter([*[taken] * 4, uuid4()])
    monkeypatch.setattr("runs.models.task.uuid7", lambda: next(ids))

    _, is_new = submit_task(owner, message(), before.task_id, before.context.context_id)

    assert is_new
    assert find_task([owner.pk], "", before.task_id).cleared_at is None


# ── One waits for another ──────────────────────────────────────────────────
type Begin = Callable[[Callable[[], Any]], Future[Any]]


@pytest.fixture
def begin(committed_db: dict[str, str]) -> Iterator[Begin]:
    """Calls over a connection of its own, and comes back once that waits for ours."""

    def closing(call: Callable[[], Any]) -> Any:
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:

        def begin(call: Callable[[], Any]) -> Future[Any]:
            begun = pool.submit(closing, call)
            eventually(waits_for_us)
            return begun

        yield begin


def waits_for_us() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks"
            " WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        )
        return bool(cursor.fetchone()[0])


def context_of(task: Task) -> Context:
    return Context.objects.select_related("session").get(pk=task.context_id)


def test_metadata_that_was_set_while_one_waited_stays_exact(begin, owner):
    task = submitted(owner)
    with transaction.atomic():
        held = find_task([owner.pk], "", task.task_id, hold=True)
        update_task(held, [Update(metadata={"a": "\x00"})])
        later = begin(lambda: reported(task, Update(metadata={"b": 1})))

    assert later.result()
    assert find_task([owner.pk], "", task.task_id).metadata == {"a": "\x00", "b": 1}


def test_a_notification_that_waited_for_a_newer_one_is_no_step_back(begin, owner):
    task, now = submitted(owner), timezone.now() + timedelta(hours=1)
    ids = (task.task_id, task.context.context_id)

    def take(seconds: int, state: str) -> None:
        with transaction.atomic():
            take_push(owner, Pushed(*ids, now + timedelta(seconds=seconds), state))

    with transaction.atomic():
        take(2, "input-required")
        older = begin(lambda: take(1, "working"))

    older.result()
    assert find_task([owner.pk], "", task.task_id).state == "input-required"


def test_holding_a_task_waits_for_its_run_before_it_locks_anything(begin, owner):
    """Whoever moves a run locks it first, and then the task."""
    task = submitted(owner)
    with transaction.atomic():
        Run.objects.select_for_update(of=("self",)).get(pk=task.run_id)
        later = begin(lambda: reported(task, Update("working")))
        assert Task.objects.select_for_update(of=("self",), nowait=True).get(pk=task.pk)

    assert later.result()


def test_a_task_of_a_context_that_is_cleared_meanwhile_begins_it_anew(begin, owner):
    context = context_of(submitted(owner))
    with transaction.atomic():
        clear_context(context, "alice", "why")
        later = begin(lambda: submit_task(owner, message(), uuid4(), context.context_id))

    assert later.result()[1] is True
    assert Context.objects.current().filter(pk=context.pk, session__deleted_at=None).exists()


def test_two_who_clear_several_contexts_do_not_wait_for_each_other(begin, owner):
    first, second = (context_of(submitted(owner)) for _ in range(2))
    with transaction.atomic():
        clear_context(first, "alice", "why")
        later = begin(lambda: clear_context(second, "bob", "why"))
        assert clear_context(second, "alice", "why") == 1

    assert later.result() == 0
