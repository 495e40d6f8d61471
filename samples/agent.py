"""A small agent that looks after a greenhouse, and the recording of one conversation with it.

    python samples/agent.py

writes, beside this file, what it did and what can be done with it:

- `trace.json`      the OpenTelemetry spans, as OTLP JSON (two traces, one conversation)
- `eval_set.json`   what was expected, in Google ADK's eval set format
- `run.json`        a body for `POST /api/runs` that judges the one by the other

The agent is real, its model is not: it answers from a script, so that nobody needs a key. Ids and
times come from a script too, so that recording again changes nothing. It needs `opentelemetry-sdk`,
which Runfolio itself does not.
"""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import set_span_in_context

HERE = Path(__file__).parent
AGENT = "greenhouse_agent"
MODEL = "scripted-gardener-1"
CONVERSATION = "greenhouse-monday-morning"
INSTRUCTIONS = "You look after a greenhouse. Measure before you water, and say what you did."

# The tools


def read_sensor(bed: str) -> dict[str, Any]:
    return {"bed": bed, "moisture_percent": 18, "wanted_percent": 35}


def water_bed(bed: str, litres: int) -> dict[str, Any]:
    return {"bed": bed, "litres_given": litres, "moisture_percent": 36}


def tank_level() -> dict[str, Any]:
    return {"litres": 74, "capacity_litres": 200}


TOOLS: dict[str, Callable[..., dict[str, Any]]] = {
    tool.__name__: tool for tool in (read_sensor, water_bed, tank_level)
}

# The stand-in for a model: for each question the answers it gives, one for each time it is asked

SCRIPT: dict[str, list[dict[str, Any]]] = {
    "Is the tomato bed too dry? Water it if it is.": [
        {"tool": "read_sensor", "arguments": {"bed": "tomatoes"}},
        {"tool": "water_bed", "arguments": {"bed": "tomatoes", "litres": 6}},
        {
            "text": "Yes, the tomato bed was too dry: 18 % moisture, and 35 % is wanted. "
            "I gave it 6 litres, which brought it up to 36 %."
        },
    ],
    "How much water is left in the tank, and will it last until Friday?": [
        {"tool": "tank_level", "arguments": {}},
        {
            "text": "There are 74 litres left in the tank, of 200. At 6 litres a day "
            "that is enough until Friday, with about 50 litres to spare."
        },
    ],
}

EXPECTED_ANSWERS = [
    "The tomato bed was too dry, at 18 % moisture instead of the wanted 35 %. "
    "I watered it with 6 litres and it is now at 36 %.",
    "The tank has 74 of its 200 litres left. At 6 litres a day that will last until Friday, "
    "with about 50 to spare.",
]

# The agent


class Clock:
    """Nanoseconds of a Monday morning that passes as fast as it is told to."""

    def __init__(self) -> None:
        self.now = int(datetime(2026, 11, 2, 7, 30, tzinfo=UTC).timestamp()) * 10**9

    def wait(self, milliseconds: float) -> None:
        self.now += int(milliseconds * 1e6)


class SteadyIds(IdGenerator):
    """The same ids on each recording."""

    def __init__(self) -> None:
        self._random = random.Random(20261102)  # noqa: S311  ids of a sample, not secrets

    def generate_span_id(self) -> int:
        return self._random.getrandbits(64)

    def generate_trace_id(self) -> int:
        return self._random.getrandbits(128)


class Agent:
    """Asks the model, does what it says, until it answers. Every step is a span."""

    def __init__(self, provider: TracerProvider, clock: Clock) -> None:
        self._tracer = provider.get_tracer("greenhouse", "1.0.0")
        self._clock = clock
        self._history: list[dict[str, Any]] = []

    def ask(self, question: str) -> str:
        asked = _message("user", {"type": "text", "content": question})
        span = self._start(
            f"invoke_agent {AGENT}",
            None,
            {"gen_ai.operation.name": "invoke_agent", "gen_ai.input.messages": json.dumps([asked])},
        )
        self._history.append(asked)
        for number, answer in enumerate(SCRIPT[question], start=1):
            said = self._call_model(span, answer, f"call_{len(self._history)}_{number}")
            self._history.append(said)
            if "text" in answer:
                span.set_attribute("gen_ai.output.messages", json.dumps([said]))
            else:
                self._history.append(self._call_tool(span, said["parts"][0]))
        span.end(self._clock.now)
        return str(answer["text"])

    def _call_model(self, parent: Span, answer: dict[str, Any], call_id: str) -> dict[str, Any]:
        said = _spoken(answer, call_id)
        instructions = [{"type": "text", "content": INSTRUCTIONS}]
        sent, received = json.dumps(self._history), json.dumps([said])
        span = self._start(
            f"chat {MODEL}",
            parent,
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "scripted",
                "gen_ai.request.model": MODEL,
                "gen_ai.response.finish_reasons": ["stop" if "text" in answer else "tool_calls"],
                "gen_ai.system_instructions": json.dumps(instructions),
                "gen_ai.input.messages": sent,
                "gen_ai.output.messages": received,
                "gen_ai.usage.input_tokens": len(INSTRUCTIONS + sent) // 4,
                "gen_ai.usage.output_tokens": len(received) // 4,
            },
        )
        self._clock.wait(280 + 4.5 * len(received))
        span.end(self._clock.now)
        return said

    def _call_tool(self, parent: Span, call: dict[str, Any]) -> dict[str, Any]:
        span = self._start(
            f"execute_tool {call['name']}",
            parent,
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": call["name"],
                "gen_ai.tool.type": "function",
                "gen_ai.tool.call.id": call["id"],
                "gen_ai.tool.call.arguments": json.dumps(call["arguments"]),
            },
        )
        result = TOOLS[call["name"]](**call["arguments"])
        self._clock.wait(1850 if call["name"] == "water_bed" else 38)
        span.set_attribute("gen_ai.tool.call.result", json.dumps(result))
        span.end(self._clock.now)
        return _message("tool", {"type": "tool_call_response", "id": call["id"], "response": result})

    def _start(self, name: str, parent: Span | None, attributes: dict[str, Any]) -> Span:
        self._clock.wait(1.25)
        identity = {"gen_ai.agent.name": AGENT, "gen_ai.conversation.id": CONVERSATION}
        context = set_span_in_context(parent) if parent else None
        return self._tracer.start_span(
            name, context, attributes=identity | attributes, start_time=self._clock.now
        )


def _spoken(answer: dict[str, Any], call_id: str) -> dict[str, Any]:
    if "text" in answer:
        return _message("assistant", {"type": "text", "content": answer["text"]})
    call = {"id": call_id, "name": answer["tool"], "arguments": answer["arguments"]}
    return _message("assistant", {"type": "tool_call", **call})


def _message(role: str, part: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "parts": [part]}


# The recording


def record() -> dict[str, Any]:
    """Hold the conversation, and give its spans as an OTLP JSON document."""
    exporter, clock = InMemorySpanExporter(), Clock()
    # Resource() and not Resource.create(): what that finds out about this machine is nobody's business.
    resource = Resource({"service.name": "greenhouse", "service.version": "1.0.0"})
    provider = TracerProvider(resource=resource, id_generator=SteadyIds())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    agent = Agent(provider, clock)
    for question in SCRIPT:
        agent.ask(question)
        clock.wait(41_000)
    spans = [_otlp_span(span) for span in exporter.get_finished_spans()]
    scope = {"name": "greenhouse", "version": "1.0.0"}
    attributes = _otlp_attributes(resource.attributes)
    return {
        "resourceSpans": [
            {"resource": {"attributes": attributes}, "scopeSpans": [{"scope": scope, "spans": spans}]}
        ]
    }


def _otlp_span(span: ReadableSpan) -> dict[str, Any]:
    parent = {"parentSpanId": f"{span.parent.span_id:016x}"} if span.parent else {}
    return {
        "traceId": f"{span.context.trace_id:032x}",
        "spanId": f"{span.context.span_id:016x}",
        **parent,
        "name": span.name,
        "kind": 1,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _otlp_attributes(span.attributes),
        "status": {},
    }


def _otlp_attributes(attributes: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": _otlp_value(value)} for key, value in attributes.items()]


def _otlp_value(value: Any) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, str):
        return {"stringValue": value}
    return {"arrayValue": {"values": [_otlp_value(item) for item in value]}}


def eval_set() -> dict[str, Any]:
    """The conversation as it should go: the same tools, answers to the same effect."""
    turns = zip(SCRIPT.items(), EXPECTED_ANSWERS, strict=True)
    conversation = [
        {
            "invocation_id": f"turn_{number}",
            "user_content": {"role": "user", "parts": [{"text": question}]},
            "final_response": {"role": "model", "parts": [{"text": expected}]},
            "intermediate_data": {
                "tool_uses": [
                    {"name": answer["tool"], "args": answer["arguments"]}
                    for answer in answers
                    if "tool" in answer
                ],
                "tool_responses": [],
            },
        }
        for number, ((question, answers), expected) in enumerate(turns, start=1)
    ]
    case = {"eval_id": "water_and_report", "conversation": conversation}
    return {"eval_set_id": "greenhouse", "name": "Greenhouse", "eval_cases": [case]}


def run_body() -> dict[str, Any]:
    evaluators = [
        {"type": "builtin", "name": "tool_trajectory_avg_score"},
        {"type": "builtin", "name": "response_match_score", "threshold": 0.7},
    ]
    return {
        "spec": {
            "approach": "trace_replay",
            "target": {"kind": "inline", "inline": record()},
            "evalSet": eval_set(),
            "evalConfig": {"evaluators": evaluators, "groupBy": "conversation"},
        }
    }


if __name__ == "__main__":
    for file_name, content in (
        ("trace.json", record()),
        ("eval_set.json", eval_set()),
        ("run.json", run_body()),
    ):
        (HERE / file_name).write_text(json.dumps(content, indent=2) + "\n")
