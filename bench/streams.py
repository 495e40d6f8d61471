"""The runs list with as many streams open as there may be (issue 6, "Done when"): at most twice its time without.

A real gunicorn with the settings of production: one process, 32 threads, its pool, MAX_STREAMS of 16. The
streams are live sessions, which change once a second.
"""

import http.client
import threading
import time
from datetime import timedelta
from statistics import median

from django.conf import settings
from django.utils import timezone

from bench.data import load_runs
from bench.server import web_server
from runs.ingest import spans_in, take_in
from runs.models import Owner, Token
from runs.models.span import Trace

OPEN_FOR = 60.0  # seconds
LIMIT = 2.0  # times without streams
SESSIONS = 50


def main(runs: int, rounds: int) -> None:
    owner = load_runs(min(runs, 100_000), "streams")[0]
    secret = Token.objects.issue(owner, "bench")[1]
    for number in range(SESSIONS):
        take_in(owner, spans_in(_trace(number)))
    with web_server() as port:
        _get(port, secret, "/api/runs")
        alone = _measured(port, secret, 20 * rounds)
        streams = [_open(port, secret) for _ in range(settings.MAX_STREAMS)]
        stop = threading.Event()
        _in_background(_read_all, streams, stop)
        _in_background(_change, owner, stop)
        refused = _open(port, secret)
        until = time.monotonic() + OPEN_FOR
        times: list[float] = []
        while time.monotonic() < until:
            times += _measured(port, secret, 5)
        stop.set()
    ratio = median(times) / median(alone)
    wrong = [*(["SLOW"] if ratio > LIMIT else []), *(["NOT REFUSED"] if refused.status != 503 else [])]
    print(
        f"runs list: {median(alone):.2f} ms alone, {median(times):.2f} ms with {len(streams)} streams open for"
        f" {OPEN_FOR:g} s: {ratio:.2f} x (limit {LIMIT:g}), worst {max(times):.1f} ms, {len(times)} of"
        f" {len(times)} answered; the next stream: {refused.status}, Retry-After"
        f" {refused.getheader('Retry-After')}  {' '.join(wrong)}",
        flush=True,
    )


def _measured(port: int, secret: str, times: int) -> list[float]:
    """Milliseconds of each; raises where one does not answer."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        _get(port, secret, "/api/runs?limit=50")
        found.append((time.perf_counter() - began) * 1000)
    return found


def _get(port: int, secret: str, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Authorization": f"Bearer {secret}"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 200, f"{path} answers {answer.status}: {body[:200]!r}"
    return body


def _open(port: int, secret: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
    connection.request("GET", "/stream/ui-updates", headers={"Authorization": f"Bearer {secret}"})
    return connection.getresponse()


def _in_background(work: object, *about: object) -> None:
    threading.Thread(target=work, args=about, daemon=True).start()  # type: ignore[arg-type]


def _read_all(streams: list[http.client.HTTPResponse], stop: threading.Event) -> None:
    for stream in streams:
        _in_background(_read, stream, stop)


def _read(stream: http.client.HTTPResponse, stop: threading.Event) -> None:
    while not stop.is_set() and stream.read1(65536):
        pass


def _change(owner: Owner, stop: threading.Event) -> None:
    """A new session each second, so that every stream has something to say."""
    number = SESSIONS
    while not stop.wait(1.0):
        number += 1
        take_in(owner, spans_in(_trace(number)))
        Trace.objects.filter(owner=owner).update(last_span_at=timezone.now() - timedelta(minutes=1))


def _trace(number: int) -> dict[str, object]:
    said = '[{"role": "user", "parts": [{"type": "text", "content": "where is it?"}]}]'
    values = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.input.messages": said}
    span = {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": "chat",
        "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": "2000000000",
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in values.items()],
    }
    name = {"key": "agentevals.session_name", "value": {"stringValue": f"session {number}"}}
    return {"resourceSpans": [{"resource": {"attributes": [name]}, "scopeSpans": [{"spans": [span]}]}]}
