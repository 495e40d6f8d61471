"""OpenHands' conversations in Runfolio: file stores for `LocalConversation(..., file_store=...)`.

Give each conversation a store of its own, with its id as the namespace.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

from openhands.sdk import LocalConversation
from openhands.sdk.conversation.state import ConversationState
from openhands.sdk.io import FileStore

from runfolio_client._files import LockLost
from runfolio_client._http_files import HttpFiles
from runfolio_client._postgres_files import PostgresFiles

__all__ = ["HTTPFileStore", "LockLost", "PostgreSQLFileStore", "fork_conversation"]

_forking = threading.Lock()


class PostgreSQLFileStore(PostgresFiles, FileStore):
    """Files in Runfolio's PostgreSQL, by its address.

    `dsn` names that database, as `manage.py database_url` prints it; behind a pooler give the direct address,
    since locks need a session. `owner` is the name of the owner whose conversation it is, and may be left out
    where there is only one. `schema` is where Runfolio's tables are, if that is not where its role looks.

    An operation that takes longer than `timeout` seconds raises OperationTimeout, which is a TimeoutError.
    """

    def __init__(
        self,
        dsn: str,
        namespace: str | UUID,
        *,
        owner: str | None = None,
        schema: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        super().__init__(dsn, namespace, owner=owner, schema=schema, timeout=timeout)
        self._options: dict[str, Any] = {"owner": owner, "schema": schema, "timeout": timeout}

    def in_namespace(self, namespace: str) -> PostgreSQLFileStore:
        """A store of the same database, for another conversation."""
        return PostgreSQLFileStore(self._dsn, namespace, **self._options)


class HTTPFileStore(HttpFiles, FileStore):
    """Files in Runfolio over its API, with a token that may read and write; they are its owner's.

    Without `url` and `token` the variables RUNFOLIO_URL and RUNFOLIO_TOKEN say where and who.
    """

    def __init__(
        self, url: str | None, token: str | None, namespace: str | UUID, *, timeout: float = 30.0
    ) -> None:
        super().__init__(url, token, namespace, timeout=timeout)

    def in_namespace(self, namespace: str) -> HTTPFileStore:
        """A store with the same address, for another conversation."""
        return HTTPFileStore(*self._address, namespace, timeout=self.timeout)


def fork_conversation(
    conversation: LocalConversation,
    store: PostgreSQLFileStore | HTTPFileStore,
    *,
    conversation_id: UUID | None = None,
    **options: Any,
) -> LocalConversation:
    """`conversation.fork(...)` whose copy is kept as well: OpenHands' own loses the store (CONTRACTS.md 3.3).

    `store` is any store of the database; the copy goes into a namespace of its own there, named by its id.
    `options` are those of `fork`.
    """
    fork_id = conversation_id or uuid4()
    kept = store.in_namespace(str(fork_id))
    if "file_store" in inspect.signature(conversation.fork).parameters:
        return conversation.fork(conversation_id=fork_id, file_store=kept, **options)
    with _states_kept_in(kept):
        return conversation.fork(conversation_id=fork_id, **options)


@contextmanager
def _states_kept_in(store: FileStore) -> Iterator[None]:
    """What this thread makes of `ConversationState` is kept in `store`."""
    original = ConversationState.__dict__["create"]
    thread = threading.get_ident()

    def create(cls: type[ConversationState], *given: Any, **named: Any) -> ConversationState:
        if threading.get_ident() == thread:
            named["file_store"] = store
        return original.__func__(cls, *given, **named)

    with _forking:
        ConversationState.create = classmethod(create)
        try:
            yield
        finally:
            ConversationState.create = original
