"""Documents made to break us (RELIABILITY I2, I3, I6): never anything but turns or a TraceError."""

import copy
import json
import random
import time
from pathlib import Path

import pytest

from runs.traces import TraceError, group_turns, read_traces
from tests.traces.spans import agent, assistant, call, chat, export, span, tool, user

SAMPLE = json.loads((Path(__file__).parents[2] / "samples" / "trace.json").read_text())


def nested(depth: int, wrap) -> object:
    value: object = "end"
    for _ in range(depth):
        value = wrap(value)
    return value


HOSTILE = [
    *(None, True, False, 0, -1, 1e308, 2**64, 10**400, "", "\0", "\ud800", "__proto__", "x" * 400, [], {}),
    *(
        [None],
        {"a": 1},
        "[" * 100_000,
        "NaN",
        "[1e400]",
        "null",
        "9" * 5000,
        "0" * 32,
        "chat",
        "invoke_agent",
    ),
    *({"stringValue": 5}, {"intValue": "x"}, {"doubleValue": "NaN"}, {"bytesValue": 5}, {"arrayValue": 5}),
    *({"kvlistValue": [1]}, nested(900, lambda v: [v]), nested(900, lambda v: {"a": v})),
    nested(300, lambda v: {"arrayValue": {"values": [v]}}),
]


def survive(document: object, trace_format: str | None = None) -> None:
    try:
        groups = group_turns(read_traces(document, trace_format), "conversation")
    except TraceError:
        return
    told = [(turn.tool_calls, turn.tool_responses, turn.steps) for group in groups for turn in group.turns]
    json.dumps(told, allow_nan=False, default=lambda value: getattr(value, "args", None) or str(type(value)))


def places(document: object) -> list[tuple]:
    found, todo = [], [document]
    while todo:
        value = todo.pop()
        entries = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, item in entries:
            found.append((value, key))
            todo.append(item)
    return found


@pytest.mark.parametrize("seed", range(300))
def test_wrong_values_anywhere_are_survived(seed):
    chance = random.Random(seed)
    document = copy.deepcopy(SAMPLE)
    for container, key in chance.sample(places(document), chance.choice([1, 3, 40])):
        container[key] = chance.choice(HOSTILE)
    survive(document)


@pytest.mark.parametrize("trace_format", [None, "jaeger-json", "otlp-json"])
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_wrong_documents_are_survived(number, trace_format):
    for key in ("resourceSpans", "data", "batches", "resourceLogs", "trace"):
        survive({key: HOSTILE[number]}, trace_format)
        survive({key: [HOSTILE[number]]}, trace_format)
    survive(HOSTILE[number], trace_format)


def test_names_with_a_meaning_elsewhere_are_just_names():
    said = {"gen_ai.tool.call.arguments": '{"__proto__": {"x": 1}, "constructor": 2}', "__proto__": "y"}
    (group,) = group_turns(read_traces(export(agent(1), tool(2, 1, name="__proto__", attributes=said))))
    assert group.turns[0].tool_calls[0].args == {"__proto__": {"x": 1}, "constructor": 2}


def test_nul_and_lone_surrogates_come_through():
    (group,) = group_turns(read_traces(export(chat(1, asked=[user("a\0b\ud800c")]))))
    assert group.turns[0].user_text == "a\0b\ud800c"


def chain(number: int):
    return span(number, number - 1 or None)


def circle(number: int):
    return chat(number, number - 1 or 10_000)


def nested_tools(number: int):
    return tool(number, number - 1 or None)


def nested_chats(number: int):
    return chat(number, number - 1 or None)


def calls_without_spans(number: int):
    return chat(number, said=[call("t", {}, f"c{number}")])


def many_turns(number: int):
    return agent(number, attributes={"gen_ai.output.messages": json.dumps([assistant("x")])})


@pytest.mark.parametrize(
    "build",
    [chain, circle, nested_tools, nested_chats, calls_without_spans, many_turns],
    ids=lambda f: f.__name__,
)
def test_ten_thousand_spans_take_seconds_not_minutes(build):
    document = export(*(build(number) for number in range(1, 10_001)))
    started = time.monotonic()
    group_turns(read_traces(document))
    assert time.monotonic() - started < 20
