"""`manage.py import bindu`: the tasks of a real Bindu database (CONTRACTS.md 2.1)."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command

from runs.importers import bindu
from runs.models import Event, Owner, Run, Session, delete_runs
from runs.models.context import Context, clear_context, context_messages
from runs.models.counters import differences
from runs.models.imports import ImportPosition
from runs.models.past_tasks import Room
from runs.models.task import (
    Task,
    artifacts_of,
    histories,
    push_configs,
    submit_task,
    task_feedback,
)
from tests.importers.sources import BINDU, Database, a_database

DID = "did_bindu_alice_echo_99a6b3c4_0000_4000_8000_000000000001"
START = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def source() -> Iterator[Database]:
    with a_database() as database:
        database.execute(BINDU.format(schema=DID))
        yield database


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def said(text: str, role: str = "user", **more: Any) -> dict[str, Any]:
    parts = [{"kind": "text", "text": text}]
    return {"kind": "message", "role": role, "message_id": str(uuid4()), "parts": parts, **more}


def add_context(source: Database, schema: str = DID, **columns: Any) -> UUID:
    given = {"id": uuid4(), "created_at": at(0), "updated_at": at(0), **columns}
    source.insert(f"{schema}.contexts", **given)
    return given["id"]


def add_task(source: Database, schema: str = DID, **columns: Any) -> UUID:
    """One that has ended, ten minutes after it began."""
    if "context_id" not in columns:
        columns["context_id"] = add_context(source, schema)
    given = {
        "id": uuid4(),
        "kind": "task",
        "state": "completed",
        "state_timestamp": at(10),
        "history": [said("What is the weather?"), said("Rain.", "agent")],
        "created_at": at(0),
        "updated_at": at(10),
        **columns,
    }
    source.insert(f"{schema}.tasks", **given)
    return given["id"]


def change(source: Database, task_id: UUID, minutes: float, **columns: Any) -> None:
    given = {"updated_at": at(minutes), **columns}
    values = [json.dumps(value) if isinstance(value, list | dict) else value for value in given.values()]
    source.execute(
        f"UPDATE {DID}.tasks SET {', '.join(f'{name} = %s' for name in given)} WHERE id = %s",
        [*values, task_id],
    )


def run_it(source: Database, *options: str) -> str:
    out = io.StringIO()
    call_command("import", "bindu", source.url, *options, stdout=out)
    return out.getvalue()


def run_damaged(source: Database) -> str:
    """An import that ends with an error, since not all is as it was there."""
    out = io.StringIO()
    with pytest.raises(CommandError, match="Not all of it is here"):
        call_command("import", "bindu", source.url, stdout=out)
    return out.getvalue()


def history(task: Task) -> list[Any]:
    return [json.loads(text) for text in histories([task.run_id])[task.run_id]]


def test_it_works(owner: Owner, source: Database) -> None:
    messages = [
        said("What is the weather?"),
        said("Rain \N{UMBRELLA WITH RAIN DROPS}.", "agent", metadata={"b": 1.5, "a": [None]}),
    ]
    artifact = {
        "artifact_id": "a1",
        "name": "report",
        "parts": [{"kind": "text", "text": "Rain"}],
        "metadata": {"sig": "x"},
    }
    context = add_context(source, owner_did="did:alice", context_data={"k": 1})
    task_id = add_task(
        source,
        context_id=context,
        owner_did="did:alice",
        history=messages,
        artifacts=[artifact, artifact],
        metadata={"m": 1},
    )
    assert "Taken: 1 contexts, 1 tasks, 2 messages, 2 artifacts." in run_it(source)
    task = Task.objects.select_related("run", "context").get()
    assert (task.task_id, task.namespace, task.caller, task.state, task.state_at) == (
        task_id,
        DID,
        "did:alice",
        "completed",
        at(10),
    )
    assert (task.context.context_id, task.context.caller, task.context.data) == (
        context,
        "did:alice",
        {"k": 1},
    )
    run = task.run
    assert (run.pk, run.kind, run.status, run.title) == (task_id, "task", "succeeded", "What is the weather?")
    assert (run.created_at, run.finished_at, run.updated_at) == (at(0), at(10), at(10))
    assert (run.agent, run.metadata) == ("alice_echo", {"m": 1})
    assert history(task) == messages
    assert [json.loads(text) for text in artifacts_of([run.pk])[run.pk]] == [artifact, artifact]
    session = Session.objects.get()
    assert (session.source, session.key, session.run_count, session.created_at) == (
        "a2a",
        str(context),
        1,
        at(0),
    )
    assert list(differences()) == []


def test_what_was_said_is_found(owner: Owner, source: Database, signed_in: Any) -> None:
    add_task(source, history=[said("hippopotamus")])
    run_it(source)
    assert "hippopotamus" in signed_in.get("/", {"q": "hippopotamus"}).content.decode()


def test_tables_in_public_are_the_room_without_a_name(owner: Owner) -> None:
    with a_database() as source:
        source.execute(BINDU.format(schema="public"))
        add_task(source, "public")
        run_it(source)
    assert Task.objects.get().namespace == ""


def test_two_agents_may_use_the_same_ids(owner: Owner, source: Database) -> None:
    source.execute(BINDU.format(schema="did_second"))
    task_id = add_task(source)
    add_task(source, "did_second", id=task_id)
    run_it(source)
    assert set(Task.objects.values_list("namespace", "task_id")) == {(DID, task_id), ("did_second", task_id)}
    assert Run.objects.filter(pk=task_id).count() == 1


def test_one_agent_can_be_named(owner: Owner, source: Database) -> None:
    source.execute(BINDU.format(schema="did_second"))
    add_task(source)
    add_task(source, "did_second")
    run_it(source, "--schema", "did_second")
    assert Task.objects.get().namespace == "did_second"


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("submitted", "queued"),
        ("working", "running"),
        ("input-required", "input_required"),
        ("auth-required", "input_required"),
        ("rejected", "failed"),
        ("canceled", "cancelled"),
        ("negotiation-bid-won", "running"),
        ("never heard of", "running"),
    ],
)
def test_states_of_all_kinds_are_kept(owner: Owner, source: Database, state: str, status: str) -> None:
    add_task(source, state=state)
    run_it(source)
    assert (Run.objects.get().status, Task.objects.get().state) == (status, state)


def test_a_failed_task_says_why(owner: Owner, source: Database) -> None:
    add_task(source, state="failed", history=[said("Go"), said("Task execution failed: no", "agent")])
    run_it(source)
    assert Run.objects.get().error == "Task execution failed: no"


def test_feedback_and_webhooks_come_along(owner: Owner, source: Database) -> None:
    task_id = add_task(source)
    first = {"task_id": str(task_id), "feedback": "fine", "rating": 4, "metadata": {"a": 1}, "timestamp": "x"}
    second = {"feedback": "odd", "rating": 9}
    for minutes, given in ((11, first), (12, second)):
        source.insert(f"{DID}.task_feedback", task_id=task_id, feedback_data=given, created_at=at(minutes))
    config = {"id": str(uuid4()), "url": "http://127.0.0.1/push", "token": "hunter2"}
    source.insert(f"{DID}.webhook_configs", task_id=task_id, config=config)
    run_it(source)
    run_it(source)
    assert task_feedback(Task.objects.get()) == [first, second]
    assert push_configs(Task.objects.all()) == {task_id: config}
    assert b"hunter2" not in bytes(Task.objects.get().push_config or b"")


def test_messages_of_a_context_come_along(owner: Owner, source: Database) -> None:
    note = said("of the context itself")
    add_context(source, message_history=[note])
    run_it(source)
    assert [one.full_payload for one in context_messages(Context.objects.get())] == [note]


def test_done_again_it_changes_nothing(owner: Owner, source: Database) -> None:
    add_task(source)
    run_it(source)
    before = (list(Run.objects.values()), list(Event.objects.values()))
    said_again = run_it(source)
    assert "Taken: nothing." in said_again
    assert "There already: 1 tasks." in said_again
    assert (list(Run.objects.values()), list(Event.objects.values())) == before


def test_by_another_address_nothing_comes_twice(owner: Owner, source: Database) -> None:
    add_task(source)
    run_it(source)
    ImportPosition.objects.all().delete()
    assert "There already: 1 tasks." in run_it(source)
    assert Event.objects.count() == 2


def test_what_changed_since_is_brought_up_to_date(owner: Owner, source: Database) -> None:
    messages = [said("Go")]
    artifact = {"artifact_id": "a1", "name": "", "parts": []}
    task_id = add_task(source, state="working", history=messages, artifacts=[artifact])
    run_it(source)
    messages = [*messages, said("Working on it", "agent"), said("Done", "agent")]
    change(
        *(source, task_id, 20),
        state="completed",
        state_timestamp=at(20),
        history=messages,
        artifacts=[artifact, artifact],
        metadata={"k": 2},
    )
    assert "Brought up to date: 1 tasks." in run_it(source)
    task = Task.objects.select_related("run").get()
    assert history(task) == messages
    assert (task.state, task.run.status, task.run.finished_at) == ("completed", "succeeded", at(20))
    assert (task.run.metadata, task.run.artifact_count) == ({"k": 2}, 2)
    assert list(differences()) == []


def test_a_task_that_was_cancelled_here_stays_so(owner: Owner, source: Database) -> None:
    task_id = add_task(source, state="submitted")
    run_it(source)
    from runs.models import request_cancel

    request_cancel(Run.objects.get(), by="tests")
    change(source, task_id, 20, state="completed", state_timestamp=at(20))
    assert "ended otherwise here" in run_it(source)
    assert Run.objects.get().status == "cancelled"


def test_a_task_that_was_deleted_here_stays_deleted(owner: Owner, source: Database) -> None:
    task_id = add_task(source)
    run_it(source)
    delete_runs(Run.objects.all(), by="tests", reason="a test")
    change(source, task_id, 20)
    assert "deleted here" in run_it(source)
    assert Run.objects.get().deleted_at is not None


def test_what_an_agent_told_here_itself_stays(owner: Owner, source: Database) -> None:
    task_id, context_id = uuid4(), uuid4()
    submit_task(owner, said("here"), task_id, context_id, namespace=DID)
    add_task(source, id=task_id, context_id=add_context(source, id=context_id))
    assert "told here itself" in run_it(source)
    assert [one["parts"][0]["text"] for one in history(Task.objects.get())] == ["here"]


def test_an_agent_goes_on_with_what_was_imported(owner: Owner, source: Database) -> None:
    context_id = add_context(source)
    task_id = add_task(source, context_id=context_id, state="input-required", history=[said("Book a room")])
    run_it(source)
    task, is_new = submit_task(owner, said("For two"), task_id, context_id, namespace=DID)
    assert not is_new
    assert [one["parts"][0]["text"] for one in history(task)] == ["Book a room", "For two"]


def test_damaged_rows_are_kept_as_far_as_possible(owner: Owner, source: Database) -> None:
    odd = add_task(source, history=["not a message", None, said("fine")], metadata=[1])
    no_list = add_task(source, history={"a": 1}, artifacts=["odd"])
    empty = add_task(source, history=[], artifacts=None, metadata=None)
    told = run_damaged(source)
    assert f"task {odd}: a message is no object" in told
    assert f"task {odd}: its metadata is no object" in told
    assert f"task {no_list}: its history is no list" in told
    assert f"task {no_list}: an artifact is no object" in told
    events = Event.objects.filter(run=odd).order_by("seq").values_list("kind", "payload")
    assert [kind for kind, _ in events] == ["unreadable", "unreadable", "message"]
    assert [payload for _, payload in events][:2] == ["not a message", None]
    assert Run.objects.get(pk=odd).metadata == {"unreadable": [1]}
    assert Run.objects.get(pk=empty).event_count == 0
    assert list(differences()) == []


def test_numbers_that_nobody_can_read_become_texts(owner: Owner, source: Database) -> None:
    digits = "1" * 5000
    task_id = add_task(source, history=[])
    source.execute(f"""UPDATE {DID}.tasks SET history = '[{{"role": "user", "n": {digits}}}]'""")
    assert "digits is a text here" in run_damaged(source)
    assert Event.objects.get(run=task_id).payload == {"role": "user", "n": digits}


def test_a_task_with_a_large_history_comes_in_pieces(
    owner: Owner, source: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.importers.bindu._LARGE", 1000)
    monkeypatch.setattr("runs.importers.bindu._MESSAGES", 7)
    messages = [said(f"message {number}") for number in range(30)]
    artifacts = [{"artifact_id": "same", "name": str(number), "parts": []} for number in range(9)]
    add_task(source, state="failed", history=messages, artifacts=artifacts)
    add_task(source)
    run_it(source)
    task = Task.objects.select_related("run").get(state="failed")
    assert history(task) == messages
    assert [json.loads(text) for text in artifacts_of([task.run_id])[task.run_id]] == artifacts
    assert (task.run.error, task.run.title) == ("message 29", "message 0")
    assert list(differences()) == []


def test_tasks_that_are_large_once_unpacked_are_written_a_few_at_a_time(
    owner: Owner, source: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a few hundred bytes in the source."""
    monkeypatch.setattr("runs.importers.bindu._TEXT", 50_000)
    context = add_context(source)
    for _ in range(9):
        add_task(source, context_id=context, history=[said("the same again " * 1500)])
    sizes: list[int] = []
    add = Room.add

    def counted(room: Room, tasks: Any) -> Any:
        sizes.append(sum(len(one.text) for task in tasks for one in task.messages))
        return add(room, tasks)

    monkeypatch.setattr("runs.models.past_tasks.Room.add", counted)
    assert "9 tasks" in run_it(source)
    assert Task.objects.count() == 9
    assert max(sizes) < 75_000


def test_batches_follow_each_other_without_a_gap(
    owner: Owner, source: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.importers.bindu._KEYS", 10)
    monkeypatch.setattr("runs.importers.bindu._TASKS", 4)
    context = add_context(source)
    source.execute(
        f"""
        INSERT INTO {DID}.tasks (id, context_id, kind, state, state_timestamp, updated_at)
        SELECT gen_random_uuid(), '{context}', 'task', 'completed', now(), now() - (n / 7) * interval '1 hour'
        FROM generate_series(1, 57) AS n
        """
    )
    assert "57 tasks" in run_it(source)
    assert Task.objects.count() == 57


def test_a_database_without_bindus_tables_is_an_error(owner: Owner) -> None:
    with a_database() as source, pytest.raises(CommandError, match="those that have them: none"):
        run_it(source)


def test_tables_of_before_there_were_callers_are_nobodys(owner: Owner, source: Database) -> None:
    task = add_task(source)
    source.execute(f"ALTER TABLE {DID}.tasks DROP owner_did; ALTER TABLE {DID}.contexts DROP owner_did")
    run_it(source)
    assert Task.objects.get(task_id=task).caller is None


def test_the_password_is_kept_nowhere(owner: Owner, source: Database) -> None:
    add_task(source)
    run_it(source)
    assert all("@" not in position.place for position in ImportPosition.objects.all())


def test_a_context_that_was_cleared_here_stays_away(owner: Owner, source: Database) -> None:
    add_task(source)
    run_it(source)
    clear_context(Context.objects.get(), by="tests", reason="a test")
    assert "Taken: nothing." in run_it(source)
    assert not Context.objects.current().exists()
    assert not Session.objects.filter(deleted_at=None).exists()


def test_a_new_task_brings_its_cleared_context_again(owner: Owner, source: Database) -> None:
    context_id = add_context(source)
    add_task(source, context_id=context_id)
    run_it(source)
    clear_context(Context.objects.get(), by="tests", reason="a test")
    new = add_task(source, context_id=context_id, updated_at=at(20))
    run_it(source)
    assert Context.objects.current().get().context_id == context_id
    assert Task.objects.get(cleared_at=None).task_id == new


def test_feedback_of_a_task_that_came_meanwhile_is_not_lost(
    owner: Owner, source: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, late = add_task(source), uuid4()
    source.insert(f"{DID}.task_feedback", task_id=first, feedback_data={"rating": 1}, created_at=at(11))
    pages = bindu._Agent._pages

    def with_news(agent: Any, table: str) -> Iterator[Any]:
        """Between the tasks and their feedback; minutes before the last feedback of all."""
        if table == "task_feedback" and not Task.objects.filter(task_id=late).exists():
            add_task(source, id=late, updated_at=at(12))
            for minutes, task_id, rating in ((13, late, 2), (20, first, 3)):
                given = {"task_id": task_id, "feedback_data": {"rating": rating}, "created_at": at(minutes)}
                source.insert(f"{DID}.task_feedback", **given)
        yield from pages(agent, table)

    monkeypatch.setattr("runs.importers.bindu._Agent._pages", with_news)
    run_it(source)
    assert task_feedback(Task.objects.get(task_id=late)) == [{"rating": 2}]
    assert "There already: 2 tasks." in run_it(source)


def test_feedback_of_a_task_that_was_deleted_here_is_told(owner: Owner, source: Database) -> None:
    task_id = add_task(source)
    run_it(source)
    delete_runs(Run.objects.all(), by="tests", reason="a test")
    source.insert(f"{DID}.task_feedback", task_id=task_id, feedback_data={"rating": 1}, created_at=at(11))
    assert "1 feedback of tasks that are not as they were imported" in run_it(source)
