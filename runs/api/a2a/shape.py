"""Tasks as they go out: what their agent reported stands in them as it came (CONTRACTS.md 2.5)."""

import base64
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID, uuid5

from django.db import connection

from runs.api.once import texts
from runs.api.task_bodies import present_task
from runs.exact import Json
from runs.models import Artifact
from runs.models.task import Task, artifacts_of, histories

_ROLES = ("user", "agent", "system")
_KINDS = ("text", "file", "data")


def present_tasks(tasks: Sequence[Task], history_length: int | None = None) -> list[dict[str, Json]]:
    """Each with the last `history_length` messages, or all (0 and None); `encoded` writes them."""
    own = [task.run_id for task in tasks if _is_own(task)]
    others = {task.run_id: task for task in tasks if not _is_own(task)}
    said = {**histories(own, history_length), **_others_history(others, history_length)}
    made = {**artifacts_of(own), **_others_artifacts(others)}
    return [
        {
            **present_task(task),
            "history": texts(said.get(task.run_id, [])),
            "artifacts": texts(made.get(task.run_id, [])),
        }
        for task in tasks
    ]


def _is_own(task: Task) -> bool:
    """Whether its agent reported it in A2A's words, which need no translation."""
    return not task._state.adding


# ── What came by another way ───────────────────────────────────────────────
def _others_history(tasks: Mapping[UUID, Task], length: int | None) -> dict[UUID, list[str]]:
    found: dict[UUID, list[str]] = defaultdict(list)
    if not tasks:
        return found
    with connection.cursor() as cursor:
        cursor.execute(_MESSAGES, {"runs": list(tasks), "length": length or None})
        for run_id, seq, role, said in cursor.fetchall():
            found[run_id].append(json.dumps(_message(tasks[run_id], seq, role, json.loads(said))))
    return found


_MESSAGES = """
    SELECT run_id, seq, role, said FROM unnest(%(runs)s::uuid[]) AS asked CROSS JOIN LATERAL (
        SELECT run_id, seq, role, coalesce(payload_exact, payload::text, 'null') AS said FROM event
        WHERE run_id = ANY(%(runs)s) AND run_id = asked AND kind = 'message'
        ORDER BY seq DESC LIMIT %(length)s
    ) AS last ORDER BY run_id, seq
"""


def _message(task: Task, seq: int, role: str, payload: Json) -> dict[str, Json]:
    """What A2A demands of a message is filled in where it lacks; an assistant is an agent."""
    told = payload if isinstance(payload, dict) else {"parts": [{"kind": "data", "data": {"value": payload}}]}
    parts = told.get("parts")
    return {
        **told,
        "kind": "message",
        "role": role if role in _ROLES else "agent",
        "parts": [_part(part) for part in parts] if isinstance(parts, list) else [],
        "message_id": told.get("message_id") or str(uuid5(task.run_id, str(seq))),
        "task_id": str(task.task_id),
        "context_id": str(task.context.context_id),
    }


def _part(part: Json) -> dict[str, Json]:
    """A2A knows texts, files and data, and all have a text."""
    if isinstance(part, dict) and part.get("kind") in _KINDS:
        return {**part, "text": part.get("text", "")}
    return {"kind": "data", "text": "", "data": part if isinstance(part, dict) else {"value": part}}


def _others_artifacts(tasks: Mapping[UUID, Task]) -> dict[UUID, list[str]]:
    found: dict[UUID, list[str]] = defaultdict(list)
    if tasks:
        for artifact in Artifact.objects.filter(run__in=list(tasks)).order_by("run", "id"):
            found[artifact.run_id].append(json.dumps(_artifact(artifact)))
    return found


def _artifact(artifact: Artifact) -> dict[str, Json]:
    parts = [_part(part) for part in artifact.full_parts] if isinstance(artifact.full_parts, list) else []
    if artifact.content is not None:
        content = base64.b64encode(bytes(artifact.content)).decode("ascii")
        file = {"name": artifact.name, "mimeType": artifact.media_type, "bytes": content}
        parts.append({"kind": "file", "text": "", "file": file})
    return {"artifact_id": artifact.artifact_id, "name": artifact.name, "parts": parts}
