"""Answers that may take long: only so many at a time, so that the others find a free thread (DESIGN.md 6)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from runs import errors

_BUSY = "As many streams and downloads run here as MAX_STREAMS allows. Try again in a few seconds."
_taken = 0
_lock = threading.Lock()
_ending = threading.Event()


class NoPlace(Exception):
    """MAX_STREAMS are under way already."""


class Stream:
    """The chunks of an answer, and its place among the streams of this process, which it gives back once:
    when it ends, breaks, or its client goes."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._open = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._open:
            self._open = False
            if hasattr(self._chunks, "close"):
                self._chunks.close()
            _give_back()


def streamed(request: HttpRequest, chunks: Iterator[bytes], content_type: str) -> HttpResponseBase:
    """The chunks as they come, or 503 with Retry-After where MAX_STREAMS are under way already."""
    if not _take():
        return errors.unavailable(request, _BUSY)
    response = StreamingHttpResponse(Stream(chunks), content_type=content_type)
    response["X-Accel-Buffering"] = "no"  # a proxy would keep it until it is whole
    return response


def let_go() -> None:
    """Gives this thread's database connection back to the pool: before a wait, and between two messages."""
    if not connection.in_atomic_block:
        connection.close()


def pause(seconds: float) -> bool:
    """Waits between two looks of a stream that has no end; False once there shall be none: `end_all`."""
    return not _ending.wait(seconds)


def end_all() -> None:
    """Ends the streams that have no end, since this process is told to stop: their clients come again."""
    _ending.set()


@contextmanager
def place() -> Iterator[None]:
    """A place among the streams for a request that answers whole, but only after a while. Raises NoPlace."""
    if not _take():
        raise NoPlace(_BUSY)
    try:
        yield
    finally:
        _give_back()


def _take() -> bool:
    global _taken
    with _lock:
        if _taken >= settings.MAX_STREAMS:
            return False
        _taken += 1
        return True


def _give_back() -> None:
    global _taken
    with _lock:
        _taken -= 1
