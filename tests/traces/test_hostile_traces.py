"""Documents made to break us (RELIABILITY I2, I3, I6): never anything but turns or a TraceError."""

import copy
import json
import random
import time
from pathlib import Path

import pytest

from runs.traces import TraceError, group_turns, read_traces
from tests.traces import test_ai_sdk, test_langsmith, test_openinference, test_pydantic_ai
from tests.traces.spans import agent, answer_of, assistant, call, chat, export, log, span, tool, user

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


DIALECTS = {
    "ai_sdk": test_ai_sdk.conversation("args", test_ai_sdk.OLD),
    "langsmith": test_langsmith.conversation(),
    "openinference": test_openinference.langgraph("CHAIN"),
    "pydantic_ai": test_pydantic_ai.run(all_messages_events=json.dumps(test_pydantic_ai.EVENTS)),
    "logs": {"resourceLogs": [log("gen_ai.choice", {"message": {"content": "x", "tool_calls": [{}]}}, 1)]},
}


def spoil(text: str, chance: random.Random) -> str:
    """The JSON text with one wrong value in it; other texts are cut short."""
    try:
        inner = json.loads(text)
        container, key = chance.choice(places(inner))
    except (ValueError, IndexError):
        return text[: len(text) // 2]
    container[key] = chance.choice(HOSTILE)
    return json.dumps(inner)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("seed", range(40))
def test_wrong_values_in_any_dialect_are_survived(dialect, seed):
    chance = random.Random(seed)
    document = copy.deepcopy(DIALECTS[dialect])
    for container, key in chance.sample(places(document), chance.choice([1, 3, 20])):
        value = container[key]
        inside = isinstance(value, str) and chance.random() < 0.7
        container[key] = spoil(value, chance) if inside else chance.choice(HOSTILE)
    survive(document)


LISTS = ("llm.input_messages", "llm.output_messages", "gen_ai.prompt", "gen_ai.completion", "llm.prompts")


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("index", ["999999999", "9" * 400, "-1", "1e9", "\u0664", "0.0.0", "", "."])
def test_a_strange_index_costs_nothing(name, index):
    said = {
        "openinference.span.kind": "LLM",
        f"{name}.{index}.message.content": "x",
        f"{name}.{index}.content": 1,
    }
    document = export(span(1, attributes=said))
    started = time.monotonic()
    survive(document)
    assert time.monotonic() - started < 1


PAYLOADS = [
    "{'a': " * 50_000,
    "{" + "'a': 1, " * 100_000 + "}",
    "[" + "-" * 9000 + "1]",
    json.dumps(nested(60, lambda value: {"output": value})),
    json.dumps(nested(60, lambda value: {"messages": [value]})),
    json.dumps({"messages": [{"role": "user", "content": "x"}] * 20_000}),
]


@pytest.mark.parametrize("number", range(len(PAYLOADS)))
@pytest.mark.parametrize("kind", ["LLM", "AGENT", "CHAIN", "TOOL"])
def test_payloads_without_end_are_survived(kind, number):
    said = {"input.value": PAYLOADS[number], "output.value": PAYLOADS[number]}
    started = time.monotonic()
    survive(export(span(1, attributes={"openinference.span.kind": kind, **said})))
    assert time.monotonic() - started < 5


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


def nested_chains(number: int):
    kind = "AGENT" if number % 2 else "CHAIN"
    return span(number, number - 1 or None, attributes={"openinference.span.kind": kind})


def side_by_side(number: int):
    said = {"openinference.span.kind": "TOOL", "tool.name": "t", "input.value": '{"a": 1}'}
    return (
        chat(number, said=[call("t", {"a": 1})]) if number % 2 else span(number, number - 1, attributes=said)
    )


def same_answers(number: int):
    return chat(number, 10_000, asked=[answer_of("same", "c1")], said=[call("t", {}, "c1")])


@pytest.mark.parametrize(
    "build",
    [
        chain,
        circle,
        nested_tools,
        nested_chats,
        calls_without_spans,
        many_turns,
        nested_chains,
        side_by_side,
        same_answers,
    ],
    ids=lambda f: f.__name__,
)
def test_ten_thousand_spans_take_seconds_not_minutes(build):
    document = export(*(build(number) for number in range(1, 10_001)))
    started = time.monotonic()
    group_turns(read_traces(document))
    assert time.monotonic() - started < 20
