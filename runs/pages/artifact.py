"""What a run produced: previews on the page, files as downloads that cannot run anything."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Length, Substr
from django.http import Http404, HttpResponse
from django.views.decorators.http import require_safe

from runs import access
from runs.access import SignedInRequest
from runs.models import Artifact, Run
from runs.pages import files, json_view, text
from runs.pages.parts import find_run

PAGE = 50  # artifacts
_READ = 1_000_000  # bytes of parts that are read for a preview
_TEXTS = ("text/", "application/json", "application/x-ndjson", "application/yaml", "application/xml")


@dataclass(frozen=True, slots=True)
class Shown:
    """An artifact, or one part of it, as a figure; `kind` is image, markdown, json, text or file.

    number: which part; None for an artifact of bytes, or one that is a single part.
    """

    artifact: Artifact
    number: int | None
    name: str
    media_type: str
    size: int
    kind: str
    value: Any = None
    cut: bool = False


def artifacts_context(run: Run, after: int) -> dict[str, Any]:
    """A page of artifacts, oldest first. Contents are read for previews only."""
    found = (
        Artifact.objects.filter(run=run, pk__gt=after).order_by("pk").defer("content", "parts", "parts_exact")
    )
    page = list(found[: PAGE + 1])
    shown = page[:PAGE]
    return {
        "artifacts": [figure for artifact in shown for figure in _figures(artifact)],
        "more": shown[-1].pk if len(page) > PAGE else None,
    }


@access.signed_in
@require_safe
def artifact_file(request: SignedInRequest, run_id: UUID, number: int) -> HttpResponse:
    """The bytes of an artifact, or of its part `?part=`; `?inline` where an <img> asks."""
    artifact = Artifact.objects.filter(run=find_run(request, run_id), pk=number).first()
    if artifact is None:
        raise Http404
    part = request.GET.get("part", "")
    content, name, media_type = _content(artifact, int(part) if part.isdecimal() and len(part) < 6 else None)
    return files.send(content, name, media_type, inline="inline" in request.GET)


def _figures(artifact: Artifact) -> list[Shown]:
    name = text.visible(str(artifact))
    media_type = text.visible(artifact.media_type)
    heads = _head_of_content(artifact)
    if heads is not None:
        head, size = heads
        return [_of_bytes(artifact, name, media_type, head, size)]
    if artifact.size > _READ:
        return [Shown(artifact, None, name, media_type, artifact.size, "file")]
    parts = artifact.full_parts if isinstance(artifact.full_parts, list) else [artifact.full_parts]
    single = len(parts) == 1
    return [
        _of_part(artifact, None if single else number, name, media_type, part)
        for number, part in enumerate(parts)
    ] or [Shown(artifact, None, name, media_type, 0, "file")]


def _head_of_content(artifact: Artifact) -> tuple[bytes, int] | None:
    """The first bytes and the size of an artifact that is bytes; None for one of parts."""
    rows = Artifact.objects.filter(Q(content__isnull=False), pk=artifact.pk)
    row = rows.values_list(Substr("content", 1, text.PREVIEW + 4), Length("content")).first()
    return None if row is None else (bytes(row[0]), row[1])


def _of_bytes(artifact: Artifact, name: str, media_type: str, head: bytes, size: int) -> Shown:
    if files.is_image(head, media_type):
        return Shown(artifact, None, name, media_type, size, "image")
    if media_type.startswith(_TEXTS) and b"\x00" not in head:
        words = head.decode("utf-8", "replace").rstrip("\N{REPLACEMENT CHARACTER}")
        kind = "markdown" if media_type == "text/markdown" else "text"
        return Shown(artifact, None, name, media_type, size, kind, words[: text.PREVIEW], size > len(head))
    return Shown(artifact, None, name, media_type, size, "file")


def _of_part(artifact: Artifact, number: int | None, name: str, media_type: str, part: Any) -> Shown:
    if not isinstance(part, dict):
        part = {"data": part}
    if isinstance(part.get("text"), str):
        shown = text.shortened(part["text"])
        kind = "markdown" if media_type in ("text/markdown", "") else "text"
        return Shown(
            artifact,
            number,
            name,
            media_type or "text/markdown",
            len(part["text"].encode("utf-8", "replace")),
            kind,
            shown,
            len(shown) < len(part["text"]),
        )
    file = files.file_part(part, number or 0)
    if file is not None:
        kind = "image" if file.is_image else "file"
        return Shown(
            artifact, number, file.name if number is not None else name, file.media_type, file.size, kind
        )
    value = part.get("data", part)
    if json_view.is_small(value):
        return Shown(artifact, number, name, media_type or "application/json", artifact.size, "json", value)
    return Shown(artifact, number, name, media_type or "application/json", artifact.size, "file")


def _content(artifact: Artifact, number: int | None) -> tuple[bytes, str, str]:
    """Bytes, name and type of the artifact or one of its parts. Raises Http404 where it is missing."""
    name = str(artifact)
    if artifact.content is not None:
        return bytes(artifact.content), name, artifact.media_type
    parts = artifact.full_parts
    if not isinstance(parts, list) or (number is None and len(parts) != 1):
        return json.dumps(parts, indent=1).encode(), f"{name}.json", "application/json"
    if (number or 0) >= len(parts):
        raise Http404
    part = parts[number or 0]
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return part["text"].encode("utf-8", "replace"), name, artifact.media_type or "text/plain"
    file = files.file_part(part, number or 0) if isinstance(part, dict) else None
    if file is not None and (content := file.content()) is not None:
        return content, file.name if number is not None else name, file.media_type
    value = part.get("data", part) if isinstance(part, dict) else part
    return json.dumps(value, indent=1).encode(), name, "application/json"
