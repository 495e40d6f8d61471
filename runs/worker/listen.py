"""Being woken by PostgreSQL: a run waits, a cancel was asked for. Polling does the same, only later.

Where notifications cannot come through (a pooler in transaction mode without DATABASE_DIRECT_URL), nothing
ever comes, and nothing is lost by that.
"""

import logging
import threading
import time
from typing import Any

import psycopg
from django.conf import settings
from psycopg import sql

from runs.models.triggers import CANCEL_CHANNEL, QUEUE_CHANNEL

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 30.0  # seconds between two tries to connect
_ALIVE = 10.0  # seconds between two proofs that the connection is


class Listener:
    """Sets `queue` and `cancel` when PostgreSQL says so; holds a session of its own for that."""

    def __init__(self, queue: threading.Event, cancel: threading.Event, stopping: threading.Event) -> None:
        self._events = {QUEUE_CHANNEL: queue, CANCEL_CHANNEL: cancel}
        self._stopping = stopping

    def run(self) -> None:
        """Until `stopping`; a connection that is lost is made anew. No error ends it."""
        pause = 0.5
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._listen()
            except psycopg.Error as error:
                log.warning("listening: %s", str(error).strip())
            pause = 0.5 if time.monotonic() - began > _ALIVE else min(pause * 2, _LONGEST_PAUSE)
            self._stopping.wait(pause)

    def _listen(self) -> None:
        with psycopg.connect(**direct(), autocommit=True, application_name="runfolio-listen") as connection:
            for channel, event in self._events.items():
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                event.set()  # for what was said before we listened
            proven = time.monotonic()
            while not self._stopping.is_set():
                for notification in connection.notifies(timeout=0.5, stop_after=1):
                    self._events[notification.channel].set()
                if time.monotonic() - proven > _ALIVE:
                    connection.execute("SELECT 1")
                    proven = time.monotonic()


def direct() -> dict[str, Any]:
    """How to reach PostgreSQL itself, past a pooler: what psycopg.connect takes."""
    given: dict[str, Any] = settings.DATABASE_DIRECT
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    options = {name: value for name, value in given["OPTIONS"].items() if name != "pool"}
    return {**options, **{name: given[key] for key, name in names.items() if given.get(key)}}
