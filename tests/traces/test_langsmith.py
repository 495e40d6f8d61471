"""LangSmith's OpenTelemetry export of LangChain and LangGraph."""

import json

from runs.traces import group_turns, read_traces
from tests.traces.spans import export, span
from tests.traces.told import ANSWER, QUESTION, RESULT, only_turn, results, tells_all


def run(kind: str, number: int, parent: int | None = None, name: str = "x", given=None, made=None, **more):
    said = {
        "langsmith.span.kind": kind,
        "gen_ai.prompt": json.dumps(given),
        "gen_ai.completion": json.dumps(made),
    }
    return span(number, parent, name=name, attributes=said | more)


def constructed(name: str, **kwargs):
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", name], "kwargs": kwargs}


CALLS = [{"name": "stock", "args": {"kind": "all"}, "id": "c1", "type": "tool_call"}]


def generated(**kwargs):
    return {
        "generations": [
            [{"text": "", "type": "ChatGeneration", "message": constructed("AIMessage", **kwargs)}]
        ]
    }


def conversation():
    usage = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 2}
    cached = {"langsmith.metadata.usage_metadata": json.dumps({"input_token_details": {"cache_read": 4}})}
    asked = {
        "messages": [
            [constructed("SystemMessage", content="x"), constructed("HumanMessage", content=QUESTION)]
        ]
    }
    message = {"type": "tool", "content": json.dumps(RESULT), "tool_call_id": "c1"}
    return export(
        run("chain", 1, None, "graph", {"messages": [["user", QUESTION]]}, None, **usage),
        run("llm", 2, 1, "ChatModel", asked, generated(content="", tool_calls=CALLS), **usage, **cached),
        run("tool", 3, 1, "stock", {"input": "{'kind': 'all'}"}, {"output": message}),
        run("llm", 4, 1, "ChatModel", asked, generated(content=ANSWER), **usage),
    )


def test_a_graph_is_one_turn():
    turn = only_turn(conversation())
    assert tells_all(turn)
    assert (results(turn), turn.tool_calls[0].id) == ([RESULT], "c1")


def test_a_chains_sum_of_tokens_does_not_count():
    turn = only_turn(conversation())
    assert (turn.input_tokens, turn.output_tokens, turn.cache_read_tokens) == (20, 4, 4)


def test_prompt_and_completion_may_be_texts():
    said = {"gen_ai.operation.name": "chat", "gen_ai.prompt": QUESTION, "gen_ai.completion": ANSWER}
    turn = only_turn(export(span(1, attributes=said)))
    assert (turn.user_text, turn.final_text) == (QUESTION, ANSWER)


def test_a_thread_is_a_session():
    traces = read_traces(export(run("llm", 1, **{"langsmith.metadata.thread_id": "t-1"})))
    assert group_turns(traces, "conversation")[0].key == "t-1"
