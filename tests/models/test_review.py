"""Review queues: what is handed out to whom (issue 5, point 5)."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection, connections, transaction
from django.db.models.functions import Now
from django.utils import timezone

from runs.models import Membership, Owner, ReviewItem, ReviewQueue, Run, User
from runs.models.criterion import add_criterion, retire_criterion
from runs.models.review import (
    RESERVED_FOR,
    Progress,
    QueueTaken,
    add_items,
    ask_again,
    change_queue,
    close_queue,
    end_item,
    hold,
    items_left,
    last_ended,
    open_queue,
    progress_of,
    release,
    reopen_queue,
    reserve_next,
    reserved_in,
)
from tests.pages.helpers import make_task

DONE, SKIPPED, OPEN = ReviewItem.State.DONE, ReviewItem.State.SKIPPED, ReviewItem.State.OPEN


@pytest.fixture
def bob(owner: Owner) -> User:
    """Another reviewer."""
    user = User.objects.create_user("bob")
    Membership.objects.create(user=user, owner=owner, role="reviewer")
    return user


def queue_of(owner: Owner, number: int) -> ReviewQueue:
    """A queue of so many runs."""
    queue = open_queue(owner, "answers", "user:1")
    add_items(queue, [make_task(owner, title=f"run {place}").pk for place in range(number)])
    return queue


def item(item_id: int | None) -> ReviewItem:
    return ReviewItem.objects.get(pk=item_id)


def run_out(queue: ReviewQueue) -> None:
    """Time passes until no reservation holds."""
    ReviewItem.objects.filter(queue=queue, reserved_by__isnull=False).update(
        reserved_until=Now() - timedelta(seconds=1)
    )


# ── What is in a queue ─────────────────────────────────────────────────────
def test_runs_are_put_in_once_and_in_their_order(owner):
    queue = open_queue(owner, "answers", "user:1")
    runs = [make_task(owner).pk for _ in range(3)][::-1]
    assert add_items(queue, runs[:2]) == 2
    assert add_items(queue, runs) == 1
    assert list(ReviewItem.objects.order_by("pk").values_list("run", flat=True)) == runs


def test_only_runs_of_its_owner_that_are_not_deleted_are_put_in(owner):
    queue = open_queue(owner, "answers", "user:1")
    others = make_task(Owner.objects.create(name="others"))
    gone = make_task(owner)
    Run.objects.filter(pk=gone.pk).update(deleted_at=timezone.now())
    assert add_items(queue, [others.pk, gone.pk]) == 0


def test_a_name_is_an_owners_once(owner):
    open_queue(owner, "answers", "user:1")
    other = open_queue(owner, "questions", "user:1")
    open_queue(Owner.objects.create(name="others"), "answers", "user:1")
    with pytest.raises(QueueTaken, match="platform has a queue of this name already"):
        open_queue(owner, "answers", "user:1")
    with pytest.raises(QueueTaken):
        change_queue(other, "answers", "", [])


def test_without_a_choice_it_is_rated_on_all_that_its_owner_asks(owner):
    for label in ("Correct", "Tone"):
        add_criterion(owner, label)
    retire_criterion(add_criterion(owner, "Old"))
    add_criterion(Owner.objects.create(name="others"), "Theirs")
    assert open_queue(owner, "all", "user:1").criteria == ["correct", "tone"]
    assert open_queue(owner, "none", "user:1", criteria=[]).criteria == []


# ── Reserving ──────────────────────────────────────────────────────────────
def test_the_next_item_is_reserved_for_a_while(owner, alice):
    queue = queue_of(owner, 2)
    reserved = item(reserve_next(queue, alice))
    assert (str(reserved.run), reserved.reserved_by) == ("run 0", alice)
    left = reserved.reserved_until - timezone.now()
    assert timedelta(minutes=14) < left <= RESERVED_FOR


def test_one_who_comes_back_gets_the_same(owner, alice):
    queue = queue_of(owner, 2)
    assert reserve_next(queue, alice) == reserve_next(queue, alice)


def test_two_people_get_two_items(owner, alice, bob):
    queue = queue_of(owner, 2)
    assert reserve_next(queue, alice) != reserve_next(queue, bob)
    assert reserve_next(queue, User.objects.create_user("late")) is None


def test_what_runs_out_is_the_next_ones(owner, alice, bob):
    queue = queue_of(owner, 1)
    first = reserve_next(queue, alice)
    assert reserve_next(queue, bob) is None
    run_out(queue)
    assert reserve_next(queue, bob) == first


def test_one_who_leaves_frees_it_at_once(owner, alice, bob):
    queue = queue_of(owner, 1)
    first = reserve_next(queue, alice)
    release(queue, alice)
    assert reserve_next(queue, bob) == first


def test_one_who_stays_keeps_it(owner, alice, bob):
    queue = queue_of(owner, 1)
    reserved = item(reserve_next(queue, alice))
    run_out(queue)
    assert hold(reserved, alice)
    assert reserve_next(queue, bob) is None
    assert not hold(reserved, bob)


def test_deleted_runs_are_passed_over(owner, alice):
    queue = queue_of(owner, 2)
    Run.objects.filter(title="run 0").update(deleted_at=timezone.now())
    assert str(item(reserve_next(queue, alice)).run) == "run 1"
    assert progress_of([queue])[queue.pk] == Progress(left=1)


def test_a_closed_queue_hands_nothing_out_and_takes_what_is_under_way(owner, alice):
    queue = queue_of(owner, 2)
    reserved = item(reserve_next(queue, alice))
    close_queue(queue)
    queue.refresh_from_db()
    assert reserve_next(queue, alice) is None
    assert end_item(reserved, alice, DONE)
    reopen_queue(queue)
    queue.refresh_from_db()
    assert reserve_next(queue, alice) is not None


def test_many_at_once_never_get_the_same(committed_db, owner):
    queue = queue_of(owner, 20)
    people = [User.objects.create_user(f"reviewer {number}") for number in range(8)]
    together = Barrier(len(people))

    def work(person: User) -> list[int]:
        """Reviews until nothing is left."""
        ended = []
        together.wait()
        while item_id := reserve_next(queue, person):
            assert end_item(item(item_id), person, DONE)
            ended.append(item_id)
        connection.close()
        return ended

    with ThreadPoolExecutor(len(people)) as pool:
        ended = [item_id for found in pool.map(work, people) for item_id in found]
    assert sorted(ended) == list(ReviewItem.objects.order_by("pk").values_list("pk", flat=True))


# ── Ending ─────────────────────────────────────────────────────────────────
def test_what_is_ended_says_who_and_is_free(owner, alice):
    queue = queue_of(owner, 1)
    reserved = item(reserve_next(queue, alice))
    assert end_item(reserved, alice, DONE)
    reserved.refresh_from_db()
    assert (reserved.state, reserved.ended_by, reserved.reserved_by) == ("done", alice.actor, None)
    assert reserve_next(queue, alice) is None


def test_what_somebody_else_is_at_is_not_ended(owner, alice, bob):
    queue = queue_of(owner, 1)
    reserved = item(reserve_next(queue, alice))
    assert not end_item(reserved, bob, DONE)
    assert not end_item(reserved, bob, SKIPPED)
    assert item(reserved.pk).state == OPEN


def test_it_ends_once(owner, alice, bob):
    queue = queue_of(owner, 1)
    reserved = item(reserve_next(queue, alice))
    assert end_item(reserved, alice, DONE)
    assert not end_item(reserved, alice, DONE)
    assert not end_item(reserved, bob, SKIPPED)
    assert item(reserved.pk).ended_by == alice.actor


def test_what_was_skipped_may_yet_be_done(owner, alice, bob):
    queue = queue_of(owner, 1)
    reserved = item(reserve_next(queue, alice))
    assert end_item(reserved, alice, SKIPPED)
    assert not end_item(reserved, alice, SKIPPED)
    assert end_item(reserved, bob, DONE)
    assert progress_of([queue])[queue.pk] == Progress(done=1)


def test_what_was_skipped_is_asked_again(owner, alice):
    queue = queue_of(owner, 2)
    end_item(item(reserve_next(queue, alice)), alice, SKIPPED)
    end_item(item(reserve_next(queue, alice)), alice, DONE)
    assert ask_again(queue) == 1
    assert progress_of([queue])[queue.pk] == Progress(done=1, left=1)


def test_back_goes_through_what_one_ended_oneself(owner, alice, bob):
    queue = queue_of(owner, 4)
    mine = []
    for person in (alice, bob, alice):
        reserved = item(reserve_next(queue, person))
        end_item(reserved, person, DONE)
        mine += [reserved.pk] if person == alice else []
    assert last_ended(queue, alice) == mine[1]
    assert last_ended(queue, alice, item(reserve_next(queue, alice))) == mine[1]
    assert last_ended(queue, alice, item(mine[1])) == mine[0]
    assert last_ended(queue, alice, item(mine[0])) is None


# ── How far it is ──────────────────────────────────────────────────────────
def test_progress_and_who_is_at_it(owner, alice, bob):
    queue, empty = queue_of(owner, 4), open_queue(owner, "empty", "user:1")
    end_item(item(reserve_next(queue, alice)), alice, DONE)
    end_item(item(reserve_next(queue, alice)), alice, SKIPPED)
    held = reserve_next(queue, bob)
    found = progress_of([queue, empty])
    assert found == {queue.pk: Progress(done=1, skipped=1, left=2), empty.pk: Progress()}
    assert (found[queue.pk].ended, found[queue.pk].total) == (2, 4)
    assert [(one.pk, one.reserved_by) for one in reserved_in([queue])] == [(held, bob)]
    run_out(queue)
    assert reserved_in([queue]) == []


def test_what_is_left_for_one_is_what_nobody_else_is_at(owner, alice, bob, stranger):
    queue = queue_of(owner, 3)
    reserve_next(queue, bob)
    assert (items_left(alice), items_left(bob), items_left(stranger)) == (2, 3, 0)
    close_queue(queue)
    assert items_left(alice) == 0


def test_a_viewer_has_nothing_to_review(owner):
    queue_of(owner, 1)
    viewer = User.objects.create_user("viewer")
    Membership.objects.create(user=viewer, owner=owner, role="viewer")
    assert items_left(viewer) == 0


def test_the_next_item_is_found_by_an_index(committed_db, owner):
    """Behind the items of many other queues: few rows may be read in any way."""
    runs = [make_task(owner, title=f"run {place}").pk for place in range(150)]
    for number in range(30):
        queue = open_queue(owner, f"queue {number}", "user:1")
        add_items(queue, runs)
    with connections["owner"].cursor() as cursor:
        cursor.execute("ANALYZE review_item")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "EXPLAIN SELECT id FROM review_item WHERE queue_id = %s AND state = 'open' ORDER BY id LIMIT 1",
            [queue.pk],
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "review_item_next" in plan
