"""Artifacts: what a run produced."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from django.db import models, transaction
from django.db.models import F, Max
from django.db.models.functions import Now

from runs.exact import Json, clean_text, join_exact, split_exact
from runs.models import triggers
from runs.models.access import OfRunQuerySet
from runs.models.event import NewEvent, append_events
from runs.models.run import Run

_LONGEST_ID = 500  # characters; an index entry of PostgreSQL has a limit


class Artifact(models.Model):
    """Parts of text, data or file (A2A's artifact), or the bytes of one file."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="artifacts", db_index=False)
    artifact_id = models.TextField(help_text="Its client's id.")
    number = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text="Of several that came under one id."
    )
    name = models.TextField(blank=True, default="")
    parts = models.JSONField(default=list, blank=True)
    parts_exact = models.TextField(null=True, editable=False)  # noqa: DJ001  None: parts is exact
    told = models.JSONField(
        null=True, editable=False, help_text="All that an A2A agent said of it beside its parts."
    )
    told_exact = models.TextField(null=True, editable=False)  # noqa: DJ001  the whole, where they do not hold it
    content = models.BinaryField(null=True)
    media_type = models.CharField(max_length=255, blank=True, default="")
    size = models.PositiveBigIntegerField(help_text="In bytes.")
    complete = models.BooleanField(default=True, help_text="False while more chunks of it are to come.")
    created_at = models.DateTimeField(db_default=Now())

    objects: ClassVar = OfRunQuerySet.as_manager()

    class Meta:
        db_table = "artifact"
        ordering = ["run", "id"]
        constraints = [models.UniqueConstraint(fields=["run", "artifact_id", "number"], name="artifact_once")]
        triggers = [
            triggers.push_artifact(),
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
    *,
    append: bool = False,
    last_chunk: bool = True,
    past: bool = False,
    at: datetime | None = None,
) -> Artifact | None:
    """Keeps an artifact under its id, instead of the last one that was there; the run's counts follow.

    With `append` the parts come behind those that are there; until the `last_chunk` it is not complete
    (A2A's words). A final run keeps what it has: None, and the artifact is in the event `late_write`
    (CONTRACTS.md 4.2), unless it is `past`, history from elsewhere. `at` is when a new one was made: now,
    unless it comes from elsewhere.
    """
    with transaction.atomic():
        held = Run.objects.select_for_update(of=("self",)).only("status").get(pk=run.pk)
        if held.is_final and not past:
            _note_late(run, artifact_id, name, parts or [], content, media_type)
            return None
        of_id = Artifact.objects.filter(run=run, artifact_id=clean_text(artifact_id))
        before = of_id.order_by("-number").first()
        if append and before is not None:
            parts = [*before.full_parts, *(parts or [])]
            content = None if before.content is None else bytes(before.content)
            name, media_type = name or before.name, media_type or before.media_type
        fields = {
            **_fields(name, parts or [], content, media_type),
            "complete": last_chunk,
            "told": None,
            "told_exact": None,
        }
        artifact, made = Artifact.objects.update_or_create(
            run=run,
            artifact_id=clean_text(artifact_id),
            number=before.number if before else 0,
            defaults=fields,
            create_defaults={**fields, "created_at": at or Now()},
        )
        Run.objects.filter(pk=run.pk).update(
            artifact_count=F("artifact_count") + int(made),
            size=F("size") + artifact.size - (before.size if before else 0),
            updated_at=Now(),
        )
    return artifact


def told_artifacts(
    run: Run, given: Sequence[dict[str, Any]], *, none_are_there: bool = False
) -> list[Artifact]:
    """Artifacts as an A2A agent told them, not saved: one whose id is there already is one more of that id
    (CONTRACTS.md 2.3). The caller holds the run."""
    rows = [told_artifact(run, one) for one in given]
    of_ids = Artifact.objects.filter(run=run, artifact_id__in={row.artifact_id for row in rows})
    numbers = of_ids.order_by().values_list("artifact_id").annotate(next=Max("number") + 1)
    there = Counter({} if none_are_there else dict(numbers))
    for row in rows:
        row.number = there[row.artifact_id]
        there[row.artifact_id] += 1
    return rows


def told_artifact(run: Run, told: dict[str, Any]) -> Artifact:
    """An artifact as an A2A agent told it, not saved: `told` comes back as it is, whatever is in it."""
    artifact_id, name, parts = (told.get(key) for key in ("artifact_id", "name", "parts"))
    held, exact = split_exact(told)
    listed = held["parts"] if isinstance(parts, list) else []
    return Artifact(
        run=run,
        artifact_id=clean_text(str(artifact_id or ""))[:_LONGEST_ID],
        name=clean_text(name) if isinstance(name, str) else "",
        parts=listed,
        parts_exact=split_exact(parts)[1] if listed else None,
        told={key: value for key, value in held.items() if key != "parts"},
        told_exact=exact or (None if isinstance(parts, list) else json.dumps(told)),
        size=len(json.dumps(told).encode()),
    )


def _fields(name: str, parts: list[dict[str, Any]], content: bytes | None, media_type: str) -> dict[str, Any]:
    held, exact = split_exact(parts)
    return {
        "name": clean_text(name),
        "parts": held,
        "parts_exact": exact,
        "content": content,
        "media_type": clean_text(media_type)[:255],
        "size": len(content) if content is not None else len(json.dumps(parts).encode()),
    }


def _note_late(
    run: Run, artifact_id: str, name: str, parts: list[Any], content: bytes | None, media_type: str
) -> None:
    if content is not None:
        file = {"name": name, "mimeType": media_type, "bytes": base64.b64encode(content).decode("ascii")}
        parts = [*parts, {"kind": "file", "file": file}]
    append_events(run, [NewEvent("artifact", {"artifact_id": artifact_id, "name": name, "parts": parts})])
