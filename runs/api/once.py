"""Writes of our own REST API, each a transaction; with an `Idempotency-Key` done once (issue 6, point 1)."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import msgspec
from django.db import transaction
from django.http import HttpResponse

from runs.api.token_auth import ApiRequest
from runs.errors import Refused
from runs.exact import Json
from runs.models import Owner, Task
from runs.models.idempotency import KEY_LENGTH, KeptAnswer, claim_key, keep_answer
from runs.models.task import artifacts_of, histories


@dataclass(frozen=True, slots=True)
class Shown:
    """How much of a task an answer shows: its last messages, all where `history_length` is None or 0; or,
    `minimal`, neither messages nor artifacts."""

    history_length: int | None = None
    minimal: bool = False


WHOLE = Shown()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered; where `data` is a task, without its messages and artifacts, `task` is that one."""

    body: dict[str, Json]
    status: int = 200
    task: Task | None = None


def once(
    request: ApiRequest,
    write: Callable[[], Answer],
    shown: Shown = WHOLE,
    key: str | None = None,
    asked: bytes | None = None,
) -> tuple[int, bytes]:
    """Does `write` in a transaction and gives status and body of the answer.

    With a key, the header's unless another is given, it does so once: who sends the same again (`asked`, by
    default the whole request) gets the same answer, and of two at once one waits for the other. A refusal
    is not kept: it wrote nothing. Raises Refused where the key came with something else before.
    """
    key = request.headers.get("Idempotency-Key") if key is None else key
    if key is None:
        with transaction.atomic():
            answer = write()
        return answer.status, _whole(answer.body, _extent(answer.task), shown)
    fingerprint = _fingerprint(request, asked)
    with transaction.atomic():
        kept = claim_key(request.auth.owner, checked(key), fingerprint)
        if kept is None:
            answer = write()
            _keep(request.auth.owner, key, answer)
    if kept is None:
        return answer.status, _whole(answer.body, _extent(answer.task), shown)
    return _again(kept, fingerprint, shown)


def checked(key: str) -> str:
    """The key, where it is one. Raises Refused."""
    if not 1 <= len(key) <= KEY_LENGTH or not key.isprintable():
        message = f"Idempotency-Key must have 1 to {KEY_LENGTH} printable characters."
        raise Refused(422, "invalid", message, "Idempotency-Key")
    return key


def own_key_of(*parts: str) -> str:
    """A key of our own for what these say together, however long they are."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def answered(request: ApiRequest, write: Callable[[], Answer], shown: Shown = WHOLE) -> HttpResponse:
    """The same as a response."""
    status, body = once(request, write, shown)
    return HttpResponse(body, status=status, content_type="application/json")


def encoded(value: Json) -> bytes:
    """JSON; what may hold lone surrogates comes as `raw`."""
    return msgspec.json.encode(value)


def raw(value: Json) -> msgspec.Raw:
    """A value from outside, in which there may be any text."""
    return msgspec.Raw(json.dumps(value).encode())


@dataclass(frozen=True, slots=True)
class _Extent:
    """A run and how far its history and its artifacts went."""

    run_id: UUID
    event_count: int
    artifact_count: int


def _extent(task: Task | None) -> _Extent | None:
    return None if task is None else _Extent(task.run_id, task.run.event_count, task.run.artifact_count)


def _keep(owner: Owner, key: str, answer: Answer) -> None:
    body = encoded(answer.body).decode()
    if answer.task is None:
        keep_answer(owner, key, answer.status, body)
    else:
        run = answer.task.run
        keep_answer(owner, key, answer.status, body, run, run.event_count, run.artifact_count)


def _again(kept: KeptAnswer, fingerprint: str, shown: Shown) -> tuple[int, bytes]:
    if kept.request != fingerprint or kept.status is None:
        message = "This Idempotency-Key came with another request before. Use a new key for each request."
        raise Refused(422, "idempotency_key_reused", message, "Idempotency-Key")
    if kept.run_id is None:
        return kept.status, kept.body.encode()
    body = msgspec.json.decode(kept.body, type=dict[str, msgspec.Raw])
    data = msgspec.json.decode(body["data"], type=dict[str, msgspec.Raw])
    extent = _Extent(kept.run_id, kept.event_count, kept.artifact_count)
    return kept.status, _whole({**body, "data": data}, extent, shown)


def _whole(body: dict[str, Json], extent: _Extent | None, shown: Shown) -> bytes:
    if extent is None or shown.minimal:
        return encoded(body)
    runs = [extent.run_id]
    said = histories(runs, shown.history_length, extent.event_count)[extent.run_id]
    made = artifacts_of(runs)[extent.run_id] if extent.artifact_count else []
    parts = {"history": texts(said), "artifacts": texts(made[: extent.artifact_count])}
    return encoded({**body, "data": {**body["data"], **parts}})


def texts(values: list[str]) -> list[msgspec.Raw]:
    """JSON texts as they are."""
    return [msgspec.Raw(value.encode()) for value in values]


def _fingerprint(request: ApiRequest, asked: bytes | None) -> str:
    what = request.body if asked is None else asked
    line = f"{request.method} {request.get_full_path()}\n".encode()
    return hashlib.sha256(line + what).hexdigest()
