"""Taking in traces by OTLP: 10,000 of 3 spans, in batches of 450 (issue 6, "OTLP").

Beside it, in the same web server, a view that does nothing but decode and COPY. With BENCH_PEERS=1, Phoenix
and MLflow as well, where PHOENIX_PYTHON and MLFLOW_PYTHON name interpreters that have them.
"""

import http.client
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
from django.db import connections
from django.test import Client
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench import otlp_peers
from bench.otlp_traces import requests
from bench.server import web_server
from runs.models import Membership, Owner, Run, Token, User

TRACES, SPANS, AT_ONCE = 10_000, 3, 150
_BARE = """
    CREATE TABLE bench_span (
        trace_id text, span_id text, parent_id text NOT NULL, name text NOT NULL, kind integer NOT NULL,
        started bigint NOT NULL, ended bigint NOT NULL, status integer NOT NULL, status_message text NOT NULL,
        attributes jsonb NOT NULL, events jsonb NOT NULL, resource jsonb NOT NULL, scope text NOT NULL,
        PRIMARY KEY (trace_id, span_id)
    );
    GRANT INSERT ON bench_span TO runfolio_app
"""


def main(runs: int, rounds: int) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute(_BARE)
    owner = Owner.objects.create(name="bench")
    secret = Token.objects.issue(owner, "bench")[1]
    # Two processes, and the bare view beside ours.
    with web_server("--workers=2", application="bench.otlp_bare:application") as web:
        for clients in (1, 2, 4):
            bare = _rate(web, "/bench/bare", secret, clients)
            ours = _rate(web, "/v1/traces", secret, clients)
            print(
                f"{clients} client(s): bare view {bare:9,.0f} spans/s, Runfolio {ours:9,.0f} spans/s, "
                f"{ours / bare:5.2f} of it  limit: 0.15, aim: 0.4",
                flush=True,
            )
        print(f"{Run.objects.count():,} runs")
        _until_on_a_page(web, secret)
    if os.environ.get("BENCH_PEERS") == "1":
        for name, rate in otlp_peers.rates(AT_ONCE, SPANS):
            print(f"{name}: {rate:9,.0f} spans/s, Runfolio {ours / rate:5.1f} times that", flush=True)


def _rate(port: int, path: str, secret: str, clients: int) -> float:
    """Spans a second, from the first request to the last answer."""
    bodies = requests(TRACES, AT_ONCE)
    shares = [bodies[number::clients] for number in range(clients)]
    with psycopg.connect(os.environ["BENCH_SUPERUSER"], autocommit=True) as superuser:
        superuser.execute("CHECKPOINT")
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda share: _send(port, path, secret, share), shares))
    return TRACES * SPANS / (time.perf_counter() - began)


def _send(port: int, path: str, secret: str, bodies: Sequence[bytes]) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for body in bodies:
        status, answer = _post(client, path, secret, body)
        if status != 200 or answer:
            raise SystemExit(f"{path}: {status} {answer!r}")


def _post(client: http.client.HTTPConnection, path: str, secret: str, body: bytes) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/x-protobuf", "Authorization": f"Bearer {secret}"}
    client.request("POST", path, body, headers)
    answer = client.getresponse()
    return answer.status, answer.read()


def _until_on_a_page(port: int, secret: str) -> None:
    """From the POST of one trace until the list of runs shows it."""
    person = User.objects.create_superuser("bench", password="bench")
    Membership.objects.create(user=person, owner=Owner.objects.get(name="bench"), role="viewer")
    page = Client()
    page.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    cookies = {"Cookie": "; ".join(f"{name}={one.value}" for name, one in page.cookies.items())}
    took = []
    for body in requests(40, 1):
        trace = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[0]
        began = time.perf_counter()
        status, _ = _post(client, "/v1/traces", secret, body)
        client.request("GET", f"/?q={trace.trace_id.hex()}", headers=cookies)
        shown = client.getresponse().read()
        took.append(time.perf_counter() - began)
        assert status == 200
        assert b"/runs/" in shown
    median = statistics.median(took) * 1000
    print(f"one trace: {median:.1f} ms from POST until it is on a page, that page included  limit: 50 ms")
