"""The WSGI application, behind four guards that Django lacks."""

import gc
import ipaddress
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import Error
from psycopg_pool import PoolTimeout

from runs import schema
from runs.limits import body_limit

type Environ = dict[str, Any]
type App = Callable[[Environ, Callable[..., object]], Iterable[bytes]]

log = logging.getLogger(__name__)

_FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST")
_CHUNK = 64 * 1024
_ON_OTLP_PORT = ("/v1/", "/healthz", "/readyz")
_ASK_AGAIN = 2.0  # seconds


def with_proxies(app: App) -> App:
    """Believes X-Forwarded-For and -Proto from TRUSTED_PROXIES alone (DESIGN.md 3.16)."""

    def wrapped(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
        sent = {name: environ.pop(name, "") for name in _FORWARDED}
        if _trusted(environ.get("REMOTE_ADDR", "")):
            environ["REMOTE_ADDR"] = _client(sent["HTTP_X_FORWARDED_FOR"], environ["REMOTE_ADDR"])
            if sent["HTTP_X_FORWARDED_PROTO"] in ("http", "https"):
                environ["HTTP_X_FORWARDED_PROTO"] = sent["HTTP_X_FORWARDED_PROTO"]
        return app(environ, start_response)

    return wrapped


def with_otlp_port(app: App) -> App:
    """On OTLP_PORT only OpenTelemetry is answered, and whoever asks how we are."""

    def wrapped(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if settings.OTLP_PORT and not path.startswith(_ON_OTLP_PORT) and _port(environ) == settings.OTLP_PORT:
            start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return []
        return app(environ, start_response)

    return wrapped


def with_chunked_bodies(app: App) -> App:
    """Gives Django the whole of a chunked body: without a length it reads none (RELIABILITY.md 0.5)."""

    def wrapped(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
        if not environ.get("CONTENT_LENGTH") and environ.get("HTTP_TRANSFER_ENCODING"):
            body, length = _read(environ["wsgi.input"], body_limit(environ.get("PATH_INFO", "")))
            environ["wsgi.input"], environ["CONTENT_LENGTH"] = body, str(length)
        return app(environ, start_response)

    return wrapped


def with_current_schema(app: App) -> App:
    """Has requests refused until the database has every migration of this code (RELIABILITY.md D6).

    `runs.middleware.Refusals` does that, in the shape of the path. Once they are there nobody asks again.
    """
    problem: str | None = ""  # None: they are there; empty: nobody knows yet
    due = 0.0

    def wrapped(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
        nonlocal problem, due
        if problem is not None and environ.get("PATH_INFO") != "/healthz":
            if time.monotonic() >= due:
                due = time.monotonic() + _ASK_AGAIN
                problem = _schema_problem(problem)
            environ["runfolio.refusal"] = problem
        return app(environ, start_response)

    return wrapped


def _port(environ: Environ) -> int:
    """Where the request came in: what its Host says, anybody may have written."""
    listener = environ.get("gunicorn.socket")
    address = listener.getsockname() if listener is not None else ()
    return address[1] if isinstance(address, tuple) and len(address) > 1 else 0


def _schema_problem(before: str) -> str | None:
    """What is wrong; of a database that is away, what was wrong before."""
    try:
        problem = schema.older()
    except (Error, PoolTimeout):
        return before  # runs.middleware.DatabaseErrors answers
    if problem and problem != before:
        log.error(problem)
    return problem


def _read(stream: Any, limit: int) -> tuple[Any, int]:
    """The body in a temporary file and its length, at most one byte over the limit: then it is refused."""
    body = tempfile.SpooledTemporaryFile(max_size=2**20)  # noqa: SIM115  lives as long as the request
    while (length := body.tell()) <= limit:
        chunk = stream.read(min(_CHUNK, limit + 1 - length))
        if not chunk:
            break
        body.write(chunk)
    length = body.tell()
    body.seek(0)
    return body, length


def _trusted(address: str) -> bool:
    try:
        return any(ipaddress.ip_address(address) in network for network in settings.TRUSTED_PROXIES)
    except ValueError:
        return False


def _client(forwarded: str, proxy: str) -> str:
    """The nearest address that is no proxy of ours: what stands further left, anybody may have written."""
    for address in reversed([part.strip() for part in forwarded.split(",") if part.strip()]):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            return proxy
        if not _trusted(address):
            return address
    return proxy


_django = cast(App, get_wsgi_application())
application = with_proxies(with_otlp_port(with_chunked_bodies(with_current_schema(_django))))

# What is loaded by now stays: no garbage collection need look at it again, which took a tenth of the time of
# those requests that make many objects. They are let make more of them before it looks for the first time.
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 10, 10)
