"""Runs: pieces of work, and the queue of those that our worker does."""

from datetime import datetime, timedelta
from typing import Any, ClassVar, Self
from uuid import UUID

from django.contrib.postgres.indexes import GinIndex
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from runs.exact import Json, clean_text, join_exact, split_exact
from runs.models import triggers
from runs.models.access import OwnedQuerySet
from runs.models.ids import uuid7
from runs.models.owner import Owner
from runs.models.session import Session


class Status(models.TextChoices):
    """The one set of statuses; what a protocol called it is in `raw_status` (DESIGN.md 2)."""

    QUEUED = "queued"
    RUNNING = "running"
    INPUT_REQUIRED = "input_required", "Needs input"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})
OPEN = frozenset(set(Status) - FINAL)

# What no list reads (DESIGN.md 3.4): a spec may hold megabytes.
PAYLOADS = ("spec", "spec_exact", "metadata", "summary")


class SpecConflict(ValueError):
    """The run id is taken: by another spec, or by another owner, whose run is not shown."""

    def __init__(self, persisted: "Run | None") -> None:
        super().__init__("run_id already exists with a different spec")
        self.persisted = persisted


class RunQuerySet(OwnedQuerySet["Run"]):
    def for_list(self) -> Self:
        return self.defer(*PAYLOADS).select_related("session", "owner")

    def submit(
        self,
        owner: Owner,
        spec: dict[str, Json],
        run_id: UUID | None = None,
        title: str = "",
        session: Session | None = None,
    ) -> "Run":
        """Queues an evaluation of `spec`.

        Safe to repeat with the same id and an equal spec: the run that is there comes back, whatever
        its status. Raises SpecConflict where the id is taken otherwise (CONTRACTS.md 1.2).
        """
        held, exact = split_exact(spec)
        run = self.model(
            id=run_id or uuid7(),
            owner=owner,
            session=session,
            kind=Run.Kind.EVALUATION,
            status=Status.QUEUED,
            title=clean_text(title),
            spec=held,
            spec_exact=exact,
        )
        with transaction.atomic():
            self.bulk_create([run], ignore_conflicts=True)
            kept = self.select_related("owner").get(pk=run.pk)
            if kept.owner_id != owner.pk:
                raise SpecConflict(None)
            if kept.full_spec != spec:
                raise SpecConflict(kept)
        return kept

    def record_past(self, owner: Owner, status: str, created_at: datetime, **fields: Any) -> "Run":
        """Keeps a run that happened elsewhere or before, with its own times: `started_at`, `finished_at`.

        It comes in as it ended; nothing of it was queued here.
        """
        held, exact = split_exact(fields.pop("spec", None))
        run = self.model(
            owner=owner,
            status=status,
            created_at=created_at,
            updated_at=fields.get("finished_at") or created_at,
            spec=held,
            spec_exact=exact,
            **fields,
        )
        run.save(force_insert=True)
        return run


class Run(models.Model):
    """One piece of work in a session: a task (an agent did it) or an evaluation (our worker does it)."""

    Status = Status

    class Kind(models.TextChoices):
        TASK = "task"
        EVALUATION = "evaluation"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(Owner, on_delete=models.PROTECT, related_name="runs", db_index=False)
    session = models.ForeignKey(
        Session, on_delete=models.PROTECT, null=True, blank=True, related_name="runs", db_index=False
    )
    kind = models.CharField(max_length=20, choices=Kind)
    judged = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="judged_by"
    )
    retried = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="retries"
    )
    agent = models.TextField(blank=True, default="")
    model = models.TextField(blank=True, default="", help_text="The model that answered, or several.")
    title = models.TextField(blank=True, default="")
    status = models.CharField(max_length=20, choices=Status, default=Status.QUEUED)
    raw_status = models.TextField(blank=True, default="", help_text="The status in its protocol's own words.")
    spec = models.JSONField(null=True, blank=True)
    spec_exact = models.TextField(null=True, blank=True, editable=False)  # noqa: DJ001  None: spec is exact
    metadata = models.JSONField(blank=True, default=dict)
    summary = models.JSONField(null=True, blank=True)
    error = models.TextField(null=True, blank=True)  # noqa: DJ001  the API tells null from ""

    attempt = models.PositiveIntegerField(default=0, editable=False)
    worker_id = models.TextField(null=True, blank=True, editable=False)  # noqa: DJ001
    claimed_at = models.DateTimeField(null=True, blank=True, editable=False)
    lease_expires_at = models.DateTimeField(null=True, blank=True, editable=False)

    cancel_requested_at = models.DateTimeField(null=True, blank=True, editable=False)
    cancel_requested_by = models.TextField(blank=True, default="", editable=False)
    cancel_reason = models.TextField(blank=True, default="", editable=False)
    cancel_acknowledged_at = models.DateTimeField(null=True, blank=True, editable=False)

    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    event_count = models.PositiveIntegerField(default=0, editable=False)
    artifact_count = models.PositiveIntegerField(default=0, editable=False)
    passed_count = models.PositiveIntegerField(default=0, editable=False)
    failed_count = models.PositiveIntegerField(default=0, editable=False)
    errored_count = models.PositiveIntegerField(default=0, editable=False)
    skipped_count = models.PositiveIntegerField(default=0, editable=False)
    score = models.FloatField(null=True, blank=True, editable=False)
    rating_average = models.FloatField(null=True, blank=True, editable=False)
    rating_count = models.PositiveIntegerField(default=0, editable=False)
    input_tokens = models.PositiveBigIntegerField(null=True, blank=True, editable=False)
    output_tokens = models.PositiveBigIntegerField(null=True, blank=True, editable=False)
    cost = models.DecimalField(
        max_digits=14, decimal_places=6, null=True, blank=True, editable=False, help_text="In US dollars."
    )

    objects: ClassVar = RunQuerySet.as_manager()

    class Meta:
        db_table = "run"
        constraints = [
            models.CheckConstraint(condition=Q(status__in=Status.values), name="run_status"),
            models.CheckConstraint(condition=Q(kind__in=["task", "evaluation"]), name="run_kind"),
            models.CheckConstraint(
                name="run_running_is_claimed",
                condition=~Q(kind="evaluation", status="running")
                | Q(worker_id__isnull=False, claimed_at__isnull=False, lease_expires_at__isnull=False),
            ),
            models.CheckConstraint(
                name="run_final_is_finished",
                condition=Q(status__in=sorted(FINAL), finished_at__isnull=False)
                | Q(status__in=sorted(OPEN), finished_at__isnull=True),
            ),
            models.CheckConstraint(
                name="run_rating_average",
                condition=Q(rating_average=None) | Q(rating_average__gte=1, rating_average__lte=5),
            ),
        ]
        indexes = [
            # The runs page, GET /api/runs; the second where somebody belongs to several owners: no index
            # that begins with the owner gives one order for all of them.
            models.Index(fields=["owner", "-created_at", "-id"], name="run_list"),
            models.Index(fields=["-created_at", "-id"], name="run_newest"),
            models.Index(
                fields=["owner", "status", "-created_at", "-id"], name="run_list_status"
            ),  # the same, filtered
            models.Index(fields=["session", "-created_at", "-id"], name="run_session"),  # the session page
            models.Index(  # a worker's claim of the oldest
                fields=["created_at", "id"], name="run_queue", condition=Q(kind="evaluation", status="queued")
            ),
            models.Index(  # a worker's sweep of expired leases
                fields=["lease_expires_at", "id"],
                name="run_leases",
                condition=Q(kind="evaluation", status="running"),
            ),
            GinIndex(fields=["metadata"], name="run_metadata"),
        ]
        triggers = [
            triggers.final_needs_reason(),
            triggers.count_runs(),
            triggers.alterations(
                "alterations",
                ["owner_id", "session_id", "kind", "judged_id", "retried_id", "agent", "title", "created_at"],
                run="OLD.id",
            ),
            triggers.alterations("spec_alterations", ["spec", "spec_exact"], run="OLD.id"),
            triggers.corrections(
                "corrections",
                ["status", "raw_status", "error", "summary", "metadata", "started_at", "finished_at"],
                run="OLD.id",
                final=triggers.RUN_IS_FINAL,
            ),
        ]

    def __str__(self) -> str:
        return self.title or f"Run {self.short_id}"

    @property
    def short_id(self) -> str:
        """Enough of the id to tell runs apart at a glance: of a UUIDv7 the end is what differs."""
        return str(self.pk)[-8:]

    @property
    def full_spec(self) -> Json:
        """The spec exactly as it was submitted."""
        return join_exact(self.spec, self.spec_exact)

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def is_evaluation(self) -> bool:
        return self.kind == Run.Kind.EVALUATION

    def duration(self, now: datetime) -> timedelta | None:
        """How long it took, or has taken until `now`; None before it starts."""
        return None if self.started_at is None else (self.finished_at or now) - self.started_at

    def request_cancel(self, by: str, reason: str = "") -> None:
        """Ends a queued run at once; asks whoever works at a running one to stop. Safe to repeat.

        A final run stays as it is, and a second request keeps the first one's person and reason.
        """
        asked = {
            "cancel_requested_by": clean_text(by),
            "cancel_reason": clean_text(reason),
            "updated_at": Now(),
        }
        asked_at = Coalesce(F("cancel_requested_at"), Now())
        this = Run.objects.filter(pk=self.pk)
        ended = this.filter(status=Status.QUEUED).update(
            status=Status.CANCELLED, finished_at=Now(), cancel_requested_at=asked_at, **asked
        )
        if not ended:
            this.filter(status__in=OPEN, cancel_requested_at=None).update(cancel_requested_at=Now(), **asked)
        self.refresh_from_db()
