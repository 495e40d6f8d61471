"""A store of files as OpenHands knows it (`FileStore`), over the verbs of a database: what both share.

Paths are OpenHands' own: relative to the store, with a slash between folders. Nothing is kept in this process
but what a lock that is held right now makes certain.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from uuid import UUID

NAMESPACE_LENGTH = 500  # characters
PATH_LENGTH = 1000  # characters
PATH_BYTES = 2500  # of UTF-8

_EVENT = re.compile(r"event-(\d{5,18})-[0-9a-fA-F-]{8,}\.json")
_MARKER = re.compile(r"\.eventlog-len-(0|[1-9]\d{0,17})\.marker")


class LockLost(RuntimeError):
    """The lock under which this was to be written was lost, perhaps to another: nothing was written."""


@dataclass
class Held:
    """A lock in the hands of this thread.

    `marks` are the lengths that OpenHands' markers beside it name, while that is certain: none but the holder
    of the lock touches them. `asked` is the length that the holder asked for, `made` the one written for it.
    """

    path: str
    pid: int
    marks: set[int] | None
    lock: Any  # what the store needs to write under it, and to give it back
    asked: int | None = None
    made: int | None = None

    @property
    def folder(self) -> str:
        return posixpath.dirname(self.path)

    def forget(self) -> None:
        self.marks = self.asked = self.made = None


# `Files` has a method of that name.
Names = list[str]
Stack = list[Held]


class Files(ABC):
    """The methods of OpenHands' `FileStore`; a store adds the verbs at the end. Threads may share it."""

    def __init__(self, namespace: str | UUID, timeout: float) -> None:
        self.namespace = _checked_namespace(namespace)
        self.timeout = timeout
        self._of_thread = threading.local()

    def write(self, path: str, contents: str | bytes) -> None:
        """Replaces the file at once; when this returns, it is committed. Bytes must be UTF-8."""
        at = normal(path)
        body = contents.encode() if isinstance(contents, str) else bytes(memoryview(contents))
        if not isinstance(contents, str):
            body.decode()
        if at == "":
            raise IsADirectoryError(path)
        held = self._held()
        if held and held.made is not None and not body and held.made == _marker(held.folder, at):
            return  # it came with the event
        count = _event(held, at)
        answer = self._put(at, body, held, count)
        if answer == "out of step":
            raise LockLost(f"write of {path}: the log was changed beside its lock, so open it anew")
        if answer != "written":
            raise {"is a directory": IsADirectoryError, "not a directory": NotADirectoryError}[answer](path)
        self._note_written(at, held, count)

    def read(self, path: str) -> str:
        """The file's text. Raises FileNotFoundError, of a folder as well."""
        body = self._get(normal(path))
        if body is None:
            raise FileNotFoundError(path)
        return body.decode()

    def list(self, path: str) -> Names:
        """What is in the folder, each as `path` with its name, folders with a slash at the end."""
        at = normal(path)
        names = self._children(at)
        if not names and at and self._is_there(at):
            return [path]
        return [posixpath.join(path, name) for name in names]

    def delete(self, path: str) -> None:
        """Deletes a file, or a folder and all that is in it; what is not there is no error."""
        at = normal(path)
        held = self._held()
        if held and held.marks is not None:
            marker = _marker(held.folder, at)
            if marker is not None and marker not in held.marks:
                return
        self._remove(at, held)
        self._note_written(at, held, None)

    def exists(self, path: str) -> bool:
        at = normal(path)
        held = self._held()
        if held and held.marks is not None:
            marker = _marker(held.folder, at)
            if marker is not None:
                held.asked = marker
                return marker in held.marks
        return at == "" or self._is_there(at)

    def get_absolute_path(self, path: str) -> str:
        """A name for the file among those of all namespaces; no file system has it."""
        return posixpath.join(f"/{self.namespace}", normal(path))

    @contextmanager
    def lock(self, path: str, timeout: float = 30.0) -> Iterator[None]:
        """Holds the lock of that path, alone among all processes and machines, and among both kinds of store.

        Raises TimeoutError after `timeout` seconds; less than zero waits for ever. What this thread writes
        meanwhile is written under the lock, or LockLost is raised.
        """
        try:
            held = self._take(normal(path), timeout)
        except BlockingIOError:
            raise TimeoutError(f"Lock acquisition timed out: {path}") from None
        self._stack().append(held)
        try:
            yield
        finally:
            self._stack().remove(held)
            if held.pid == os.getpid():  # a child that was forked meanwhile holds nothing
                self._give_back(held)

    @abstractmethod
    def close(self) -> None:
        """Closes the connections; the next use opens new ones."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):  # at the end of the process there may be nothing left to close with
            self.close()

    def _note_written(self, at: str, held: Held | None, count: int | None) -> None:
        """Keeps in mind what is certain under the lock after a write; with `count`, of that event."""
        if held is None:
            return
        if count is None or held.marks is None:
            held.forget()
        else:
            held.marks = held.marks - {count} | {count + 1}
            held.made = count + 1

    def _held(self) -> Held | None:
        """The lock that this thread took last."""
        stack = self._stack()
        return stack[-1] if stack and stack[-1].pid == os.getpid() else None

    def _stack(self) -> Stack:
        if not hasattr(self._of_thread, "stack"):
            self._of_thread.stack = []
        stack: Stack = self._of_thread.stack
        return stack

    # ── The verbs of a database; paths are normal ──────────────────────────
    @abstractmethod
    def _put(self, at: str, body: bytes, held: Held | None, count: int | None) -> str:
        """Writes a file; with `count` it is the event of that number, and its marker moves along.

        Gives `written`, `out of step` without its marker, `is a directory` or `not a directory`. Raises
        LockLost.
        """

    @abstractmethod
    def _get(self, at: str) -> bytes | None: ...

    @abstractmethod
    def _children(self, at: str) -> Names:
        """The names in a folder, folders with a slash; none for a file."""

    @abstractmethod
    def _remove(self, at: str, held: Held | None) -> None:
        """Raises LockLost."""

    @abstractmethod
    def _is_there(self, at: str) -> bool: ...

    @abstractmethod
    def _take(self, at: str, timeout: float) -> Held:
        """Raises BlockingIOError where somebody else holds it all the time."""

    @abstractmethod
    def _give_back(self, held: Held) -> None: ...


def normal(path: str) -> str:
    """The path as it is kept: no slash at the ends, no `.` and `..`, `/` for `\\`; empty is the store itself.

    Raises ValueError where it leads out of the store, or cannot be kept.
    """
    at = path.replace("\\", "/")
    at = posixpath.normpath(posixpath.join("/", at.removeprefix("/")))
    if _escapes(path):
        raise ValueError(f"path escapes filestore root: {path}")
    at = at.strip("/")
    if len(at) > PATH_LENGTH or len(at.encode()) > PATH_BYTES:
        raise ValueError(
            f"the path {path[:60]}… is too long: keep it within {PATH_LENGTH} characters, {PATH_BYTES} bytes"
        )
    if "\x00" in at:
        raise ValueError(f"the path {path!r} has a NUL character: leave it out")
    return at


def lock_number(namespace: str, at: str) -> int:
    """The advisory lock of a path: the first 8 bytes of SHA-256 of namespace, NUL and path, signed."""
    digest = hashlib.sha256(f"{namespace}\x00{at}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _escapes(path: str) -> bool:
    depth = 0
    for part in path.replace("\\", "/").removeprefix("/").split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            return True
    return False


def _checked_namespace(namespace: str | UUID) -> str:
    if isinstance(namespace, UUID):
        return str(namespace)
    if not isinstance(namespace, str) or not 0 < len(namespace) <= NAMESPACE_LENGTH or "\x00" in namespace:
        raise ValueError(
            f"the namespace {str(namespace)[:60]!r} cannot be used: give 1 to {NAMESPACE_LENGTH} characters "
            "without NUL, such as the id of the conversation"
        )
    namespace.encode()
    return namespace


def _event(held: Held | None, at: str) -> int | None:
    """The number of the event that is written there, where its log found its marker under its lock."""
    if held is None or held.marks is None or held.asked not in held.marks:
        return None
    folder, name = posixpath.split(at)
    found = _EVENT.fullmatch(name)
    return held.asked if found and folder == held.folder and int(found[1]) == held.asked else None


def _marker(folder: str, at: str) -> int | None:
    """The length that OpenHands' marker at that path in `folder` names; None where it is another file."""
    parent, name = posixpath.split(at)
    found = _MARKER.fullmatch(name)
    return int(found[1]) if found and parent == folder else None
