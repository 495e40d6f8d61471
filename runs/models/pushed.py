"""Push notifications that agents send: of tasks whose history they keep elsewhere (CONTRACTS.md 2.6).

An agent tries each once, and they may come in any order. Their `sequence` begins anew whenever the agent
does, so what is newer is told by their times alone.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from runs.exact import Json
from runs.models.artifact import Artifact, told_artifact
from runs.models.owner import Owner
from runs.models.task import Task, Update, histories, open_task, update_task

_LOOKED_AT = 10  # messages


@dataclass(frozen=True, slots=True)
class Pushed:
    """One notification: a state, perhaps with a message, or an artifact. `at` is by the agent's clock."""

    task_id: UUID
    context_id: UUID
    at: datetime
    state: str | None = None
    message: dict[str, Any] | None = None
    artifact: dict[str, Any] | None = None


def take_push(owner: Owner, pushed: Pushed, namespace: str = "", agent: str = "") -> tuple[Task, bool]:
    """Makes the task what the notification says, in a transaction of the caller's; and whether it came too
    late: a final state stays, and what comes after it is kept as `late_write`.

    A task that is not known is made. A state that is older than the one that the task has is passed over,
    while the message and the artifact that come with it belong to it even if it has ended since. Of a task
    that is cleared nothing is kept.
    """
    task, is_new = open_task(owner, pushed.task_id, pushed.context_id, namespace, agent)
    if task.cleared_at is not None:
        return task, False
    is_older = not is_new and pushed.at < task.state_at
    news = Update(None if is_older else pushed.state, _not_made(task, pushed), _not_said(task, pushed))
    is_past = news.state is None and not is_new and pushed.at <= task.state_at
    late = False
    if news.state is not None or news.artifacts or news.messages:
        late = not update_task(task, [news], past=is_past)
    if is_new or (news.state is not None and not late):
        Task.objects.filter(pk=task.pk).update(state_at=pushed.at)
    return task, late


def _not_made(task: Task, pushed: Pushed) -> list[dict[str, Json]]:
    """The artifact, unless its agent wrote it here as well: that comes before the notification."""
    if pushed.artifact is None:
        return []
    made = told_artifact(task.run, pushed.artifact)
    of_id = Artifact.objects.filter(run=task.run_id, artifact_id=made.artifact_id)
    return [] if any(one.full_parts == made.full_parts for one in of_id) else [pushed.artifact]


def _not_said(task: Task, pushed: Pushed) -> list[dict[str, Json]]:
    """The same of the message. Where the agent writes nothing here, nobody else's messages are there, and it
    may well ask the same thing twice."""
    message = pushed.message
    if message is None:
        return []
    said = [json.loads(text) for text in histories([task.run_id], _LOOKED_AT)[task.run_id]]
    if all(one.get("role") == "agent" for one in said):
        return [message]
    again = any((one.get("role"), one.get("parts")) == ("agent", message.get("parts")) for one in said)
    return [] if again else [message]
