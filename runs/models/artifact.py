"""Artifacts: what a run produced."""

import json
from typing import Any

from django.db import models, transaction
from django.db.models import F
from django.db.models.functions import Now

from runs.exact import Json, clean_text, join_exact, split_exact
from runs.models import triggers
from runs.models.run import Run


class Artifact(models.Model):
    """Parts of text, data or file (A2A's artifact), or the bytes of one file."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="artifacts", db_index=False)
    artifact_id = models.TextField(help_text="Its client's id, unique in the run.")
    name = models.TextField(blank=True, default="")
    parts = models.JSONField(default=list, blank=True)
    parts_exact = models.TextField(null=True, editable=False)  # noqa: DJ001  None: parts is exact
    content = models.BinaryField(null=True)
    media_type = models.CharField(max_length=255, blank=True, default="")
    size = models.PositiveBigIntegerField(help_text="In bytes.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "artifact"
        ordering = ["run", "id"]
        constraints = [models.UniqueConstraint(fields=["run", "artifact_id"], name="artifact_once")]
        triggers = [
            triggers.alterations("alterations", ["run_id", "artifact_id", "created_at"], run="OLD.run_id"),
            triggers.corrections(
                "corrections", ["name", "parts", "parts_exact", "media_type"], run="OLD.run_id"
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.artifact_id

    @property
    def full_parts(self) -> Json:
        """The parts exactly as they came."""
        return join_exact(self.parts, self.parts_exact)


def put_artifact(
    run: Run,
    artifact_id: str,
    name: str = "",
    parts: list[dict[str, Any]] | None = None,
    content: bytes | None = None,
    media_type: str = "",
) -> Artifact:
    """Keeps an artifact under its id, instead of the one that was there; the run's count follows."""
    held, exact = split_exact(parts or [])
    fields = {
        "name": clean_text(name),
        "parts": held,
        "parts_exact": exact,
        "content": content,
        "media_type": clean_text(media_type)[:255],
        "size": len(content) if content is not None else len(json.dumps(parts or []).encode()),
    }
    with transaction.atomic():
        Run.objects.select_for_update(of=("self",)).only("pk").get(pk=run.pk)
        artifact, made = Artifact.objects.update_or_create(
            run=run, artifact_id=clean_text(artifact_id), defaults=fields
        )
        if made:
            Run.objects.filter(pk=run.pk).update(artifact_count=F("artifact_count") + 1, updated_at=Now())
    return artifact
