"""Traces as an agent's instrumentation sends them: the agent, a model call, a tool."""

import json
import random
import time
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_WORDS = (
    *("weather", "umbrella", "tomorrow", "release", "chart", "upgrade", "namespace", "pod", "restart"),
    *("error", "timeout", "invoice", "ticket", "customer", "refund", "search", "document", "summary"),
    *("report", "query", "table", "revenue", "region", "quarter", "forecast"),
)


def requests(traces: int, at_once: int) -> list[bytes]:
    """So many traces as bodies of `at_once` each; each trace is new, five share a conversation."""
    chance = random.Random()
    return [
        _request(range(start, min(start + at_once, traces)), chance) for start in range(0, traces, at_once)
    ]


def _request(numbers: range, chance: random.Random) -> bytes:
    request = ExportTraceServiceRequest()
    block = request.resource_spans.add()
    block.resource.attributes.add(key="service.name").value.string_value = "bench-agent"
    inner = block.scope_spans.add()
    inner.scope.name = "bench"
    mark = chance.getrandbits(32)
    for number in numbers:
        _add_trace(inner, chance, f"conversation-{mark}-{number // 5}")
    return bytes(request.SerializeToString())


def _add_trace(inner: Any, chance: random.Random, conversation: str) -> None:
    trace_id, agent, model, tool = (chance.randbytes(size) for size in (16, 8, 8, 8))
    start = time.time_ns() - 1_000_000_000
    question, answer = (" ".join(chance.choices(_WORDS, k=size)) for size in (12, 30))
    _add(
        inner,
        (trace_id, agent, b"", "invoke_agent weather", start, start + 900_000_000),
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "weather",
            "gen_ai.conversation.id": conversation,
        },
    )
    _add(
        inner,
        (trace_id, model, agent, "chat gpt-5", start + 1_000, start + 800_000_000),
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.usage.input_tokens": chance.randrange(2_000),
            "gen_ai.usage.output_tokens": chance.randrange(500),
            "gen_ai.input.messages": _said("user", question),
            "gen_ai.output.messages": _said("assistant", answer),
        },
    )
    _add(
        inner,
        (trace_id, tool, agent, "execute_tool forecast", start + 500_000_000, start + 600_000_000),
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "forecast",
            "gen_ai.tool.call.id": f"call_{tool.hex()}",
            "gen_ai.tool.call.arguments": json.dumps({"city": chance.choice(_WORDS)}),
            "gen_ai.tool.call.result": json.dumps({"rain_mm": chance.randrange(30)}),
        },
    )


def _add(inner: Any, about: tuple[bytes, bytes, bytes, str, int, int], attributes: dict[str, Any]) -> None:
    trace_id, span_id, parent, name, start, end = about
    span = inner.spans.add(trace_id=trace_id, span_id=span_id, parent_span_id=parent, name=name)
    span.start_time_unix_nano, span.end_time_unix_nano = start, end
    for key, value in attributes.items():
        told = span.attributes.add(key=key).value
        if isinstance(value, int):
            told.int_value = value
        else:
            told.string_value = value


def _said(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])
