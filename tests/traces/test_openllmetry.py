"""OpenLLMetry, from its oldest attributes to its spans of workflows and tools."""

import json

import pytest

from runs.traces import group_turns, read_traces
from tests.traces.spans import chat, export, log, span, tool
from tests.traces.told import ANSWER, QUESTION, RESULT, only_turn, results, tells_all


def entity(kind: str, number: int, parent: int | None = None, name: str = "x", given=None, made=None):
    said = {"traceloop.span.kind": kind, "traceloop.entity.name": name}
    said |= {"traceloop.entity.input": json.dumps(given)} if given is not None else {}
    said |= {"traceloop.entity.output": json.dumps(made)} if made is not None else {}
    return span(number, parent, attributes=said)


@pytest.mark.parametrize("prefix", ["gen_ai", "llm"])
def test_numbered_messages_of_either_age(prefix):
    prompt, completion = ("prompt", "completion") if prefix == "gen_ai" else ("prompts", "completions")
    said = {
        "llm.request.type": "chat",
        f"{prefix}.request.model": "m-1",
        f"{prefix}.{prompt}.0.role": "user",
        f"{prefix}.{prompt}.0.content": QUESTION,
        f"{prefix}.{completion}.0.content": ANSWER,
        f"{prefix}.{completion}.0.tool_calls.0.name": "stock",
        f"{prefix}.{completion}.0.tool_calls.0.arguments": '{"kind": "all"}',
        f"{prefix}.usage.prompt_tokens": 5,
        f"{prefix}.usage.completion_tokens": 6,
    }
    turn = only_turn(export(span(1, attributes=said)))
    assert tells_all(turn)
    assert (turn.models, turn.input_tokens, turn.output_tokens) == (["m-1"], 5, 6)


def test_content_recorded_as_the_json_of_its_blocks():
    said = {
        "llm.request.type": "chat",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": json.dumps([{"type": "text", "text": QUESTION}]),
        "gen_ai.completion.0.content": '["not", "blocks"]',
    }
    turn = only_turn(export(span(1, attributes=said)))
    assert (turn.user_text, turn.final_text) == (QUESTION, '["not", "blocks"]')


def test_the_older_names_of_cache_tokens():
    said = {
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.cache_read_input_tokens": 5,
        "gen_ai.usage.cache_creation_input_tokens": 3,
    }
    turn = only_turn(export(chat(1, attributes=said)))
    assert (turn.cache_read_tokens, turn.cache_write_tokens) == (5, 3)


def test_decorated_functions_make_one_turn():
    turn = only_turn(
        export(
            entity("workflow", 1),
            entity("agent", 2, 1, "shopkeeper"),
            entity("task", 3, 2),
            chat(4, 3, said=[{"role": "assistant", "content": ANSWER}]),
            entity("tool", 5, 2, "stock", {"args": [], "kwargs": {"kind": "all"}}, RESULT),
            entity("agent", 6, 1, "other"),
        )
    )
    assert (turn.agent_name, turn.final_text) == ("shopkeeper", ANSWER)
    assert [(call.name, call.args) for call in turn.tool_calls] == [("stock", {"kind": "all"})]
    assert results(turn) == [RESULT]


def test_a_workflow_is_heard_where_the_model_calls_say_nothing():
    given = {"inputs": {"messages": [["user", QUESTION]]}, "tags": [], "metadata": {}}
    made = {"outputs": {"messages": [{"type": "ai", "content": ANSWER}]}, "kwargs": {}}
    turn = only_turn(export(entity("workflow", 1, None, "graph", given, made), chat(2, 1)))
    assert (turn.user_text, turn.final_text) == (QUESTION, ANSWER)


PACKED = {"input_str": "{'kind': 'all'}", "inputs": {"kind": "all"}, "tags": [], "metadata": {}, "kwargs": {}}
PACKED_RESULT = {
    "output": {"lc": 1, "id": ["ToolMessage"], "kwargs": {"content": '{"lamps": 3}', "tool_call_id": "c1"}},
    "kwargs": {},
}


def test_langchains_packing_of_a_tool_is_taken_off():
    turn = only_turn(export(entity("agent", 1), entity("tool", 2, 1, "stock", PACKED, PACKED_RESULT)))
    assert turn.tool_calls[0].args == {"kind": "all"}
    assert (results(turn), turn.tool_calls[0].id) == ([RESULT], "c1")


def test_it_is_taken_off_the_conventions_attributes_as_well():
    said = {
        "gen_ai.tool.call.arguments": json.dumps(PACKED),
        "gen_ai.tool.call.result": json.dumps(PACKED_RESULT),
    }
    turn = only_turn(export(entity("agent", 1), tool(2, 1, attributes=said)))
    assert (turn.tool_calls[0].args, results(turn)) == ({"kind": "all"}, [RESULT])


def test_calls_beside_the_message_of_a_choice():
    function = {"id": "c1", "type": "function", "function": {"name": "stock", "arguments": '{"kind": "all"}'}}
    body = {"message": {"content": ""}, "tool_calls": [function], "finish_reason": "tool_calls"}
    turn = only_turn(export(chat(1), resourceLogs=[log("gen_ai.choice", body, 1)]))
    assert [(call.name, call.args) for call in turn.tool_calls] == [("stock", {"kind": "all"})]
    assert turn.finish_reason == "tool_calls"


def test_a_session_among_its_association_properties():
    said = {"traceloop.association.properties.session_id": "s-1"}
    (group,) = group_turns(read_traces(export(chat(1, attributes=said))), "conversation")
    assert group.key == "s-1"
