"""Runfolio for Python: the run history of AI agents, written and read over its API.

`runfolio_client.bindu` puts it under a Bindu agent, `runfolio_client.openhands` under conversations of
OpenHands.
"""

from runfolio_client.client import (
    AsyncClient,
    CancelRequest,
    Client,
    ListedContext,
    Page,
    Task,
    TaskStatus,
    Update,
    Written,
)
from runfolio_client.errors import AnswerError, BrokenOff, NotFound, OperationTimeout, RunfolioError

__all__ = [
    "AnswerError",
    "AsyncClient",
    "BrokenOff",
    "CancelRequest",
    "Client",
    "ListedContext",
    "NotFound",
    "OperationTimeout",
    "Page",
    "RunfolioError",
    "Task",
    "TaskStatus",
    "Update",
    "Written",
]
