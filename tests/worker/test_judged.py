"""Judging what is recorded here: a run, a session, all that a query finds (issue 4, point 6)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from runs.models import NewEvent, Owner, Run, Session, Usage, append_events, delete_session, finish
from runs.models.deletion import delete_runs
from runs.worker import judged
from runs.worker.execute import execute
from tests.conftest import eventually
from tests.worker.conftest import ended_as, has_ended
from tests.worker.specs import BUILTIN, Programs

CONTAINS = {"type": "builtin", "name": "response_contains", "config": {"texts": ["Paris"]}}
# Tells each item that it is asked about, and takes a while.
TELLING = """
import json, pathlib, sys, time
asked = json.load(sys.stdin)
with pathlib.Path({mark!r}).open("a") as told:
    told.write(asked["invocations"][0]["user_content"] + "\\n")
time.sleep(0.05)
print(json.dumps({"score": 1.0}))
"""


@pytest.fixture
def task(owner: Owner) -> Callable[..., Run]:
    """A recorded task: a question and an answer."""

    def make(
        question: str = "Capital of France?",
        answer: str = "Paris",
        owner: Owner = owner,
        session: Session | None = None,
        agent: str = "geographer",
    ) -> Run:
        run = Run.objects.open_task(owner, session, agent=agent)
        said = [("user", question, Usage()), ("agent", answer, Usage(10, 5))]
        append_events(
            run,
            [
                NewEvent("message", {"parts": [{"kind": "text", "text": text}]}, role, usage=usage)
                for role, text, usage in said
            ],
        )
        finish(run, Run.Status.SUCCEEDED)
        run.refresh_from_db()
        return run

    return make


@pytest.fixture
def evaluated(api: Any, claim: Any, launcher: Any) -> Callable[..., Run]:
    """Submits an evaluation of this target, executes it, and gives it."""

    def evaluate(*evaluators: dict[str, Any], **target: Any) -> Run:
        run = submitted(api, *evaluators, **target)
        execute(*claim(), launcher.start())
        run.refresh_from_db()
        return run

    return evaluate


def submitted(api: Any, *evaluators: dict[str, Any], **target: Any) -> Run:
    config = {"evaluators": list(evaluators or [CONTAINS])}
    status, answer = api.post(body={"spec": {"target": target, "evalConfig": config}})
    assert status == 202, answer
    return Run.objects.get(pk=answer["data"]["runId"])


def items_of(run: Run) -> set[str]:
    return set(run.results.values_list("item_id", flat=True))


# ── A run ──────────────────────────────────────────────────────────────────
def test_a_run_is_judged_by_its_history(evaluated, task):
    good, bad = task(), task(answer="Lyon")

    verdicts = {one: evaluated(kind="run", runId=str(one.pk)) for one in (good, bad)}

    assert [(run.status, run.passed_count, run.failed_count) for run in verdicts.values()] == [
        *[("succeeded", 1, 0), ("succeeded", 0, 1)]
    ]
    assert [run.judged for run in verdicts.values()] == [good, bad]


def test_the_question_and_the_item_are_those_of_the_run(evaluated, task):
    one = task()

    result = evaluated(kind="run", runId=str(one.pk)).results.get()

    assert (result.item_id, result.question) == (str(one.pk), "Capital of France?")


def test_its_tokens_count_for_a_budget(evaluated, task):
    budget = {"type": "builtin", "name": "token_budget", "config": {"maxTokens": 14}}
    one = task()

    assert evaluated(budget, kind="run", runId=str(one.pk)).failed_count == 1
    budget["config"] = {"maxTokens": 15}
    assert evaluated(budget, kind="run", runId=str(one.pk)).passed_count == 1


def test_the_history_of_the_judged_run_is_not_copied(evaluated, task):
    assert evaluated(kind="run", runId=str(task().pk)).event_count == 0


def test_a_run_that_was_deleted_meanwhile_is_no_item(api, claim, launcher, task):
    one = task()
    run = submitted(api, kind="run", runId=str(one.pk))
    delete_runs(Run.objects.filter(pk=one.pk), "ann", "tidying up")

    execute(*claim(), launcher.start())

    run.refresh_from_db()
    assert (run.status, run.summary["trace_count"], items_of(run)) == ("succeeded", 0, set())


@pytest.mark.parametrize("kind", ["run", "session"])
def test_what_another_owner_has_is_missing(api, strangers_api, stranger, task, kind):
    other = stranger.memberships.get().owner
    session = Session.objects.open(other, "tests", "theirs")
    theirs = task(owner=other, session=session)
    target = {"kind": kind, "runId": str(theirs.pk), "sessionId": str(session.pk)}
    spec = {"target": target, "evalConfig": {"evaluators": [CONTAINS]}}

    missing = {**target, "runId": str(uuid4()), "sessionId": str(uuid4())}
    not_there = api.post(body={"spec": {**spec, "target": missing}})
    not_mine = api.post(body={"spec": spec})

    ids = (str(theirs.pk), str(session.pk), missing["runId"], missing["sessionId"])
    assert not_mine[0] == not_there[0] == 422
    assert _without(ids, str(not_mine[1])) == _without(ids, str(not_there[1]))
    assert strangers_api.post(body={"spec": spec})[0] == 202


def _without(ids: tuple[str, ...], text: str) -> str:
    for one in ids:
        text = text.replace(one, "ID")
    return text


def test_a_run_that_changed_hands_is_not_read(api, claim, launcher, task, stranger):
    """The worker looks for itself: what was checked at submission may be long ago."""
    one = task()
    run = submitted(api, kind="run", runId=str(one.pk))
    Run.objects.filter(pk=one.pk).update(owner=stranger.memberships.get().owner)

    execute(*claim(), launcher.start())

    run.refresh_from_db()
    assert items_of(run) == set()


# ── A session ──────────────────────────────────────────────────────────────
def test_a_session_is_one_item_of_all_its_runs(evaluated, owner, task):
    session = Session.objects.open(owner, "tests", "talk")
    task("Capital of France?", "Lyon", session=session)
    task("Are you sure?", "No: Paris", session=session)
    turns = {"type": "builtin", "name": "turn_count", "config": {"minTurns": 2, "maxTurns": 2}}

    run = evaluated(turns, kind="session", sessionId=str(session.pk))

    assert (run.passed_count, items_of(run), run.session) == (1, {"talk"}, session)


def test_deleted_runs_and_evaluations_of_a_session_are_left_out(evaluated, owner, task, make_run):
    session = Session.objects.open(owner, "tests", "talk")
    task(session=session)
    gone = task(session=session)
    delete_runs(Run.objects.filter(pk=gone.pk), "ann", "tidying up")
    make_run(session=session, status="succeeded", finished_at=Now())
    turns = {"type": "builtin", "name": "turn_count", "config": {"maxTurns": 1}}

    assert evaluated(turns, kind="session", sessionId=str(session.pk)).passed_count == 1


def test_a_session_that_was_deleted_meanwhile_is_no_item(api, claim, launcher, owner, task):
    session = Session.objects.open(owner, "tests", "talk")
    task(session=session)
    run = submitted(api, kind="session", sessionId=str(session.pk))
    Run.objects.filter(pk=run.pk).update(session=None)
    delete_session(session, "user:7", "tidying up")

    execute(*claim(), launcher.start())

    run.refresh_from_db()
    assert items_of(run) == set()


# ── All that a query finds ─────────────────────────────────────────────────
def test_every_run_that_is_found_is_an_item(evaluated, task):
    found = {str(task().pk) for _ in range(3)}
    task(agent="historian")

    run = evaluated(kind="filter", query="agent:geographer")

    assert items_of(run) == found
    assert (run.passed_count, run.summary["trace_count"]) == (3, 3)


def test_more_runs_than_a_page_holds_are_all_judged(evaluated, task, monkeypatch):
    monkeypatch.setattr(judged, "_PAGE", 2)
    found = {str(task().pk) for _ in range(5)}

    assert items_of(evaluated(kind="filter", query="kind:task")) == found


def test_only_what_is_the_owners_and_was_there_is_found(api, claim, launcher, task, stranger):
    mine, gone = task(), task()
    task(owner=stranger.memberships.get().owner)
    delete_runs(Run.objects.filter(pk=gone.pk), "ann", "tidying up")
    run = submitted(api, kind="filter", query="kind:task")
    task()  # came after it was submitted

    execute(*claim(), launcher.start())

    assert items_of(run) == {str(mine.pk)}


def test_a_query_that_finds_nothing_succeeds_and_says_so(evaluated):
    run = evaluated(kind="filter", query="agent:nobody")

    assert (run.status, run.summary["trace_count"]) == ("succeeded", 0)
    assert run.summary["errors"] == ["No traces provided."]


def test_a_query_that_finds_too_much_fails_with_advice(evaluated, task, monkeypatch):
    monkeypatch.setattr(judged, "MOST_ITEMS", 2)
    for _ in range(3):
        task()

    run = evaluated(kind="filter", query="kind:task")

    assert run.status == "failed"
    assert "more than 2 runs: narrow it" in run.error


def test_progress_is_told_while_it_goes_on(api, task, work, programs, monkeypatch):
    monkeypatch.setattr("runs.worker.execute.TELL_SECONDS", 0.05)
    for number in range(12):
        task(f"question {number}")
    run = submitted(api, programs.add("telling", TELLING), kind="filter", query="kind:task")
    work()

    def is_in_the_middle() -> bool:
        run.refresh_from_db()
        return run.done_items is not None and 0 < run.done_items < 12 == run.total_items

    eventually(is_in_the_middle)
    assert "of 12, telling" in run.attempts.get().doing
    eventually(lambda: has_ended(run))
    assert run.attempts.get().doing == ""


def test_many_items_take_longer_than_one_may(api, task, work, programs):
    """Of a run that judges many others the deadline counts for each."""
    for number in range(60):
        task(f"question {number}")
    run = submitted(api, programs.add("telling", TELLING), kind="filter", query="kind:task")
    work(RUN_DEADLINE=0.7)

    eventually(lambda: has_ended(run))

    assert (run.status, run.error) == ("succeeded", None)
    assert run.finished_at - run.started_at > timedelta(seconds=0.7)


def test_after_a_crash_it_goes_on_where_it_was(api, task, start_worker, programs):
    for number in range(30):
        task(f"question {number}")
    run = submitted(api, programs.add("telling", TELLING), kind="filter", query="kind:task")
    first = start_worker(WORKER_LEASE="1", EVALUATOR_FOLDERS=str(programs.folder))
    eventually(lambda: run.results.count() > 5)
    first.kill()
    first.wait()
    judged_by_then = run.results.count()

    start_worker(WORKER_LEASE="1", EVALUATOR_FOLDERS=str(programs.folder))
    eventually(lambda: has_ended(run), 40)

    assert (run.status, run.passed_count, ended_as(run)) == ("succeeded", 30, ["lost", "succeeded"])
    assert run.summary["result_counts"]["passed"] == 30
    asked = (programs.folder / "telling.pid").read_text().split("\n")
    assert 30 <= len(asked) - 1 <= 60 - judged_by_then  # those that were written are not asked about again


def test_an_evaluation_of_evaluations_is_refused(api, make_run):
    other = make_run()
    spec = {
        "target": {"kind": "run", "runId": str(other.pk)},
        "evalConfig": {"evaluators": [BUILTIN]},
    }

    assert api.post(body={"spec": spec})[0] == 422


def test_a_program_sees_the_recorded_conversation(evaluated, task, programs: Programs, settings):
    echo = 'import json, sys\nprint(json.dumps({"score": 1.0, "details": json.load(sys.stdin)}))'

    run = evaluated(programs.add("echo", echo), kind="run", runId=str(task().pk))

    (turn,) = run.results.get().details["invocations"]
    assert (turn["user_content"], turn["final_response"]) == ("Capital of France?", "Paris")


def test_the_target_is_kept_as_it_was_asked_for(api, task):
    one = task()
    run = submitted(api, kind="run", runId=str(one.pk))

    shown = api.get(f"/{run.pk}")[1]["data"]["spec"]["target"]

    assert (shown["kind"], shown["runId"]) == ("run", str(one.pk))
