"""A small HTTP server on loopback that passes requests on to Runfolio with a token.

Whoever reaches it acts with that token, so it believes nobody but its own page and programs of this machine:
a Host or an Origin that is not its own is refused, which keeps web pages of others out, however they got a
name for this address.
"""

import json
import logging
import mimetypes
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
CHUNK = 64 * 1024
LONGEST_LINE = 1024  # bytes that say how long a chunk is

_NAMES = (HOST, "localhost", "[::1]")
# Of one connection, or of whoever asks: Runfolio is asked with a connection and a token of our own.
_NOT_PASSED_ON = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "expect", "host", "origin", "referer", "cookie", "authorization"),
    }
)
_NOT_PASSED_BACK = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding"),
        *("upgrade", "set-cookie", "server", "date"),
    }
)
_OF_THE_PAGE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Passing:
    """To where, with what token, and which paths are passed on; `timeout` is the seconds of silence after
    which Runfolio counts as gone. `page` is the folder of the web page, where there is one."""

    url: str
    token: str
    paths: Sequence[str]
    timeout: float
    page: Path | None = None

    def connect(self) -> HTTPConnection:
        where = urlsplit(self.url)
        kind = HTTPSConnection if where.scheme == "https" else HTTPConnection
        return kind(where.hostname or HOST, where.port, timeout=self.timeout)


class Gateway(ThreadingHTTPServer):
    """Serves on loopback alone; port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, port: int, passing: Passing) -> None:
        super().__init__((HOST, port), _Handler)
        self.passing = passing
        names = [f"{name}:{self.server_port}" for name in _NAMES]
        self.hosts = frozenset(names)
        self.origins = frozenset(f"http://{name}" for name in names)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away all the time."""
        log.debug("a connection ended", exc_info=True)


class _Broken(Exception):
    """The body that is being passed on is not one."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120  # seconds that a client may keep a connection in silence

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self) -> None:
        gateway = cast(Gateway, self.server)
        path = urlsplit(self.path).path
        if self.headers.get("Host", "").lower() not in gateway.hosts:
            self._refuse(403, "This address is for programs of this machine: its Host is not known here.")
        elif self.headers.get("Origin", next(iter(gateway.origins))).lower() not in gateway.origins:
            self._refuse(403, "Requests from other web sites are refused here.")
        elif path.startswith(tuple(gateway.passing.paths)):
            self._pass_on(gateway.passing)
        elif self.command in ("GET", "HEAD") and gateway.passing.page:
            self._send_file(gateway.passing.page, path)
        else:
            self._refuse(404, "There is nothing at this address.")

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)

    # ── Passing on ──────────────────────────────────────────────────────────
    def _pass_on(self, passing: Passing) -> None:
        connection = passing.connect()
        try:
            answer = self._ask(connection, passing)
        except _Broken as broken:
            self._refuse(400, str(broken))
        except (ValueError, InvalidURL):  # http.client sends no such path or header
            self._refuse(400, "The request has what no request may have.")
        except (OSError, HTTPException) as error:
            log.warning("%s does not answer: %s", passing.url, error)
            self._refuse(502, f"Runfolio does not answer at {passing.url}. Is it running?")
        else:
            self._give_back(answer)
        finally:
            connection.close()

    def _ask(self, connection: HTTPConnection, passing: Passing) -> HTTPResponse:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED_ON}
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        if chunked:
            headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
            headers["Transfer-Encoding"] = "chunked"
        headers["Authorization"] = f"Bearer {passing.token}"
        body = self._chunks() if chunked else self._bytes()
        connection.request(self.command, self.path, body, headers, encode_chunked=chunked)
        return connection.getresponse()

    def _bytes(self) -> Iterator[bytes] | None:
        length = self.headers.get("Content-Length", "0")
        if not length.isascii() or not length.isdigit():
            raise _Broken("Content-Length is not a number.")
        return self._counted(int(length)) if int(length) else None

    def _counted(self, left: int) -> Iterator[bytes]:
        while left > 0:
            piece = self.rfile.read1(min(left, CHUNK))
            if not piece:
                raise _Broken("The body ended before its Content-Length.")
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while size := self._next_size():
            yield from self._counted(size)
            self.rfile.readline(LONGEST_LINE)
        while self.rfile.readline(LONGEST_LINE).strip():
            pass

    def _next_size(self) -> int:
        try:
            return int(self.rfile.readline(LONGEST_LINE).split(b";")[0].strip(), 16)
        except ValueError:
            raise _Broken("The chunks of the body are not readable.") from None

    def _give_back(self, answer: HTTPResponse) -> None:
        """As it comes: events of a stream must not wait for the next ones."""
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _NOT_PASSED_BACK:
                self.send_header(name, value)
        if answer.length is None and self.command != "HEAD":
            self.send_header("Connection", "close")  # which says where the answer ends
            self.close_connection = True
        self.end_headers()
        try:
            while piece := answer.read1(CHUNK):
                self.wfile.write(piece)
            is_whole = not answer.length
        except (OSError, HTTPException):  # on whichever side
            is_whole = False
        self.close_connection = self.close_connection or not is_whole

    # ── The page ────────────────────────────────────────────────────────────
    def _send_file(self, folder: Path, path: str) -> None:
        """Any path that is no file is the page itself, which has addresses of its own."""
        found = (folder / unquote(path).replace("\0", "").lstrip("/")).resolve()
        is_there = found.is_relative_to(folder) and found.is_file()
        self._send(found if is_there else folder / "index.html")

    def _send(self, file: Path) -> None:
        content = file.read_bytes()
        self.send_response_only(200)
        self.send_header("Content-Type", mimetypes.guess_type(file.name)[0] or "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        for name, value in _OF_THE_PAGE.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status: int, message: str) -> None:
        """Whatever was sent with it stays unread, so that the connection cannot go on."""
        body = json.dumps({"detail": message}).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_WR)
