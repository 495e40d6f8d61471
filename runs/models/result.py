"""Results: what one evaluator said of one item."""

from collections.abc import Iterable
from typing import ClassVar

from django.db import models
from django.db.models import Avg, Count, Q
from django.db.models.functions import Now

from runs.exact import Json, join_exact
from runs.models import triggers
from runs.models.access import OfRunQuerySet
from runs.models.run import Run
from runs.models.search import OF_RESULTS, add_to_doc, clean_sign, doc_of
from runs.words import Found


class Result(models.Model):
    """The verdict of one evaluator; its id makes writing it twice harmless (CONTRACTS.md 1.3)."""

    class Status(models.TextChoices):
        PASSED = "passed"
        FAILED = "failed"
        ERRORED = "errored"
        SKIPPED = "skipped"

    id = models.CharField(primary_key=True, max_length=64, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="results", db_index=False)
    item_id = models.TextField()
    item_name = models.TextField()
    case_id = models.TextField(blank=True, default="", help_text="The eval case that the item was judged by.")
    question = models.TextField(blank=True, default="", help_text="The item's first user message.")
    evaluator_name = models.TextField()
    evaluator_type = models.CharField(max_length=20)
    threshold = models.FloatField(null=True, blank=True)
    status = models.CharField(max_length=20, choices=Status)
    score = models.FloatField(null=True, blank=True)
    per_invocation_scores = models.JSONField(default=list, blank=True)
    trace_id = models.TextField(null=True, blank=True)  # noqa: DJ001  the API tells null from ""
    span_id = models.TextField(null=True, blank=True)  # noqa: DJ001
    details = models.JSONField(default=dict, blank=True)
    details_exact = models.TextField(null=True, editable=False)  # noqa: DJ001  None: details is exact
    error = models.TextField(null=True, blank=True)  # noqa: DJ001
    tokens = models.JSONField(null=True, blank=True)
    latency_ms = models.PositiveIntegerField(null=True, blank=True)
    position = models.PositiveIntegerField(
        default=0, editable=False, help_text="Its place in its evaluation."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar = OfRunQuerySet.as_manager()

    class Meta:
        db_table = "result"
        ordering = ["created_at", "position", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["passed", "failed", "errored", "skipped"]), name="result_status"
            )
        ]
        indexes = [models.Index(fields=["run", "created_at", "position"], name="result_list")]
        triggers = [
            *triggers.roll_up_results(),
            triggers.alterations("alterations", ["run_id", "item_id", "evaluator_name"], run="OLD.run_id"),
            triggers.corrections(
                "corrections",
                ["status", "score", "per_invocation_scores", "details", "details_exact", "error"],
                run="OLD.run_id",
                final=triggers.RUN_OF_ROW_IS_FINAL,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.evaluator_name} of {self.item_name}"

    @property
    def full_details(self) -> Json:
        """The details exactly as the evaluator gave them."""
        return join_exact(self.details, self.details_exact)


def record_results(run: Run, results: Iterable[Result]) -> None:
    """Keeps results, each once: one that is there takes the newer verdict (CONTRACTS.md 1.3).

    The caller holds the run's row, so that its counts are those of all results.
    """
    kept = Result.objects.bulk_create(
        results,
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=[
            *("status", "score", "per_invocation_scores", "details", "details_exact"),
            *("error", "tokens", "latency_ms", "threshold"),
        ],
    )
    count_results(run)
    note_evaluators(run, {result.evaluator_name for result in kept})


def note_evaluators(run: Run, names: Iterable[str]) -> None:
    """Makes the run findable by who judged it."""
    found = Found()
    for name in names:
        found.mark(clean_sign(f"=evaluator:{name}"))
    if found.positions:
        add_to_doc(run.pk, OF_RESULTS, doc_of(found))


class _ExactAvg(Avg):
    """Of decimals: in what order PostgreSQL meets the rows must not decide the last digit."""

    template = "avg((%(expressions)s)::numeric)::float8"


def count_results(run: Run) -> None:
    """Makes the run's counts of results and its score true."""
    counts = {f"{status}_count": Count("pk", filter=Q(status=status)) for status in Result.Status.values}
    totals = Result.objects.filter(run=run).aggregate(**counts, score=_ExactAvg("score"))
    Run.objects.filter(pk=run.pk).update(**totals, updated_at=Now())
