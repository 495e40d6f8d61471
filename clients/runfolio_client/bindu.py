"""Bindu's Storage on Runfolio: `install()` before `bindufy()`, and the agent's tasks are kept there.

What each method does is CONTRACTS.md 2.3: the answers are those of Bindu's InMemoryStorage, lists come
newest first as from its PostgreSQL backend, and two things are mended. A message for another caller's task
is refused, and a write to a task that has ended or was cleared is answered quietly: Bindu's worker does not
survive an exception there.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import bindu.server.storage.factory
from bindu.server.storage.base import OwnershipError, Storage
from bindu.server.storage.helpers import normalize_message_uuids, validate_uuid_type
from bindu.utils.schema_manager import sanitize_did_for_schema

from runfolio_client._http import place
from runfolio_client.client import AsyncClient, Page, Verbs, Written
from runfolio_client.errors import AnswerError, NotFound

log = logging.getLogger("runfolio_client")

Listed = Callable[..., Coroutine[Any, Any, Page[Any]]]

_FINAL = {"completed", "failed", "canceled", "rejected"}
_PAGE = 100  # tasks asked for at once where all are wanted
_REFUSED = 5.0  # seconds until an update that Runfolio refused for the moment is sent again
_IDS = ("task_id", "context_id", "message_id", "artifact_id", "id")


def install(url: str | None = None, token: str | None = None) -> None:
    """Keeps the tasks of agents that are made after this call in Runfolio, each agent's in a room of its own.

    Without arguments RUNFOLIO_URL and RUNFOLIO_TOKEN say where. Raises ValueError where they do not.
    """
    url, token = place(url, token)

    async def create_storage(did: str | None = None) -> RunfolioStorage:
        storage = RunfolioStorage(url, token, did)
        await storage.connect()
        return storage

    bindu.server.storage.factory.create_storage = create_storage


class RunfolioStorage(Storage[dict[str, Any]]):
    """Tasks and contexts of one agent, over the API.

    Every method but update_task gives up after `timeout` seconds, with an error that names it.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        namespace: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        """`namespace`: the agent's DID, which becomes the name that Bindu gives its PostgreSQL schema, or a
        name of your own."""
        self.agent = _agent_of(namespace or "")
        room = sanitize_did_for_schema(namespace) if namespace and namespace.startswith("did:") else namespace
        self._client = AsyncClient(url, token, timeout, room or "")
        # Runfolio keeps a configuration with its task. InMemoryStorage takes one for any id, so for a task
        # that is not there it is kept as long as this object.
        self._configs_of_no_task: dict[UUID, dict[str, Any]] = {}

    async def connect(self) -> None:
        """Raises OperationTimeout where Runfolio cannot be reached, AnswerError for a token that is bad or
        may not both read and write."""
        await self._client.count_tasks()
        await self._client.push_configs()  # as they are secret, only for those who write

    # ── Tasks ──────────────────────────────────────────────────────────────
    async def load_task(self, task_id: Any, history_length: int | None = None) -> Any:
        """The task with all of its history, or the last `history_length` messages; None if there is none."""
        task_id = validate_uuid_type(task_id, "task_id")
        try:
            return _task(await self._client.get_task(task_id, history_length=max(history_length or 0, 0)))
        except NotFound:
            return None

    async def submit_task(self, context_id: Any, message: Any, caller_did: str | None = None) -> Any:
        """A new task, or an open one with one more message, which is `submitted` again.

        Raises TypeError for bad ids, OwnershipError where context or task are another caller's, ValueError
        for a task that has ended.
        """
        context_id = validate_uuid_type(context_id, "context_id")
        task_id = validate_uuid_type(message.get("task_id"), "task_id")
        normalize_message_uuids(message, task_id=task_id, context_id=context_id)
        try:
            written = await self._client.submit_task(
                _kept(message),
                task_id=task_id,
                context_id=context_id,
                caller=caller_did,
                agent=self.agent or None,
            )
        except AnswerError as error:
            if error.code == "owned_by_another":
                raise OwnershipError(error.message) from error
            if error.code == "task_final":
                raise ValueError(error.message) from error
            raise
        return _task(written.task)

    async def update_task(
        self,
        task_id: Any,
        state: Any,
        new_artifacts: Any = None,
        new_messages: Any = None,
        metadata: dict[str, Any] | None = None,
    ) -> Any:
        """Appends, and moves the task to `state`; a task that has ended or was cleared stays as it is.

        Waits for Runfolio for as long as it takes, because a second exception in a row would end the agent's
        worker. Raises KeyError for a task that never was, TypeError for what is no message, AnswerError for
        what Runfolio does not take.

        Where somebody asked to cancel the task, this acknowledges it: Bindu cannot interrupt a handler, but
        what it still says then is no longer the task's state.
        """
        task_id = validate_uuid_type(task_id, "task_id")
        for message in new_messages or ():
            if not isinstance(message, dict):
                raise TypeError(f"Message must be dict, got {type(message).__name__}")
        written = await self._updated(task_id, state, new_artifacts, new_messages, metadata)
        if written.cancel_requested and written.task["status"]["state"] not in _FINAL:
            written = await self._updated(task_id, "canceled")
        return _task(written.task)

    async def _updated(
        self, task_id: UUID, state: str, artifacts: Any = None, messages: Any = None, metadata: Any = None
    ) -> Written:
        describe = Verbs.update_task(
            self._client,
            task_id,
            state,
            artifacts=artifacts or (),
            messages=messages or (),
            metadata=metadata,
        )
        with _missing(KeyError, f"Task {task_id} not found"):
            while True:
                try:
                    return await self._client.perform(describe, timeout=math.inf)
                except AnswerError as error:
                    if not _may_pass(error, says_more=bool(artifacts or messages or metadata)):
                        raise
                    log.warning("%s; it is sent again in %g s", error, _REFUSED)
                    await asyncio.sleep(_REFUSED)

    async def update_task_state_if(self, task_id: Any, from_state: Any, to_state: Any) -> bool:
        """Moves the task if it is in `from_state`, and whether it was: of several at once one wins."""
        task_id = validate_uuid_type(task_id, "task_id")
        try:
            return await self._client.move_task(task_id, from_state, to_state)
        except NotFound:
            return False

    async def list_tasks(
        self, length: int | None = None, offset: int = 0, owner_did: str | None = None
    ) -> list[Any]:
        """Newest first; `owner_did` None asks for no owner, `length` 0 and None for all."""
        listed = partial(self._client.list_tasks, caller=owner_did)
        return [_task(task) for task in await _window(listed, length, offset)]

    async def count_tasks(self, status: Any = None) -> int:
        return await self._client.count_tasks(status)

    async def list_tasks_by_context(
        self, context_id: Any, length: int | None = None, offset: int = 0, owner_did: str | None = None
    ) -> list[Any]:
        """Oldest first; else as list_tasks."""
        context_id = validate_uuid_type(context_id, "context_id")
        listed = partial(self._client.context_tasks, context_id, caller=owner_did)
        return [_task(task) for task in await _window(listed, length, offset)]

    async def get_task_owner(self, task_id: Any) -> str | None:
        """None as well where there is no such task."""
        task_id = validate_uuid_type(task_id, "task_id")
        try:
            return await self._client.task_owner(task_id)
        except NotFound:
            return None

    # ── Contexts ───────────────────────────────────────────────────────────
    async def load_context(self, context_id: Any) -> dict[str, Any] | None:
        """What update_context put there, else the ids of its tasks; None if there is no such context."""
        context_id = validate_uuid_type(context_id, "context_id")
        try:
            context = await self._client.get_context(context_id)
        except NotFound:
            return None
        if context["data"]:
            return dict(context["data"])
        tasks = await _everything(partial(self._client.context_tasks, context_id, history_length=1))
        return {"task_ids": [UUID(task["id"]) for task in tasks]}

    async def append_to_contexts(self, context_id: Any, messages: Any) -> None:
        """Appends to the context's own messages, and makes the context if there is none."""
        context_id = validate_uuid_type(context_id, "context_id")
        if not isinstance(messages, list):
            raise TypeError(f"messages must be list, got {type(messages).__name__}")
        await self._client.append_to_context(context_id, messages)

    async def update_context(self, context_id: Any, context: Any) -> None:
        await self._client.put_context(validate_uuid_type(context_id, "context_id"), context)

    async def list_contexts(
        self, length: int | None = None, offset: int = 0, owner_did: str | None = None
    ) -> list[dict[str, Any]]:
        """Newest first; else as list_tasks."""
        listed = partial(self._client.list_contexts, caller=owner_did)
        return [_context(context) for context in await _window(listed, length, offset)]

    async def clear_context(self, context_id: Any) -> None:
        """Raises ValueError for a context that is not there."""
        context_id = validate_uuid_type(context_id, "context_id")
        with _missing(ValueError, f"Context {context_id} not found"):
            await self._client.clear_context(context_id)

    async def get_context_owner(self, context_id: Any) -> str | None:
        """None as well where there is no such context."""
        context_id = validate_uuid_type(context_id, "context_id")
        try:
            return await self._client.context_owner(context_id)
        except NotFound:
            return None

    async def clear_all(self) -> None:
        """Clears all of this agent. People can restore it on the pages for some days."""
        self._configs_of_no_task.clear()
        await self._client.clear_tasks()

    async def close(self) -> None:
        """Closes the connections; what is stored stays."""
        await self._client.aclose()

    # ── Feedback ───────────────────────────────────────────────────────────
    async def store_task_feedback(self, task_id: Any, feedback_data: Any) -> None:
        """Raises KeyError for a task that is not there."""
        task_id = validate_uuid_type(task_id, "task_id")
        if not isinstance(feedback_data, dict):
            raise TypeError(f"feedback_data must be dict, got {type(feedback_data).__name__}")
        with _missing(KeyError, f"Task {task_id} not found"):
            await self._client.give_task_feedback(task_id, feedback_data)

    async def get_task_feedback(self, task_id: Any) -> list[dict[str, Any]] | None:
        """All of it as it came, oldest first; None if there is none."""
        task_id = validate_uuid_type(task_id, "task_id")
        try:
            return await self._client.task_feedback(task_id) or None
        except NotFound:
            return None

    # ── Push notifications ─────────────────────────────────────────────────
    async def save_webhook_config(self, task_id: Any, config: Any) -> None:
        task_id = validate_uuid_type(task_id, "task_id")
        try:
            await self._client.put_push_config(task_id, config)
        except NotFound:
            self._configs_of_no_task[task_id] = dict(config)

    async def load_webhook_config(self, task_id: Any) -> Any:
        task_id = validate_uuid_type(task_id, "task_id")
        try:
            return _config(await self._client.push_config(task_id))
        except NotFound:
            return self._configs_of_no_task.get(task_id)

    async def delete_webhook_config(self, task_id: Any) -> None:
        """Deletes it for good; no error where there is none."""
        task_id = validate_uuid_type(task_id, "task_id")
        self._configs_of_no_task.pop(task_id, None)
        with _missing(None):
            await self._client.delete_push_config(task_id)

    async def load_all_webhook_configs(self) -> dict[UUID, Any]:
        kept = await self._client.push_configs()
        return self._configs_of_no_task | {UUID(task_id): _config(kept[task_id]) for task_id in kept}


def _may_pass(error: AnswerError, says_more: bool) -> bool:
    """Whether a refusal is about the moment: the token, a proxy's own page, a server that fails on a state.

    One that fails on what was said besides may always do so; Bindu then ends the task as failed.
    """
    if isinstance(error, NotFound):
        return False
    return error.status < 400 or error.status in (401, 403, 404) or (error.status >= 500 and not says_more)


# ── What is sent ───────────────────────────────────────────────────────────
def _kept(message: dict[str, Any]) -> dict[str, Any]:
    """The message as InMemoryStorage has it once Bindu is through with it.

    Bindu gives every message metadata and takes the payment's out of it, but only after the call; there the
    stored message is the same object and changes with it.
    """
    metadata = message.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        return {**message, "metadata": {}}
    return {
        **message,
        "metadata": {name: one for name, one in metadata.items() if name != "_payment_context"},
    }


def _agent_of(namespace: str) -> str:
    """The name in a DID such as did:bindu:alice_at_example_com:helper:4a1b..., or the namespace itself."""
    parts = namespace.split(":")
    return parts[3] if namespace.startswith("did:bindu:") and len(parts) > 3 else namespace


# ── What comes back ────────────────────────────────────────────────────────
def _task(task: Any) -> dict[str, Any]:
    """With UUIDs where InMemoryStorage has them, and without what it leaves out while it is empty."""
    history = [_with_uuids(message) for message in task["history"]]
    artifacts = [_with_uuids(artifact) for artifact in task["artifacts"]]
    optional = {"artifacts": artifacts, "metadata": task["metadata"]}
    return {
        "id": UUID(task["id"]),
        "context_id": UUID(task["context_id"]),
        "kind": task["kind"],
        "status": task["status"],
        "history": history,
        **{name: value for name, value in optional.items() if value},
    }


def _with_uuids(item: dict[str, Any]) -> dict[str, Any]:
    typed = {name: _uuid(value) if name in _IDS else value for name, value in item.items()}
    if isinstance(item.get("reference_task_ids"), list):
        typed["reference_task_ids"] = [_uuid(task_id) for task_id in item["reference_task_ids"]]
    return typed


def _context(context: Any) -> dict[str, Any]:
    return {
        "context_id": UUID(context["context_id"]),
        "task_count": context["task_count"],
        "task_ids": [_uuid(task_id) for task_id in context["task_ids"]],
    }


def _config(config: dict[str, Any]) -> dict[str, Any]:
    """Bindu compares the id with a UUID that a client names; as text it never fits (CONTRACTS.md 0, 12)."""
    return _with_uuids(config)


def _uuid(value: Any) -> Any:
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        return value


async def _window(listed: Listed, length: int | None, offset: int) -> list[Any]:
    """`length` items after the first `offset`; 0 and None ask for all that follow."""
    offset = max(offset, 0)
    if length is None or length <= 0:
        return (await _everything(listed))[offset:]
    found: list[Any] = []
    for start in range(offset, offset + length, _PAGE):
        found += await listed(length=min(_PAGE, offset + length - start), offset=start)
        if len(found) < start + _PAGE - offset:
            break
    return found


async def _everything(listed: Listed) -> list[Any]:
    """Page by page, so that no answer is huge."""
    found: list[Any] = []
    cursor = None
    while True:
        page = await listed(limit=_PAGE, cursor=cursor)
        found += page
        cursor = page.next_cursor
        if cursor is None:
            return found


@contextmanager
def _missing(kind: type[Exception] | None, text: str = "") -> Iterator[None]:
    """Turns "not found" into what Bindu expects, or into nothing."""
    try:
        yield
    except NotFound as error:
        if kind is not None:
            raise kind(text) from error
