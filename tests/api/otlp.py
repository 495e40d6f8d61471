"""A client of OTLP over HTTP, and traces for it."""

import json
from base64 import b64encode
from typing import Any

from django.http import HttpResponse
from django.test import Client
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.traces.spans import agent, assistant, chat, export, tool, user

PROTOBUF = "application/x-protobuf"
IDS = ("traceId", "spanId", "parentSpanId")


class Exporter:
    """Posts with a token; `last` is the latest answer."""

    def __init__(self, secret: str) -> None:
        self.client = Client(raise_request_exception=False)
        self.headers = {"Authorization": f"Bearer {secret}"}

    def traces(self, *spans: dict[str, Any], resource: dict[str, Any] | None = None) -> HttpResponse:
        """Sends the spans in JSON, and sees to it that all are taken."""
        answer = self.post(json.dumps(export(*spans, resource=resource)))
        assert (answer.status_code, answer.content) == (200, b"{}"), answer.content
        return answer

    def post(
        self, body: bytes | str, path: str = "/v1/traces", kind: str = "application/json", **headers: str
    ) -> HttpResponse:
        data = body if isinstance(body, bytes) else body.encode()
        return self.client.post(path, data, content_type=kind, headers={**self.headers, **headers})


def of_trace(number: int, *spans: dict[str, Any]) -> list[dict[str, Any]]:
    """The spans as those of another trace."""
    return [{**one, "traceId": f"{number:032x}"} for one in spans]


def weather(question: str = "Will it rain?", answer: str = "Yes, at noon.") -> list[dict[str, Any]]:
    """A trace of an agent, a model call and a tool, the agent's span last, as exporters send them."""
    told = {
        "gen_ai.tool.call.id": "call_1",
        "gen_ai.tool.call.arguments": '{"city": "Rome"}',
        "gen_ai.tool.call.result": '{"rain": true}',
    }
    used = {"gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 5}
    return [
        chat(2, 1, asked=[user(question)], said=[assistant(answer)], attributes=used),
        tool(3, 1, "forecast", attributes=told),
        agent(1),
    ]


def as_protobuf(document: dict[str, Any]) -> bytes:
    """An OTLP JSON document as protobuf, whose own JSON has ids in base64."""
    copy = json.loads(json.dumps(document))
    for block in copy["resourceSpans"]:
        for inner in block["scopeSpans"]:
            for one in inner["spans"]:
                for key in IDS:
                    if key in one:
                        one[key] = b64encode(bytes.fromhex(one[key])).decode()
    return bytes(ParseDict(copy, ExportTraceServiceRequest()).SerializeToString())
