"""The one set of statuses, and the rule for every change of one (DESIGN.md 2 and 3.6)."""

from django.db import models
from django.db.models import Q, QuerySet
from django.db.models.functions import Now


class Status(models.TextChoices):
    """What a protocol called it is in `raw_status`."""

    QUEUED = "queued"
    RUNNING = "running"
    INPUT_REQUIRED = "input_required", "Needs input"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})
OPEN = frozenset(set(Status) - FINAL)

# From where a run may come to each status. An agent that works elsewhere reports its task as it pleases,
# as long as the task is open; an evaluation is queued, claimed, perhaps given back, and ended. Nothing
# leaves a final status, but for a person's correction, which PostgreSQL lets through with a reason alone
# (triggers.final_needs_reason).
OF_TASKS: dict[Status, frozenset[Status]] = dict.fromkeys(Status, OPEN)
OF_EVALUATIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING}),
    Status.RUNNING: frozenset({Status.QUEUED, Status.RUNNING}),  # a silent worker's run is taken over
    Status.SUCCEEDED: frozenset({Status.RUNNING}),
    Status.FAILED: frozenset({Status.RUNNING}),
    Status.CANCELLED: frozenset({Status.QUEUED, Status.RUNNING}),
}


def moved(runs: QuerySet, to: Status, **columns: object) -> int:
    """Moves those of `runs` that may go there, in one conditional UPDATE; gives how many did.

    A run that ends gets its end, now unless `finished_at` says otherwise. Whoever changes a status of
    what is recorded calls this.
    """
    ended = {"finished_at": Now()} if to in FINAL else {}
    return _may_go(runs, to).update(**{"status": to, "updated_at": Now(), **ended, **columns})


def _may_go(runs: QuerySet, to: Status) -> QuerySet:
    task = Q(kind="task", status__in=sorted(OF_TASKS[to]))
    evaluation = Q(kind="evaluation", status__in=sorted(OF_EVALUATIONS.get(to, frozenset())))
    return runs.filter(task | evaluation)
