"""`/v1/traces` and `/v1/logs`: OTLP over HTTP, JSON and protobuf (issue 6, point 5; CONTRACTS.md 1.10).

A 200 means that all is committed, but for what `partialSuccess` says was refused.
"""

import tempfile
import threading
import zlib
from collections.abc import Callable
from typing import IO, Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from google.protobuf.message import DecodeError

from runs import errors, streams
from runs.access import token_only
from runs.api.strict_json import JsonError, read_json
from runs.ingest import Export, logs_in, spans_in, spans_in_protobuf, take_in
from runs.limits import OTLP_BYTES
from runs.models import Action, Owner, Token, may
from runs.models.access import scope_of
from runs.rpc_status import JSON, PROTOBUF, media_type
from runs.traces.protobuf import logs_as_json, refusal_as_protobuf

type Json = Any

COMPRESSED_BYTES = 8 * 2**20
MOST_MEMBERS = 32  # of a gzip body; each costs something, even if it holds nothing
AT_ONCE = 8  # exports that a process works on at a time: each may take much memory
WAIT = 5.0  # seconds, for one of these places
_CHUNK = 64 * 1024
_IN_MEMORY = 4 * 2**20  # bytes of a body; what is longer is kept in a file until all of it is there

_places = threading.BoundedSemaphore(AT_ONCE)


class _Refused(Exception):
    """The request cannot be taken; the text says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@csrf_exempt
@token_only
@require_POST
def traces(request: HttpRequest) -> HttpResponse:
    return _take(request, "resourceSpans", spans_in, spans_in_protobuf)


@csrf_exempt
@token_only
@require_POST
def logs(request: HttpRequest) -> HttpResponse:
    return _take(request, "resourceLogs", logs_in, lambda data: logs_in(logs_as_json(data)))


def _take(
    request: HttpRequest,
    container: str,
    sort: Callable[[Json], Export],
    sort_protobuf: Callable[[bytes], Export],
) -> HttpResponse:
    try:
        owner = _owner(request)
        _check_type(request)
        streams.let_go()
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as body:
            _receive(request, body)  # a slow client keeps neither a place nor a connection to the database
            if not _places.acquire(timeout=WAIT):
                return errors.unavailable(request, "Too many exports at a time: try again in a few seconds.")
            try:
                export = _read(request, body.read(), container, sort, sort_protobuf)
                take_in(owner, export)
            finally:
                _places.release()
    except _Refused as refused:
        answer = errors.response(request, refused.status, str(refused))
        if refused.status == 401:
            answer["WWW-Authenticate"] = "Bearer"
        return answer
    return _answer(request, container, export)


def _owner(request: HttpRequest) -> Owner:
    """Whose data it is, by the token. The environment variable for headers is often copied with its %20."""
    kind, _, secret = request.headers.get("Authorization", "").replace("%20", " ", 1).partition(" ")
    token = Token.objects.authenticate(secret.strip()) if kind.lower() == "bearer" and secret else None
    if token is None:
        raise _Refused(401, "Send a good token as 'Authorization: Bearer <token>'.")
    if not may(token, Action.SUBMIT):
        raise _Refused(403, f"Submitting needs a token with the scope {scope_of(Action.SUBMIT)}.")
    return token.owner


def _check_type(request: HttpRequest) -> None:
    given = request.headers.get("Content-Type", "")
    if given and media_type(given) not in (JSON, PROTOBUF):
        raise _Refused(415, f"Unsupported Content-Type {given[:100]!r}; expected {JSON} or {PROTOBUF}")


# ── Reading ────────────────────────────────────────────────────────────────
def _read(
    request: HttpRequest,
    data: bytes,
    container: str,
    sort: Callable[[Json], Export],
    sort_protobuf: Callable[[bytes], Export],
) -> Export:
    if media_type(request.headers.get("Content-Type", "")) == PROTOBUF:
        try:
            return sort_protobuf(data)
        except DecodeError as error:
            raise _Refused(400, f"Unable to parse Protobuf request body: {error}") from None
    if not data:
        return Export()
    try:
        document = read_json(data)
    except JsonError as error:
        raise _Refused(400, f"Unable to parse JSON request body: {error}") from None
    if not isinstance(document, dict):
        raise _Refused(400, "OTLP JSON request body must be a JSON object")
    blocks = document.get(container, [])
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise _Refused(400, f"Malformed OTLP payload: {container!r} must be a list of objects")
    return sort(document)


def _receive(request: HttpRequest, body: IO[bytes]) -> None:
    """The whole body, uncompressed; with its limits checked while it is read (RELIABILITY.md I3, I4)."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise _Refused(415, f"Unsupported Content-Encoding {encoding[:50]!r}; set compression: gzip or none")
    if encoding == "gzip":
        _inflate(request, body)
    else:
        _copy(request, body)
    body.seek(0)


def _copy(request: HttpRequest, body: IO[bytes]) -> None:
    while chunk := request.read(_CHUNK):
        body.write(chunk)
        if body.tell() > OTLP_BYTES:
            raise _Refused(413, f"Request body exceeds {OTLP_BYTES} bytes")


def _inflate(request: HttpRequest, body: IO[bytes]) -> None:
    """Every member to its end, and no further than the limit."""
    member, members, taken = zlib.decompressobj(31), 1, 0
    try:
        while chunk := request.read(_CHUNK):
            taken += len(chunk)
            if taken > COMPRESSED_BYTES:
                raise _Refused(413, f"Compressed request body exceeds {COMPRESSED_BYTES} bytes")
            while chunk:
                if member.eof:
                    chunk = chunk.lstrip(b"\0")  # padding between members is allowed
                    if not chunk:
                        break
                    member, members = zlib.decompressobj(31), members + 1
                if members > MOST_MEMBERS:
                    raise _Refused(400, f"gzip request body has more than {MOST_MEMBERS} members")
                body.write(member.decompress(chunk, _CHUNK * 16))
                chunk = member.unused_data if member.eof else member.unconsumed_tail
                if body.tell() > OTLP_BYTES:
                    raise _Refused(413, f"Request body exceeds {OTLP_BYTES} bytes after decompression")
        while not member.eof and (rest := member.decompress(b"", _CHUNK * 16)):
            body.write(rest)
    except zlib.error:
        raise _Refused(400, "Unable to decompress gzip request body") from None
    if taken and not member.eof:
        raise _Refused(400, "Unable to decompress gzip request body: it is cut off")


# ── Answering ──────────────────────────────────────────────────────────────
def _answer(request: HttpRequest, container: str, export: Export) -> HttpResponse:
    """In the type of the request: empty, or what was refused."""
    spans = container == "resourceSpans"
    number = sum(export.refused.values())
    what = "span(s)" if spans else "log record(s)"
    message = "; ".join(f"{count} {what} rejected: {why}" for why, count in export.refused.items())
    if media_type(request.headers.get("Content-Type", "")) == PROTOBUF:
        content = refusal_as_protobuf(spans, number, message) if number else b""
        return HttpResponse(content, content_type=PROTOBUF)
    told = {"rejectedSpans" if spans else "rejectedLogRecords": str(number), "errorMessage": message}
    return JsonResponse({"partialSuccess": told} if number else {})
