"""What leaves, and what must not (RELIABILITY.md S6).

A canary listens on 127.0.0.1 and ::1 and counts who comes. Names are answered by a stub. The internet is
one server on this machine: a connection to a public address is recorded and led there. The controls take
one check out and see the canary hit, so each of these tests can fail.
"""

import datetime
import gzip
import logging
import re
import socket
import ssl
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from runs import outgoing
from runs.outgoing import Address, Outgoing, OutgoingError, host_of, parse_allow, same_host

type Talk = Callable[[socket.socket, bytes], None]

PUBLIC = "93.184.216.34"
SOON = 2  # seconds, on a busy machine
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Server:
    """Takes connections on one port of one address or several, and leaves the rest to `talk`."""

    def __init__(self, *addresses: str) -> None:
        self.talk: Talk = lambda sock, request: sock.sendall(OK)
        self.tls: ssl.SSLContext | None = None
        self.reads = True
        self.hits, self.requests = 0, list[bytes]()
        first = socket.create_server((addresses[0], 0))
        self.port = first.getsockname()[1]
        more = [socket.create_server((at, self.port), family=socket.AF_INET6) for at in addresses[1:]]
        self._listeners = [first, *more]
        for listener in self._listeners:
            Thread(target=self._serve, args=(listener,), daemon=True).start()

    def close(self) -> None:
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def answers(self, raw: bytes) -> None:
        self.talk = lambda sock, request: sock.sendall(raw)

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                self.hits += 1
                Thread(target=self._meet, args=(sock,), daemon=True).start()

    def _meet(self, sock: socket.socket) -> None:
        with suppress(OSError), sock:
            sock = self.tls.wrap_socket(sock, server_side=True) if self.tls else sock
            with sock:
                self.requests.append(_request(sock) if self.reads else b"")
                self.talk(sock, self.requests[-1])


def _request(sock: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        if not (piece := sock.recv(65536)):
            return request
        request += piece
    length = re.search(rb"(?i)content-length: ([0-9]+)", request)
    while length and len(request.partition(b"\r\n\r\n")[2]) < int(length[1]):
        request += sock.recv(65536)
    return request


@dataclass
class Net:
    """The names that the stub knows, and the connections that were tried."""

    site: Server
    names: dict[str, list[list[str]]] = field(default_factory=dict)
    tried: list[tuple[str, int]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def name(self, host: str, *answers: list[str]) -> None:
        """Each look-up takes the next of `answers`; the last one stays."""
        self.names[host] = list(answers)


@pytest.fixture
def site() -> Iterator[Server]:
    server = Server("127.0.0.1")
    yield server
    server.close()


@pytest.fixture
def canary() -> Iterator[Server]:
    server = Server("127.0.0.1", "::1")
    yield server
    server.close()


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch, site: Server) -> Net:
    """Public addresses lead to `site`, loopback to itself, all others nowhere. Nothing leaves the machine."""
    net = Net(site)
    net.name("site.example", [PUBLIC])
    net.name("localhost", ["127.0.0.1", "::1"])
    look_up, connect = socket.getaddrinfo, outgoing._connect

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in net.names:
            return look_up(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        net.asked.append(host)
        answers = net.names[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [one for text in found for one in look_up(text, port, type=socket.SOCK_STREAM)]

    def connected(address: Address, port: int, timeout: float) -> socket.socket:
        net.tried.append((str(address), port))
        if address.is_loopback:
            return connect(address, port, timeout)
        if str(address) in (PUBLIC, "2606:2800:220:1::1") or address.is_private:
            return connect(ip_address("127.0.0.1"), site.port, timeout)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(outgoing, "_connect", connected)
    return net


def refusal(
    url: str, allow: tuple[str, ...] = (), headers: dict[str, str] | None = None, **options: Any
) -> str:
    """The sentence with which a GET is refused."""
    with pytest.raises(OutgoingError) as error:
        Outgoing(allow).get(url, headers or {}, **options)
    return str(error.value)


# ── The happy path ─────────────────────────────────────────────────────────
def test_a_public_server_is_asked_without_an_entry(net, site):
    answer = Outgoing().get("http://site.example/path?q=1", {"X-Key": "v"})

    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"hi", "2")
    assert net.tried == [(PUBLIC, 80)]


def test_the_request_is_plain_http_to_the_name(net, site):
    Outgoing().get("http://Site.Example:8080/pfad/ü?q=ä&x=%41#part", {"X-Key": "v"})

    lines = site.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /pfad/%C3%BC?q=%C3%A4&x=%41 HTTP/1.1"
    assert {"host: site.example:8080", "x-key: v", "accept-encoding: identity"} <= set(lines)


def test_a_post_carries_its_body(net, site):
    answer = Outgoing().post("http://site.example/hook", b'{"a":1}', {"Content-Type": "application/json"})

    assert answer.status == 200
    assert site.requests[0].endswith(b"\r\n\r\n" + b'{"a":1}')
    assert b"content-length: 7" in site.requests[0].lower()


@pytest.mark.parametrize("status", [204, 304, 404, 500, 503])
def test_an_answer_of_any_other_status_comes_back(net, site, status):
    site.answers(b"HTTP/1.1 %d X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n" % status)

    answer = Outgoing().get("http://site.example/", {})

    assert (answer.status, answer.headers["retry-after"]) == (status, "7")


def test_userinfo_becomes_basic_auth(net, site):
    # CONTRACTS.md 1.7; "user:p@ss" in base64.
    Outgoing().get("http://user:p%40ss@site.example/", {"Authorization": "Bearer other"})

    assert re.findall(rb"(?i)authorization: ([^\r]+)", site.requests[0]) == [b"Basic dXNlcjpwQHNz"]


def test_a_second_address_is_tried_where_the_first_takes_no_connection(net):
    net.name("two.example", ["8.8.8.8", PUBLIC])

    assert Outgoing().get("http://two.example/", {}).status == 200
    assert net.tried == [("8.8.8.8", 80), (PUBLIC, 80)]


def test_it_loads_without_django():
    code = "import sys, runs.outgoing, runs.signing; sys.exit('django' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)


# ── Addresses that are not asked ───────────────────────────────────────────
def forms(text: str) -> list[str]:
    return text.split()


# What leads to this machine: the controls below see each hit the canary once the checks are out.
LOOPBACK = forms("""
    127.0.0.1 0.0.0.0 localhost LOCALHOST [::1] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1]
""")
ODD = forms("""
    127.1 127.0.1 2130706433 0x7f000001 0x7f.0.0.1 0x7f.1 0177.0.0.1 017700000001 127.0.0.01 0 0x0
    1２7.0.0.1 １２７.0.0.1 127。0。0。1 127．0．0．1 ①②⑦.0.0.1 ｌｏｃａｌｈｏｓｔ ⓛocalhost
""")
# What some reader could take for an address or for another name.
ODD_AND_NOWHERE = [
    *forms("127.0.0.1. localhost. 127.0.0.1.. .localhost local..host -host host- 0x 1.2.3 1.2.3.4.5"),
    *forms("256.256.256.256 127.0.0.1%00 127%2e0%2e0%2e1 %31%32%37.0.0.1 localhost%00.a [::1%25lo]"),
    *forms("[::1%lo] [fe80::1%25eth0] [::127.0.0.1.] [v1.127] [::1 ::1 [] münchen.example xn--ü.example"),
    *forms("site.example,127.0.0.1 site.example;127.0.0.1 127.0.0.1\u200b site.example\u3002"),
    *("", "a" * 64 + ".example", "a." * 130 + "example"),
]
RESERVED = forms("""
    127.0.0.2 127.255.255.254 0.0.0.1 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.254
    169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1
    192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16
    [::] [::127.0.0.1] [::7f00:1] [::a00:1] [::ffff:10.0.0.1] [::ffff:169.254.169.254]
    [::ffff:0:127.0.0.1] [::ffff:93.184.216.34] [64:ff9b::7f00:1] [64:ff9b::169.254.169.254]
    [64:ff9b:1::a00:1] [100::1] [2001::1] [2001:0:1:2::1] [2001:2::1] [2001:10::1] [2001:20::1]
    [2001:db8::1] [2002:7f00:1::] [2002:a9fe:a9fe::] [3fff::1] [4000::1] [5f00::1] [e000::1] [fc00::1]
    [fd00::1] [fd00:ec2::254] [fe80::1] [febf::1] [fec0::1] [feff::1] [ff02::1] [ff0e::1]
""")


@pytest.mark.parametrize("host", LOOPBACK + ODD + ODD_AND_NOWHERE + RESERVED)
def test_no_form_of_a_private_address_is_asked(net, canary, host):
    refusal(f"http://{host}:{canary.port}/")
    refusal(f"https://{host}:{canary.port}/")

    assert (canary.hits, net.tried) == (0, [])


@pytest.mark.parametrize("host", LOOPBACK)
def test_control_without_the_judge_the_canary_is_hit(net, canary, monkeypatch, host):
    monkeypatch.setattr(outgoing, "_is_public", lambda address: True)
    monkeypatch.setattr("runs.outgoing._connect", _really_connect)

    Outgoing().get(f"http://{host}:{canary.port}/", {})

    assert canary.hits == 1


@pytest.mark.parametrize("host", ODD)
def test_control_without_strict_names_the_canary_is_hit(net, canary, monkeypatch, host):
    net.name("ｌｏｃａｌｈｏｓｔ", ["127.0.0.1"])  # as the resolver's IDNA would read it
    net.name("ⓛocalhost", ["127.0.0.1"])
    monkeypatch.setattr(outgoing, "_is_public", lambda address: True)
    monkeypatch.setattr(outgoing, "_is_name", lambda name: True)
    monkeypatch.setattr("runs.outgoing._connect", _really_connect)
    monkeypatch.setattr(outgoing._Target, "host_header", "canary")

    Outgoing().get(f"http://{host}:{canary.port}/", {})

    assert canary.hits == 1


def _really_connect(address: Address, port: int, timeout: float) -> socket.socket:
    return socket.create_connection((str(address), port), timeout)


@pytest.mark.parametrize("host", [*RESERVED, "127.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1"])
def test_a_name_with_such_an_address_is_not_asked(net, canary, host):
    net.name("inside.example", [host.strip("[]")])

    assert "private or reserved" in refusal(f"http://inside.example:{canary.port}/")
    assert (canary.hits, net.tried) == (0, [])


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "126.255.255.255"),
        *("128.0.0.1", "168.63.129.15", "168.63.129.17", "169.253.0.1", "172.15.0.1", "172.32.0.1"),
        *("192.0.1.1", "192.167.0.1", "192.169.0.1", "198.17.0.1", "198.20.0.1", "223.255.255.254"),
        *("2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700:4700::1111", "2a00:1450::1"),
    ],
)
def test_the_neighbours_of_reserved_blocks_are_asked(net, address):
    net.name("near.example", [address])

    assert "connection refused" in refusal("http://near.example/")
    assert net.tried == [(address, 80)]


@pytest.mark.parametrize("others", [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC, "8.8.8.8", "::1"]])
def test_one_private_answer_refuses_the_whole_name(net, canary, others):
    net.name("mixed.example", others)

    assert "private or reserved" in refusal(f"http://mixed.example:{canary.port}/")
    assert (canary.hits, net.tried) == (0, [])


def test_a_name_that_changes_its_answer_gains_nothing(net, canary):
    net.name("rebind.example", [PUBLIC], ["127.0.0.1"])

    Outgoing().get(f"http://rebind.example:{canary.port}/", {})

    assert net.tried == [(PUBLIC, canary.port)]
    assert net.asked == ["rebind.example"]
    assert canary.hits == 0


def test_control_a_second_look_up_would_hit_the_canary(net, canary, monkeypatch):
    net.name("rebind.example", [PUBLIC], ["127.0.0.1"])
    monkeypatch.setattr(
        outgoing,
        "_connect",
        lambda address, port, timeout: socket.create_connection(("rebind.example", port), timeout),
    )

    Outgoing().get(f"http://rebind.example:{canary.port}/", {})

    assert canary.hits == 1


def test_a_name_that_turns_private_is_refused_from_then_on(net, canary):
    net.name("rebind.example", [PUBLIC], ["127.0.0.1"])
    client = Outgoing()
    client.get(f"http://rebind.example:{canary.port}/", {})

    with pytest.raises(OutgoingError, match="private or reserved"):
        client.get(f"http://rebind.example:{canary.port}/", {})
    assert canary.hits == 0


def test_the_refusal_does_not_tell_what_a_name_leads_to(net):
    net.name("inside.example", ["10.1.2.3"])

    assert "10.1" not in refusal("http://inside.example/")


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.7"])
def test_a_check_refuses_what_a_request_would(net, canary, address):
    net.name("example.com", [address])
    with pytest.raises(OutgoingError, match="private or reserved"):
        Outgoing().check("http://example.com/hook", {})
    assert net.tried == []


def test_a_check_of_what_may_be_asked_connects_to_nobody(net):
    net.name("example.com", [PUBLIC])
    Outgoing().check("http://example.com/hook", {"authorization": "Bearer x"})
    assert net.tried == []


def test_a_name_that_nobody_knows_is_said_to_be_unknown(net):
    assert refusal("http://nowhere.example/") == "no address is known for nowhere.example"


# ── URLs ───────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "url",
    [
        "http://site.example@127.0.0.1:{port}/",
        "http://site.example:80@127.0.0.1:{port}/",
        "http://a@site.example@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}@a@site.example/",
        "http://127.0.0.1:{port}\\@site.example/",
        "http://site.example\\@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}\\.site.example/",
        "http://127.0.0.1\t:{port}/",
        "http://127.0.\n0.1:{port}/",
        " http://127.0.0.1:{port}/",
        "http://127.0.0.1 :{port}/",
        "http://site.example\r\nHost: 127.0.0.1/",
        "http://127.0.0.1:{port}#@site.example/",
        "http://127.0.0.1:{port}?@site.example/",
        "http:127.0.0.1:{port}/",
        "http:/127.0.0.1:{port}/",
        "http:///127.0.0.1:{port}/",
        "//127.0.0.1:{port}/",
        "127.0.0.1:{port}",
        "http://site.example:",
        "http://site.example:0/",
        "http://site.example:65536/",
        "http://site.example:+80/",
        "http://site.example:８０/",
        "http://site.example:80:80/",
        "http://site.example:80 /",
        "http://[::1]x:{port}/",
        "http://[::1]:{port}:80/",
        "http://x[::1]:{port}/",
        "http://\ud83d/",
        "http://",
        "",
    ],
)
def test_a_url_that_two_readers_could_read_differently_is_refused(net, canary, url):
    refusal(url.replace("{port}", str(canary.port)))

    assert (canary.hits, net.tried) == (0, [])


@pytest.mark.parametrize(
    "scheme",
    ["ftp", "file", "gopher", "dict", "ws", "wss", "ldap", "unix", "http+unix", "javascript", "data"],
)
def test_only_http_is_spoken(net, canary, scheme):
    assert "only http:// and https://" in refusal(f"{scheme}://127.0.0.1:{canary.port}/etc/passwd")
    assert canary.hits == 0


@pytest.mark.parametrize(
    "port",
    [1, 21, 22, 23, 25, 53, 110, 389, 445, 1023, 2375, 2379, 3306, 5432, 6000, 6379, 6667, 9200, 11211],
)
def test_ports_of_other_services_are_not_asked(net, port):
    assert f"port {port} is not one for HTTP" in refusal(f"http://site.example:{port}/")
    assert net.tried == []


@pytest.mark.parametrize("port", [80, 443, 1024, 4318, 8000, 8080, 8443, 16686, 65535])
def test_ports_of_web_servers_are_asked(net, port):
    assert Outgoing().get(f"http://site.example:{port}/", {}).status == 200
    assert net.tried == [(PUBLIC, port)]


# ── Redirects, proxies ─────────────────────────────────────────────────────
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300])
@pytest.mark.parametrize(
    "to", ["http://127.0.0.1:{port}/", "http://localhost:{port}/", "//[::1]:{port}/", "/x"]
)
def test_a_redirect_is_not_followed(net, site, canary, status, to):
    location = to.replace("{port}", str(canary.port)).encode()
    site.answers(b"HTTP/1.1 %d X\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, location))

    assert refusal("http://site.example/") == "site.example answered with a redirect, which is not followed"
    assert (canary.hits, site.hits) == (0, 1)


def test_the_body_of_a_redirect_is_not_read(net, site):
    def talk(sock: socket.socket, request: bytes) -> None:
        sock.sendall(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 900000000\r\n\r\n")
        for _ in range(900):
            sock.sendall(bytes(10**6))

    site.talk = talk
    tracemalloc.start()
    try:
        assert "redirect" in refusal("http://site.example/")
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_no_proxy_of_the_environment_is_asked(net, canary, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")

    assert Outgoing().get("http://site.example/", {}).status == 200
    assert canary.hits == 0


# ── Headers ────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "v\r\nX-B: w"),
        ("X-A", "v\nX-B: w"),
        ("X-A", "v\r"),
        ("X-A", "v\x00"),
        ("X-A", "v\x0b"),
        ("X-A", "\N{GRINNING FACE}"),
        ("X-A\r\nX-B", "v"),
        ("X A", "v"),
        ("X-A:", "v"),
        ("", "v"),
        ("Ä", "v"),
    ],
)
def test_a_header_that_is_not_one_line_is_refused_unsent(net, name, value):
    assert "is not one line of plain text" in refusal("http://site.example/", headers={name: value})
    assert net.tried == []


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Upgrade",
        "TE",
        "Proxy-Authorization",
    ],
)
def test_headers_of_the_connection_cannot_be_set(net, name):
    assert "belongs to the connection" in refusal("http://site.example/", headers={name: "1"})
    assert net.tried == []


# ── Sizes and times ────────────────────────────────────────────────────────
def seconds(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


def test_a_huge_answer_is_given_up(net, site):
    def talk(sock: socket.socket, request: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sock.sendall(bytes(10**6))

    site.talk = talk
    tracemalloc.start()
    try:
        assert refusal("http://site.example/") == "site.example answered with more than 10 MB"
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def test_an_answer_of_just_the_limit_comes_back(net, site):
    site.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))

    assert len(Outgoing().get("http://site.example/", {}, max_bytes=100_000).body) == 100_000
    assert "more than 0.0954 MB" in refusal("http://site.example/", max_bytes=99_999)


def gzipped(body: bytes, extra: bytes = b"") -> bytes:
    packed = gzip.compress(body) + extra
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    return head % len(packed) + packed


def test_a_gzip_bomb_is_given_up(net, site):
    site.answers(gzipped(bytes(300 * 2**20)))
    tracemalloc.start()
    try:
        assert "more than 10 MB" in refusal("http://site.example/")
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 5 * 65536])
def test_gzip_that_was_not_asked_for_is_read_to_its_end(net, site, size):
    body = bytes(size)
    site.answers(gzipped(body, gzip.compress(b"second member")))

    assert Outgoing().get("http://site.example/", {}).body == body + b"second member"


@pytest.mark.parametrize("encoding", [b"br", b"deflate", b"zstd", b"gzip, gzip"])
def test_other_encodings_are_refused(net, site, encoding):
    site.answers(b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: 1\r\n\r\nx" % encoding)

    assert "an encoding that was not asked for" in refusal("http://site.example/")


def test_a_chunked_answer_comes_back_whole(net, site):
    site.answers(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"
    )

    assert Outgoing().get("http://site.example/", {}).body == b"abcde"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n",
        gzipped(bytes(10**5)).replace(b"Content-Length", b"X-Length")[:-9],
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nplain, secret",
    ],
)
def test_half_an_answer_is_none(net, site, raw):
    site.answers(raw)

    message = refusal("http://site.example/")
    assert message == "site.example did not answer: the answer ended too early or is broken"


@pytest.mark.parametrize(
    "raw",
    [
        b"220 mail.example ESMTP secret\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_named_so(net, site, raw):
    site.answers(raw)

    assert refusal("http://site.example/") == "site.example did not answer: what came back is not HTTP"


def test_a_server_that_hangs_up_is_named_so(net, site):
    site.answers(b"")

    assert refusal("http://site.example/") == "site.example did not answer: the connection was broken"


def _drip(before: bytes, drop: bytes) -> Talk:
    def talk(sock: socket.socket, request: bytes) -> None:
        sock.sendall(before)
        while True:
            sock.sendall(drop)
            time.sleep(0.02)

    return talk


@pytest.mark.parametrize(
    ("before", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"y"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"y"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", gzip.compress(b"")),
    ],
    ids=["status", "header", "continue", "body", "endless body", "chunks", "trailers", "gzip members"],
)
def test_a_slow_drip_ends_with_the_time(net, site, before, drop):
    site.talk = _drip(before, drop)

    def ask() -> None:
        assert refusal("http://site.example/", timeout=0.3) == "site.example did not answer within 0.3 s"

    assert 0.29 < seconds(ask) < SOON


def test_a_silent_server_ends_with_the_time(net, site):
    site.talk = lambda sock, request: time.sleep(5)

    assert seconds(lambda: refusal("http://site.example/", timeout=0.3)) < SOON


def test_a_silent_handshake_ends_with_the_time(net, site):
    site.talk = lambda sock, request: time.sleep(5)

    assert seconds(lambda: refusal("https://site.example/", timeout=0.3)) < SOON


def _sip(sock: socket.socket, request: bytes) -> None:
    while sock.recv(65536):
        time.sleep(0.002)


@pytest.mark.parametrize("talk", [lambda sock, request: time.sleep(5), _sip], ids=["not at all", "in sips"])
def test_a_receiver_that_hardly_reads_ends_with_the_time(net, site, talk):
    site.reads, site.talk = False, talk

    def send() -> None:
        with pytest.raises(OutgoingError, match=r"within 0\.3 s"):
            Outgoing().post("http://site.example/", bytes(60 * 2**20), {}, timeout=0.3)

    assert seconds(send) < SOON


def test_a_slow_look_up_ends_with_the_time(net, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(4) or [])

    assert seconds(lambda: refusal("http://site.example/", timeout=0.2)) < SOON


def test_a_silent_address_leaves_time_for_the_next(net, monkeypatch):
    net.name("two.example", ["8.8.8.8", PUBLIC])
    given = []
    connect = outgoing._connect

    def connected(address: Address, port: int, timeout: float) -> socket.socket:
        given.append(timeout)
        if str(address) == "8.8.8.8":
            time.sleep(timeout)
            raise TimeoutError
        return connect(address, port, timeout)

    monkeypatch.setattr(outgoing, "_connect", connected)

    assert Outgoing().get("http://two.example/", {}, timeout=1).status == 200
    assert given == [pytest.approx(0.5, abs=0.3), pytest.approx(0.5, abs=0.3)]


# ── TLS ────────────────────────────────────────────────────────────────────
@pytest.fixture
def tls(site, monkeypatch, tmp_path) -> list[str | None]:
    """`site` speaks TLS as site.example, by an authority that we trust. Gives the names asked for by SNI."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("site.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "both.pem").write_bytes(private + pem)
    site.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    site.tls.load_cert_chain(tmp_path / "both.pem")
    asked: list[str | None] = []
    site.tls.sni_callback = lambda sock, host, context: asked.append(host)
    monkeypatch.setattr(outgoing, "_tls", lambda: ssl.create_default_context(cadata=pem.decode()))
    return asked


def test_the_pinned_address_has_to_prove_the_name(net, site, tls):
    assert Outgoing().get("https://site.example/", {}).body == b"hi"
    assert (net.tried, tls) == ([(PUBLIC, 443)], ["site.example"])
    assert b"host: site.example\r\n" in site.requests[0]


@pytest.mark.parametrize("host", ["other.example", PUBLIC])
def test_a_certificate_of_another_name_is_refused(net, site, tls, host):
    net.name("other.example", [PUBLIC])

    assert "its certificate is not valid" in refusal(f"https://{host}/")
    assert site.requests == []


def test_an_authority_that_nobody_knows_is_refused(net, site, tls, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(
        outgoing, "_connect", lambda *_: socket.create_connection(("127.0.0.1", site.port), timeout=5)
    )

    assert "its certificate is not valid" in refusal(f"https://{PUBLIC}/")


def test_mozillas_authorities_are_trusted():
    assert len(outgoing._tls().get_ca_certs()) > 50


# ── OUTGOING_ALLOW ─────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.0/8", "127.0.0.1"),
        ("localhost", "localhost"),
        ("LocalHost", "LOCALHOST"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
        ("::/64", "[::1]"),
        ("loopback", "127.0.0.1"),
        ("loopback", "[::1]"),
        ("loopback", "localhost"),
        ("loopback:{port}", "localhost"),
        ("localhost:{port}", "localhost"),
        ("127.0.0.1:{port}", "127.0.0.1"),
        ("127.0.0.0/8:{port}", "127.0.0.1"),
        ("[::1]:{port}", "[::1]"),
        ("[::/64]:{port}", "[::1]"),
        ("*.internal", "jaeger.internal"),
        ("*.internal", "a.b.internal"),
        ("*.internal:{port}", "jaeger.internal"),
        ("jaeger_1", "jaeger_1"),
    ],
)
def test_what_the_operator_listed_is_asked(net, canary, entry, host):
    for name in ("jaeger.internal", "a.b.internal", "jaeger_1"):
        net.name(name, ["127.0.0.1"])
    client = Outgoing(["unrelated.example", entry.replace("{port}", str(canary.port))])

    assert client.get(f"http://{host}:{canary.port}/", {}).status == 200
    assert canary.hits == 1


def test_what_the_operator_listed_is_asked_without_a_warning(net, canary, caplog):
    Outgoing(["loopback"]).get(f"http://127.0.0.1:{canary.port}/", {})

    assert caplog.text == ""


@pytest.mark.parametrize(
    ("entry", "host"),
    [
        ("localhost:1234", "localhost"),
        ("127.0.0.1:1234", "127.0.0.1"),
        ("loopback:1234", "[::1]"),
        ("127.0.0.2", "127.0.0.1"),
        ("10.0.0.0/8", "127.0.0.1"),
        ("::1", "127.0.0.1"),
        ("loopback", "[::ffff:127.0.0.1]"),
        ("loopback", "mixed.internal"),
        ("*.internal", "internal"),
        ("*.internal", "evilinternal"),
        ("*.internal", "jaeger.internal.example"),
        ("jaeger.internal", "x.jaeger.internal"),
        ("localhost", "127.0.0.1"),
    ],
)
def test_what_only_resembles_an_entry_is_not_asked(net, canary, entry, host):
    for name in ("internal", "evilinternal", "jaeger.internal.example", "x.jaeger.internal"):
        net.name(name, ["127.0.0.1"])
    net.name("mixed.internal", ["127.0.0.1", "10.0.0.1"])

    assert "OUTGOING_ALLOW does not name it" in refusal(f"http://{host}:{canary.port}/", allow=(entry,))
    assert canary.hits == 0


def test_an_entry_with_a_port_opens_a_port_that_is_none_of_http(net):
    assert Outgoing(["site.example:9200"]).get("http://site.example:9200/", {}).status == 200


@pytest.mark.parametrize("entry", ["site.example", "*.example", PUBLIC, "0.0.0.0/0", "site.example:9300"])
def test_an_entry_without_that_port_does_not(net, entry):
    assert "port 9200 is not one for HTTP" in refusal("http://site.example:9200/", allow=(entry,))


def test_a_listed_server_may_not_redirect_either(net, canary, site):
    site.answers(b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:%d/\r\n\r\n" % canary.port)

    assert "redirect" in refusal(f"http://127.0.0.1:{site.port}/", allow=("loopback",))
    assert canary.hits == 0


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("10.0.0.1/8", "Write 10.0.0.0/8."),
        ("http://jaeger:16686", "OUTGOING_ALLOW=jaeger:16686"),
        ("http://jaeger", "is not a host"),
        ("*", "is not a host"),
        ("*.", "is not a host"),
        ("jae*er", "is not a host"),
        ("127.1", "is not a host"),
        ("jaeger.", "is not a host"),
        ("10.0.0.0/99", "is not a host"),
        ("jaeger:0", "no port from 1 to 65535"),
        ("jaeger:65536", "no port from 1 to 65535"),
        ("jaeger:http", "is not a host"),
        ("[jaeger]", "is not a host"),
        ("[::1", "is not a host"),
        ("münchen.example", "is not a host"),
        ("", "is not a host"),
    ],
)
def test_a_wrong_entry_is_one_sentence_with_its_fix(word, says):
    with pytest.raises(ValueError, match=r"^OUTGOING_ALLOW: .*[^\n]\.$") as refusal:
        parse_allow(["jaeger", word])

    assert says in str(refusal.value)


# ── Secrets and messages ───────────────────────────────────────────────────
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"canary-answer",
        b"HTTP/1.1 302 X\r\nLocation: http://h/canary-answer\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncanary-answer",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\ncanary-answer",
    ],
)
def test_no_message_and_no_log_holds_a_secret(net, site, caplog, raw):
    site.answers(raw)
    caplog.set_level(logging.DEBUG)
    url = "http://canary-user:canary-password@site.example/canary-path?key=canary-query"

    with pytest.raises(OutgoingError) as error:
        Outgoing().get(url, {"Authorization": "Bearer canary-token"})

    assert "canary" not in str(error.value) + caplog.text
    assert error.value.__suppress_context__ or error.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://user:pw@Site.Example:8443/a?b", "site.example"),
        ("http://[0:0::1]:80/", "::1"),
        ("http://127.1/", "this address"),
        ("nonsense", "this address"),
    ],
)
def test_a_message_names_the_host_alone(url, host):
    assert host_of(url) == host


@pytest.mark.parametrize(
    "new",
    [
        "https://hooks.example/other?path=1",
        "https://HOOKS.example:443/",
        "https://user:other@hooks.example/",
    ],
)
def test_another_path_of_the_same_host_keeps_its_secret(new):
    assert same_host("https://hooks.example/hook", new)


@pytest.mark.parametrize(
    "new",
    [
        "http://hooks.example/hook",
        "http://hooks.example:443/hook",
        "https://hooks.example:8443/hook",
        "https://hooks.example.evil/hook",
        "https://hooks.example@evil/hook",
        "https://evil/hooks.example",
        "https://hooks.example\\@evil/",
        "nonsense",
        "",
    ],
)
def test_another_host_does_not(new):
    assert not same_host("https://hooks.example/hook", new)


def test_what_is_no_address_is_the_same_as_nothing():
    assert not same_host("nonsense", "nonsense")
