"""What is to be known of the queue, read only: who is alive, what waits, and for what (issue 4, point 10).

Every question is cheap however long the queue is: counts stop at a bound, so that what they give is "at
least" from there on. What is asked of everybody's runs gives numbers and times and nothing else
(OF_EVERYBODY); whatever names a run starts from what the caller may see.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import (
    Avg,
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
)
from django.db.models.functions import Now

from runs.models.access import Caller, owner_ids, owners_seen
from runs.models.attempt import Attempt
from runs.models.owner import Owner
from runs.models.run import PAYLOADS, Run
from runs.models.status import Status
from runs.models.webhook import Delivery
from runs.models.workers import Queue, Worker, queue_state, silent_after

MOST = 10_000  # what a page counts; one more says that there are more
NEAR = 1_000  # how far the place in the queue is counted among other owners' runs
FORGOTTEN = timedelta(days=1)  # how long a worker is told of that fell silent
LONG = timedelta(hours=6)  # how long ago an attempt may have begun that is counted when it ends

_HOUR = timedelta(hours=1)
_WAITS = "kind = 'evaluation' AND status = 'queued' AND run_after IS NULL AND deleted_at IS NULL"


# ── Workers ────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Post:
    """A worker and what it has taken on: `running` are everybody's runs, `lease_ends` the first to end."""

    worker: Worker
    age: timedelta  # since its last sign of life
    silent: bool
    running: int
    lease_ends: datetime | None

    @property
    def takes_runs(self) -> bool:
        return not self.silent and not self.worker.draining


def posts() -> list[Post]:
    """The workers, those that fell silent first; one that has been silent for FORGOTTEN only while it has
    runs."""
    age = ExpressionWrapper(Now() - F("seen_at"), DurationField())
    patience = ExpressionWrapper(silent_after() * Value(timedelta(seconds=1)), DurationField())
    workers = list(Worker.objects.annotate(age=age, patience=patience).order_by("-age", "name"))
    held = _held([worker.name for worker in workers])
    known = [
        Post(worker, worker.age, worker.age > worker.patience, *held.get(place, (0, None)))
        for place, worker in enumerate(workers, 1)
    ]
    shown = [post for post in known if post.age < FORGOTTEN or post.running]
    return sorted(shown, key=lambda post: (not post.silent, post.worker.name))


def worker_of(run: Run) -> str:
    """The name of the worker that holds the run: a claim is that and a number."""
    return (run.worker_id or "").rpartition("/")[0]


def held_by(name: str) -> QuerySet[Run]:
    """The evaluations that a worker holds: of everybody."""
    return Run.objects.filter(
        kind=Run.Kind.EVALUATION, status=Status.RUNNING, worker_id__startswith=f"{name}/"
    )


# ── What waits, of everybody ───────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Turn:
    """An owner whose runs wait for a place: how many, as far as was counted, and since when the oldest."""

    owner_id: int
    waiting: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """The owners in the order in which they are served next: each gets one run started, in turn."""

    turns: Sequence[Turn]

    def others_before(self, owner_id: int, ahead: int) -> int:
        """How many runs of other owners start before the one that has `ahead` of its own owner's before
        it. At least, where that is more than was counted of one of them."""
        number, after = 0, False
        for turn in self.turns:
            if turn.owner_id == owner_id:
                after = True
            else:
                number += min(turn.waiting, ahead if after else ahead + 1)
        return number

    @property
    def waiting(self) -> int:
        return sum(turn.waiting for turn in self.turns)

    @property
    def oldest(self) -> datetime | None:
        return min((turn.oldest for turn in self.turns), default=None)


def line(most: int = NEAR) -> Line:
    """Whose turn it is, as `claim_run` decides it; of each owner as many as `most` are counted."""
    return Line([Turn(*row) for row in _ask(_LINE, {"most": most})])


@dataclass(frozen=True, slots=True)
class Later:
    """Runs in the pause before their next attempt; of everybody."""

    waiting: int
    oldest: datetime | None


def later(most: int = MOST) -> Later:
    (row,) = _ask(_LATER, {"most": most})
    return Later(*row)


@dataclass(frozen=True, slots=True)
class Situation:
    """What all that waits has in common."""

    queue: Queue
    posts: Sequence[Post]
    line: Line

    @property
    def alive(self) -> list[Post]:
        return [post for post in self.posts if not post.silent]

    @property
    def places(self) -> int:
        """Of workers that take runs."""
        return sum(post.worker.places for post in self.posts if post.takes_runs)

    @property
    def free(self) -> int:
        return sum(max(0, post.worker.places - post.running) for post in self.posts if post.takes_runs)

    def somebody_can(self, what: str) -> bool:
        """Whether a worker that takes runs has this ability: `code`, or `agentevals` of any version."""
        return somebody_can(what, self.posts)


def somebody_can(what: str, among: Sequence[Post] | None = None) -> bool:
    """The same of all workers."""
    there = posts() if among is None else among
    return any(str(can).split()[0] == what for post in there if post.takes_runs for can in post.worker.can)


def situation() -> Situation:
    return Situation(queue_state(), posts(), line())


# ── What waits and runs, of one caller ─────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands in the queue: `own` runs of its owner come before it, and `others` of `owners`
    other owners, which have their turns in between."""

    own: int
    others: int
    owners: int

    @property
    def number(self) -> int:
        return self.own + self.others + 1


def place_of(run: Run, queue: Line) -> Place:
    """Where a run stands that waits for a place."""
    mine = _waiting().filter(owner=run.owner_id)
    older = Q(created_at__lte=run.created_at) & (Q(created_at__lt=run.created_at) | Q(id__lt=run.pk))
    # Two ranges of the index run_queue; both at once would read all of the owner's.
    before = [mine.filter(priority__gt=run.priority), mine.filter(older, priority=run.priority)]
    own = min(sum(runs.values("pk")[: MOST + 1].count() for runs in before), MOST + 1)
    return _place(run.owner_id, own, queue)


def next_runs(caller: Caller, queue: Line, most: int) -> list[tuple[Run, Place]]:
    """The first `most` of the caller's runs that wait for a place, the next on top."""
    seen = owners_seen(caller)
    found = []
    for turn in [turn for turn in queue.turns if turn.owner_id in seen][:most]:
        own = _waiting().visible_to(caller).filter(owner=turn.owner_id)
        first = own.order_by("-priority", "created_at", "id").defer(*PAYLOADS)[:most]
        found += [(run, _place(run.owner_id, number, queue)) for number, run in enumerate(first)]
    return sorted(found, key=lambda pair: pair[1].number)[:most]


def paused_runs(caller: Caller, most: int) -> list[Run]:
    """Those of the caller's that are tried again later, the first one on top."""
    pausing = _queued(caller).filter(run_after__isnull=False).order_by("run_after", "id")
    return list(pausing.defer(*PAYLOADS)[:most])


def running(caller: Caller, most: int) -> list[Run]:
    """The evaluations of the caller's that workers are at, the longest on top."""
    theirs = Run.objects.visible_to(caller).filter(kind=Run.Kind.EVALUATION, status=Status.RUNNING)
    return list(theirs.order_by("claimed_at", "id").defer(*PAYLOADS)[:most])


def open_attempts(runs: Iterable[Run]) -> Mapping[Any, Attempt]:
    """By run: what is being tried now."""
    tried = Attempt.objects.filter(run__in=[run.pk for run in runs], ended_at=None)
    return {attempt.run_id: attempt for attempt in tried}


def last_reasons(runs: Iterable[Run]) -> Mapping[Any, str]:
    """By run: why its latest attempt that is over did not end it."""
    ended = Attempt.objects.filter(run__in=[run.pk for run in runs], ended_at__isnull=False)
    latest = ended.order_by("run", "-number").distinct("run")
    return {attempt.run_id: attempt.reason or attempt.get_outcome_display() for attempt in latest}


@dataclass(frozen=True, slots=True)
class Figures:
    """The caller's own numbers. Counts end at MOST + 1; times are of attempts that ended in the last hour."""

    waiting: int
    oldest: datetime | None
    running: int
    elsewhere: int
    done: int
    mean: timedelta | None
    deliveries: int
    dead: int


def figures(caller: Caller, now: datetime) -> Figures:
    done, mean = _done(caller, now)
    runs = Run.objects.visible_to(caller)
    return Figures(
        waiting=_count(_queued(caller)),
        oldest=_oldest(caller),
        running=_count(runs.filter(kind=Run.Kind.EVALUATION, status=Status.RUNNING)),
        elsewhere=_count(runs.filter(kind=Run.Kind.TASK, status=Status.RUNNING)),
        done=done,
        mean=mean,
        deliveries=_count(_deliveries(caller, Delivery.State.WAITING)),
        dead=_count(_deliveries(caller, Delivery.State.DEAD)),
    )


# ── Deliveries ─────────────────────────────────────────────────────────────
def troubled_deliveries(caller: Caller, most: int) -> list[Delivery]:
    """The newest that were given up, and then those that wait for another try, the next one on top."""
    dead = _deliveries(caller, Delivery.State.DEAD).order_by("-id")[:most]
    retried = _deliveries(caller, Delivery.State.WAITING).filter(tries__gt=0).order_by("next_try_at", "id")
    return [
        delivery
        for some in (dead, retried[:most])
        for delivery in some.select_related("webhook", "run").defer("body", "webhook__sealed", *_OF_RUN)
    ]


# ── Everybody's numbers, for whoever runs the whole ────────────────────────
@dataclass(frozen=True, slots=True)
class Pulse:
    """How the whole is: of everybody, counted as far as `most` of `pulse`. Attempts are those that began in
    the last hour, by how they ended; those that have not are `open`."""

    waiting: int
    oldest: datetime | None
    paused: int
    running: int
    attempts: Mapping[str, int]
    seconds: float | None  # that an attempt of these took, where it came to a verdict
    deliveries: int
    dead: int

    @property
    def done(self) -> int:
        """Attempts that came to an end of their run."""
        return sum(self.attempts[name] for name in ("succeeded", "failed", "cancelled"))


def pulse(most: int = 10 * MOST) -> Pulse:
    waiting, pausing = line(most), later(most)
    ((busy,),) = _ask(_RUNNING, {"most": most})
    (attempts,) = _ask(_ATTEMPTS, {"since": _HOUR})
    ((deliveries, dead),) = _ask(_DELIVERIES, {"most": most})
    since = [at for at in (waiting.oldest, pausing.oldest) if at is not None]
    return Pulse(
        waiting=waiting.waiting + pausing.waiting,
        oldest=min(since, default=None),
        paused=pausing.waiting,
        running=busy,
        attempts=dict(zip(("open", *Attempt.Outcome.values), attempts[:-1], strict=True)),
        seconds=attempts[-1],
        deliveries=deliveries,
        dead=dead,
    )


# ── Below: of the caller's ─────────────────────────────────────────────────
_OF_RUN = tuple(f"run__{name}" for name in PAYLOADS)


def _queued(caller: Caller) -> QuerySet[Run]:
    return Run.objects.visible_to(caller).filter(kind=Run.Kind.EVALUATION, status=Status.QUEUED)


def _waiting() -> Any:
    return Run.objects.filter(kind=Run.Kind.EVALUATION, status=Status.QUEUED, run_after=None, deleted_at=None)


def _place(owner_id: int, own: int, queue: Line) -> Place:
    others = sum(turn.owner_id != owner_id for turn in queue.turns)
    return Place(own, queue.others_before(owner_id, own), others)


def _count(rows: QuerySet[Any]) -> int:
    return rows.order_by().values("pk")[: MOST + 1].count()


def _oldest(caller: Caller) -> datetime | None:
    """Owner by owner, each by its index: of several at once PostgreSQL would sort all that wait."""
    first = Run.objects.filter(
        owner=OuterRef("pk"), kind=Run.Kind.EVALUATION, status=Status.QUEUED, deleted_at=None
    ).order_by("created_at", "id")
    owners = Owner.objects.filter(pk__in=owner_ids(caller))
    since = owners.annotate(since=Subquery(first.values("created_at")[:1])).values_list("since", flat=True)
    return min((at for at in since if at is not None), default=None)


def _done(caller: Caller, now: datetime) -> tuple[int, timedelta | None]:
    took = ExpressionWrapper(F("ended_at") - F("started_at"), DurationField())
    ended = Attempt.objects.filter(
        owner__in=owner_ids(caller),
        started_at__gt=now - LONG,
        ended_at__gt=now - _HOUR,
        outcome__in=[Attempt.Outcome.SUCCEEDED, Attempt.Outcome.FAILED],
    ).order_by()
    found = ended.annotate(took=took).values("took")[: MOST + 1].aggregate(done=Count("*"), mean=Avg("took"))
    return found["done"], found["mean"]


def _deliveries(caller: Caller, state: str) -> QuerySet[Delivery]:
    deliveries: QuerySet[Delivery] = Delivery.objects.visible_to(caller).filter(state=state)
    return deliveries


# ── Below: of everybody's, numbers and times alone ─────────────────────────
def _held(names: Collection[str]) -> dict[int, tuple[int, datetime | None]]:
    """By the place of each of `names`, from 1: how many runs that worker holds, and when the first lease
    ends."""
    return {place: (runs, ends) for place, runs, ends in _ask(_HELD, {"names": list(names)})}


def _ask(statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


_HELD = """
    SELECT place, count(*), min(lease_expires_at)
    FROM run JOIN unnest(%(names)s::text[]) WITH ORDINALITY AS worker (name, place)
    ON name = regexp_replace(worker_id, '/[^/]*$', '')
    WHERE kind = 'evaluation' AND status = 'running'
    GROUP BY place
"""
# The order is that of claim_run: the owner that was served least recently comes first.
_LINE = f"""
    WITH RECURSIVE waiting (id) AS (
        (SELECT owner_id FROM run WHERE {_WAITS} ORDER BY owner_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT owner_id FROM run WHERE {_WAITS} AND owner_id > waiting.id ORDER BY owner_id LIMIT 1
        ) FROM waiting WHERE waiting.id IS NOT NULL
    )
    SELECT id,
        (SELECT count(*) FROM (
            SELECT FROM run WHERE {_WAITS} AND owner_id = waiting.id LIMIT %(most)s
        ) AS counted),
        (SELECT created_at FROM run WHERE {_WAITS} AND owner_id = waiting.id ORDER BY created_at LIMIT 1)
    FROM waiting WHERE id IS NOT NULL
    ORDER BY (
        SELECT started_at FROM attempt WHERE attempt.owner_id = waiting.id ORDER BY started_at DESC LIMIT 1
    ) NULLS FIRST, id
"""
_LATER = """
    SELECT count(*), min(created_at) FROM (
        SELECT created_at FROM run
        WHERE kind = 'evaluation' AND status = 'queued' AND run_after IS NOT NULL AND deleted_at IS NULL
        LIMIT %(most)s
    ) AS counted
"""
_RUNNING = """
    SELECT count(*) FROM (
        SELECT FROM run WHERE kind = 'evaluation' AND status = 'running' LIMIT %(most)s
    ) AS counted
"""
_BY_OUTCOME = ", ".join(f"count(*) FILTER (WHERE outcome = '{one}')" for one in ("", *Attempt.Outcome.values))
_ATTEMPTS = f"""
    SELECT {_BY_OUTCOME},
        (avg(extract(epoch FROM ended_at - started_at))
            FILTER (WHERE outcome IN ('succeeded', 'failed')))::float
    FROM owner JOIN attempt ON attempt.owner_id = owner.id
    AND started_at > statement_timestamp() - %(since)s
"""
_DELIVERIES = """
    SELECT
        (SELECT count(*) FROM (SELECT FROM delivery WHERE state = 'waiting' LIMIT %(most)s) AS counted),
        (SELECT count(*) FROM (SELECT FROM delivery WHERE state = 'dead' LIMIT %(most)s) AS counted)
"""

# The only statements that read past the caller's owners; tests hold them to numbers and times.
OF_EVERYBODY = frozenset({_HELD, _LINE, _LATER, _RUNNING, _ATTEMPTS, _DELIVERIES})
