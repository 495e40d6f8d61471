"""OpenHands conversations, beside the queue: what was written to their files is shown within a second
(issue 6, point 4).

Every worker does its share, and a conversation is held by one of them at a time; what a killed one had begun
is taken back by PostgreSQL and done by the next.
"""

import logging
import threading
import time

from django.db import Error as DatabaseError
from django.db import connections

from runs.models import FileNamespace
from runs.models.conversation import Conversation, adopt_namespaces, next_conversation, put_off
from runs.openhands.following import read_on
from runs.worker.outage import is_passing

log = logging.getLogger(__name__)

BUSY_POLL, IDLE_POLL = 0.1, 0.2  # seconds
_BUSY_FOR = 10.0  # seconds after something was read


def follow(stopping: threading.Event) -> None:
    """Reads until `stopping` is set, in turn the newest and what has waited longest. No error ends it."""
    newest, read = True, float("-inf")
    while not stopping.is_set():
        try:
            found = read_next(newest=newest)
        except DatabaseError as error:
            log.warning("conversations: %s", error)
            connections.close_all()
            found = False
        if found:
            newest, read = not newest, time.monotonic()
        else:
            stopping.wait(BUSY_POLL if time.monotonic() - read < _BUSY_FOR else IDLE_POLL)
    connections.close_all()


def read_next(*, newest: bool = True) -> bool:
    """A batch of one conversation; False where there is nothing to read.

    One that cannot be read on is put off, and the others go on.
    """
    conversation: Conversation | None = None
    if not FileNamespace.objects.unread().exists():
        return False
    adopt_namespaces()
    try:
        with next_conversation(newest=newest) as conversation:
            if conversation is None:
                return False
            read_on(conversation)
    except DatabaseError as error:
        if conversation is None:
            raise
        _note_trouble(conversation, error)
    except Exception:
        log.exception("conversation %s", conversation and conversation.pk)
        if conversation is None:
            raise
        put_off(conversation, "an error in Runfolio itself; the worker's log has it")
    return True


def _note_trouble(conversation: Conversation, error: DatabaseError) -> None:
    """Of a database that is away it cannot be noted either: the error goes on to the caller."""
    log.warning("conversation %s: %s", conversation.pk, error)
    if is_passing(error):
        connections.close_all()
        put_off(conversation, f"tried again, since the database said: {error}", is_its_fault=False)
    else:
        put_off(conversation, f"PostgreSQL refused it: {error}")
