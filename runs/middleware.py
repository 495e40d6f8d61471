"""What every request passes through."""

import gzip
import logging
import re
import secrets
from collections.abc import Callable
from io import BytesIO
from typing import Any

from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed
from django.utils.cache import patch_vary_headers
from psycopg_pool import PoolTimeout

from runs import errors
from runs.limits import body_limit

type Next = Callable[[HttpRequest], HttpResponse]
type View = Callable[..., HttpResponseBase]

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# NUL as such, and as the quoted octal that Django turns into one when it reads cookies.
_NUL_IN_COOKIE = re.compile(r"\x00|\\000")


class RequestId:
    """Gives every request an id, the client's where it is a plain one, and says it in the answer."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-Id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        request.META["REQUEST_ID"] = request_id
        response = self.get_response(request)
        response["X-Request-Id"] = request_id
        if not response.has_header("Cache-Control"):
            response["Cache-Control"] = "no-store"  # whoever comes next to this machine sees no data
        return response


class SignInFirst(LoginRequiredMiddleware):
    """Sends who is not signed in to the sign-in page; a piece of a page that is open is refused instead.

    htmx would follow, and put the sign-in page into the middle of what somebody reads or writes.
    """

    def process_view(
        self, request: HttpRequest, view_func: View, view_args: Any, view_kwargs: Any
    ) -> HttpResponseBase | None:
        to_sign_in = super().process_view(request, view_func, view_args, view_kwargs)
        if to_sign_in and request.headers.get("HX-Request") == "true":
            return errors.response(request, 403, "You are not signed in any more. Load the page again.")
        return to_sign_in


class Refusals:
    """Refuses what no view of ours takes, before anything reads it (RELIABILITY.md 0.4, I3, S5)."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.refuse(request) or self.get_response(request)
        if isinstance(response, HttpResponseNotAllowed):  # Django's and ninja's own have no shape
            allow = response["Allow"]
            response = errors.response(request, 405, f"Method not allowed: use {allow}.")
            response["Allow"] = allow
        return response

    def refuse(self, request: HttpRequest) -> HttpResponse | None:
        if request.method not in _METHODS:
            return errors.response(request, 405, f"{request.method} is not allowed here")
        if problem := request.META.get("runfolio.refusal"):  # by project.wsgi
            return errors.unavailable(request, problem)
        where = f"{request.path}?{request.META.get('QUERY_STRING', '')}"
        if "\x00" in where or "%00" in where or _NUL_IN_COOKIE.search(request.headers.get("Cookie", "")):
            return errors.response(request, 400, "A NUL character is in the address or in a cookie.")
        return _too_large(request) if _length(request) > body_limit(request.path) else None


class Compression:
    """Sends texts compressed to those who take it, quickly rather than small; what is streamed goes as it is.

    Pages hold the tokens of their forms masked anew each time, and each answer has a length of chance, so
    that nobody guesses what is in one by how short it gets (BREACH).
    """

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response
        self._static: dict[tuple[str, str], bytes] = {}  # by path and date; as many as static files

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not _COMPRESSED.match(response.get("Content-Type", "")) or response.has_header("Content-Encoding"):
            return response
        patch_vary_headers(response, ["Accept-Encoding"])
        if request.method != "GET" or not _TAKES_GZIP.search(request.headers.get("Accept-Encoding", "")):
            return response
        return self._compressed(request, response)

    def _compressed(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if isinstance(response, FileResponse):
            if response.status_code != 200 or not request.path.startswith(settings.STATIC_URL):
                return response
            key = (request.path, response.get("Last-Modified", ""))
            if key not in self._static:
                self._static[key] = gzip.compress(b"".join(response), 9, mtime=0)
            response.close()
            whole = HttpResponse(self._static[key], headers=dict(response.items()))
        elif response.streaming or len(response.content) < _WORTH_IT:
            return response
        else:
            response.content = _gzipped(response.content)
            whole = response
        whole["Content-Encoding"] = "gzip"
        whole["Content-Length"] = str(len(whole.content))
        return whole


_COMPRESSED = re.compile(r"text/(html|css|plain|javascript)|application/(json|javascript)|image/svg")
_TAKES_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?(?:,|$))")
_WORTH_IT = 500  # bytes


def _gzipped(content: bytes) -> bytes:
    buffer = BytesIO()
    padding = "x" * (1 + secrets.randbelow(100))  # a file's name in the header, which nobody reads
    with gzip.GzipFile(padding, "wb", compresslevel=1, fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


class DatabaseErrors:
    """A database that does not answer is 503 with Retry-After, never a 500 (RELIABILITY.md D5)."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, RequestDataTooBig):
            return _too_large(request)
        if isinstance(error, OperationalError | InterfaceError | PoolTimeout):
            log.warning("database: %s", error)
            return errors.unavailable(request)
        return None


def _length(request: HttpRequest) -> int:
    try:
        return int(request.headers.get("Content-Length") or 0)
    except ValueError as error:
        raise SuspiciousOperation("Content-Length is not a number") from error


def _too_large(request: HttpRequest) -> HttpResponse:
    limit = body_limit(request.path)
    setting = " (MAX_BODY_BYTES)" if limit == settings.MAX_BODY_BYTES else ""
    response = errors.response(request, 413, f"The body is over the limit of {limit:,} bytes{setting}.")
    response["Connection"] = "close"  # the rest of the body is not read
    return response
