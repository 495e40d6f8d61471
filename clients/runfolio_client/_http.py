"""A request described once, and its tries, waits and deadline, without any I/O: a client does as they say."""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx2

from runfolio_client.errors import AnswerError, BrokenOff, NotFound, OperationTimeout

T = TypeVar("T")

log = logging.getLogger("runfolio_client")

DEFAULT_URL = "http://127.0.0.1:8000"
LONGEST_TRY = 30.0  # seconds; after that a try is given up and another one made, if there is time
MOST_BREAKS = 3  # in a row, of connections that were there, before we ask whether Runfolio is
BREAKS = (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)
ELSEWHERE = "not_runfolio"  # the code of an answer that something else gave, such as a proxy
BUSY = {429, 502, 503, 504}  # worth another try: nothing was done


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP, with its body read."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True)
class Request(Generic[T]):
    """One call: what is sent, and what its answer means."""

    operation: str  # the name of the method that people call
    subject: str  # the id that it is about, or nothing
    method: str
    path: str
    read: Callable[[Answer], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | None = None
    media_type: str = "application/json"
    # The same in every try, so that a write whose answer got lost happens once.
    key: str = field(default_factory=lambda: str(uuid4()))

    def __str__(self) -> str:
        return f"{self.operation} of {self.subject}" if self.subject else self.operation

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if self.content is not None:
            headers["Content-Type"] = self.media_type
        if self.method != "GET":
            headers["Idempotency-Key"] = self.key
        return headers


@dataclass(frozen=True)
class Send:
    """To be sent now, for at most so many seconds. Its outcome is an Answer or httpx2's exception."""

    request: Request[Any]
    seconds: float


@dataclass(frozen=True)
class Sleep:
    """To be waited for, so many seconds."""

    seconds: float


Steps = Generator[Send | Sleep, Any, T]


def tries(request: Request[T], timeout: float, url: str) -> Steps[T]:
    """The steps of one call to `url` that may take `timeout` seconds in all, waits between tries included.

    Lost connections, 429, 502, 503 and 504 are tried again, after the Retry-After that came with them.
    Raises AnswerError for any other answer that is no success, OperationTimeout, and BrokenOff.
    """
    ends, breaks = time.monotonic() + timeout, 0
    for pause in _pauses():
        left = ends - time.monotonic()
        outcome = yield Send(request, min(max(left, 0.05), LONGEST_TRY))
        if isinstance(outcome, Answer) and outcome.status not in BUSY:
            return _read(request, outcome, url)
        breaks = breaks + 1 if isinstance(outcome, BREAKS) else 0
        if breaks >= MOST_BREAKS and (yield from _answers()):
            raise BrokenOff(f"{request} broke off {breaks} times: is it too large for Runfolio?")
        wait = max(pause, _retry_after(outcome))
        if time.monotonic() + wait >= ends:
            raise _given_up(request, timeout, outcome, url)
        if wait > 1:
            log.warning("%s waits for Runfolio: %s", request, _reason(outcome, url))
        yield Sleep(wait)
    raise AssertionError("pauses do not end")


def _answers() -> Steps[bool]:
    """Whether Runfolio is there for others."""
    outcome = yield Send(Request("healthz", "", "GET", "/healthz", lambda answer: None), 5.0)
    return isinstance(outcome, Answer) and outcome.status == 200


def encoded(value: Any) -> bytes:
    """JSON in ASCII, which carries any text, lone surrogates included. UUIDs and times become text.

    Raises TypeError or ValueError for what JSON cannot say, such as NaN.
    """
    return json.dumps(value, default=_plain, allow_nan=False, separators=(",", ":")).encode()


def segment(value: object) -> str:
    """`value` as one segment of a path."""
    return quote(str(value), safe="")


def place(url: str | None, token: str | None) -> tuple[str, str]:
    """The address and the token: as given, or else RUNFOLIO_URL and RUNFOLIO_TOKEN (or RUNFOLIO_TOKEN_FILE).

    Raises ValueError for an address that is none, and without a token.
    """
    url = (url or os.environ.get("RUNFOLIO_URL") or DEFAULT_URL).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is not an address of Runfolio. Try {DEFAULT_URL}.")
    token = token or _from_file("RUNFOLIO_TOKEN_FILE") or os.environ.get("RUNFOLIO_TOKEN")
    if not token:
        raise ValueError("Runfolio wants a token: pass token=, or set RUNFOLIO_TOKEN or RUNFOLIO_TOKEN_FILE.")
    return url, token


def _from_file(name: str) -> str | None:
    path = os.environ.get(name)
    return Path(path).read_text().strip() if path else None


def _plain(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be said in JSON")


def _pauses() -> Iterator[float]:
    """Seconds between tries: soon at first, for a kept connection that was closed, and never all at once."""
    pause = 0.05
    while True:
        yield pause * random.uniform(0.75, 1.25)  # noqa: S311  spreads load, hides nothing
        pause = min(pause * 2, 2.0)


def _retry_after(outcome: Any) -> float:
    if not isinstance(outcome, Answer):
        return 0.0
    try:
        return float(outcome.headers.get("retry-after", 0))
    except ValueError:  # a date: nobody here sends one
        return 0.0


def _given_up(request: Request[Any], timeout: float, outcome: Any, url: str) -> Exception:
    error = OperationTimeout(f"{request} timed out after {timeout:g} s: {_reason(outcome, url)}")
    error.__cause__ = outcome if isinstance(outcome, Exception) else None
    return error


def _reason(outcome: Any, url: str) -> str:
    if isinstance(outcome, Answer):
        return f"Runfolio answers {outcome.status}"
    return f"{str(outcome) or type(outcome).__name__} ({url})"


def _read(request: Request[T], answer: Answer, url: str) -> T:
    if 200 <= answer.status < 300:
        try:
            return request.read(answer)
        except (ValueError, KeyError, TypeError) as error:  # a page to sign in at, say
            raise _refusal(request, answer, url) from error
    raise _refusal(request, answer, url)


def _refusal(request: Request[Any], answer: Answer, url: str) -> AnswerError:
    code, message, field_, request_id = _said(answer, url)
    kind = NotFound if answer.status == 404 and code != ELSEWHERE else AnswerError
    request_id = request_id or answer.headers.get("x-request-id")
    return kind(str(request), answer.status, code, message, field_, request_id)


def _said(answer: Answer, url: str) -> tuple[str, str, str | None, str | None]:
    """Code, sentence, field and request id, in either of the shapes that Runfolio's paths have."""
    try:
        body = answer.json()
        error = body.get("error")
        if error:
            return error["code"], error["message"], error.get("field"), error.get("request_id")
        return "error", _sentence(body["detail"]), None, None
    except (ValueError, AttributeError, KeyError, TypeError):
        place = answer.headers.get("location")
        return (
            ELSEWHERE,
            f"This is no answer of Runfolio{f', it leads to {place}' if place else ''}: is it at {url}?",
            None,
            None,
        )


def _sentence(detail: Any) -> str:
    """agentevals' `detail` is a sentence, a list of pydantic's, or an object with one."""
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in detail)
    return str(detail["message"] if isinstance(detail, dict) else detail)
