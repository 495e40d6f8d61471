"""The dialects: the same short conversation, told in each."""

import json

import pytest

from runs.traces import group_turns, read_traces
from tests.traces.spans import (
    agent,
    any_value,
    attributes,
    chat,
    event,
    export,
    jaeger,
    jaeger_span,
    log,
    span,
    tool,
)
from tests.traces.told import ANSWER, QUESTION, only_turn, tells_all


def test_messages_in_attributes():
    asked = [{"role": "user", "parts": [{"type": "text", "content": QUESTION}]}]
    called = {"type": "tool_call", "id": "c1", "name": "stock", "arguments": {"kind": "all"}}
    said = [{"role": "assistant", "parts": [called, {"type": "text", "content": ANSWER}]}]
    assert tells_all(only_turn(export(chat(1, asked=asked, said=said))))


def test_messages_in_structured_attributes():
    raw = chat(1)
    messages = [{"role": "user", "parts": [{"type": "text", "content": QUESTION}]}]
    raw["attributes"] += attributes({"gen_ai.input.messages": messages})
    assert only_turn(export(raw)).user_text == QUESTION


def test_openai_messages_in_attributes():
    function = {"name": "stock", "arguments": '{"kind": "all"}'}
    said = [{"role": "assistant", "content": ANSWER, "tool_calls": [{"id": "c1", "function": function}]}]
    turn = only_turn(export(chat(1, asked=[{"role": "user", "content": QUESTION}], said=said)))
    assert tells_all(turn)


def test_numbered_attributes():
    raw = {
        "gen_ai.system": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": "You keep a shop.",
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": QUESTION,
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": ANSWER,
        "gen_ai.completion.0.tool_calls.0.id": "c1",
        "gen_ai.completion.0.tool_calls.0.name": "stock",
        "gen_ai.completion.0.tool_calls.0.arguments": '{"kind": "all"}',
        "gen_ai.usage.prompt_tokens": 5,
        "gen_ai.usage.completion_tokens": 6,
    }
    turn = only_turn(export(span(1, attributes=raw)))
    assert tells_all(turn)
    assert (turn.input_tokens, turn.output_tokens) == (5, 6)


def test_model_and_provider_alone_are_no_model_call():
    stamped = {"gen_ai.system": "openai", "gen_ai.request.model": "m"}
    (group,) = group_turns(read_traces(export(span(1, attributes=stamped))))
    assert group.turns == []


def test_events_on_the_span():
    function = {"function": {"name": "stock", "arguments": '{"kind": "all"}'}, "id": "c1"}
    raw = chat(1)
    raw["events"] = [
        event("gen_ai.user.message", content=QUESTION),
        event("gen_ai.choice", message={"content": ANSWER, "tool_calls": [function]}),
    ]
    assert tells_all(only_turn(export(raw)))


def test_log_records_of_the_span():
    function = {"function": {"name": "stock", "arguments": '{"kind": "all"}'}, "id": "c1"}
    logs = [
        log("gen_ai.user.message", {"content": QUESTION}, 1),
        log("gen_ai.choice", {"message": {"content": ANSWER, "tool_calls": [function]}}, 1),
    ]
    assert tells_all(only_turn(export(chat(1), resourceLogs=logs)))


def test_log_records_without_a_span_go_to_the_only_model_call():
    logs = [log("gen_ai.user.message", {"content": QUESTION})]
    assert only_turn(export(chat(1), resourceLogs=logs)).user_text == QUESTION
    assert only_turn(export(agent(1), chat(2, 1), chat(3, 1), resourceLogs=logs)).user_text == ""


def test_the_details_event():
    messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": QUESTION}]}])
    name = "gen_ai.client.inference.operation.details"
    raw = chat(1, events=[event(name, **{"gen_ai.input.messages": messages})])
    assert only_turn(export(raw)).user_text == QUESTION


def test_a_log_record_may_name_its_event_in_an_attribute():
    block = log("", {"content": QUESTION}, 1)
    block["scopeLogs"][0]["logRecords"][0]["attributes"] = attributes({"event.name": "gen_ai.user.message"})
    assert only_turn(export(chat(1), resourceLogs=[block])).user_text == QUESTION


def adk_spans(build):
    request = {"model": "m", "contents": [{"role": "user", "parts": [{"text": QUESTION}]}]}
    first = {
        "content": {"role": "model", "parts": [{"function_call": {"name": "stock", "args": {"kind": "all"}}}]}
    }
    last = {
        "content": {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": ANSWER}]},
        "usage_metadata": {"prompt_token_count": 7, "candidates_token_count": 2},
    }
    adk = "gcp.vertex.agent."
    return [
        build(1, None, "invocation", {adk + "invocation_id": "e-1"}),
        build(
            2,
            1,
            "call_llm",
            {adk + "llm_request": json.dumps(request), adk + "llm_response": json.dumps(first)},
        ),
        build(
            3,
            1,
            "execute_tool stock",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "stock",
                adk + "tool_call_args": '{"kind": "all"}',
                adk + "tool_response": '{"lamps": 3}',
            },
        ),
        build(
            4,
            1,
            "call_llm",
            {adk + "llm_request": json.dumps(request), adk + "llm_response": json.dumps(last)},
        ),
    ]


def test_google_adk_in_otlp():
    def build(number, parent, name, values):
        return span(number, parent, name=name, attributes=values)

    turn = only_turn(export(*adk_spans(build)))
    assert tells_all(turn)
    assert turn.tool_responses[0].response == {"lamps": 3}
    assert (turn.llm_calls, turn.input_tokens, turn.output_tokens) == (2, 7, 2)


def test_google_adk_in_jaeger():
    def build(number, parent, name, values):
        return {**jaeger_span(number, parent, **values), "operationName": name}

    assert tells_all(only_turn(jaeger(*adk_spans(build))))


def test_adks_summary_of_parallel_tools_is_no_tool():
    merged = tool(3, 1, name="(merged tools)")
    turn = only_turn(export(agent(1), tool(2, 1, name="stock"), merged))
    assert [call.name for call in turn.tool_calls] == ["stock"]


@pytest.mark.parametrize("placeholder", ["<REDACTED>", "<elided>", "  "])
def test_placeholders_are_nothing_said(placeholder):
    messages = [{"role": "user", "parts": [{"type": "text", "content": placeholder}]}]
    assert only_turn(export(chat(1, asked=messages))).user_text == ""


def test_the_first_source_that_says_anything_is_believed():
    asked = [{"role": "user", "parts": [{"type": "text", "content": QUESTION}]}]
    raw = chat(1, asked=asked, events=[event("gen_ai.user.message", content="something else")])
    assert only_turn(export(raw)).user_text == QUESTION


def test_cache_tokens_are_counted():
    raw = {
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "gen_ai.usage.cache_creation.input_tokens": 3,
    }
    turn = only_turn(export(chat(1, attributes=raw)))
    assert (turn.cache_read_tokens, turn.cache_write_tokens) == (5, 3)


def test_an_attribute_value_of_no_known_type_is_left_out():
    raw = span(1)
    raw["attributes"] = [{"key": "a", "value": {"strangeValue": 1}}, {"key": "b", "value": any_value("kept")}]
    (found,) = read_traces(export(raw))[0].spans.values()
    assert found.attributes == {"b": "kept"}
