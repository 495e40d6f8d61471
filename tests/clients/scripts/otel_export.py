"""Sends a trace of one instrumentation by a real exporter: `otel_export.py protobuf|json SAMPLE [none|gzip]`.

Where to and with what token is in the variables that OpenTelemetry itself reads.
"""

import json
import sys

from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter as JsonExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as ProtobufExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode

QUESTION, ANSWER = "How many lamps are there?", "There are three lamps."
ARGUMENTS, RESULT = {"kind": "all"}, {"lamps": 3}


def conventions(tracer):
    """OpenTelemetry's own conventions for GenAI."""
    with tracer.start_as_current_span("invoke_agent keeper") as agent:
        agent.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "keeper"})
        agent.set_attribute("gen_ai.conversation.id", "lamps-1")
        with tracer.start_as_current_span("execute_tool stock") as tool:
            tool.set_attributes({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "stock"})
            tool.set_attribute("gen_ai.tool.call.arguments", json.dumps(ARGUMENTS))
            tool.set_attribute("gen_ai.tool.call.result", json.dumps(RESULT))
        with tracer.start_as_current_span("chat m-1") as call:
            call.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1"})
            call.set_attributes({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 2})
            asked, said = (
                [{"role": role, "parts": [{"type": "text", "content": text}]}]
                for role, text in (("user", QUESTION), ("assistant", ANSWER))
            )
            call.set_attribute("gen_ai.input.messages", json.dumps(asked))
            call.set_attribute("gen_ai.output.messages", json.dumps(said))


def google_adk(tracer):
    adk = "gcp.vertex.agent."
    request = {"model": "m-1", "contents": [{"role": "user", "parts": [{"text": QUESTION}]}]}
    response = {
        "content": {"role": "model", "parts": [{"text": ANSWER}]},
        "usage_metadata": {"prompt_token_count": 10, "candidates_token_count": 2},
    }
    whole, inner = (tracer.start_as_current_span(name) for name in ("invocation", "invoke_agent keeper"))
    with whole, inner as agent:
        agent.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "keeper"})
        agent.set_attribute("gen_ai.conversation.id", "lamps-1")
        with tracer.start_as_current_span("execute_tool stock") as tool:
            tool.set_attributes({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "stock"})
            tool.set_attribute(adk + "tool_call_args", json.dumps(ARGUMENTS))
            tool.set_attribute(adk + "tool_response", json.dumps(RESULT))
        with tracer.start_as_current_span("call_llm") as call:
            call.set_attributes({"gen_ai.system": adk, "gen_ai.request.model": "m-1"})
            call.set_attribute(adk + "llm_request", json.dumps(request))
            call.set_attribute(adk + "llm_response", json.dumps(response))


def openinference(tracer):
    with tracer.start_as_current_span("keeper") as agent:
        agent.set_attributes({"openinference.span.kind": "AGENT", "session.id": "lamps-1"})
        agent.set_attributes({"agent.name": "keeper", "input.value": QUESTION, "output.value": ANSWER})
        with tracer.start_as_current_span("stock") as tool:
            tool.set_attributes({"openinference.span.kind": "TOOL", "tool.name": "stock"})
            tool.set_attribute("input.value", json.dumps(ARGUMENTS))
            tool.set_attribute("output.value", json.dumps(RESULT))
        with tracer.start_as_current_span("ChatModel") as call:
            call.set_attributes({"openinference.span.kind": "LLM", "llm.model_name": "m-1"})
            call.set_attributes({"llm.token_count.prompt": 10, "llm.token_count.completion": 2})
            for side, role, text in (("input", "user", QUESTION), ("output", "assistant", ANSWER)):
                call.set_attribute(f"llm.{side}_messages.0.message.role", role)
                call.set_attribute(f"llm.{side}_messages.0.message.content", text)


def openllmetry(tracer):
    session = {"traceloop.association.properties.session_id": "lamps-1"}
    with tracer.start_as_current_span("keeper.agent") as agent:
        agent.set_attributes({"traceloop.span.kind": "agent", "traceloop.entity.name": "keeper", **session})
        with tracer.start_as_current_span("stock.tool") as tool:
            tool.set_attributes({"traceloop.span.kind": "tool", "traceloop.entity.name": "stock", **session})
            tool.set_attribute("traceloop.entity.input", json.dumps(ARGUMENTS))
            tool.set_attribute("traceloop.entity.output", json.dumps(RESULT))
        with tracer.start_as_current_span("openai.chat") as call:
            call.set_attributes({"llm.request.type": "chat", "gen_ai.request.model": "m-1", **session})
            call.set_attributes({"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": QUESTION})
            call.set_attributes(
                {"gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": ANSWER}
            )
            call.set_attributes({"gen_ai.usage.prompt_tokens": 10, "gen_ai.usage.completion_tokens": 2})


def failure(tracer):
    """An agent that broke, with its exception."""
    with tracer.start_as_current_span("invoke_agent keeper") as agent:
        agent.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "keeper"})
        agent.record_exception(ValueError("no lamp"))
        agent.set_status(Status(StatusCode.ERROR, "no lamp"))


SAMPLES = (conventions, google_adk, openinference, openllmetry, failure)


def main(kind, name):
    provider = TracerProvider(resource=Resource.create({"service.name": "lamps"}))
    exporter = ProtobufExporter() if kind == "protobuf" else JsonExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    {sample.__name__: sample for sample in SAMPLES}[name](provider.get_tracer("sample"))
    assert provider.force_flush()
    provider.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
