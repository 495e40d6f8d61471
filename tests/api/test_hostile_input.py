"""What strangers send: kept exactly, or refused with a clear 4xx (RELIABILITY.md 0.3-0.5, I1-I5)."""

import contextlib
import json
import socket
import time
from http.client import HTTPResponse
from typing import Any

import pytest
from django.test import Client

from runs.models import Run

TEXTS = {
    "NUL": "a\x00b",
    "lone surrogate": "a\ud800b",
    "surrogates the wrong way round": "\udc00\ud800",
    "emoji": "😀",
    "control characters": "".join(map(chr, range(32))),
    "right to left": "‮evil‏",
    "not a character": "￾￿",
    "2 MB": "x" * 2**21 + "\x00",
    "markup": "<script>alert(1)</script>",
}


def spec_with(value: Any) -> dict[str, Any]:
    return {
        "target": {"kind": "inline", "inline": {"data": [], "note": value}},
        "context": {"password": value, "note": value},
        "extra": {"deep": [value]},
    }


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_any_text_is_kept_exactly_and_redacted_where_it_must_be(api, text):
    status, answer = api.post(body={"spec": spec_with(text)})
    assert status == 202

    spec = api.get(f"/{answer['data']['runId']}")[1]["data"]["spec"]

    assert spec["target"]["inline"] == {"data": [], "note": text}
    assert spec["context"] == {"password": "REDACTED", "note": text}
    assert spec["extra"] == {"deep": [text]}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_any_text_can_be_sent_again(api, text):
    run_id = "00000000-0000-4000-8000-000000000001"

    answers = [api.post(body={"runId": run_id, "spec": spec_with(text)}) for _ in range(2)]

    assert answers[0] == answers[1]
    assert answers[0][0] == 202
    assert api.post(body={"runId": run_id, "spec": spec_with(text + "!")})[0] == 409


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_any_text_can_be_a_key(api, text):
    spec = {"target": {"kind": "inline", "inline": {text: 1, "b": 2}}}
    status, answer = api.post(body={"spec": spec})

    assert status == 202
    assert api.get(f"/{answer['data']['runId']}")[1]["data"]["spec"]["target"]["inline"] == {text: 1, "b": 2}


@pytest.mark.parametrize(
    "number",
    [2**53, 2**63, 2**64, -(2**64), int("9" * 4000), 1e300, 5e-324, -0.0, 0.1, 1.0, 10**15, 1e16, True],
)
def test_numbers_come_back_as_they_were_sent(api, number):
    _, answer = api.post(body={"spec": spec_with(number)})

    kept = api.get(f"/{answer['data']['runId']}")[1]["data"]["spec"]["extra"]["deep"][0]

    assert (kept, type(kept), str(kept)[:1]) == (number, type(number), str(number)[:1])


def test_of_a_duplicate_key_the_last_value_counts(api):
    _, answer = api.post(body=b'{"spec": {"target": {"kind": "ftp", "kind": "inline"}, "x": 1, "x": 2}}')

    assert answer["data"]["spec"]["x"] == 2


BODIES = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1",
    "a text": b'"spec"',
    "half": b'{"spec": {"target',
    "NaN": b'{"spec": {"target": {"kind": "inline", "inline": {"n": NaN}}}}',
    "Infinity": b'{"spec": {"target": {"kind": "inline", "inline": {"n": -Infinity}}}}',
    "1e400": b'{"spec": {"target": {"kind": "inline", "inline": {"n": 1e400}}}}',
    "5,000 digits": b'{"spec": ' + b"9" * 5000 + b"}",
    "100,000 lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "501 levels": b'{"spec": {"target": {"kind": "inline", "inline": {"a":'
    + b"[" * 501
    + b"]" * 501
    + b"}}}}",
    "deep, with a surrogate": b'["\\ud800",' + b"[" * 100_000,
    "invalid UTF-8": b'{"spec": "\xff"}',
    "overlong UTF-8": b'{"spec": "\xc0\x80"}',
    "CESU-8": b'{"spec": "\xed\xa0\x80\xed\xb0\x80"}',
    "a BOM": b'\xef\xbb\xbf{"spec": {}}',
    "UTF-16": '{"spec": {}}'.encode("utf-16"),
    "raw control characters": b'{"spec": "\x00\x01"}',
    "two documents": b"{} {}",
    "a form": b"spec=1&run_id=2",
}


@pytest.mark.parametrize("data", BODIES.values(), ids=BODIES.keys())
def test_what_cannot_be_kept_is_refused_with_a_reason(api, data):
    status, answer = api.post(body=data)

    assert status == 422
    assert answer["detail"]
    assert not Run.objects.exists()


def test_five_hundred_levels_are_kept(api):
    deep: Any = "bottom"
    for _ in range(490):
        deep = [deep]
    _, answer = api.post(body={"spec": {"target": {"kind": "inline", "inline": {"deep": deep}}}})

    assert answer["data"]["spec"]["target"]["inline"] == {"deep": deep}


WRONG_TYPES = [None, [], {}, 1, 1.5, True, "", "x\x00", "\ud800"]
FIELDS = [
    *(
        "spec",
        "spec.target",
        "spec.target.kind",
        "spec.target.inline",
        "spec.target.baseUrl",
        "spec.target.traceId",
    ),
    *("spec.target.traceFormat", "spec.target.traceCount", "spec.target.traceFiles", "spec.approach"),
    *("spec.evalSet", "spec.evalConfig", "spec.evalConfig.evaluators", "spec.sinks", "spec.context"),
    *("spec.context.headers", "spec.context.session", "spec.credentialRefs", "runId"),
]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", WRONG_TYPES, ids=repr)
def test_no_value_of_any_field_breaks_it(api, field, value):
    body: dict[str, Any] = {"spec": {"target": {"kind": "inline"}, "evalConfig": {}, "context": {}}}
    place = body
    *path, last = field.split(".")
    for key in path:
        place = place[key]
    place[last] = value

    status, _ = api.post(body=body)

    assert status in (202, 422)


@pytest.mark.parametrize("cookie", [r'sessionid="\000x"', r'runfolio-8000-session="\000x"', r'a="\000"; b=c'])
@pytest.mark.parametrize("path", ["/api/runs", "/healthz", "/nowhere"])
def test_a_nul_in_a_cookie_is_refused(db, cookie, path):
    assert Client(headers={"Cookie": cookie}, raise_request_exception=False).get(path).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/%00",
            "/api/runs/%00",
            "/api/runs?status=%00",
            "/?cursor=%00",
            "/runs/%00/",
            "/api/runs?limit=%C0%80",
        ),
        *(
            "/api/runs?before=9999-12-31T23:59:59-23:00",
            "/api/runs?before=1e400",
            "/api/runs?cursor=%F0%9F%98%80",
        ),
        *("/api/runs?status=queued&status=%ED%A0%80", "/%ff", "/api/runs/%F0%9F%98%80", "/api/runs?%00=1"),
    ],
)
def test_no_address_breaks_it(api, token, path):
    client = Client(headers={"Authorization": f"Bearer {token}"}, raise_request_exception=False)

    assert client.get(path).status_code < 500


@pytest.mark.parametrize(
    "name", ["Host", "X-Forwarded-For", "X-Forwarded-Host", "X-Request-Id", "Content-Length"]
)
@pytest.mark.parametrize("value", ["", "evil.example", "a\tb", "é", "-1", "9" * 100, "127.0.0.1:99999"])
def test_no_header_breaks_it(db, name, value):
    client = Client(headers={name: value}, raise_request_exception=False)

    assert client.get("/healthz").status_code < 500


# ── Through a real server ──────────────────────────────────────────────────
class Wire:
    """Requests as bytes, to a gunicorn with a database of its own."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"

    def send(self, *parts: bytes, more: str = "", wait: float = 30) -> tuple[int, bytes]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as connection:
            head = f"POST /api/runs HTTP/1.1\r\n{self.head}{more}Content-Type: application/json\r\n\r\n"
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may answer before the end
                for part in (head.encode(), *parts):
                    connection.sendall(part)
            response = HTTPResponse(connection)
            response.begin()
            return response.status, response.read()


@pytest.fixture
def wire(gunicorn: int, token: str) -> Wire:
    return Wire(gunicorn, token)


def chunked(data: bytes, size: int) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_a_chunked_body_is_stored_whole(wire):
    spec = spec_with("x" * 300_000)
    data = chunked(json.dumps({"spec": spec}).encode(), 1000)

    status, body = wire.send(data, more="Transfer-Encoding: chunked\r\n")

    assert status == 202
    run = Run.objects.get(pk=json.loads(body)["data"]["runId"])
    assert run.spec["extra"] == spec["extra"]


def test_a_chunked_body_over_the_limit_is_413(wire):
    chunk = chunked(b"x" * 2**20, 2**20)[:-5]

    status, body = wire.send(*[chunk] * 60, more="Transfer-Encoding: chunked\r\n")

    assert (status, list(json.loads(body))) == (413, ["detail"])


def test_a_body_of_60_mb_is_413(wire):
    started = time.monotonic()

    status, body = wire.send(more=f"Content-Length: {60 * 2**20}\r\n")

    assert (status, list(json.loads(body))) == (413, ["detail"])
    assert time.monotonic() - started < 5  # before it has come


def test_a_spec_of_40_mb_is_kept(wire):
    spec = spec_with("y" * 13_000_000)
    data = json.dumps({"spec": spec}).encode()

    status, _ = wire.send(data, more=f"Content-Length: {len(data)}\r\n")

    assert status == 202
    assert Run.objects.get().spec["extra"] == spec["extra"]
