"""`manage.py agentevals_gateway`: agentevals' page and tools in front of Runfolio, with its own token."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runs.errors import AGENTEVALS_PATHS
from runs.gateway.page import page_folder
from runs.gateway.server import CHUNK, Gateway, Passing
from tests.conftest import ROOT

SECRET = "rf_secret"
BIG = os.urandom(3 * 2**20)


class Upstream(ThreadingHTTPServer):
    """Stands for Runfolio: says what it was asked, and streams where it is asked to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.asked: list[dict[str, Any]] = []
        self.go_on = threading.Event()


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b"".join(iter(self._chunk, b""))
        upstream: Any = self.server
        upstream.asked.append(
            {"path": self.path, "method": self.command, "headers": dict(self.headers), "body": body}
        )
        if self.path.startswith("/stream/"):
            self._stream(upstream)
            return
        is_broken = self.path.endswith("/broken")
        self.send_response(207)
        self.send_header("Set-Cookie", "a=b")
        self.send_header("Content-Length", "8" if is_broken else "4")
        self.end_headers()
        if is_broken:
            self.wfile.write(b"half")
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(b"done")

    do_POST = do_HEAD = do_GET

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline(), 16)
        piece = self.rfile.read(size)
        self.rfile.readline()
        return piece

    def _stream(self, upstream: Upstream) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: 1\n\n")
        upstream.go_on.wait(20)
        self.wfile.write(b"data: 2\n\n")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    yield from _serving(Upstream())


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>agentevals</h1>")
    (folder / "assets" / "index.js").write_text("let a")
    (tmp_path / "secret.txt").write_text("secret")
    return folder.resolve()


@pytest.fixture
def gateway(upstream: Upstream, page: Path) -> Iterator[Gateway]:
    url = f"http://127.0.0.1:{upstream.server_port}"
    passing = Passing(url=url, token=SECRET, paths=AGENTEVALS_PATHS, timeout=20, page=page)
    yield from _serving(Gateway(0, passing))


def _serving(server: Any) -> Iterator[Any]:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(
    gateway: Gateway, path: str, method: str = "GET", body: Any = None, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.server_port, timeout=20)
    connection.request(
        method,
        path,
        body,
        {name.replace("_", "-"): value for name, value in headers.items()},
        encode_chunked="Transfer_Encoding" in headers,
    )
    answer = connection.getresponse()
    return answer, answer.read()


# ── Passing on ─────────────────────────────────────────────────────────────
def test_it_adds_the_token_and_gives_the_answer_back(gateway, upstream):
    answer, body = ask(gateway, "/api/runs?limit=3", Authorization="Bearer theirs", X_Request_Id="abc")

    (asked,) = upstream.asked
    assert (answer.status, body) == (207, b"done")
    assert (asked["path"], asked["headers"]["Authorization"]) == ("/api/runs?limit=3", f"Bearer {SECRET}")
    assert asked["headers"]["X-Request-Id"] == "abc"


def test_cookies_go_neither_way(gateway, upstream):
    answer, _ = ask(gateway, "/api/runs", Cookie="sessionid=1")

    assert "Cookie" not in upstream.asked[0]["headers"]
    assert answer.getheader("Set-Cookie") is None


@pytest.mark.parametrize(
    "headers", [{}, {"Transfer_Encoding": "chunked"}], ids=["with its length", "in chunks"]
)
def test_it_passes_uploads_whole(gateway, upstream, headers):
    pieces = iter([BIG[:100], BIG[100:]]) if headers else BIG

    answer, _ = ask(gateway, "/api/evaluate", "POST", pieces, **headers)

    assert (answer.status, upstream.asked[0]["body"] == BIG) == (207, True)


def test_events_come_as_they_are_sent(gateway, upstream):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.server_port, timeout=20)
    connection.request("GET", "/stream/ui-updates")
    answer = connection.getresponse()

    assert answer.read1(100) == b"data: 1\n\n"
    upstream.go_on.set()
    assert answer.read() == b"data: 2\n\n"


def test_an_answer_that_breaks_off_is_not_waited_for(gateway):
    with socket.create_connection(("127.0.0.1", gateway.server_port), timeout=10) as client:
        host = f"127.0.0.1:{gateway.server_port}"
        client.sendall(f"GET /api/runs/broken HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        received = b"".join(iter(lambda: client.recv(CHUNK), b""))
    assert received.endswith(b"half")


@pytest.mark.parametrize(
    "line", ["GET /api/runs/é HTTP/1.1", f"GET /api/runs HTTP/1.1\r\nContent-Length: {'9' * 5000}"]
)
def test_what_cannot_be_passed_on_is_400(gateway, upstream, line):
    with socket.create_connection(("127.0.0.1", gateway.server_port), timeout=10) as client:
        client.sendall(f"{line}\r\nHost: 127.0.0.1:{gateway.server_port}\r\n\r\n".encode())
        received = b"".join(iter(lambda: client.recv(CHUNK), b""))
    assert (received.split()[1], upstream.asked) == (b"400", [])


@pytest.mark.parametrize("path", ["/api/tasks", "/v1/traces", "/a2a", "/admin/"])
def test_only_the_paths_of_agentevals_are_passed_on(gateway, upstream, path):
    ask(gateway, path)
    answer, _ = ask(gateway, path, "POST", b"{}")

    assert (answer.status, upstream.asked) == (404, [])


def test_runfolio_that_is_away_is_502(upstream, page):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    passing = Passing(url=f"http://127.0.0.1:{port}", token=SECRET, paths=AGENTEVALS_PATHS, timeout=5)
    for gateway in _serving(Gateway(0, passing)):
        answer, body = ask(gateway, "/api/runs")

    assert (answer.status, "does not answer" in json.loads(body)["detail"]) == (502, True)


# ── Who may ask ────────────────────────────────────────────────────────────
@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_a_host_that_is_not_its_own_is_refused(gateway, upstream, host):
    answer, body = ask(gateway, "/api/runs", Host=host.format(port=gateway.server_port))

    assert (answer.status, set(json.loads(body)), upstream.asked) == (403, {"detail"}, [])


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_its_own_names_are_known(gateway, name):
    assert ask(gateway, "/api/runs", Host=f"{name}:{gateway.server_port}")[0].status == 207


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"]
)
def test_an_origin_that_is_not_its_own_is_refused(gateway, upstream, origin):
    origin = origin.format(port=gateway.server_port)

    answer, _ = ask(gateway, "/api/evaluate", "POST", b"{}", Origin=origin)

    assert (answer.status, upstream.asked) == (403, [])


def test_its_own_origin_is_passed_on_without_it(gateway, upstream):
    origin = f"http://localhost:{gateway.server_port}"

    assert ask(gateway, "/api/evaluate", "POST", b"{}", Origin=origin)[0].status == 207
    assert "Origin" not in upstream.asked[0]["headers"]


# ── The page ───────────────────────────────────────────────────────────────
@pytest.mark.parametrize("path", ["/", "/runs/1", "/../secret.txt", "/%2e%2e/secret.txt", "/%00", "/assets"])
def test_the_page_is_at_every_address_that_is_no_file(gateway, path):
    answer, body = ask(gateway, path)

    assert (answer.status, body) == (200, b"<h1>agentevals</h1>")
    assert answer.getheader("Content-Security-Policy") == "frame-ancestors 'none'"


def test_its_files_are_served(gateway):
    answer, body = ask(gateway, "/assets/index.js")

    assert (body, answer.getheader("Content-Type")) == (b"let a", "text/javascript")


def test_an_environment_without_agentevals_has_no_page():
    assert page_folder("") is None
    assert page_folder("/nowhere/python") is None
    assert page_folder(sys.executable) is None


# ── The command ────────────────────────────────────────────────────────────
def test_the_command_serves_both_ports_until_it_is_told_to_stop(upstream, tmp_path):
    (tmp_path / "token").write_text(f"{SECRET}\n")
    process = _command(upstream, tmp_path, "--otlp-port", "0")
    try:
        lines = [process.stdout.readline() for _ in range(2)]
        ports = [int(line.split("127.0.0.1:")[1].split()[0]) for line in lines]
        for port, path in zip(ports, ("/api/runs", "/v1/traces"), strict=True):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("POST", path, b"{}")
            assert connection.getresponse().status == 207
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
    assert {asked["headers"]["Authorization"] for asked in upstream.asked} == {f"Bearer {SECRET}"}


def test_without_a_token_it_says_where_to_get_one(upstream, tmp_path):
    process = _command(upstream, tmp_path)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "set RUNFOLIO_TOKEN or RUNFOLIO_TOKEN_FILE" in errors


def _command(upstream: Upstream, data: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "manage.py", "agentevals_gateway", "--port", "0", *more]
    url = f"http://127.0.0.1:{upstream.server_port}"
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLIO_TOKEN")}
    return subprocess.Popen(
        [*command, "--url", url],
        cwd=ROOT,
        env={**ours, "RUNFOLIO_DATA": str(data), "AGENTEVALS_PYTHON": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
