"""Errors as OTLP has them: google.rpc.Status, in JSON or protobuf as the request was (CONTRACTS.md 1.10)."""

from django.http import HttpRequest, HttpResponse, JsonResponse

JSON, PROTOBUF = "application/json", "application/x-protobuf"

# google.rpc.Code by HTTP status; 2 is UNKNOWN.
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 413: 8, 415: 3, 429: 8, 500: 13, 503: 14}


def media_type(content_type: str) -> str:
    """Without its parameters; JSON where none is given."""
    return content_type.split(";", 1)[0].strip().lower() or JSON


def status_response(request: HttpRequest, status: int, message: str) -> HttpResponse:
    code = _CODES.get(status, 2)
    if media_type(request.headers.get("Content-Type", "")) == PROTOBUF:
        return HttpResponse(_as_protobuf(code, message), content_type=PROTOBUF, status=status)
    return JsonResponse({"code": code, "message": message}, status=status)


def _as_protobuf(code: int, message: str) -> bytes:
    """The message's two fields: `int32 code = 1; string message = 2;`."""
    text = message.encode("utf-8", "replace")
    return b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])
