"""How OTLP is spoken: types, encodings, limits, errors and what is refused (CONTRACTS.md 1.10)."""

import gzip
import http.client
import json
import resource
import socket
from typing import Any

import pytest
from django.conf import settings as project_settings
from django.db import OperationalError, connection
from django.test import Client
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from project.wsgi import with_otlp_port
from runs.api import otlp
from runs.models import Run, SpanBatch, Token, Trace
from tests.api.otlp import PROTOBUF, Exporter, as_protobuf, weather
from tests.traces.spans import SECOND, agent, assistant, chat, export, log, span, user

BODY = json.dumps(export(*weather()))


@pytest.fixture
def exporter(token: str) -> Exporter:
    return Exporter(token)


def refusal(answer: Any) -> tuple[int, int, str]:
    """HTTP's status, google.rpc's code, and the message."""
    assert answer["Content-Type"].startswith("application/json")
    told = json.loads(answer.content)
    assert set(told) == {"code", "message"}
    return answer.status_code, told["code"], told["message"]


# ── Who may send ───────────────────────────────────────────────────────────
def test_it_needs_a_token(db):
    answer = Exporter("wrong").post(BODY)
    assert refusal(answer)[:2] == (401, 16)
    assert answer["WWW-Authenticate"] == "Bearer"


def test_it_needs_the_scope_to_write(owner):
    secret = Token.objects.issue(owner, "reader", ["read"])[1]
    assert refusal(Exporter(secret).post(BODY))[:2] == (403, 7)


def test_a_header_that_kept_its_escape_is_understood(exporter, token):
    assert exporter.post(BODY, Authorization=f"Bearer%20{token}").status_code == 200


def test_a_signed_in_person_is_nobody_here(signed_in):
    answer = signed_in.post("/v1/traces", BODY, content_type="application/json")
    assert answer.status_code == 401


# ── Types and encodings ────────────────────────────────────────────────────
def test_a_missing_type_is_json(exporter):
    answer = exporter.post(BODY, kind="")
    assert (answer.status_code, answer.content) == (200, b"{}")


def test_parameters_of_a_type_do_not_matter(exporter):
    assert exporter.post(BODY, kind="application/json; charset=utf-8").status_code == 200


def test_another_type_is_415(exporter):
    assert refusal(exporter.post(BODY, kind="text/plain"))[:2] == (415, 3)


@pytest.mark.parametrize("encoding", ["zstd", "br", "deflate", "gzip, gzip"])
def test_another_encoding_is_415(exporter, encoding):
    status, code, message = refusal(exporter.post(BODY, **{"Content-Encoding": encoding}))
    assert (status, code) == (415, 3)
    assert "gzip or none" in message


@pytest.mark.parametrize("kind", ["identity", "gzip", "several members"])
def test_encodings_are_read_to_the_end(exporter, kind):
    data = BODY.encode()
    parts = [data[:100], b"", data[100:]] if kind == "several members" else [data]
    sent = data if kind == "identity" else b"".join(map(gzip.compress, parts))
    encoding = "identity" if kind == "identity" else "gzip"
    assert exporter.post(sent, **{"Content-Encoding": encoding}).status_code == 200
    assert Trace.objects.get().span_count == 3


@pytest.mark.parametrize(
    "body",
    [gzip.compress(BODY.encode())[:-9], b"no gzip", gzip.compress(b"{}") + b"rest", gzip.compress(b"") * 40],
    ids=["cut off", "none at all", "followed by something", "of many members"],
)
def test_a_broken_gzip_is_400(exporter, body):
    assert refusal(exporter.post(body, **{"Content-Encoding": "gzip"}))[:2] == (400, 3)


# ── Limits ─────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("members", [1, 2])
def test_a_bomb_is_refused_while_it_is_inflated(exporter, members):
    small = gzip.compress(b"{}") if members == 2 else b""
    bomb = small + gzip.compress(b" " * (65 * 2**20), 9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, code, message = refusal(exporter.post(bomb, **{"Content-Encoding": "gzip"}))
    assert (status, code) == (413, 8)
    assert "after decompression" in message
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 30 * 1024, f"{grown} kB"


def test_what_is_compressed_may_be_8_mib(exporter, monkeypatch):
    monkeypatch.setattr(otlp, "COMPRESSED_BYTES", 100)
    answer = exporter.post(gzip.compress(BODY.encode()), **{"Content-Encoding": "gzip"})
    assert refusal(answer)[:2] == (413, 8)


def test_a_body_may_be_larger_than_others_are(exporter, settings):
    settings.MAX_BODY_BYTES = settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 2**16
    padded = export(*weather(), span(9, 1, attributes={"long": "x" * 2**17}))
    assert exporter.post(json.dumps(padded)).status_code == 200


def test_a_body_beyond_the_limit_is_refused_unread(db):
    answer = Client().post("/v1/traces", b"x", PROTOBUF, headers={"Content-Length": str(2**27)})
    assert (answer.status_code, answer["Content-Type"]) == (413, PROTOBUF)
    assert answer.content[:2] == b"\x08\x08", "code 8"
    assert b"67,108,864 bytes" in answer.content


def test_more_spans_of_one_trace_than_fit_are_refused_each(exporter, monkeypatch):
    monkeypatch.setattr("runs.ingest.arrivals.MOST_SPANS", 4)
    answer = exporter.post(json.dumps(export(agent(1), *(chat(n, 1) for n in range(2, 8)))))
    assert json.loads(answer.content)["partialSuccess"]["rejectedSpans"] == "3"
    assert Trace.objects.get().span_count == 4


@pytest.mark.parametrize("at_once", [20, 3])
def test_more_log_records_of_one_trace_than_fit_are_refused_as_well(exporter, monkeypatch, at_once):
    for module in ("arrivals", "keeping"):
        monkeypatch.setattr(f"runs.ingest.{module}.MOST_SPANS", 4)
    records = [log("gen_ai.user.message", {"content": f"Why {number}?"}, 2) for number in range(20)]
    for first in range(0, 20, at_once):
        body = json.dumps({"resourceLogs": records[first : first + at_once]})
        answer = exporter.post(body, "/v1/logs")
    rejected = {20: "16", 3: "2"}[at_once]
    assert json.loads(answer.content)["partialSuccess"]["rejectedLogRecords"] == rejected
    assert Run.objects.get().event_count <= 4


# ── Errors ─────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b'"text"', b'{"resourceSpans": 5}', b'{"resourceSpans": [1]}']
)
def test_what_is_no_export_is_400(exporter, body):
    assert refusal(exporter.post(body))[:2] == (400, 3)


def test_broken_protobuf_is_400_in_protobuf(exporter):
    answer = exporter.post(b"\xff\xff\xff", kind=PROTOBUF)
    assert (answer.status_code, answer["Content-Type"]) == (400, PROTOBUF)
    assert answer.content[:2] == b"\x08\x03"
    assert b"Unable to parse Protobuf" in answer.content


@pytest.mark.parametrize("kind", ["application/json", PROTOBUF])
def test_nothing_at_all_is_taken(exporter, kind):
    assert exporter.post(b"", kind=kind).status_code == 200


def test_metrics_are_not_taken(exporter):
    assert refusal(exporter.post(BODY, "/v1/metrics"))[:2] == (404, 5)


def test_only_post_is_taken(exporter):
    answer = exporter.client.get("/v1/traces", headers=exporter.headers)
    assert refusal(answer)[:2] == (405, 12)
    assert answer["Allow"] == "POST"


def test_a_database_in_trouble_is_503_with_a_time_to_try_again(exporter, monkeypatch):
    def fail(*_: Any) -> None:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(otlp, "take_in", fail)
    answer = exporter.post(BODY)
    assert refusal(answer)[:2] == (503, 14)
    assert answer["Retry-After"] == "5"


def test_too_many_at_a_time_are_503(exporter, monkeypatch):
    monkeypatch.setattr(otlp, "WAIT", 0.01)
    for _ in range(otlp.AT_ONCE):
        otlp._places.acquire()
    try:
        answer = exporter.post(BODY)
    finally:
        for _ in range(otlp.AT_ONCE):
            otlp._places.release()
    assert refusal(answer)[:2] == (503, 14)
    assert answer["Retry-After"] == "5"
    assert exporter.post(BODY).status_code == 200


def test_a_body_that_comes_slowly_keeps_no_place_and_no_connection(committed_db, exporter, monkeypatch):
    kept: list[Any] = []
    receive = otlp._receive

    def receive_slowly(*args: Any) -> None:
        kept.extend((otlp.AT_ONCE - otlp._places._value, connection.connection))
        receive(*args)

    monkeypatch.setattr(otlp, "_receive", receive_slowly)
    assert exporter.post(BODY).status_code == 200
    assert kept == [0, None]


# ── What is refused span by span ───────────────────────────────────────────
BAD = [
    {"traceId": "00000000000000000000000000000000"},
    {"spanId": "0000000000000000"},
    {"traceId": "abc"},
    {"spanId": "x" * 1000},
    {"traceId": None},
    {"traceId": {"a": 1}},
    {"spanId": ""},
    {"traceId": "z" * 32},
    {"traceId": '{"' * 16},
    {"traceId": "a," * 16},
    {"spanId": "z" * 16},
]


@pytest.mark.parametrize("bad", BAD, ids=map(str, BAD))
def test_a_span_without_usable_ids_is_refused_alone(exporter, bad):
    answer = exporter.post(json.dumps(export(*weather(), {**span(9, 1), **bad})))
    told = {"rejectedSpans": "1", "errorMessage": "1 span(s) rejected: invalid trace or span id"}
    assert json.loads(answer.content) == {"partialSuccess": told}
    assert Trace.objects.get().span_count == 3


def test_the_same_in_protobuf(exporter):
    body = as_protobuf(export(*weather(), {**span(9, 1), "spanId": "00" * 8}, {**span(8), "traceId": "ab"}))
    answer = exporter.post(body, kind=PROTOBUF)
    told = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (told.rejected_spans, told.error_message) == (2, "2 span(s) rejected: invalid trace or span id")


@pytest.mark.parametrize("trace_id", ["z" * 32, '{"' * 16, "a," * 16])
def test_a_log_record_without_a_usable_trace_is_not_kept(exporter, trace_id):
    record = log("gen_ai.user.message", {"content": "Why?"}, 2)
    record["scopeLogs"][0]["logRecords"][0]["traceId"] = trace_id
    answer = exporter.post(json.dumps({"resourceLogs": [record]}), "/v1/logs")
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert not Trace.objects.exists()


# ── Whatever they hold (RELIABILITY.md I6) ─────────────────────────────────
def said(text: str, **more: Any) -> list[dict[str, Any]]:
    return [agent(1), chat(2, 1, asked=[user("?")], said=[assistant(text)], **more)]


HOSTILE: dict[str, list[Any]] = {
    "10,000 attributes": said("x", attributes={f"key {n}": n for n in range(10_000)}),
    "cyclic parents": [agent(1, 2), chat(2, 1, said=[assistant("x")])],
    "its own parent": [agent(1, 1), chat(2, 1, said=[assistant("x")])],
    "a parent that is missing": [chat(2, 77, said=[assistant("x")])],
    "an end before its start": [agent(1, endTimeUnixNano="1"), *said("x")[1:]],
    "the year 9999": [agent(1, endTimeUnixNano=str(253_402_300_799 * SECOND)), *said("x")[1:]],
    "times beyond all calendars": [agent(1, startTimeUnixNano=str(2**64 - 1), endTimeUnixNano="-5")],
    "times that are none": [agent(1, startTimeUnixNano="soon", endTimeUnixNano=None), *said("x")[1:]],
    "names of prototypes": said("x", attributes={"__proto__": "a", "constructor": {"prototype": "b"}}),
    "dots": said("x", attributes={"a..b": "c", ".": "d", "gen_ai.": "e"}),
    "NUL": said("a\0b", attributes={"a\0": "\0"}, name="\0"),
    "lone surrogates": said("\ud800", attributes={"\ud800": "\ud800"}, name="\ud800"),
    "huge numbers": said("x", attributes={"gen_ai.usage.input_tokens": 2**63 - 1}),
    "more than fits": said("x", attributes={"gen_ai.usage.output_tokens": 10**30}),
    "names without end": [agent(1, name="n" * 100_000), *said("x")[1:]],
    "a model without end": said("x", attributes={"gen_ai.request.model": "m" * 9_000}),
    "no attributes": [agent(1), {**chat(2, 1), "attributes": None}],
    "attributes that are none": [agent(1), {**chat(2, 1), "attributes": [1, None, {"key": 5}, {"key": "a"}]}],
    "events that are none": said("x", events=[1, {"name": None, "attributes": 5}]),
    "a status that is none": said("x", status="bad"),
    "flags that are none": [agent(1, flags="bad"), *said("x")[1:]],
    "a long line": said("x" * 1_000_000),
    "markup": said("<script>alert(1)</script>"),
}


@pytest.mark.parametrize("spans", HOSTILE.values(), ids=HOSTILE)
def test_it_is_kept_and_shown_whatever_it_holds(exporter, signed_in, spans):
    answer = exporter.post(json.dumps(export(*spans)))
    assert answer.status_code == 200, answer.content
    run = Run.objects.get()
    assert signed_in.get(f"/runs/{run.pk}").status_code == 200
    assert signed_in.get("/").status_code == 200
    assert exporter.post(json.dumps(export(span(70, 1)))).status_code == 200, "and told anew"


def test_a_service_may_be_called_anything(exporter):
    named = export(*weather(), resource={"service.name": "a\0\ud800"})
    assert exporter.post(json.dumps(named)).status_code == 200
    assert Run.objects.get().session.metadata == {"service.name": "a\ufffd\ufffd"}


@pytest.mark.parametrize(
    "value", [{"bytesValue": "AAECAw=="}, {"doubleValue": "NaN"}, {"intValue": "x"}, {}, 5]
)
def test_values_of_any_kind_are_kept(exporter, value):
    raw = {**agent(1), "attributes": [*agent(1)["attributes"], {"key": "odd", "value": value}]}
    assert exporter.post(json.dumps(export(raw))).status_code == 200
    assert SpanBatch.objects.get().otlp["resourceSpans"][0]["scopeSpans"][0]["spans"][0] == raw


def test_deep_values_are_400_or_kept(exporter):
    deep: Any = {"stringValue": "end"}
    for _ in range(120):
        deep = {"arrayValue": {"values": [deep]}}
    raw = {**agent(1), "attributes": [*agent(1)["attributes"], {"key": "deep", "value": deep}]}
    assert exporter.post(json.dumps(export(raw))).status_code == 200
    assert refusal(exporter.post(b'{"resourceSpans": ' + b"[" * 100_000))[:2] == (400, 3)


# ── The server ─────────────────────────────────────────────────────────────
def test_a_chunked_body_is_read_to_its_end(gunicorn, exporter):
    padded = json.dumps(export(*weather(), span(9, 1, attributes={"long": "x" * 300_000}))).encode()
    for body, headers in ((padded, {}), (gzip.compress(padded), {"Content-Encoding": "gzip"})):
        client = http.client.HTTPConnection("127.0.0.1", gunicorn, timeout=30)
        chunks = (body[at : at + 1000] for at in range(0, len(body), 1000))
        sent = {**exporter.headers, "Content-Type": "application/json", **headers}
        client.request("POST", "/v1/traces", chunks, sent, encode_chunked=True)
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (200, b"{}")
        client.close()
    assert Trace.objects.get().span_count == 4


@pytest.mark.parametrize(
    ("path", "reached"), [("/v1/traces", True), ("/healthz", True), ("/", False), ("/api/runs", False)]
)
def test_the_port_of_its_own_serves_nothing_else(settings, path, reached):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings.OTLP_PORT = listener.getsockname()[1]
        asked: list[str] = []
        app = with_otlp_port(lambda environ, start: asked.append(environ["PATH_INFO"]) or [])
        statuses: list[str] = []
        app({"PATH_INFO": path, "gunicorn.socket": listener}, lambda status, headers: statuses.append(status))
    assert (asked == [path], statuses == ["404 Not Found"]) == (reached, not reached)


def test_there_is_no_second_port_unless_somebody_sets_it():
    assert project_settings.OTLP_PORT == 0
