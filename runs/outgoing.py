"""Everything that goes out goes through here (DESIGN.md 3.13, RELIABILITY.md S6).

The public internet may be asked; a private or reserved address only where OUTGOING_ALLOW names it. A URL
is read once and strictly. Every address behind its name is judged, and the connection goes to a judged
address instead of to the name, so a name that changes its answer in between gains nothing; TLS still
proves the name. No redirect is followed, no proxy asked, and size and time have limits that no server
can stretch.

requests-hardened judges addresses. Its session does not make the request: asked never to redirect, it
still reads the whole body of a redirect (measured: 604 MB of memory for 300 MB), and requests' time-outs
start anew with each byte. This module knows no Django.
"""

import base64
import http.client
import io
import ipaddress
import re
import socket
import ssl
import time
import zlib
from collections.abc import Buffer, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from queue import Empty, Queue
from threading import Thread
from typing import Any, cast
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

import certifi
from requests import RequestException
from requests_hardened.ip_filter import filter_host

TIMEOUT = 10.0  # seconds, from looking the name up to the last byte of the answer
MAX_BYTES = 10 * 2**20  # of an answer's body, inflated

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_CHUNK = 64 * 1024
_PORT_OF = {"http": 80, "https": 443}
# The ports above 1023 that browsers refuse because no web server is there (WHATWG Fetch, "bad port") ...
_NOT_HTTP = {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6679, 6697, 10080}
_NOT_HTTP |= set(range(6665, 6670))
# ... and those of databases, queues, consoles and cluster agents that trust whoever reaches them.
_TRUSTING = {1433, 1521, 2375, 2376, 2379, 2380, 3306, 3389, 5432, 5672, 5900, 5984, 6379, 8086, 9042, 9092}
_TRUSTING |= {9200, 9300, 10250, 10255, 11211, 27017, 27018, 27019}

# Of IPv6 only this block is handed out to the internet: it leaves out loopback, mapped and compatible
# IPv4, NAT64, unique local, link-local, the old site-local fec0::/10 and multicast.
_IPV6_INTERNET = ipaddress.IPv6Network("2000::/3")
_ALSO_RESERVED = (
    ipaddress.ip_network("168.63.129.16"),  # where Azure serves its machines their secrets
    ipaddress.ip_network("2001::/23"),  # Teredo and other protocols; what Python calls private here varies
)

_UNPRINTABLE = re.compile("[\x00-\x20\x7f\\\\\ud800-\udfff]")
# Of a URL, and of OUTGOING_ALLOW, where a network may stand for the address.
_PLACE = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:./]+)\]|(?P<name>[^\[\]:]+))(?::(?P<port>[0-9]{1,5}))?")
_LABEL = "(?!-)[a-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
# What some resolver would read as an address: 127.1, 2130706433, 0x7f.1, 0177.0.0.1 (WHATWG URL, "ends
# in a number").
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile("[\t\x20-\x7e\x80-\xff]*")
_OUR_HEADERS = {
    *("host", "content-length", "connection", "keep-alive", "proxy-connection", "proxy-authenticate"),
    *("proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
}


class OutgoingError(Exception):
    """The request was refused or failed. The text is for people: no secret, nothing of the answer's body."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, of any status but a redirect; the names of `headers` are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Outgoing:
    """Asks servers, within the rules; `allow` is OUTGOING_ALLOW (see `parse_allow`)."""

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._allow = parse_allow(allow)

    def get(
        self, url: str, headers: Mapping[str, str], *, timeout: float = TIMEOUT, max_bytes: int = MAX_BYTES
    ) -> Answer:
        """The answer to a GET, within `timeout` seconds for the whole. Raises OutgoingError."""
        return self._ask("GET", url, None, headers, timeout, max_bytes)

    def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout: float = TIMEOUT,
        max_bytes: int = MAX_BYTES,
    ) -> Answer:
        """The answer to a POST, within `timeout` seconds for the whole. Raises OutgoingError."""
        return self._ask("POST", url, body, headers, timeout, max_bytes)

    def check(self, url: str, headers: Mapping[str, str], *, timeout: float = TIMEOUT) -> None:
        """Raises OutgoingError where a request would be refused before anything of it is sent."""
        target = _read(url)
        _headers(target, headers)
        try:
            self._judged(target, _Deadline(timeout))
        except TimeoutError:
            raise OutgoingError(f"no address for {target.host} was found within {timeout:g} s") from None

    def _ask(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: float,
        max_bytes: int,
    ) -> Answer:
        target = _read(url)
        sent = _headers(target, headers)
        deadline = _Deadline(timeout)
        try:
            with (
                _connected(self._judged(target, deadline), target.port, deadline) as plain,
                _secured(plain, target, deadline) as sock,
            ):
                response = _asked(_Wire(sock, deadline), target, method, body, sent)
                return _answer(response, target.host, max_bytes)
        except TimeoutError:
            raise OutgoingError(f"{target.host} did not answer within {timeout:g} s") from None
        except (OSError, http.client.HTTPException, zlib.error) as error:
            raise OutgoingError(f"{target.host} did not answer: {_reason(error)}") from None

    def _judged(self, target: "_Target", deadline: "_Deadline") -> list[Address]:
        """Every address behind the target's name: one that may not be asked refuses them all."""
        addresses = _looked_up(target, deadline)
        for address in addresses:
            if not (self._allow.names(target.host, address, target.port) or _is_public(address)):
                raise OutgoingError(
                    f"{target.host} is not asked: its address is private or reserved, "
                    "and OUTGOING_ALLOW does not name it"
                )
            if not (_is_usual(target.port) or self._allow.names_port(target.host, address, target.port)):
                raise OutgoingError(
                    f"{target.host} is not asked: port {target.port} is not one for HTTP, "
                    f"and OUTGOING_ALLOW does not name {target.host}:{target.port}"
                )
        return addresses


# ── What the operator opens ────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class _Entry:
    name: str  # a host or *.suffix, or empty where networks say which
    networks: tuple[Network, ...]
    port: int | None  # None: every usual port

    def matches(self, host: str, address: Address) -> bool:
        if self.name.startswith("*."):
            return host.endswith(self.name[1:])
        return host == self.name or any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Allow:
    """OUTGOING_ALLOW, read."""

    entries: tuple[_Entry, ...]

    def names(self, host: str, address: Address, port: int) -> bool:
        """Whether `address`, found behind `host`, may be private."""
        return any(entry.port in (None, port) and entry.matches(host, address) for entry in self.entries)

    def names_port(self, host: str, address: Address, port: int) -> bool:
        """Whether an entry opens just this port, however unusual."""
        return any(entry.port == port and entry.matches(host, address) for entry in self.entries)


def parse_allow(words: Sequence[str]) -> Allow:
    """The entries of OUTGOING_ALLOW. Raises ValueError with a sentence that says what to write.

    An entry is a host, `*.suffix`, an address, a network or `loopback`, each with or without `:port`.
    """
    return Allow(tuple(_entry(word) for word in words))


def _entry(word: str) -> _Entry:
    # What is no place with a port is an IPv6 address or network without one, or nonsense.
    match = _PLACE.fullmatch(word)
    place = (match["v6"] or match["name"] if match else word).lower()
    port = int(match["port"]) if match and match["port"] else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"OUTGOING_ALLOW: {word} has no port from 1 to 65535 behind its colon.")
    if place == "loopback":
        return _Entry("", (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1")), port)
    if _is_name(place.removeprefix("*.")):
        return _Entry(place, (), port)
    try:
        return _Entry("", (ipaddress.ip_network(place),), port)
    except ValueError:
        raise ValueError(_advice(word, place)) from None


def _advice(word: str, place: str) -> str:
    try:
        return f"OUTGOING_ALLOW: {word} is not a network. Write {ipaddress.ip_network(place, strict=False)}."
    except ValueError:
        return (
            f"OUTGOING_ALLOW: {word} is not a host, *.suffix, address, network or loopback, each with or "
            "without a port. Write, for example, OUTGOING_ALLOW=jaeger:16686,*.internal,10.0.0.0/8."
        )


# ── Reading a URL ──────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class _Target:
    scheme: str
    host: str  # a name in lower case, or an address as Python writes it
    port: int
    path: str  # with the query, in ASCII
    login: str  # user:password as it stands in the URL, or empty

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORT_OF[self.scheme] else f"{host}:{self.port}"


def same_host(old: str, new: str) -> bool:
    """Whether a secret given for `old` may go to `new`: scheme, host and port are the same."""
    try:
        before, after = _read(old), _read(new)
    except OutgoingError:
        return False
    return (before.scheme, before.host, before.port) == (after.scheme, after.host, after.port)


def host_of(url: str) -> str:
    """The host of `url` to name in a message, without login or port; "this address" where it has none."""
    try:
        return _read(url).host
    except OutgoingError:
        return "this address"


def _read(url: str) -> _Target:
    """Raises OutgoingError for all that two readers could take for two different hosts."""
    if _UNPRINTABLE.search(url):
        raise OutgoingError("the address holds a blank, a backslash or a control character")
    parts = _split(url)
    if parts.scheme not in _PORT_OF:
        raise OutgoingError("only http:// and https:// addresses are asked")
    login, _, place = parts.netloc.rpartition("@")
    match = _PLACE.fullmatch(place)
    if match is None or "@" in login:
        raise OutgoingError("this is not an address such as https://runs.example.com/hook")
    port = int(match["port"] or _PORT_OF[parts.scheme])
    if not 0 < port < 65536:
        raise OutgoingError("the port of the address is not one from 1 to 65535")
    return _Target(parts.scheme, _host(match["v6"], match["name"]), port, _path(parts), login)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise OutgoingError("this is not an address such as https://runs.example.com/hook") from None


def _host(v6: str | None, name: str | None) -> str:
    if name and _is_name(name.lower()):
        return name.lower()
    try:
        return str(ipaddress.IPv6Address(v6) if v6 else ipaddress.IPv4Address(name))
    except ValueError:
        raise OutgoingError(
            "the host is neither a plain name (a name of other letters in its xn-- form) nor an address "
            "written in full"
        ) from None


def _is_name(host: str) -> bool:
    return bool(_NAME.fullmatch(host)) and not _NUMERIC.fullmatch(host)


def _path(parts: SplitResult) -> str:
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~[]")
    return f"{path}?{quote(parts.query, safe="/?%:@!$&'()*+,;=~[]")}" if parts.query else path


def _headers(target: _Target, given: Mapping[str, str]) -> dict[str, str]:
    """What is sent. Raises OutgoingError for a header that could end the request or steer the connection."""
    sent = {"user-agent": "Runfolio"}
    for name, value in given.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise OutgoingError(f"header {name[:100]!r} is not one line of plain text")
        if name.lower() in _OUR_HEADERS:
            raise OutgoingError(f"header {name} belongs to the connection and cannot be set")
        sent[name.lower()] = value.strip(" \t")
    if target.login:
        user, _, password = target.login.partition(":")
        pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
        sent["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return {**sent, "host": target.host_header, "accept-encoding": "identity", "connection": "close"}


# ── Judging addresses and ports ────────────────────────────────────────────
def _looked_up(target: _Target, deadline: "_Deadline") -> list[Address]:
    """The addresses behind a host, asked for once. In a thread, for a look-up knows no time-out."""
    if not _is_name(target.host):
        return [ipaddress.ip_address(target.host)]
    answers: Queue[list[Address] | Exception] = Queue()
    Thread(target=_look_up, args=(target, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left())
    except Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise OutgoingError(f"no address is known for {target.host}")
    return answer


def _look_up(target: _Target, answers: "Queue[list[Address] | Exception]") -> None:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        answers.put([ipaddress.ip_address(place[0]) for *_, place in found])
    except (OSError, ValueError) as error:
        answers.put(error)


def _is_public(address: Address) -> bool:
    """Whether an address is one of the internet: by requests-hardened, and by what that lets through.

    requests-hardened logs a warning for each address that it refuses.
    """
    if address.version == 6 and address not in _IPV6_INTERNET:
        return False
    if any(address in network for network in _ALSO_RESERVED):
        return False
    try:
        filter_host(str(address), 80, allow_loopback=False)
    except RequestException:
        return False
    return True


def _is_usual(port: int) -> bool:
    return port in _PORT_OF.values() or (port >= 1024 and port not in _NOT_HTTP | _TRUSTING)


# ── The connection ─────────────────────────────────────────────────────────
class _Deadline:
    """When a request has to be over."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """The seconds that are left. Raises TimeoutError once there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _connected(addresses: Sequence[Address], port: int, deadline: _Deadline) -> socket.socket:
    """A connection to the first address that takes one; a silent one leaves time for those behind it."""
    failure: OSError = ConnectionError("no address")
    for tried, address in enumerate(addresses):
        try:
            return _connect(address, port, deadline.left() / (len(addresses) - tried))
        except OSError as error:
            failure = error
    raise failure


def _connect(address: Address, port: int, timeout: float) -> socket.socket:
    """By number, so that nothing is looked up here."""
    sock = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect((str(address), port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock


def _secured(sock: socket.socket, target: _Target, deadline: _Deadline) -> socket.socket:
    """The connection, for https wrapped in TLS whose certificate is the host's, whatever its address."""
    if target.scheme == "http":
        return sock
    sock.settimeout(deadline.left())
    return _tls().wrap_socket(sock, server_hostname=target.host)


@cache
def _tls() -> ssl.SSLContext:
    """Trusts the machine's authorities (SSL_CERT_FILE adds an operator's own) and Mozilla's list."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class _Wire:
    """The socket as http.client sees it: every wait ends with the request's time, however little came."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(self._deadline.left())
            rest = rest[self._sock.send(rest) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._deadline), _CHUNK)

    def close(self) -> None:
        """http.client closes before the body is read; `Outgoing` closes the socket."""


class _Incoming(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        self._sock.settimeout(self._deadline.left())
        return self._sock.recv_into(buffer)


# ── The answer ─────────────────────────────────────────────────────────────
def _asked(
    wire: _Wire, target: _Target, method: str, body: bytes | None, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = cast(Any, wire)  # connected already, so http.client never does
    connection.request(method, target.path, body, headers)
    return connection.getresponse()


def _answer(response: http.client.HTTPResponse, host: str, max_bytes: int) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    if 300 <= response.status < 400 and "location" in headers:
        raise OutgoingError(f"{host} answered with a redirect, which is not followed")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise OutgoingError(f"{host} answered in an encoding that was not asked for")
    pieces = _pieces(response)
    body = bytearray()
    for piece in _inflated(pieces) if encoding.endswith("gzip") else pieces:
        body += piece
        if len(body) > max_bytes:
            raise OutgoingError(f"{host} answered with more than {max_bytes / 2**20:.3g} MB")
    return Answer(response.status, headers, bytes(body))


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := response.read(_CHUNK):
        yield piece
    if response.length:  # read() takes an early end for the end
        raise http.client.IncompleteRead(b"", response.length)


def _inflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content of gzip's members, one or several, never more than a chunk at a time."""
    member, whole = zlib.decompressobj(31), True
    for piece in pieces:
        while piece:
            content = member.decompress(piece, _CHUNK)
            yield content
            piece, whole = member.unconsumed_tail, member.eof
            if member.eof:
                piece, member = member.unused_data, zlib.decompressobj(31)
    if not whole:
        raise zlib.error


def _reason(error: Exception) -> str:
    """Why there is no answer, in words that hold nothing of what was sent or came back."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not valid ({error.verify_message})"
        case http.client.IncompleteRead() | zlib.error():
            return "the answer ended too early or is broken"
        case http.client.HTTPException() if not isinstance(error, OSError):
            return "what came back is not HTTP"
        case OSError() if error.strerror and not isinstance(error, ssl.SSLError):
            return error.strerror.lower()
    return "the connection was broken"
