"""Retention: which runs go by themselves, and when (issue 3, point 5).

Three kinds do: those that were deleted longer than the grace time ago, those whose `expires_at` is over
(it was set for that very run, so that feedback does not keep it), and those that a policy says. What is
open stays, unless it was deleted. No run is of two kinds, so that the kinds add up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Now

from runs.models import triggers
from runs.models.access import OwnedQuerySet
from runs.models.deletion import Extent, grace, purge, purge_sessions
from runs.models.feedback import Feedback
from runs.models.owner import Owner
from runs.models.run import Run
from runs.models.session import Session
from runs.models.status import FINAL

ACTOR = "retention"
# Why something goes without a policy, as its `Deletion` says.
DELETED, EXPIRED, EMPTIED = "its grace time is over", "it has expired", "it has no runs any more"
SESSION_EXPIRED = "its session has expired"


class RetentionPolicy(models.Model):
    """Which runs of an owner go by themselves; each is judged by the policy of its agent, else the owner's.

    A policy that is not enabled deletes nothing, and its agent's runs are not judged by the owner's either.
    """

    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="retention_policies")
    agent = models.TextField(
        blank=True, default="", help_text="Empty: all agents that have none of their own."
    )
    max_age_days = models.PositiveIntegerField(null=True, blank=True, help_text="Since it was made.")
    max_runs = models.PositiveIntegerField(null=True, blank=True, help_text="The newest ones stay.")
    keep_rated = models.BooleanField(default=True, help_text="Runs with feedback stay whatever their age.")
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        db_table = "retention_policy"
        verbose_name_plural = "retention policies"
        ordering = ["owner", "agent"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "agent"], name="retention_policy_once"),
            models.CheckConstraint(
                condition=Q(max_age_days__isnull=False) | Q(max_runs__isnull=False),
                name="retention_policy_limits_something",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.owner}, {self.agent or 'all agents'}"

    @property
    def limits(self) -> str:
        """ "older than 30 days, or beyond the newest 1,000, unless rated" """
        days = "day" if self.max_age_days == 1 else "days"
        age = f"older than {self.max_age_days:,} {days}" if self.max_age_days is not None else ""
        count = f"beyond the newest {self.max_runs:,}" if self.max_runs is not None else ""
        return ", or ".join(filter(None, (age, count))) + (", unless rated" if self.keep_rated else "")


class Deletion(models.Model):
    """What was deleted for good, once a batch: by whom, why, and how much."""

    owner = models.ForeignKey(Owner, on_delete=models.CASCADE, related_name="deletions")
    actor = models.TextField()
    reason = models.TextField(blank=True, default="")
    runs = models.PositiveIntegerField()
    sessions = models.PositiveIntegerField(default=0)
    bytes = models.PositiveBigIntegerField()
    at = models.DateTimeField(db_default=Now())

    objects = OwnedQuerySet.as_manager()

    class Meta:
        db_table = "deletion"
        ordering = ["-id"]
        triggers = [triggers.append_only()]

    def __str__(self) -> str:
        return f"{self.runs} runs of {self.owner}"


@dataclass(frozen=True, slots=True)
class Due:
    """The runs that go for one reason; `order` is the column by which an index gives them."""

    reason: str
    runs: QuerySet[Run]
    order: str

    def extent(self) -> Extent:
        totals = self.runs.aggregate(runs=Count("pk"), bytes=Sum("size", default=0))
        return Extent(totals["runs"], int(totals["bytes"]))

    def purge(self, by: str = ACTOR, keep_going: Callable[[], bool] = lambda: True) -> Extent:
        return purge(self.runs, by, self.reason, order=self.order, keep_going=keep_going)


def preview(of: RetentionPolicy | Owner, now: datetime) -> Extent:
    """How many runs `apply` would delete now, and their bytes; sessions that it empties go with them."""
    return sum((due.extent() for due in due_of(of, now)), Extent())


def apply(
    of: RetentionPolicy | Owner,
    now: datetime,
    by: str = ACTOR,
    keep_going: Callable[[], bool] = lambda: True,
) -> Extent:
    """Deletes for good what is due by one policy, or of one owner by all that are enabled; gives how much.

    It can be interrupted at any time and called by several at once: each run goes once.
    """
    gone = sum((due.purge(by, keep_going) for due in due_of(of, now)), Extent())
    for reason, sessions in _idle_sessions(of, now):
        gone += purge_sessions(sessions, by, reason, keep_going=keep_going)
    return gone


def due_of(of: RetentionPolicy | Owner, now: datetime) -> list[Due]:
    """What goes by one policy, enabled or not; or all that goes of one owner."""
    if isinstance(of, RetentionPolicy):
        return [due_by(of, now)]
    policies = RetentionPolicy.objects.filter(owner=of, enabled=True).select_related("owner")
    return [*due_anyhow(now, owner=of), *(due_by(policy, now) for policy in policies)]


def due_anyhow(now: datetime, **of: Any) -> list[Due]:
    """What goes without a policy: what was deleted long enough ago, and what has expired."""
    deleted = Q(deleted_at__lt=now - grace())
    runs = Run.objects.filter(**of)
    return [
        Due(DELETED, runs.filter(deleted), "deleted_at"),
        Due(EXPIRED, runs.filter(_has_expired(now)).exclude(deleted), "expires_at"),
        Due(
            SESSION_EXPIRED,
            runs.filter(session__in=expired_sessions(now).filter(**of), status__in=FINAL)
            .exclude(deleted)
            .exclude(_has_expired(now)),
            "created_at",
        ),
    ]


def due_by(policy: RetentionPolicy, now: datetime) -> Due:
    """What goes by this policy. Runs that expired go anyhow, so they are not among its newest either."""
    judged = Run.objects.filter(_is_of(policy), deleted_at=None).exclude(_has_expired(now))
    runs = judged.filter(_no_newer_than(_bound(policy, judged, now)), status__in=FINAL)
    if policy.keep_rated:
        runs = runs.exclude(Exists(Feedback.objects.filter(run=OuterRef("pk"), withdrawn_at=None)))
    return Due(f"{policy.agent or 'all agents'}: {policy.limits}", runs, "created_at")


def due_sessions(now: datetime) -> QuerySet[Session]:
    """The sessions that were deleted long enough ago, and those that expired; with runs they stay."""
    return Session.objects.filter(Q(deleted_at__lt=now - grace()) | Q(pk__in=expired_sessions(now)))


def expired_sessions(now: datetime) -> QuerySet[Session]:
    return Session.objects.filter(expires_at__lt=now)


def _idle_sessions(of: RetentionPolicy | Owner, now: datetime) -> list[tuple[str, QuerySet[Session]]]:
    """Sessions that lost all their runs for good, and had nothing happen for as long as runs are kept.

    Where no age is said, that is the grace time. One that never had a run stays.
    """
    if isinstance(of, RetentionPolicy):
        return [_idle_by(of, now)]
    policies = RetentionPolicy.objects.filter(owner=of).select_related("owner")
    general = [] if any(not policy.agent for policy in policies) else [RetentionPolicy(owner=of)]
    enabled = [policy for policy in (*policies, *general) if policy.enabled]
    deleted = due_sessions(now).filter(owner=of)
    return [(DELETED, deleted), *(_idle_by(policy, now) for policy in enabled)]


def _idle_by(policy: RetentionPolicy, now: datetime) -> tuple[str, QuerySet[Session]]:
    quiet_since = now - grace() if policy.max_age_days is None else _before(now, policy.max_age_days)
    emptied = Session.objects.filter(_is_of(policy), emptied_at__isnull=False, deleted_at=None)
    return EMPTIED, emptied.filter(last_activity_at__lt=quiet_since, run_count=0)


def _is_of(policy: RetentionPolicy) -> Q:
    """The runs, or sessions, that a policy judges."""
    if policy.agent:
        return Q(owner=policy.owner, agent=policy.agent)
    others = RetentionPolicy.objects.filter(owner=policy.owner).exclude(agent="")
    return Q(owner=policy.owner) & ~Q(agent__in=list(others.values_list("agent", flat=True)))


def _has_expired(now: datetime) -> Q:
    return Q(expires_at__lt=now, status__in=FINAL)


def _bound(policy: RetentionPolicy, judged: QuerySet[Run], now: datetime) -> tuple[datetime, UUID] | None:
    """The newest place, by time and id, that one of the policy's limits reaches; None: none does."""
    reached = []
    if policy.max_age_days is not None:
        reached.append((_before(now, policy.max_age_days), UUID(int=0)))
    if policy.max_runs is not None:
        beyond = judged.order_by("-created_at", "-pk").values_list("created_at", "pk")[policy.max_runs :]
        reached += beyond[:1]
    return max(reached, default=None)


def _no_newer_than(bound: tuple[datetime, UUID] | None) -> Q:
    if bound is None:
        return Q(pk__in=[])
    created_at, run_id = bound
    return Q(created_at__lte=created_at) & (Q(created_at__lt=created_at) | Q(pk__lte=run_id))


def _before(now: datetime, days: int) -> datetime:
    """So many days ago, as far as there is a calendar."""
    earliest = datetime(1, 1, 2, tzinfo=UTC)
    return now - timedelta(days=min(days, (now - earliest).days))
