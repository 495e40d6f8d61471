"""Interleaved histories against a plain model of the rules (issue 3, point 3).

`HISTORIES=2000 pytest tests/models/test_histories.py` looks further, at other histories each time.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.db.models.functions import Now
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from psycopg import errors

from runs.models import (
    Claim,
    LeaseLost,
    NewEvent,
    Owner,
    Result,
    Run,
    Session,
    Usage,
    User,
    acknowledge_cancel,
    append_events,
    claim_next,
    correction,
    counters,
    deletion,
    feedback,
    finish,
    force_cancel,
    give_feedback,
    merge_metadata,
    put_artifact,
    request_cancel,
    rollup,
    transition,
    withdraw_feedback,
)
from runs.models.queue import requeue, sweep, try_now
from runs.models.status import OF_EVALUATIONS, OF_TASKS
from tests.models.rules import LOST, Ran, Seen

LOOK_FURTHER = "HISTORIES" in os.environ
BOUNDED = settings(
    max_examples=int(os.environ.get("HISTORIES", "30")),
    stateful_step_count=60 if LOOK_FURTHER else 30,
    derandomize=not LOOK_FURTHER,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
WAIT = "15ms"  # for a lock that another connection keeps until its transaction ends
LEASE = timedelta(seconds=600)
CRASHES = 3

NAMES = st.sampled_from("AB")  # the connections
TASKS, EVALUATIONS = (0, 1), (2, 3)
SLOTS = st.sampled_from((*TASKS, *EVALUATIONS))
STATUSES = st.sampled_from(sorted(OF_TASKS))
FINAL_STATUSES = st.sampled_from(["succeeded", "failed", "cancelled"])
AUTHORS = st.sampled_from(["ann", "bob"])
NUMBERS = st.integers(1, 9)
ENTRIES = st.tuples(
    st.sampled_from(["message", "tool_call"]),
    st.sampled_from([None, "e1", "e2", "e3"]),
    NUMBERS.map(lambda number: {"n": number}),
    st.sampled_from([None, 0, 7]),
)
BATCHES = st.lists(ENTRIES, min_size=1, max_size=4)
SAID = "Where is it?"


class Hand:
    """A connection of its own, in a thread of its own, that is told what to do step by step."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._inside: transaction.Atomic | None = None

    def do(self, call: Callable[[], Any]) -> Any:
        return self._thread.submit(call).result(timeout=60)

    def begin(self) -> None:
        self._inside = transaction.atomic()
        self.do(self._inside.__enter__)

    def end(self, error: type[Exception] | None = None) -> None:
        inside, self._inside = self._inside, None
        assert inside is not None
        self.do(lambda: inside.__exit__(error, error and error(), None))

    def close(self) -> None:
        self.do(connections.close_all)
        self._thread.shutdown()


class Histories(RuleBasedStateMachine):
    """Each rule is one verb on one connection; what the store answers and keeps is what the rules say."""

    hands: dict[str, Hand]
    numbers = count()

    # ── The beginning, and transactions ────────────────────────────────────
    @initialize()
    def begin_with_some_runs(self) -> None:
        number = next(self.numbers)
        self.seen, self.claims, self.workers = Seen(), {}, count(1)
        self.owner = Owner.objects.create(name=f"owner {number}")
        self.users = {
            name: User.objects.create_user(f"{name} {number}", password=None) for name in ("ann", "bob")
        }
        self.session = Session.objects.open(self.owner, "tests", "session")
        self.ids = [uuid4() for _ in (*TASKS, *EVALUATIONS)]
        self.made_at: dict[int, Any] = {}
        for slot in (TASKS[0], *EVALUATIONS):
            self.make("A", slot)

    @rule(name=NAMES)
    def begin(self, name: str) -> None:
        if name not in self.seen.own:
            self.hands[name].begin()
            self.seen.own[name] = {}

    @rule(name=NAMES, commits=st.booleans())
    def end(self, name: str, commits: bool) -> None:
        if name in self.seen.own:
            changed = self.seen.own.pop(name)
            if commits:
                self.hands[name].end()
                self.seen.committed |= changed
            else:
                self.hands[name].end(_TakenBack)

    @rule(name=NAMES, slot=SLOTS)
    def make(self, name: str, slot: int) -> None:
        """A new run; made again, it is the one that is there, unless that is deleted."""
        ran = self.seen.run(name, slot) or _made(slot)
        told = self.answer(name, lambda: _named_error(lambda: self._make(slot)))
        if ran.deleted:
            assert told in (None, "IdTaken", "SpecConflict")
        elif told is not None:
            self.made_at[slot] = told.created_at
            self.seen.keep(name, slot, ran)

    def _make(self, slot: int) -> Run:
        if slot in TASKS:
            return Run.objects.open_task(self.owner, self.session, self.ids[slot], agent="a")
        return Run.objects.submit(self.owner, {"slot": slot}, self.ids[slot], "A run", self.session)

    # ── Verbs ──────────────────────────────────────────────────────────────
    @rule(name=NAMES, slot=SLOTS, batch=BATCHES)
    def append(self, name: str, slot: int, batch: list[Any]) -> None:
        self.compare(
            name,
            slot,
            lambda ran: ran.append(batch, SAID),
            lambda run: len(append_events(run, [_event(*entry) for entry in batch])),
        )

    @rule(name=NAMES, slot=SLOTS, to=STATUSES, only_from=st.none() | STATUSES, raw=st.sampled_from(["", "x"]))
    def transition(self, name: str, slot: int, to: Any, only_from: Any, raw: str) -> None:
        self.compare(
            name,
            slot,
            lambda ran: ran.transition(to, only_from, raw),
            lambda run: transition(run, to, only_from=only_from, raw_status=raw),
        )

    @rule(name=NAMES, slot=st.sampled_from(TASKS), to=FINAL_STATUSES)
    def finish(self, name: str, slot: int, to: Any) -> None:
        self.compare(name, slot, lambda ran: ran.transition(to, None, ""), lambda run: finish(run, to))

    @rule(name=NAMES, slot=SLOTS, key=st.sampled_from("kl"), value=NUMBERS)
    def merge_metadata(self, name: str, slot: int, key: str, value: int) -> None:
        patch = {key: value}
        self.compare(
            name, slot, lambda ran: ran.merge_metadata(patch), lambda run: merge_metadata(run, patch)
        )

    @rule(
        name=NAMES, slot=SLOTS, which=st.sampled_from("pq"), n=NUMBERS, more=st.booleans(), last=st.booleans()
    )
    def put_artifact(self, name: str, slot: int, which: str, n: int, more: bool, last: bool) -> None:
        parts = [{"n": n}]
        self.compare(
            name,
            slot,
            lambda ran: ran.put_artifact(which, parts, more, last),
            lambda run: put_artifact(run, which, parts=parts, append=more, last_chunk=last) is not None,
        )

    @rule(name=NAMES, slot=SLOTS, by=AUTHORS)
    def request_cancel(self, name: str, slot: int, by: str) -> None:
        self.compare(name, slot, lambda ran: ran.request_cancel(by), lambda run: request_cancel(run, by))

    @rule(name=NAMES, slot=SLOTS)
    def acknowledge_cancel(self, name: str, slot: int) -> None:
        self.compare(name, slot, Ran.acknowledge_cancel, acknowledge_cancel)

    @rule(name=NAMES, slot=SLOTS, by=AUTHORS)
    def force_cancel(self, name: str, slot: int, by: str) -> None:
        self.compare(name, slot, lambda ran: ran.force_cancel(by), lambda run: force_cancel(run, by, ""))

    @rule(name=NAMES, slot=SLOTS, author=AUTHORS, rating=st.integers(1, 5))
    def rate(self, name: str, slot: int, author: str, rating: int) -> None:
        def call(run: Run) -> None:
            give_feedback(run, self.users[author], rating)

        self.compare(name, slot, lambda ran: ran.rate(author, rating), call)

    @rule(name=NAMES, slot=SLOTS, author=AUTHORS)
    def withdraw(self, name: str, slot: int, author: str) -> None:
        self.compare(
            name,
            slot,
            lambda ran: ran.withdraw(author),
            lambda run: withdraw_feedback(run, self.users[author]),
        )

    @rule(name=NAMES, slot=SLOTS, to=FINAL_STATUSES, reason=st.sampled_from(["", "the cluster was at fault"]))
    def correct(self, name: str, slot: int, to: str, reason: str) -> None:
        """A final status changes by a correction with a reason alone."""

        def rules(ran: Ran) -> bool | str:
            if ran.final and ran.status != to and not reason:
                return "IntegrityError"
            return ran.correct(to)

        def call(run: Run) -> bool:
            found = Run.objects.filter(pk=run.pk, status__in=["succeeded", "failed", "cancelled"])
            if not reason:
                return bool(found.update(status=to))
            with correction("user:1", reason):
                return bool(found.update(status=to))

        self.compare(name, slot, rules, call, corrects=True)

    @rule(name=NAMES, slot=SLOTS, restores=st.booleans())
    def delete(self, name: str, slot: int, restores: bool) -> None:
        """Puts it away, which asks it to stop, or brings it back."""
        verb = deletion.restore_runs if restores else deletion.delete_runs
        self.compare(
            name,
            slot,
            Ran.restore if restores else Ran.delete,
            lambda run: verb(Run.objects.filter(pk=run.pk), "ann", "tidying up"),
        )

    @rule(name=NAMES)
    def fold(self, name: str) -> None:
        self.answer(name, rollup.fold)

    # ── The worker ─────────────────────────────────────────────────────────
    @rule(name=NAMES)
    def claim_next(self, name: str) -> None:
        worker = f"worker {next(self.workers)}"
        told = self.answer(name, lambda: [claim_next(worker, LEASE)])
        if told is None:
            return
        claimed = told[0]
        free = not self.seen.others_are_inside(name)  # else some may be locked, and passed over
        waiting = [slot for slot, ran in self.seen.runs(name).items() if ran.may_be_claimed]
        if claimed is None:
            assert not (free and waiting)
            return
        slot = self.ids.index(claimed.pk)
        assert slot == min(waiting, key=self._order) if free else slot in waiting
        ran = self.seen.run(name, slot)
        assert ran is not None
        ran.claimed(worker)
        assert ran.attempt == claimed.attempt
        self.claims[slot] = [*self.claims.get(slot, []), Claim(claimed.pk, worker, claimed.attempt)]
        self.seen.keep(name, slot, ran)

    def _order(self, slot: int) -> tuple[Any, ...]:
        return self.made_at[slot], self.ids[slot]

    @rule(name=NAMES)
    def sweep(self, name: str) -> None:
        """Takes back what no worker beats for, and passes over what another connection has locked."""
        told = self.answer(name, lambda: (sweep(CRASHES), self._statuses()))
        if told is None:
            return
        number, statuses = told
        free = not self.seen.others_are_inside(name)
        taken = 0
        for slot, was in self.seen.runs(name).items():
            ran = self.seen.run(name, slot)
            assert ran is not None
            ran.sweep(CRASHES)
            if ran != was and (free or ran.status == statuses[slot]):
                taken += 1
                self.seen.keep(name, slot, ran)
        assert number == taken

    def _statuses(self) -> dict[int, str]:
        rows = Run.objects.filter(pk__in=self.ids).values_list("pk", "status")
        return {self.ids.index(pk): status for pk, status in rows}

    @rule(name=NAMES, slot=st.sampled_from(EVALUATIONS))
    def try_now(self, name: str, slot: int) -> None:
        self.compare(name, slot, Ran.try_now, try_now)

    @rule(name=NAMES, slot=SLOTS)
    def requeue(self, name: str, slot: int) -> None:
        self.compare(name, slot, Ran.requeue, lambda run: requeue(run, "ann", "it hangs"))

    @rule(name=NAMES, slot=st.sampled_from(EVALUATIONS))
    def fall_silent(self, name: str, slot: int) -> None:
        """Its lease runs out."""

        def call(run: Run) -> None:
            held = Run.objects.filter(pk=run.pk, status="running")
            held.update(lease_expires_at=Now() - timedelta(days=1))

        self.compare(name, slot, Ran.fall_silent, call)

    @rule(name=NAMES, slot=st.sampled_from(EVALUATIONS), newest=st.booleans(), batch=BATCHES)
    def worker_appends(self, name: str, slot: int, newest: bool, batch: list[Any]) -> None:
        self.work(
            name,
            slot,
            newest,
            lambda ran: ran.append(batch, SAID),
            lambda claim: claim.append([_event(*entry) for entry in batch]),
        )

    @rule(
        name=NAMES,
        slot=st.sampled_from(EVALUATIONS),
        newest=st.booleans(),
        evaluator=st.sampled_from("xy"),
        status=st.sampled_from(Result.Status.values),
    )
    def worker_records(self, name: str, slot: int, newest: bool, evaluator: str, status: str) -> None:
        self.work(
            name,
            slot,
            newest,
            lambda ran: ran.record(evaluator, status),
            lambda claim: claim.record([_result(claim.run_id, evaluator, status)]),
        )

    @rule(name=NAMES, slot=st.sampled_from(EVALUATIONS), newest=st.booleans(), status=FINAL_STATUSES)
    def worker_ends(self, name: str, slot: int, newest: bool, status: str) -> None:
        rules = {
            "succeeded": lambda ran: ran.end("succeeded"),
            "failed": lambda ran: ran.end("failed"),
            "cancelled": Ran.stop,
        }
        calls = {
            "succeeded": lambda claim: claim.succeed({}),
            "failed": lambda claim: claim.fail("broken"),
            "cancelled": Claim.acknowledge_cancel,
        }
        self.work(name, slot, newest, rules[status], calls[status])

    @rule(name=NAMES, slot=st.sampled_from(EVALUATIONS), newest=st.booleans())
    def worker_releases(self, name: str, slot: int, newest: bool) -> None:
        self.work(name, slot, newest, Ran.release, Claim.release)

    @rule(name=NAMES, slot=st.sampled_from(EVALUATIONS), newest=st.booleans())
    def worker_is_to_try_again(self, name: str, slot: int, newest: bool) -> None:
        self.work(name, slot, newest, Ran.retry_later, lambda claim: claim.retry_later("broken", 3600))

    @rule(name=NAMES, slot=st.sampled_from(EVALUATIONS), newest=st.booleans())
    def evaluator_crashes(self, name: str, slot: int, newest: bool) -> None:
        self.work(
            name, slot, newest, lambda ran: ran.crash(CRASHES), lambda claim: claim.crash("broken", CRASHES)
        )

    @rule(name=NAMES, slot=st.sampled_from(EVALUATIONS), newest=st.booleans())
    def worker_extends(self, name: str, slot: int, newest: bool) -> None:
        def call(claim: Claim) -> None:
            if not claim.extend(LEASE):
                raise LeaseLost(claim)

        self.work(name, slot, newest, Ran.extend, call)

    def work(self, name: str, slot: int, newest: bool, rules: Any, call: Callable[[Claim], None]) -> None:
        """A worker's write counts while its claim is in the row, and not at all otherwise."""
        if not self.claims.get(slot):
            return
        claim = self.claims[slot][-1 if newest else 0]

        def fenced(ran: Ran) -> str | None:
            if not ran.held_by(claim.worker_id, claim.attempt):
                return LOST
            rules(ran)
            return None

        self.compare(name, slot, fenced, lambda run: call(claim))

    # ── Comparing ──────────────────────────────────────────────────────────
    def compare(
        self,
        name: str,
        slot: int,
        rules: Callable[[Ran], Any],
        call: Callable[[Run], Any],
        corrects: bool = False,
    ) -> None:
        """Does the same to the model and to the store, which must answer the same and move legally."""
        ran = self.seen.run(name, slot)
        if ran is None:
            return
        run = Run(pk=self.ids[slot], kind=ran.kind)
        was, expected = ran.status, rules(ran)

        def step() -> tuple[Any, str]:
            answer = _named_error(lambda: call(run))
            return answer, Run.objects.values_list("status", flat=True).get(pk=run.pk)

        told = self.answer(name, step)
        if told is None:
            return
        answer, status = told
        assert answer == expected
        legal = (OF_EVALUATIONS if slot in EVALUATIONS else OF_TASKS)[status]
        assert status == was or was in legal or corrects, f"{was} became {status}"
        self.seen.keep(name, slot, ran)

    def answer(self, name: str, call: Callable[[], Any]) -> Any:
        """What the store says; None, and nothing done, where another connection keeps it waiting."""

        def step() -> Any:
            with transaction.atomic():
                _execute(f"SET LOCAL lock_timeout = '{WAIT}'")
                return call()

        try:
            return self.hands[name].do(step)
        except OperationalError as error:
            assert isinstance(error.__cause__, errors.LockNotAvailable), error
            assert self.seen.others_are_inside(name), "it waited, and nobody was there to wait for"
            return None

    @invariant()
    def what_is_committed_is_what_the_rules_say(self) -> None:
        if not hasattr(self, "seen"):
            return
        kept = {self.ids.index(run.pk): run for run in Run.objects.filter(pk__in=self.ids)}
        assert {slot: (run.status, run.event_count) for slot, run in kept.items()} == {
            slot: (ran.status, len(ran.events)) for slot, ran in self.seen.committed.items()
        }

    def teardown(self) -> None:
        if not hasattr(self, "seen"):
            return
        for name in list(self.seen.own):
            self.end(name, True)
        try:
            assert {
                self.ids.index(run.pk): _ran(run) for run in Run.objects.filter(pk__in=self.ids)
            } == self.seen.committed
            assert_all_true(self.owner)
        finally:
            open_ones = Run.objects.filter(finished_at=None)
            open_ones.update(status="cancelled", finished_at=Now())  # the queue is everybody's


class _TakenBack(Exception):
    """Ends a transaction that is rolled back."""


def assert_all_true(owner: Owner) -> None:
    """Counters, rollups and choices are what a recount gives, and events are numbered without gaps."""
    assert list(counters.differences(owner)) == []
    for run in Run.objects.filter(owner=owner):
        assert list(run.events.values_list("seq", flat=True)) == list(range(1, run.event_count + 1))


def _made(slot: int) -> Ran:
    return Ran("task", agent="a") if slot in TASKS else Ran("evaluation", title="A run")


def _ran(run: Run) -> Ran:
    """The row, and what hangs on it, in the model's words."""
    return Ran(
        kind=run.kind,
        title=run.title,
        agent=run.agent,
        status=run.status,
        raw_status=run.raw_status,
        metadata=run.metadata,
        events=[(event.kind, event.event_id, event.payload) for event in run.events.all()],
        input_tokens=run.input_tokens,
        artifacts={one.artifact_id: (one.parts, one.complete) for one in run.artifacts.all()},
        results={one.evaluator_name: one.status for one in run.results.all()},
        ratings={one.author_name.split()[0]: one.rating for one in run.feedback.all()},
        asked_by=run.cancel_requested_by,
        acknowledged=run.cancel_acknowledged_at is not None,
        attempt=run.attempt,
        crashes=run.crashes,
        waits=run.status == "queued" and run.run_after is not None,
        tries=list(run.attempts.order_by("number").values_list("outcome", flat=True)),
        worker=run.worker_id,
        silent=run.lease_expires_at is not None and run.lease_expires_at < timezone.now(),
        deleted=run.deleted_at is not None,
    )


def _event(kind: str, event_id: str | None, payload: Any, tokens: int | None) -> NewEvent:
    """Only a message of the user gives a title."""
    said = {"parts": [{"text": SAID}]} if kind == "message" else {}
    payload.update(said)
    return NewEvent(kind, payload, "user" if said else "agent", event_id, usage=Usage(tokens))


def _result(run_id: UUID, evaluator: str, status: str) -> Result:
    return Result(
        id=f"{run_id}{evaluator}",
        run_id=run_id,
        item_id="i",
        item_name="i",
        evaluator_name=evaluator,
        evaluator_type="builtin",
        status=status,
        score=len(status) / 7,
    )


def _named_error(call: Callable[[], Any]) -> Any:
    try:
        with transaction.atomic():
            return call()
    except (LeaseLost, ValueError, IntegrityError) as error:
        return type(error).__name__


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def machine(committed_db: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Histories]]:
    """The machine with two connections to a database of its own."""
    # An open transaction here waits for the next step, not for a process that was paused.
    monkeypatch.setattr("runs.models.queue.PATIENCE", 60)
    monkeypatch.setattr(deletion, "_TRIES", 0)
    # Nor do pauses end by themselves.
    monkeypatch.setattr("runs.models.queue.pause_after", lambda crashes: 3600.0 if crashes > 1 else 0.0)
    hands = {name: Hand() for name in "AB"}

    class Machine(Histories):
        pass

    Machine.hands = hands
    yield Machine
    for hand in hands.values():
        hand.close()


def test_the_store_does_what_the_rules_say(machine):
    run_state_machine_as_test(machine, settings=BOUNDED)


FOUND_AT_ONCE = settings(BOUNDED, max_examples=200, phases=[Phase.generate], report_multiple_bugs=False)


def without_the_trigger(table: str, name: str) -> Callable[[Any, dict[str, str]], None]:
    def break_it(monkeypatch: Any, database: dict[str, str]) -> None:
        with psycopg.connect(database["DATABASE_MIGRATE_URL"]) as owner:
            found = owner.execute(
                "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname LIKE %s",
                [table, f"pgtrigger_{name}_%"],
            ).fetchone()
            assert found
            owner.execute(f"DROP TRIGGER {found[0]} ON {table}")

    return break_it


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(without_the_trigger("run", "roll_up_change"), id="no rollups"),
        pytest.param(without_the_trigger("run", "final_needs_reason"), id="no guard of final statuses"),
        pytest.param(without_the_trigger("run", "note_attempt"), id="attempts are not noted"),
        pytest.param(
            lambda monkeypatch, _: monkeypatch.setattr(feedback, "count_ratings", lambda run: None),
            id="ratings are not counted",
        ),
    ],
)
def test_the_machine_finds_a_planted_fault(machine, committed_db, monkeypatch, break_it):
    """The control: what it says about the store is worth something."""
    break_it(monkeypatch, committed_db)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=FOUND_AT_ONCE)


# ── Threads ────────────────────────────────────────────────────────────────
THREADS, SECONDS = 8, 3.0


def test_threads_that_write_the_same_runs_lose_nothing_and_do_not_deadlock(committed_db, make_run, owner):
    session = Session.objects.open(owner, "tests", "shared")
    tasks = [Run.objects.open_task(owner, session) for _ in range(3)]
    for _ in range(6):
        make_run(session=session)
    users = [User.objects.create_user(f"person {number}", password=None) for number in range(THREADS)]
    until = time.monotonic() + SECONDS

    with ThreadPoolExecutor(THREADS) as pool:
        told = list(
            pool.map(lambda number: _write_until(until, number, tasks, users[number]), range(THREADS))
        )

    kept = {event_id for run in tasks for event_id in run.events.values_list("event_id", flat=True)}
    assert set().union(*told) <= kept
    assert min(map(len, told)) > 0
    assert_all_true(owner)


def _write_until(until: float, number: int, tasks: list[Run], user: User) -> set[str]:
    """Random verbs; gives the ids of the events that were acknowledged. A deadlock would raise."""
    chance = random.Random(number)
    told = set()
    try:
        while time.monotonic() < until:
            run = chance.choice(tasks)
            event_id = uuid4().hex
            append_events(run, [NewEvent("message", {}, event_id=event_id, usage=Usage(1, 2))])
            told.add(event_id)
            chance.choice(_VERBS)(run, user, chance)
            _work(f"worker {number}", chance)
            rollup.fold()
    finally:
        connections.close_all()
    return told


_VERBS: list[Callable[[Run, User, random.Random], object]] = [
    lambda run, user, chance: transition(run, chance.choice(["running", "paused", "queued"])),
    lambda run, user, chance: finish(run, "succeeded") if chance.random() < 0.05 else None,
    lambda run, user, chance: merge_metadata(run, {chance.choice("abc"): chance.random()}),
    lambda run, user, chance: put_artifact(run, chance.choice("pq"), parts=[{"n": 1}], append=True),
    lambda run, user, chance: give_feedback(run, user, chance.randint(1, 5)),
    lambda run, user, chance: withdraw_feedback(run, user),
    lambda run, user, chance: acknowledge_cancel(run),
]


def _work(worker: str, chance: random.Random) -> None:
    sweep(1000)
    for paused in Run.objects.filter(status="queued", run_after__isnull=False).only("pk"):
        try_now(paused)
    run = claim_next(worker, timedelta(milliseconds=chance.choice([0, 500])))
    if run is None:
        return
    claim = Claim(run.pk, worker, run.attempt)
    with suppress(LeaseLost):  # another may have taken it over
        claim.append([NewEvent("message", {"attempt": claim.attempt}, usage=Usage(3))])
        claim.record([_result(run.pk, chance.choice("xy"), chance.choice(Result.Status.values))])
        claim.succeed({}) if chance.random() < 0.05 else claim.release()
