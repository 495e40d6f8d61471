"""What is known of the queue: exact where it is small, bounded where it is large, numbers alone of others."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from runs.models import Attempt, Delivery, Owner, Run, Webhook, Worker, claim_next
from runs.models import queue_view as view
from runs.models.workers import drain
from runs.sealing import seal

LEASE = timedelta(seconds=30)
NUMBERS_AND_TIMES = {
    *("bool", "int2", "int4", "int8", "float4", "float8", "numeric"),
    *("timestamptz", "interval"),
}


@pytest.fixture
def other(db):
    return Owner.objects.create(name="other")


@pytest.fixture
def make_worker(db):
    """A worker that was heard of `ago` seconds before now."""

    def make(name="there/1", ago=0.0, heartbeat=5.0, **fields):
        worker = Worker.objects.create(name=name, pid=1, heartbeat=heartbeat, **{"places": 4, **fields})
        Worker.objects.filter(pk=name).update(seen_at=timezone.now() - timedelta(seconds=ago))
        return worker

    return make


# ── Workers ────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("ago", "silent"), [(0, False), (14, False), (16, True)])
def test_a_worker_is_silent_after_three_heartbeats(make_worker, ago, silent):
    make_worker(ago=ago)
    (post,) = view.posts()
    assert (post.silent, post.takes_runs) == (silent, not silent)


def test_what_a_worker_holds_is_counted_with_its_first_lease(make_worker, make_run):
    make_worker("there/1")
    make_worker("there/10")
    first = [make_run(), make_run()]
    claimed = [claim_next(f"there/1/{n}", LEASE * n) for n in (1, 2)]
    posts = {post.worker.name: post for post in view.posts()}
    assert len(first) == posts["there/1"].running == 2
    assert posts["there/1"].lease_ends == claimed[0].lease_expires_at
    assert posts["there/10"].running == 0


def test_a_worker_that_has_been_silent_for_a_day_is_forgotten(make_worker):
    make_worker(ago=25 * 3600)
    assert view.posts() == []


def test_one_that_still_holds_a_run_is_not(make_worker, make_run):
    make_worker(ago=25 * 3600)
    make_run()
    claim_next("there/1/1", LEASE)
    assert len(view.posts()) == 1


def test_places_are_those_of_workers_that_take_runs(make_worker, make_run):
    make_worker("there/1", places=2)
    make_worker("there/2", places=8)
    make_worker("there/3", places=16, ago=60)
    make_run()
    claim_next("there/1/1", LEASE)
    drain("there/2")
    now = view.situation()
    assert (now.places, now.free, len(now.alive)) == (2, 1, 2)


def test_what_somebody_can_is_known_by_its_first_word(make_worker):
    make_worker("there/1", can=["code", "agentevals 0.11.0"])
    make_worker("there/2", can=["magic"], draining=True)
    now = view.situation()
    assert [now.somebody_can(what) for what in ("code", "agentevals", "magic")] == [True, True, False]


# ── The line ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize("numbers", [(3, 1, 2), (1, 4, 0), (2, 2, 2)])
def test_the_place_of_each_run_is_the_order_in_which_they_are_claimed(make_run, owner, other, numbers):
    owners = [owner, other, Owner.objects.create(name="third")]
    runs = [
        make_run(owner=one, priority=n % 2)
        for one, number in zip(owners, numbers, strict=True)
        for n in range(number)
    ]
    line = view.line()
    told = sorted(runs, key=lambda run: view.place_of(run, line).number)
    assert [view.place_of(run, line).number for run in told] == list(range(1, len(runs) + 1))
    assert [claim_next("w/1/1", LEASE).pk for _ in runs] == [run.pk for run in told]


def test_the_owner_that_was_served_last_comes_last(make_run, owner, other):
    for one in (owner, owner, other):
        make_run(owner=one)
    claim_next("w/1/1", LEASE)
    assert [turn.owner_id for turn in view.line().turns] == [other.pk, owner.pk]


def test_a_run_in_a_pause_takes_no_place(make_run):
    make_run(run_after=timezone.now() + LEASE)
    second = make_run()
    assert view.place_of(second, view.line()).number == 1
    assert view.later().waiting == 1


def test_a_deleted_run_takes_no_place(make_run):
    make_run(deleted_at=timezone.now())
    assert view.place_of(make_run(), view.line()).number == 1


def test_counting_stops(make_run, owner, monkeypatch, alice):
    monkeypatch.setattr(view, "MOST", 2)
    last = [make_run() for _ in range(6)][-1]
    assert view.place_of(last, view.line(2)).own == 3
    assert view.line(2).waiting == 2
    assert view.figures(alice, timezone.now()).waiting == 3


# ── One's own ──────────────────────────────────────────────────────────────
def test_the_next_runs_are_ones_own_with_their_places_among_all(make_run, alice, other, owner):
    mine = [make_run() for _ in range(3)]
    for _ in range(2):
        make_run(owner=other)
    found = view.next_runs(alice, view.line(), 2)
    assert [run.pk for run, _ in found] == [run.pk for run in mine[:2]]
    assert [place.number for _, place in found] == [1, 3]


def test_paused_runs_and_their_reasons_are_ones_own(make_run, claim, alice, other):
    make_run()
    run, held = claim()
    held.retry_later("the provider answered 429", 60)
    make_run(owner=other, run_after=timezone.now() + LEASE)
    (found,) = view.paused_runs(alice, 5)
    assert view.last_reasons([found]) == {run.pk: "the provider answered 429"}


def test_figures_are_ones_own(make_run, claim, alice, other):
    old = timezone.now() - timedelta(minutes=9)
    make_run(created_at=old)
    make_run(owner=other, created_at=old - timedelta(days=1))
    make_run(priority=3)
    make_run(priority=2)
    _, first = claim()
    first.succeed({})
    claim()  # of the other owner: it is its turn
    claim()
    figures = view.figures(alice, timezone.now())
    assert (figures.waiting, figures.oldest, figures.running, figures.done) == (1, old, 1, 1)
    assert figures.mean is not None


def test_an_attempt_that_ended_earlier_than_an_hour_ago_is_not_of_the_last_hour(make_run, claim, alice):
    make_run()
    claim()[1].succeed({})
    now = timezone.now() + timedelta(hours=1, minutes=1)
    assert view.figures(alice, now).done == 0


def test_deliveries_in_trouble_are_ones_own_the_dead_ones_on_top(make_run, alice, other):
    mine, theirs = make_run(), make_run(owner=other)
    for run in (mine, theirs):
        hook = Webhook.objects.create(run=run, kind="stdout", sealed=seal({}))
        told = {"run": run, "webhook": hook, "phase": "final", "body": "{}"}
        Delivery.objects.create(**told, tries=2)
        Delivery.objects.create(**told, state="dead", tries=5, ended_at=timezone.now())
        Delivery.objects.create(**told)
    found = view.troubled_deliveries(alice, 10)
    assert [(one.run_id, one.state, one.tries) for one in found] == [
        (mine.pk, "dead", 5),
        (mine.pk, "waiting", 2),
    ]
    figures = view.figures(alice, timezone.now())
    assert (figures.deliveries, figures.dead) == (2, 1)


# ── Everybody's ────────────────────────────────────────────────────────────
def test_the_pulse_is_of_everybody(make_run, claim, other):
    make_run()
    _, held = claim()
    held.succeed({})
    make_run(owner=other)
    make_run()
    claim()
    now = view.pulse()
    assert (now.waiting, now.running, now.done) == (1, 1, 1)
    assert (now.attempts["open"], now.attempts["succeeded"]) == (1, 1)
    assert set(now.attempts) == {"open", *Attempt.Outcome.values}


def test_what_is_asked_of_everybody_gives_numbers_and_times_alone(make_run, db):
    make_run()
    claim_next("w/1/1", LEASE)
    parameters = {"names": ["w/1"], "most": 5, "since": LEASE, "recent": 5}
    for statement in view.OF_EVERYBODY:
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            assert _types(cursor) <= NUMBERS_AND_TIMES, statement


def test_a_name_among_them_would_be_found(db):
    """Else the test above could not fail."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT title FROM run")
        assert _types(cursor) - NUMBERS_AND_TIMES == {"text"}


def test_a_long_queue_is_not_read_as_a_whole(make_run, owner):
    make_run()
    with connection.cursor() as cursor:
        cursor.execute(_MANY, [owner.pk])
        cursor.execute("ANALYZE run")
    last = Run.objects.order_by("-created_at", "-id").first()
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + view._LINE, {"most": 20})
        read = _rows_read(cursor.fetchone()[0][0]["Plan"])
    assert read < 100
    assert view.place_of(last, view.line()).own == view.MOST + 1


_MANY = """
    INSERT INTO run (id, owner_id, kind, status, priority, created_at, updated_at, agent, model, title,
        raw_status, metadata, attempt, crashes, deleted_by, cancel_requested_by, cancel_reason, size,
        event_count, artifact_count, passed_count, failed_count, errored_count, skipped_count, rating_count)
    SELECT gen_random_uuid(), %s, 'evaluation', 'queued', 0, now() + n * interval '1 ms', now(), '', '', '',
        '', '{}', 0, 0, '', '', '', 0, 0, 0, 0, 0, 0, 0, 0
    FROM generate_series(1, 12000) AS n
"""


def _rows_read(plan):
    """Rows that the leaves of a plan gave and threw away, each as often as it ran."""
    inner = plan.get("Plans", [])
    here = 0 if inner else plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return here * plan["Actual Loops"] + sum(_rows_read(one) for one in inner)


def _types(cursor):
    registry = connection.connection.adapters.types
    return {registry[column.type_code].name for column in cursor.description}
