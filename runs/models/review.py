"""Review queues: runs that wait for people's judgement, handed out one at a time (issue 5, point 5)."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Count, Exists, OuterRef, Q
from django.db.models.functions import Now

from runs.models.access import Action, OwnedQuerySet
from runs.models.criterion import Criterion
from runs.models.owner import Owner
from runs.models.run import Run
from runs.models.user import User

RESERVED_FOR = timedelta(minutes=15)  # an item, for one person, unless they show that they are at it still


class QueueTaken(ValueError):
    """The owner has a review queue of that name already; the text says so to a person."""


class ReviewQueue(models.Model):
    """Runs of one owner, chosen by a query, to be rated on these criteria. Closed: nothing is handed out."""

    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="review_queues")
    name = models.CharField(max_length=100)
    instructions = models.TextField(blank=True, default="")
    query = models.TextField(blank=True, default="", help_text="What its runs were chosen by.")
    criteria = ArrayField(models.CharField(max_length=100), default=list, blank=True, help_text="Their keys.")
    created_by = models.TextField(help_text="An actor, such as user:7.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    closed_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar = OwnedQuerySet.as_manager()

    class Meta:
        db_table = "review_queue"
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="review_queue_once")]

    def __str__(self) -> str:
        return self.name


class OfQueueQuerySet(OwnedQuerySet["ReviewItem"]):
    owner_path = "queue__owner"
    deleted_path = "run__deleted_at"


class ReviewItem(models.Model):
    """A run in a queue. Reserved, it is one person's until `reserved_until`; then the next asker's."""

    class State(models.TextChoices):
        OPEN = "open"
        DONE = "done"
        SKIPPED = "skipped"

    queue = models.ForeignKey(ReviewQueue, on_delete=models.CASCADE, related_name="items", db_index=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="review_items", db_index=False)
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    reserved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    reserved_until = models.DateTimeField(null=True, blank=True)
    ended_by = models.TextField(blank=True, default="", help_text="Who did or skipped it: an actor.")
    ended_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar = OfQueueQuerySet.as_manager()

    class Meta:
        db_table = "review_item"
        ordering = ["queue", "id"]
        constraints = [
            models.UniqueConstraint(fields=["queue", "run"], name="review_item_once"),
            models.CheckConstraint(
                condition=Q(state__in=["open", "done", "skipped"]), name="review_item_state"
            ),
            models.CheckConstraint(
                condition=Q(state="open", ended_at=None) | (~Q(state="open") & Q(ended_at__isnull=False)),
                name="review_item_ended",
            ),
            models.CheckConstraint(
                condition=Q(reserved_by=None) | Q(reserved_until__isnull=False), name="review_item_reserved"
            ),
        ]
        indexes = [
            # The next one, and how many are left.
            models.Index(fields=["queue", "id"], name="review_item_next", condition=Q(state="open")),
            # How many were done and skipped.
            models.Index(fields=["queue", "state", "ended_at"], name="review_item_ended_list"),
            models.Index(  # what one did last
                fields=["queue", "ended_by", "ended_at"],
                name="review_item_of_person",
                condition=~Q(state="open"),
            ),
            models.Index(fields=["run"], name="review_item_run"),  # the run's page, purging
        ]

    def __str__(self) -> str:
        return f"{self.run_id} in {self.queue_id}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How many items of a queue are in which state; those of deleted runs do not count."""

    done: int = 0
    skipped: int = 0
    left: int = 0

    @property
    def ended(self) -> int:
        return self.done + self.skipped

    @property
    def total(self) -> int:
        return self.ended + self.left


def open_queue(
    owner: Owner, name: str, by: str, criteria: Sequence[str] | None = None, **told: object
) -> ReviewQueue:
    """A new queue without items; `told` are its other columns.

    criteria: their keys; None for all that the owner has now. Raises QueueTaken.
    """
    if criteria is None:
        criteria = [one.key for one in Criterion.objects.filter(owner=owner).asked()]
    told |= {"owner": owner, "name": name, "created_by": by, "criteria": list(criteria)}
    try:
        with transaction.atomic():
            return ReviewQueue.objects.create(**told)
    except IntegrityError:
        raise QueueTaken(f"{owner} has a queue of this name already.") from None


def change_queue(queue: ReviewQueue, name: str, instructions: str, criteria: Sequence[str]) -> None:
    """Tells reviewers something else from their next item on. Raises QueueTaken."""
    told = {"name": name, "instructions": instructions, "criteria": list(criteria)}
    try:
        with transaction.atomic():
            ReviewQueue.objects.filter(pk=queue.pk).update(**told)
    except IntegrityError:
        raise QueueTaken(f"{queue.owner} has a queue of this name already.") from None


def close_queue(queue: ReviewQueue) -> None:
    """Hands nothing out any more. What somebody is at may still be done."""
    ReviewQueue.objects.filter(pk=queue.pk, closed_at=None).update(closed_at=Now())


def reopen_queue(queue: ReviewQueue) -> None:
    ReviewQueue.objects.filter(pk=queue.pk).update(closed_at=None)


def add_items(queue: ReviewQueue, runs: Collection[UUID]) -> int:
    """Puts runs of the queue's owner into it, in this order; gives how many are new. Doing it again is
    harmless, also while somebody else does."""
    with connection.cursor() as cursor:
        cursor.execute(_ADD, {"queue": queue.pk, "owner": queue.owner_id, "runs": list(runs)})
        return int(cursor.rowcount)


_ADD = """
    INSERT INTO review_item (queue_id, run_id, state, ended_by)
    SELECT %(queue)s, run.id, 'open', ''
    FROM unnest(%(runs)s::uuid[]) WITH ORDINALITY AS given (run_id, place) JOIN run ON run.id = given.run_id
    WHERE run.owner_id = %(owner)s AND run.deleted_at IS NULL
    ORDER BY given.place
    ON CONFLICT (queue_id, run_id) DO NOTHING
"""


# Deleted runs are few: to look for these is less than to look at each item's run.
_OF_KEPT_RUNS = ~Q(Exists(Run.objects.filter(pk=OuterRef("run"), deleted_at__isnull=False)))


def progress_of(queues: Iterable[ReviewQueue]) -> dict[int, Progress]:
    """By the ids of the queues."""
    ids = [queue.pk for queue in queues]
    states = {"done": "done", "skipped": "skipped", "left": "open"}
    counts = {name: Count("pk", filter=Q(state=state)) for name, state in states.items()}
    items = ReviewItem.objects.filter(_OF_KEPT_RUNS, queue__in=ids)
    rows = items.values("queue_id").annotate(**counts).order_by().values_list("queue_id", *states)
    found = {queue: Progress(*numbers) for queue, *numbers in rows}
    return {queue: found.get(queue, Progress()) for queue in ids}


def reserved_in(queues: Iterable[ReviewQueue]) -> list[ReviewItem]:
    """The items that somebody is at, each with its person."""
    items = ReviewItem.objects.filter(queue__in=[queue.pk for queue in queues], state=ReviewItem.State.OPEN)
    held = items.filter(reserved_by__isnull=False, reserved_until__gt=Now())
    return list(held.select_related("reserved_by").order_by("queue", "id"))


def items_left(person: User) -> int:
    """How many items wait for this person: those that others are at do not."""
    queues = ReviewQueue.objects.allowing(person, Action.RATE).filter(closed_at=None)
    items = ReviewItem.objects.filter(_OF_KEPT_RUNS, _free_for(person), queue__in=queues)
    return items.filter(state=ReviewItem.State.OPEN).count()


# ── One item ───────────────────────────────────────────────────────────────
def reserve_next(queue: ReviewQueue, person: User) -> int | None:
    """The id of the item that the person is at, else of the next one, which is now theirs for RESERVED_FOR.

    Two people never get the same. None: nothing is left, or others are at all that is.
    """
    if queue.closed_at is not None:
        return None
    with connection.cursor() as cursor:
        named: dict[str, Any] = {"queue": queue.pk, "person": person.pk, "time": RESERVED_FOR}
        for statement in (_AT_IT, _NEXT):
            cursor.execute(statement, named)
            if row := cursor.fetchone():
                return int(row[0])
    return None


_RESERVE = """
    UPDATE review_item
    SET reserved_by_id = %(person)s, reserved_until = statement_timestamp() + %(time)s
    WHERE id = (
        SELECT review_item.id FROM review_item JOIN run ON run.id = review_item.run_id
        WHERE review_item.queue_id = %(queue)s AND review_item.state = 'open' AND run.deleted_at IS NULL
        AND {condition}
        ORDER BY review_item.id LIMIT 1 FOR UPDATE OF review_item SKIP LOCKED
    )
    RETURNING id
"""
_AT_IT = _RESERVE.format(
    condition="review_item.reserved_by_id = %(person)s AND review_item.reserved_until > statement_timestamp()"
)
_NEXT = _RESERVE.format(
    condition="coalesce(review_item.reserved_until, '-infinity') <= statement_timestamp()"
)


def hold(item: ReviewItem, person: User) -> bool:
    """Reserves the item for this person, or keeps it reserved. False: it is another's, or not open."""
    mine = ReviewItem.objects.filter(_free_for(person), pk=item.pk, state=ReviewItem.State.OPEN)
    return mine.update(reserved_by=person, reserved_until=Now() + RESERVED_FOR) == 1


def release(queue: ReviewQueue, person: User) -> None:
    """Lets go of what the person is at."""
    mine = ReviewItem.objects.filter(queue=queue, state=ReviewItem.State.OPEN, reserved_by=person)
    mine.update(reserved_by=None, reserved_until=None)


def end_item(item: ReviewItem, person: User, state: ReviewItem.State) -> bool:
    """Ends the item as done or skipped; one that was skipped may yet be done.

    False: somebody else is at it, or it has ended. Then nothing changes.
    """
    may = Q(_free_for(person), state=ReviewItem.State.OPEN)
    if state == ReviewItem.State.DONE:
        may |= Q(state=ReviewItem.State.SKIPPED)
    ended = {"state": state, "ended_by": person.actor, "ended_at": Now()}
    free = {"reserved_by": None, "reserved_until": None}
    return ReviewItem.objects.filter(may, pk=item.pk).update(**ended, **free) == 1


def last_ended(queue: ReviewQueue, person: User, before: ReviewItem | None = None) -> int | None:
    """The id of the item that the person ended last, or ended last before that one."""
    items = ReviewItem.objects.filter(queue=queue, ended_by=person.actor, run__deleted_at=None)
    items = items.exclude(state=ReviewItem.State.OPEN)
    if before is not None and before.ended_by == person.actor:
        items = items.filter(ended_at__lt=before.ended_at)
    return items.order_by("-ended_at").values_list("pk", flat=True).first()


def ask_again(queue: ReviewQueue) -> int:
    """Opens what was skipped; gives how many items that were."""
    skipped = ReviewItem.objects.filter(queue=queue, state=ReviewItem.State.SKIPPED)
    return skipped.update(state=ReviewItem.State.OPEN, ended_by="", ended_at=None)


def _free_for(person: User) -> Q:
    return Q(reserved_by=None) | Q(reserved_by=person) | Q(reserved_until__lte=Now())
