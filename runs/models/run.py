"""Runs: pieces of work, and the queue of those that our worker does."""

import json
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.db import IntegrityError, models, transaction
from django.db.models import Q
from django.db.models.functions import Now

from runs.exact import Json, clean_text, join_exact, split_exact
from runs.models import triggers
from runs.models.access import OwnedQuerySet
from runs.models.ids import uuid7
from runs.models.owner import Owner
from runs.models.search import OF_RUN, OF_SPEC, SearchDoc, put_docs, run_doc, spec_doc
from runs.models.session import Session
from runs.models.status import FINAL, OPEN, Status
from runs.redaction import join_secrets, split_secrets
from runs.sealing import open_sealed, seal

AGENT_LENGTH = 300  # characters; an index entry of PostgreSQL has a limit

# What no list reads (DESIGN.md 3.4): a spec may hold megabytes.
PAYLOADS = ("spec", "spec_exact", "secrets", "metadata", "summary")

_NEWEST = ("-created_at", "-id")
_KEPT = Q(deleted_at__isnull=True)


class SpecConflict(ValueError):
    """The run id is taken: by another spec, or by a run that is not shown, such as another owner's."""

    def __init__(self, persisted: "Run | None") -> None:
        super().__init__("run_id already exists with a different spec")
        self.persisted = persisted


class IdTaken(ValueError):
    """The run id is another owner's, or of another kind of run; nothing is told of it (RELIABILITY.md R7)."""


class LeaseLost(Exception):
    """The claim is not in the row any more: somebody took the run over, or ended it. Nothing was written."""


class RunQuerySet(OwnedQuerySet["Run"]):
    deleted_path = "deleted_at"

    def submit(
        self,
        owner: Owner,
        spec: dict[str, Json],
        run_id: UUID | None = None,
        title: str = "",
        session: Session | None = None,
        priority: int = 0,
        judged: UUID | None = None,
    ) -> "Run":
        """Queues an evaluation of `spec`; `judged` is the run that it judges, where that is one.

        Safe to repeat with the same id and an equal spec: the run that is there comes back, whatever
        its status. Raises SpecConflict where the id is taken otherwise (CONTRACTS.md 1.2).
        """
        shown, secrets = split_secrets(spec)
        held, exact = split_exact(shown)
        run = self.model(
            id=run_id or uuid7(),
            owner=owner,
            session=session,
            kind=Run.Kind.EVALUATION,
            status=Status.QUEUED,
            title=clean_text(title),
            priority=priority,
            judged_id=judged,
            spec=held,
            spec_exact=exact,
            secrets=None if secrets is None else seal(secrets),
            size=_size(shown),
        )
        with transaction.atomic():
            if run_id is None:
                self.bulk_create([run])
            elif not self._create_once(run):
                return self._same(run, spec)
            index_run(run)
            if spec.get("sinks"):
                from runs.models.webhook import add_sinks  # which knows runs

                add_sinks(run, spec["sinks"])
        return run

    def _create_once(self, run: "Run") -> bool:
        """False where the id is taken; nothing is left of the try then."""
        if self.filter(pk=run.pk).exists():
            return False
        try:
            with transaction.atomic():
                self.bulk_create([run])
        except IntegrityError:
            return False
        return True

    def _same(self, run: "Run", spec: dict[str, Json]) -> "Run":
        kept = self.select_related("owner").get(pk=run.pk)
        if kept.owner_id != run.owner_id or kept.deleted_at is not None:
            raise SpecConflict(None)
        if kept.full_spec != spec:
            raise SpecConflict(kept)
        return kept

    def open_task(
        self,
        owner: Owner,
        session: Session | None = None,
        run_id: UUID | None = None,
        agent: str = "",
        raw_status: str = "",
        metadata: dict[str, Json] | None = None,
    ) -> "Run":
        """The task of this id, queued if it is new; one that is there comes back as it is.

        Raises IdTaken where the id is another owner's, an evaluation's, or deleted.
        """
        run = self.model(
            id=run_id or uuid7(),
            owner=owner,
            session=session,
            kind=Run.Kind.TASK,
            status=Status.QUEUED,
            agent=clean_text(agent)[:AGENT_LENGTH],
            raw_status=clean_text(raw_status),
            metadata=split_exact(metadata or {})[0],
        )
        with transaction.atomic():
            self.bulk_create([run], ignore_conflicts=True)
            kept = self.select_related("owner").get(pk=run.pk)
            if (kept.owner_id, kept.kind, kept.deleted_at) != (owner.pk, Run.Kind.TASK, None):
                raise IdTaken(f"the id {run.pk} is taken")
            _index_new(kept)
        return kept

    def record_past(self, owner: Owner, status: str, created_at: datetime, **fields: Any) -> "Run":
        """Keeps a run that happened elsewhere or before, with its own times: `started_at`, `finished_at`.

        It comes in as it ended; nothing of it was queued here. Its history follows by `append_events` and
        `put_artifact`, which are told that it is `past`.
        """
        spec = fields.pop("spec", None)
        shown, secrets = (None, None) if spec is None else split_secrets(spec)
        held, exact = split_exact(shown)
        run = self.model(
            owner=owner,
            status=status,
            created_at=created_at,
            updated_at=fields.get("finished_at") or created_at,
            spec=held,
            spec_exact=exact,
            secrets=None if secrets is None else seal(secrets),
            size=0 if spec is None else _size(shown),
            **fields,
        )
        with transaction.atomic():
            run.save(force_insert=True)
            index_run(run)
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
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="judged_by", db_index=False
    )
    retried = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="retries", db_index=False
    )
    agent = models.TextField(blank=True, default="")
    model = models.TextField(blank=True, default="", help_text="The model that answered, or several.")
    title = models.TextField(blank=True, default="")
    status = models.CharField(max_length=20, choices=Status, default=Status.QUEUED)
    raw_status = models.TextField(blank=True, default="", help_text="The status in its protocol's own words.")
    spec = models.JSONField(null=True, blank=True)
    spec_exact = models.TextField(null=True, blank=True, editable=False)  # noqa: DJ001  None: spec is exact
    secrets = models.BinaryField(null=True, editable=False, help_text="What the spec holds of it, sealed.")
    metadata = models.JSONField(blank=True, default=dict)
    summary = models.JSONField(null=True, blank=True)
    error = models.TextField(null=True, blank=True)  # noqa: DJ001  the API tells null from ""

    attempt = models.PositiveIntegerField(default=0, editable=False)
    worker_id = models.TextField(null=True, blank=True, editable=False)  # noqa: DJ001
    claimed_at = models.DateTimeField(null=True, blank=True, editable=False)
    lease_expires_at = models.DateTimeField(null=True, blank=True, editable=False)

    priority = models.SmallIntegerField(
        default=0, db_default=0, editable=False, help_text="Higher goes first among the runs of its owner."
    )
    run_after = models.DateTimeField(
        null=True, editable=False, help_text="Until when a queued evaluation waits before it is tried again."
    )
    crashes = models.PositiveSmallIntegerField(
        default=0,
        db_default=0,
        editable=False,
        help_text="Attempts that ended with their worker or their process.",
    )
    done_items = models.PositiveIntegerField(null=True, editable=False, help_text="Of an evaluation.")
    total_items = models.PositiveIntegerField(null=True, editable=False)

    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)
    deleted_by = models.TextField(blank=True, default="", editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="When it may be deleted for good.")

    cancel_requested_at = models.DateTimeField(null=True, blank=True, editable=False)
    cancel_requested_by = models.TextField(blank=True, default="", editable=False)
    cancel_reason = models.TextField(blank=True, default="", editable=False)
    cancel_acknowledged_at = models.DateTimeField(null=True, blank=True, editable=False)

    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    size = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="Of its spec, events and artifacts, in bytes."
    )
    search_block = models.BigIntegerField(  # filled by a trigger
        null=True, editable=False, help_text="Where it is searched: models.search."
    )
    event_count = models.PositiveIntegerField(default=0, editable=False)
    artifact_count = models.PositiveIntegerField(default=0, editable=False)
    passed_count = models.PositiveIntegerField(default=0, editable=False)
    failed_count = models.PositiveIntegerField(default=0, editable=False)
    errored_count = models.PositiveIntegerField(default=0, editable=False)
    skipped_count = models.PositiveIntegerField(default=0, editable=False)
    score = models.FloatField(null=True, blank=True, editable=False)
    rating_average = models.FloatField(null=True, blank=True, editable=False)
    rating_count = models.PositiveIntegerField(default=0, editable=False)
    rating = models.SmallIntegerField(
        null=True, blank=True, editable=False, help_text="The average, rounded: what lists are filtered by."
    )
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
            # The lists of one owner, by what they are filtered by. Several values are several ranges of an
            # index, merged (models.listing), and so are several owners.
            models.Index(fields=["owner", *_NEWEST], name="run_list", condition=_KEPT),
            models.Index(fields=["owner", "kind", *_NEWEST], name="run_kind_list", condition=_KEPT),
            models.Index(fields=["owner", "status", *_NEWEST], name="run_status_list", condition=_KEPT),
            models.Index(
                fields=["owner", "kind", "status", *_NEWEST], name="run_kind_status_list", condition=_KEPT
            ),
            models.Index(
                fields=["owner", *_NEWEST],
                name="run_open_list",
                condition=_KEPT & Q(status__in=sorted(OPEN)),
            ),
            models.Index(
                fields=["owner", "agent", *_NEWEST], include=["kind"], name="run_agent_list", condition=_KEPT
            ),
            models.Index(
                fields=["owner", "agent", "status", *_NEWEST], name="run_agent_status_list", condition=_KEPT
            ),
            models.Index(
                fields=["owner", "rating", *_NEWEST],
                include=["agent", "kind", "status"],
                name="run_rating_list",
                condition=_KEPT & Q(rating__isnull=False),
            ),
            # With the deleted ones: before a session goes, PostgreSQL looks for runs that still point to it.
            models.Index(
                fields=["session", *_NEWEST], name="run_session", condition=Q(session__isnull=False)
            ),
            models.Index(fields=["judged"], name="run_judged", condition=Q(judged__isnull=False)),
            models.Index(fields=["retried"], name="run_retried", condition=Q(retried__isnull=False)),
            models.Index(fields=_NEWEST, name="run_newest"),  # the admin, which shows deleted ones as well
            models.Index(  # a worker's claim: of the owner whose turn it is, the first
                "owner",
                models.F("priority").desc(),
                "created_at",
                "id",
                name="run_queue",
                condition=Q(kind="evaluation", status="queued", run_after=None, deleted_at=None),
            ),
            models.Index(  # what is tried again later
                fields=["run_after"],
                name="run_later",
                condition=Q(kind="evaluation", status="queued", run_after__isnull=False),
            ),
            models.Index(  # a worker's sweep of expired leases
                fields=["lease_expires_at", "id"],
                name="run_leases",
                condition=Q(kind="evaluation", status="running"),
            ),
            models.Index(  # what is to be purged
                fields=["deleted_at", "id"], name="run_deleted", condition=Q(deleted_at__isnull=False)
            ),
            models.Index(  # what its owner may restore
                fields=["owner", "-deleted_at", "-id"],
                name="run_deleted_list",
                condition=Q(deleted_at__isnull=False),
            ),
            models.Index(
                fields=["expires_at", "id"], name="run_expiry", condition=Q(expires_at__isnull=False)
            ),
        ]
        triggers = [
            triggers.final_needs_reason(),
            *triggers.assign_block(),
            *triggers.count_runs(),
            triggers.note_new_runs("agent", "model"),
            triggers.note_choices("agent", "model", new=False),
            triggers.note_metadata_keys(),
            triggers.forget_traces(),
            triggers.tell_task(),
            *triggers.queue_triggers(),
            triggers.push_state(),
            *triggers.roll_up_runs(),
            triggers.alterations(
                "alterations",
                ["owner_id", "session_id", "kind", "judged_id", "retried_id", "agent", "title", "created_at"],
                run="OLD.id",
            ),
            triggers.alterations("spec_alterations", ["spec", "spec_exact"], run="OLD.id"),
            triggers.corrections(
                "corrections",
                [
                    *("status", "raw_status", "error", "summary", "metadata", "started_at", "finished_at"),
                    "deleted_at",
                ],
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
        """The spec exactly as it was submitted, secrets included. Raises runs.sealing.Unsealable."""
        spec = self.shown_spec
        return spec if self.secrets is None else join_secrets(spec, open_sealed(bytes(self.secrets)))

    @property
    def shown_spec(self) -> Json:
        """The same without its secrets: what callers and pages see."""
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


def index_run(run: Run) -> None:
    """Makes what the run says of itself searchable: called by each verb that changes it."""
    source = "" if run.session is None else run.session.source
    docs = {OF_RUN: run_doc(run.title, run.error, run.metadata, run.model, source)}
    if run.spec is not None:  # without secrets: who searches must not be able to guess one bit by bit
        docs[OF_SPEC] = spec_doc(run.spec)
    put_docs(run.pk, docs)


def _index_new(run: Run) -> None:
    """Not a run that was there: what we have read of it may be old by now."""
    if not SearchDoc.objects.filter(run_id=run.pk, seq=OF_RUN).exists():
        index_run(run)


def _size(spec: Json) -> int:
    return len(json.dumps(spec))
