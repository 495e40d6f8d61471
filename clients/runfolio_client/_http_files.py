"""The file store over Runfolio's API (`/api/files`), for those who may not have the database's address."""

from __future__ import annotations

import atexit
import json
import math
import os
import posixpath
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID, uuid4
from weakref import WeakSet

from runfolio_client._connections import LeanClient
from runfolio_client._files import Files, Held, LockLost, Names
from runfolio_client._http import Answer, Request
from runfolio_client.errors import AnswerError, NotFound, RunfolioError

T = TypeVar("T")
Work = Callable[[str, UUID], object]  # with the path and key of a lease

LEASE = 1.5  # seconds: as long as a holder that died keeps others waiting
RENEW = 0.5  # seconds
_GRACE = 0.03  # seconds: for so long a lock is there for the next who asks in this process
_TICK = 0.01  # seconds
_TURN = 0.05  # seconds; after them others have theirs
_open: WeakSet[HttpFiles] = WeakSet()
_PAUSES = (0.005, 0.01, 0.02, 0.05)  # seconds between asking for a lock; the last one stays


class HttpFiles(Files):
    """Files of a namespace behind the API; see `openhands.HTTPFileStore`."""

    def __init__(self, url: str | None, token: str | None, namespace: str | UUID, *, timeout: float) -> None:
        super().__init__(namespace, timeout)
        self._address = url, token
        self._pid = os.getpid()
        self._client = LeanClient(url, token, timeout)
        self._keeper = Keeper(self._renew, self._release)
        _open.add(self)

    def close(self) -> None:
        if self._pid == os.getpid():
            self._keeper.close()
            self._client.close()

    # ── The verbs ──────────────────────────────────────────────────────────
    def _put(self, at: str, body: bytes, held: Held | None, count: int | None) -> str:
        number: dict[str, Any] = {} if count is None else {"event": count}
        try:
            self._ask("write", at, "PUT", "content", _data, body, **number, **_under(held))
        except AnswerError as error:
            if error.code in ("is_a_directory", "not_a_directory", "out_of_step"):
                return error.code.replace("_", " ")
            raise _lost(error) or error from None
        return "written"

    def _get(self, at: str) -> bytes | None:
        try:
            return self._ask("read", at, "GET", "content", lambda answer: answer.content)
        except NotFound:
            return None

    def _children(self, at: str) -> Names:
        names: Names = self._ask("list", at, "GET", "names", _data)
        return names

    def _remove(self, at: str, held: Held | None) -> None:
        try:
            self._ask("delete", at, "DELETE", "content", _data, **_under(held))
        except AnswerError as error:
            raise _lost(error) or error from None

    def _is_there(self, at: str) -> bool:
        return bool(self._ask("exists", at, "GET", "exists", _data))

    def _take(self, at: str, timeout: float) -> Held:
        """A lease under a new key, which a thread of this store renews as long as it is held."""
        ends = time.monotonic() + timeout if timeout >= 0 else float("inf")
        pauses = iter(_PAUSES)
        pause = 0.0
        self._be_of_this_process()
        left = self._keeper.passed_on(at)
        if left and left.marks is not None and time.monotonic() < left.taken + _TURN:
            self._keeper.keep(at, left)
            return Held(at, os.getpid(), left.marks, left)
        lease = Lease(uuid4(), time.monotonic())
        while (marks := self._lease(at, lease.key, left.key if left else None)) is None:
            pause = next(pauses, pause)
            if time.monotonic() + pause >= ends:
                raise BlockingIOError
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  spreads load, hides nothing
            lease = replace(lease, taken=time.monotonic())
        self._keeper.keep(at, lease)
        return Held(at, os.getpid(), set(marks), lease)

    def _give_back(self, held: Held) -> None:
        self._keeper.drop(held.path, replace(held.lock, marks=held.marks))

    def _note_written(self, at: str, held: Held | None, count: int | None) -> None:
        super()._note_written(at, held, count)
        if held is None:  # beside the locks, of any store of this process
            for store in list(_open):
                if store.namespace == self.namespace:
                    store._keeper.doubt(at)

    def _lease(self, at: str, key: UUID, instead_of: UUID | None = None) -> list[int] | None:
        """Takes the lease; None where it is somebody else's."""
        given_back: dict[str, Any] = {} if instead_of is None else {"instead_of": instead_of}
        try:
            taken = self._ask("lock", at, "POST", "lock", _data, key=key, seconds=LEASE, **given_back)
        except AnswerError as error:
            if error.code == "locked":
                return None
            raise
        marks: list[int] = taken["marks"]
        return marks

    def _renew(self, at: str, key: UUID) -> None:
        self._ask("keep lock", at, "PUT", "lock", _data, key=key, seconds=LEASE)

    def _release(self, at: str, key: UUID) -> None:
        self._ask("unlock", at, "DELETE", "lock", _data, key=key)

    # ── Requests ───────────────────────────────────────────────────────────
    def _ask(
        self,
        operation: str,
        at: str,
        method: str,
        what: str,
        read: Callable[[Answer], T],
        content: bytes | None = None,
        **query: Any,
    ) -> T:
        """What is answered. Each request is as good a second time as the first."""
        self._be_of_this_process()
        query = {"namespace": self.namespace, "path": at, **query}
        media_type = "application/octet-stream"
        return self._client.perform(
            Request(operation, at, method, f"/api/files/{what}", read, query, content, media_type)
        )

    def _be_of_this_process(self) -> None:
        """After a fork the connections and leases are the parent's."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._client = LeanClient(*self._address, self.timeout)
            self._keeper = Keeper(self._renew, self._release)


@dataclass(frozen=True)
class Lease:
    """A lock over HTTP: its key, when it was asked for, and at its end what `Held.marks` said."""

    key: UUID
    taken: float
    marks: set[int] | None = None


class Keeper:
    """Looks after the leases of a store from a thread that is there only while there are any.

    It renews those that are held, and gives back those that are not, a moment later: who asks for the same
    lock until then has it without a request, or passes it on with the request for a new one.
    """

    def __init__(self, renew: Work, release: Work) -> None:
        self._renew, self._release = renew, release
        self._held: dict[UUID, tuple[str, float]] = {}  # with the time of the next renewal
        self._left: dict[str, tuple[Lease, float]] = {}  # by path, with the time to give it back
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def keep(self, at: str, lease: Lease) -> None:
        with self._guard:
            self._held[lease.key] = at, time.monotonic() + RENEW
            if self._thread is None:
                self._begin()

    def drop(self, at: str, lease: Lease) -> None:
        with self._guard:
            self._held.pop(lease.key, None)
            self._left[at] = lease, time.monotonic() + _GRACE

    def doubt(self, at: str) -> None:
        """Forgets what was certain under locks in whose folder something was written."""
        with self._guard:
            for path, (lease, due) in self._left.items():
                folder = posixpath.dirname(path)
                if at in ("", folder) or at.startswith(f"{folder}/") or folder.startswith(f"{at}/"):
                    self._left[path] = replace(lease, marks=None), due

    def passed_on(self, at: str) -> Lease | None:
        """The lock of that path that is still to be given back; its taker does that."""
        with self._guard:
            left = self._left.pop(at, None)
        return left[0] if left else None

    def close(self) -> None:
        """Gives everything back at once."""
        with self._guard:
            left, self._left = self._left, {}
            self._held.clear()
        for at, (lease, _) in left.items():
            _quietly(self._release, at, lease.key)

    def _begin(self) -> None:
        """When the process is about to end, no thread begins any more: a lease has to do unrenewed then."""
        thread = threading.Thread(target=self._run, name="runfolio-locks", daemon=True)
        with suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while (due := self._due()) is not None:
            for work, at, key in due:
                _quietly(work, at, key)
            time.sleep(_TICK)

    def _due(self) -> list[tuple[Work, str, UUID]] | None:
        """What is to be done now; None, for good, where there are no leases any more."""
        now = time.monotonic()
        with self._guard:
            if not self._held and not self._left:
                self._thread = None
                return None
            renewed = [(at, key) for key, (at, due) in self._held.items() if due <= now]
            given_back = [(at, lease) for at, (lease, due) in self._left.items() if due <= now]
            for at, key in renewed:
                self._held[key] = at, now + RENEW
            for at, lease in given_back:
                self._left[at] = replace(lease, marks=None), math.inf
        return [
            *((self._renew, at, key) for at, key in renewed),
            *((self._give_back, at, lease.key) for at, lease in given_back),
        ]

    def _give_back(self, at: str, key: UUID) -> None:
        """Until that is done, who asks for the lock passes it on: their request may be there first."""
        try:
            self._release(at, key)
        finally:
            with self._guard:
                if at in self._left and self._left[at][0].key == key:
                    del self._left[at]


def _quietly(work: Work, at: str, key: UUID) -> None:
    """A lease that cannot be renewed or given back ends by itself; the next write says so."""
    with suppress(RunfolioError):
        work(at, key)


@atexit.register
def _give_all_back() -> None:
    for store in list(_open):
        store.close()


def _under(held: Held | None) -> dict[str, Any]:
    return {"lock": held.path, "key": held.lock.key} if held else {}


def _lost(error: AnswerError) -> LockLost | None:
    return LockLost(str(error)) if error.code == "lock_lost" else None


def _data(answer: Answer) -> Any:
    return json.loads(answer.content)["data"]
