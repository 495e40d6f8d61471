"""Building small OTLP and Jaeger documents, so that a test shows only what it is about."""

import json
from typing import Any

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SECOND = 1_000_000_000


def export(*spans: dict[str, Any], resource: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """An OTLP export; `more` goes beside resourceSpans."""
    block = {"resource": {"attributes": attributes(resource or {})}, "scopeSpans": [{"spans": list(spans)}]}
    return {"resourceSpans": [block], **more}


def span(number: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    """A span whose id is `number` and that lasts from second `number` to the next.

    `attributes` may be an object; every other keyword replaces the field of that name.
    """
    raw = {
        "traceId": TRACE_ID,
        "spanId": f"{number:016x}",
        "name": "step",
        "startTimeUnixNano": str(number * SECOND),
        "endTimeUnixNano": str((number + 1) * SECOND),
        **more,
    }
    if parent is not None:
        raw["parentSpanId"] = f"{parent:016x}"
    raw["attributes"] = attributes(more.get("attributes", {}))
    return raw


def agent(number: int = 1, parent: int | None = None, name: str = "helper", **more: Any) -> dict[str, Any]:
    more["attributes"] = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": name,
        **more.get("attributes", {}),
    }
    return span(number, parent, **more)


def chat(
    number: int, parent: int | None = None, *, asked: Any = None, said: Any = None, **more: Any
) -> dict[str, Any]:
    """A model call: `asked` and `said` are messages (see `user`, `assistant`, `call`, `answer_of`)."""
    found = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "model-1"}
    if asked is not None:
        found["gen_ai.input.messages"] = json.dumps(asked)
    if said is not None:
        found["gen_ai.output.messages"] = json.dumps(said)
    more["attributes"] = found | more.get("attributes", {})
    return span(number, parent, **more)


def tool(number: int, parent: int | None = None, name: str = "look_up", **more: Any) -> dict[str, Any]:
    more["attributes"] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        **more.get("attributes", {}),
    }
    return span(number, parent, **more)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "text", "content": text}]}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "parts": [{"type": "text", "content": text}]}


def call(name: str, arguments: Any = None, call_id: str | None = None) -> dict[str, Any]:
    part = {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}
    return {"role": "assistant", "parts": [part]}


def answer_of(response: Any, call_id: str | None = None) -> dict[str, Any]:
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": call_id, "response": response}]}


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": any_value(value)} for key, value in values.items()]


def any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": attributes(value)}}
    return {"stringValue": value}


def log(name: str, body: Any, span_number: int | None = None) -> dict[str, Any]:
    """A `resourceLogs` block with one record."""
    record = {"traceId": TRACE_ID, "timeUnixNano": "5", "eventName": name, "body": any_value(body)}
    if span_number is not None:
        record["spanId"] = f"{span_number:016x}"
    return {"scopeLogs": [{"logRecords": [record]}]}


def event(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "timeUnixNano": "5", "attributes": attributes(values)}


def jaeger(*spans: dict[str, Any], **process_tags: Any) -> dict[str, Any]:
    process = {"serviceName": "shop", "tags": [{"key": k, "value": v} for k, v in process_tags.items()]}
    return {"data": [{"traceID": TRACE_ID, "spans": list(spans), "processes": {"p1": process}}]}


def jaeger_span(number: int, parent: int | None = None, **tags: Any) -> dict[str, Any]:
    parents = [{"refType": "CHILD_OF", "spanID": f"{parent:016x}"}] if parent is not None else []
    return {
        "traceID": TRACE_ID,
        "spanID": f"{number:016x}",
        "operationName": "step",
        "references": parents,
        "startTime": number * 1_000_000,
        "duration": 500_000,
        "processID": "p1",
        "tags": [{"key": key, "type": "string", "value": value} for key, value in tags.items()],
    }
