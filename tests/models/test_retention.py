"""Which runs go by themselves (issue 3, point 5)."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models import Count, Sum
from django.utils import timezone

from runs.models import (
    OPEN,
    Deletion,
    Extent,
    NewEvent,
    Owner,
    RetentionPolicy,
    Run,
    Session,
    User,
    append_events,
    delete_runs,
    delete_session,
    give_feedback,
    rollup,
    withdraw_feedback,
)
from runs.models.deletion import grace
from runs.models.retention import DELETED, EXPIRED, apply, due_by, due_of, preview

type Made = Callable[..., Run]


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def made(owner: Owner, now: datetime) -> Made:
    """Makes a task of so many days ago."""

    def make(days: float, status: str = "succeeded", **fields: Any) -> Run:
        at = now - timedelta(days=days)
        ended = {} if status in OPEN else {"finished_at": at}
        fields = {"kind": "task", "agent": "helm", **ended, **fields}
        return Run.objects.record_past(fields.pop("owner", owner), status, at, **fields)

    return make


def policy(owner: Owner, **fields: Any) -> RetentionPolicy:
    return RetentionPolicy.objects.create(owner=owner, **{"max_age_days": 30, **fields})


def left() -> set[Any]:
    return set(Run.objects.values_list("pk", flat=True))


# ── Policies ───────────────────────────────────────────────────────────────
def test_runs_older_than_the_policy_says_go(owner, made, now):
    policy(owner, max_age_days=30)
    made(31)
    young = made(29)

    assert apply(owner, now).runs == 1
    assert left() == {young.pk}


def test_the_newest_runs_stay_however_old(owner, made, now):
    policy(owner, max_age_days=None, max_runs=2)
    runs = [made(days) for days in (400, 300, 200)]

    apply(owner, now)

    assert left() == {runs[1].pk, runs[2].pk}


def test_runs_of_the_same_moment_are_counted_one_by_one(owner, made, now):
    policy(owner, max_age_days=None, max_runs=1)
    runs = [made(5) for _ in range(3)]

    apply(owner, now)

    assert left() == {max(run.pk for run in runs)}


def test_no_run_at_all_may_be_kept(owner, made, now):
    policy(owner, max_age_days=None, max_runs=0)
    made(0)

    assert apply(owner, now).runs == 1


def test_a_run_goes_by_whichever_limit_it_is_beyond(owner, made, now):
    policy(owner, max_age_days=30, max_runs=2)
    for days in (50, 40):
        made(days)
    runs = [made(days) for days in (3, 2, 1)]

    apply(owner, now)

    assert left() == {runs[1].pk, runs[2].pk}


def test_the_policy_of_its_agent_comes_before_the_owners(owner, made, now):
    policy(owner, max_age_days=10)
    policy(owner, agent="helm", max_age_days=100)
    of_helm, _ = made(50), made(50, agent="other")

    apply(owner, now)

    assert left() == {of_helm.pk}


def test_a_policy_that_is_not_enabled_keeps_its_agents_runs(owner, made, now):
    policy(owner, max_age_days=10)
    policy(owner, agent="helm", max_age_days=1, enabled=False)
    of_helm = made(50)

    assert preview(owner, now) == apply(owner, now) == Extent()
    assert left() == {of_helm.pk}


def test_another_owners_runs_stay(owner, stranger, made, now):
    policy(owner)
    made(50, owner=stranger.memberships.get().owner)

    assert apply(owner, now) == Extent()


@pytest.mark.parametrize("status", sorted(OPEN))
def test_an_open_run_stays(owner, made, now, status):
    policy(owner)
    made(50, status)

    assert apply(owner, now) == Extent()


def test_an_age_beyond_any_calendar_is_no_limit(owner, made, now):
    policy(owner, max_age_days=2**31 - 1)
    made(5000)

    assert apply(owner, now) == Extent()


# ── Feedback ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("rating", "comment"), [(1, ""), (None, "look at this again")])
def test_feedback_protects_a_run(owner, made, now, alice, rating, comment):
    policy(owner)
    give_feedback(made(50), alice, rating, comment)

    assert preview(owner, now) == apply(owner, now) == Extent()


def test_withdrawn_feedback_does_not_protect_a_run(owner, made, now, alice):
    policy(owner)
    run = made(50)
    give_feedback(run, alice, 5)
    withdraw_feedback(run, alice)

    assert apply(owner, now).runs == 1


def test_feedback_does_not_protect_where_the_policy_says_so(owner, made, now, alice):
    policy(owner, keep_rated=False)
    give_feedback(made(50), alice, 5)

    assert apply(owner, now).runs == 1


# ── What goes without a policy ─────────────────────────────────────────────
def test_an_expired_run_goes_even_if_it_is_rated(owner, made, now, alice):
    give_feedback(made(1, expires_at=now - timedelta(minutes=1)), alice, 5)
    made(1, expires_at=now + timedelta(minutes=1))

    assert apply(owner, now).runs == 1
    assert Deletion.objects.get().reason == EXPIRED


def test_an_expired_run_that_is_open_stays(owner, made, now):
    made(1, "running", expires_at=now - timedelta(minutes=1))

    assert apply(owner, now) == Extent()


def test_an_expired_session_goes_with_its_runs(owner, made, now):
    session = Session.objects.open(owner, "api", "short-lived")
    Session.objects.filter(pk=session.pk).update(expires_at=now - timedelta(minutes=1))
    made(1, session=session)
    made(1, expires_at=now - timedelta(days=1), session=session)
    made(1)

    assert preview(owner, now).runs == 2
    assert apply(owner, now).runs == 2
    assert not Session.objects.filter(pk=session.pk).exists()


def test_an_expired_session_waits_for_its_open_run(owner, made, now):
    session = Session.objects.open(owner, "api", "short-lived")
    Session.objects.filter(pk=session.pk).update(expires_at=now - timedelta(minutes=1))
    made(1, "running", session=session)

    assert apply(owner, now) == Extent()
    assert Session.objects.filter(pk=session.pk).exists()


def test_a_deleted_run_goes_when_its_grace_time_is_over(owner, made, now):
    made(1)
    delete_runs(Run.objects.all(), "user:7", "why")

    assert apply(owner, timezone.now() + grace() - timedelta(minutes=1)) == Extent()
    assert apply(owner, timezone.now() + grace() + timedelta(minutes=1)).runs == 1
    assert Deletion.objects.get().reason == DELETED


def test_expired_runs_are_not_among_the_newest_that_stay(owner, made, now):
    policy(owner, max_age_days=None, max_runs=1)
    kept = made(2)
    made(1, expires_at=now - timedelta(minutes=1))

    assert preview(owner, now) == apply(owner, now)
    assert left() == {kept.pk}


# ── Sessions ───────────────────────────────────────────────────────────────
@pytest.fixture
def session(owner: Owner, now: datetime) -> Session:
    session = Session.objects.open(owner, "api", "conversation", agent="helm")
    Session.objects.update(last_activity_at=now - timedelta(days=50))
    return session


def test_a_session_that_retention_empties_goes(owner, made, now, session):
    policy(owner)
    made(50, session=session)

    assert apply(owner, now).sessions == 1
    assert not Session.objects.exists()


def test_a_session_that_was_just_active_stays_until_it_is_quiet(owner, made, now, session):
    policy(owner)
    made(50, session=session)
    Session.objects.update(last_activity_at=now)

    assert apply(owner, now).sessions == 0
    assert apply(owner, now + timedelta(days=31)).sessions == 1


def test_a_session_with_a_younger_run_stays(owner, made, now, session):
    policy(owner)
    made(50, session=session)
    made(20, session=session)

    assert apply(owner, now) == Extent(runs=1)


def test_a_session_that_never_had_a_run_stays(owner, now, session):
    policy(owner)

    assert apply(owner, now) == Extent()


def test_a_deleted_session_goes_with_its_runs_after_the_grace_time(owner, made, session):
    made(1, session=session)
    delete_session(session, "user:7", "why")

    gone = apply(owner, timezone.now() + grace() + timedelta(minutes=1))

    assert (gone.runs, gone.sessions) == (1, 1)


# ── Exactly what the preview says ──────────────────────────────────────────
def random_history(chance: random.Random, owner: Owner, made: Made, now: datetime, person: User) -> None:
    sessions = [Session.objects.open(owner, "api", f"s{number}") for number in range(3)]
    for _ in range(25):
        run = made(
            chance.uniform(0, 60),
            chance.choice(["succeeded", "failed", "cancelled", "running", "paused"]),
            agent=chance.choice(["helm", "kube", ""]),
            session=chance.choice([None, *sessions]),
            expires_at=chance.choice([None, None, now - timedelta(days=1), now + timedelta(days=1)]),
        )
        if chance.random() < 0.4:
            append_events(run, [NewEvent("message", {"n": "x" * chance.randrange(99)})], past=True)
        if chance.random() < 0.3:
            give_feedback(run, person, chance.randint(1, 5))
        if chance.random() < 0.3:
            Run.objects.filter(pk=run.pk).update(deleted_at=now - timedelta(days=chance.uniform(0, 14)))
    for agent in ("", "helm", "kube"):
        if chance.random() < 0.7:
            limits = {"max_age_days": chance.choice([None, 5, 30]), "max_runs": chance.randint(0, 8)}
            keep_rated, enabled = chance.random() < 0.5, chance.random() < 0.8
            policy(owner, agent=agent, keep_rated=keep_rated, enabled=enabled, **limits)


@pytest.mark.parametrize("seed", range(8))
def test_what_goes_is_what_the_preview_and_the_record_say(owner, made, now, alice, seed):
    random_history(random.Random(seed), owner, made, now, alice)
    before = Run.objects.aggregate(runs=Count("pk"), bytes=Sum("size"))

    shown = preview(owner, now)
    gone = apply(owner, now)

    after = Run.objects.aggregate(runs=Count("pk"), bytes=Sum("size", default=0))
    noted = Deletion.objects.aggregate(runs=Sum("runs", default=0), bytes=Sum("bytes", default=0))
    assert (gone.runs, gone.bytes) == (shown.runs, shown.bytes)
    assert noted == {"runs": shown.runs, "bytes": shown.bytes}
    assert {name: before[name] - after[name] for name in before} == noted
    assert preview(owner, now) == Extent()
    assert rollup.difference() == []
    for session in Session.objects.all():
        assert session.run_count == session.runs.filter(deleted_at=None).count()


def test_one_policy_previews_and_applies_alone(owner, made, now):
    one = policy(owner, agent="helm")
    policy(owner, agent="kube")
    made(50)
    of_kube = made(50, agent="kube")

    assert preview(one, now).runs == apply(one, now).runs == 1
    assert left() == {of_kube.pk}


def test_two_workers_at_once_delete_each_run_once(committed_db, owner, made, now):
    policy(owner)
    for _ in range(10):
        made(50)

    def go(_: int) -> int:
        try:
            return apply(owner, now).runs
        finally:
            connections.close_all()

    with ThreadPoolExecutor() as pool:
        assert sum(pool.map(go, range(2))) == 10
    assert sum(noted.runs for noted in Deletion.objects.all()) == 10


def test_the_runs_that_are_due_are_found_along_an_index(owner, made, now):
    made(50)
    due = [due_by(policy(owner, agent=agent), now) for agent in ("helm", "")]
    due += due_of(owner, now)[:2]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        cursor.execute("SET LOCAL enable_sort = off")

    plans = [one.runs.order_by(one.order, "pk").only("pk")[:200].explain() for one in due]

    # Which of those in order of time it takes is up to the numbers; that none is sorted or read whole is not.
    assert all("Index" in plan and "Sort" not in plan and "Seq Scan on run" not in plan for plan in plans)
    assert "run_deleted" in plans[2]
    assert "run_expiry" in plans[3]
