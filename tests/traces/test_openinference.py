"""OpenInference, in the ways in which its instrumentors differ."""

import json

from runs.traces import group_turns, read_traces
from tests.traces.spans import TRACE_ID, export, jaeger, jaeger_span, span
from tests.traces.told import ANSWER, QUESTION, RESULT, only_turn, results, tells_all


def oi(kind: str, number: int, parent: int | None = None, name: str = "step", **values):
    said = {"openinference.span.kind": kind, **{key.replace("__", "."): v for key, v in values.items()}}
    return span(number, parent, name=name, attributes=said)


def llm(number: int, parent: int | None = None, asked=(), said=(), **values):
    """A model call; `asked` and `said` are objects of what stands under `message.`"""
    for side, messages in (("input", asked), ("output", said)):
        for index, message in enumerate(messages):
            for key, value in message.items():
                values[f"llm.{side}_messages.{index}.message.{key}"] = value
    values = {"llm.model_name": "m-1", "llm.token_count.prompt": 10, "llm.token_count.completion": 2} | values
    return oi("LLM", number, parent, **values)


USER = {"role": "user", "content": QUESTION}
CALL = {
    "role": "assistant",
    "tool_calls.0.tool_call.id": "c1",
    "tool_calls.0.tool_call.function.name": "stock",
    "tool_calls.0.tool_call.function.arguments": '{"kind": "all"}',
}
ANSWERED = {"role": "tool", "tool_call_id": "c1", "content": json.dumps(RESULT)}
FINAL = {"role": "assistant", "content": ANSWER}


def test_a_client_alone_tells_the_tools_in_its_messages():
    turn = only_turn(
        export(
            span(1),
            llm(2, 1, [{"role": "system", "content": "Keep shop."}, USER], [CALL]),
            llm(3, 1, [USER, CALL, ANSWERED], [FINAL]),
        )
    )
    assert tells_all(turn)
    assert (results(turn), turn.tool_calls[0].id) == ([RESULT], "c1")
    assert (turn.models, turn.input_tokens, turn.output_tokens, turn.llm_calls) == (["m-1"], 20, 4, 2)
    assert turn.steps[0].text == "Keep shop."


def test_jaegers_tags_tell_the_same():
    said = {
        "openinference.span.kind": "LLM",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": QUESTION,
        "llm.output_messages.0.message.content": ANSWER,
        "llm.token_count.prompt": "7",
    }
    turn = only_turn(jaeger(jaeger_span(1, **said)))
    assert (turn.user_text, turn.final_text, turn.input_tokens) == (QUESTION, ANSWER, 7)


def test_lists_may_come_in_one_value():
    said = [{"message": {"role": "assistant", "content": ANSWER}}]
    turn = only_turn(export(oi("LLM", 1, **{"llm.output_messages": json.dumps(said)})))
    assert turn.final_text == ANSWER


def test_a_text_told_as_content_and_as_contents_is_said_once():
    both = {
        "role": "assistant",
        "content": ANSWER,
        "contents.0.message_content.type": "text",
        "contents.0.message_content.text": ANSWER,
    }
    assert only_turn(export(llm(1, said=[both]))).final_text == ANSWER


def test_reasoning_and_images_are_not_said():
    pieces = {
        "role": "assistant",
        "contents.0.message_content.type": "reasoning",
        "contents.0.message_content.text": "hm",
        "contents.1.message_content.type": "text",
        "contents.1.message_content.text": ANSWER,
    }
    assert only_turn(export(llm(1, said=[pieces]))).final_text == ANSWER


def test_a_call_among_anthropics_contents_and_beside_them_is_one_call():
    block = {
        "contents.0.message_content.type": "tool_use",
        "contents.0.tool_call.id": "c1",
        "contents.0.tool_call.function.name": "stock",
        "contents.0.tool_call.function.arguments": '{"kind": "all"}',
    }
    assert len(only_turn(export(llm(1, said=[CALL | block]))).tool_calls) == 1


def test_cache_tokens_are_counted():
    more = {"llm.token_count.prompt_details.cache_read": 4, "llm.token_count.prompt_details.cache_write": 3}
    turn = only_turn(export(llm(1, **more)))
    assert (turn.cache_read_tokens, turn.cache_write_tokens) == (4, 3)


def test_an_agents_sum_of_tokens_does_not_count_twice():
    agent = oi("AGENT", 1, **{"llm.token_count.prompt": 99, "llm.token_count.completion": 9})
    turn = only_turn(export(agent, llm(2, 1)))
    assert (turn.input_tokens, turn.output_tokens) == (10, 2)


def test_an_agents_sum_counts_when_no_call_reports_tokens():
    agent = oi("AGENT", 1, **{"llm.token_count.prompt": 99, "llm.token_count.completion": 9})
    turn = only_turn(export(agent, oi("LLM", 2, 1)))
    assert (turn.input_tokens, turn.output_tokens) == (99, 9)


def test_a_framework_and_its_client_tell_of_one_call():
    turn = only_turn(export(oi("AGENT", 1), llm(2, 1, [USER]), llm(3, 2, [USER])))
    assert (turn.llm_calls, turn.input_tokens) == (1, 10)


def langgraph(root_kind: str):
    """As LangGraph's instrumentor writes: nodes named agent are agents, the state is in input.value."""
    history = [
        {"type": "human", "data": {"content": "Hello"}},
        {"type": "ai", "data": {"content": "Hi."}},
        {"type": "human", "data": {"content": QUESTION}},
    ]
    message = {"content": json.dumps(RESULT), "tool_call_id": "c1", "name": "stock", "status": "success"}
    state = {
        "input.value": json.dumps({"messages": history}),
        "output.value": json.dumps({"messages": [*history, {"type": "ai", "data": {"content": ANSWER}}]}),
        "llm.input_messages.0.message.role": "user",  # the first of the state, not the question
        "llm.input_messages.0.message.content": "Hello",
    }
    return export(
        oi(root_kind, 1, name="shop_graph", **state),
        oi("AGENT", 2, 1, "agent"),
        llm(3, 2, [USER], [CALL]),
        oi("CHAIN", 4, 1, "tools"),
        oi(
            "TOOL",
            5,
            4,
            **{
                "tool.name": "stock",
                "input.value": "all",
                "output.value": json.dumps({"type": "tool", "data": message}),
            },
        ),
        oi("AGENT", 6, 1, "agent"),
        llm(7, 6, [USER, CALL, ANSWERED], [FINAL]),
    )


def test_a_graph_is_one_turn_though_its_nodes_are_agents():
    for kind in ("CHAIN", "AGENT"):
        turn = only_turn(langgraph(kind))
        assert tells_all(turn)
        assert (results(turn), turn.llm_calls, turn.tool_calls[0].id) == ([RESULT], 2, "c1")


def test_an_agent_without_a_name_is_named_by_its_span():
    assert only_turn(langgraph("AGENT")).agent_name == "shop_graph"


def test_a_frame_around_a_named_agent_does_not_name_it():
    frame = oi("AGENT", 1, name="Whole workflow")
    inner = oi("AGENT", 2, 1, name="shop", **{"agent.name": "shopkeeper"})
    assert only_turn(export(frame, inner, llm(3, 2, [USER], [FINAL]))).agent_name == "shopkeeper"


def test_a_chain_is_heard_where_the_model_calls_say_nothing():
    root = oi("CHAIN", 1, **{"input.value": QUESTION, "output.value": ANSWER})
    turn = only_turn(export(root, oi("LLM", 2, 1)))
    assert (turn.user_text, turn.final_text) == (QUESTION, ANSWER)


def test_a_models_own_messages_go_before_its_chains():
    root = oi("CHAIN", 1, **{"input.value": "stock", "output.value": "lamps=3"})
    turn = only_turn(export(root, llm(2, 1, [USER], [FINAL])))
    assert (turn.user_text, turn.final_text) == (QUESTION, ANSWER)


def one_tool(given: str, made: str = "3", **more):
    values = {"tool.name": "stock", "input.value": given, "output.value": made, **more}
    return only_turn(export(oi("AGENT", 1), oi("TOOL", 2, 1, **values)))


def test_arguments_are_found_in_every_frameworks_packing():
    packings = [
        '{"kind": "all"}',
        "{'kind': 'all'}",
        '{"args": [], "sanitize_inputs_outputs": true, "kwargs": {"kind": "all"}}',
    ]
    for packing in packings:
        assert one_tool(packing).tool_calls[0].args == {"kind": "all"}


def test_the_schema_of_a_tool_is_not_its_arguments():
    turn = one_tool('{"kind": "all"}', **{"tool.parameters": '{"type": "object", "properties": {}}'})
    assert turn.tool_calls[0].args == {"kind": "all"}


def test_a_bare_argument_without_a_model_call_is_kept():
    assert one_tool("all").tool_calls[0].args == {"value": "all"}


def test_results_come_out_of_their_packing():
    langchain = {
        "lc": 1,
        "id": ["langchain", "ToolMessage"],
        "kwargs": {"content": "ok", "tool_call_id": "c1"},
    }
    google = {"id": "c1", "name": "stock", "response": RESULT}
    assert results(one_tool("", json.dumps(langchain))) == [{"result": "ok"}]
    assert results(one_tool("", json.dumps(google))) == [RESULT]
    assert results(one_tool("", "plain text")) == [{"result": "plain text"}]


def test_a_result_that_tells_of_a_failure_is_marked():
    message = {"type": "tool", "data": {"content": "boom", "tool_call_id": "c1", "status": "error"}}
    assert one_tool("", json.dumps(message)).tool_responses[0].is_error


def test_parallel_tools_are_told_in_the_order_of_asking():
    two = {key.replace("calls.0", "calls.1"): value for key, value in CALL.items()}
    two["tool_calls.1.tool_call.id"] = "c2"
    two["tool_calls.1.tool_call.function.arguments"] = '{"kind": "old"}'
    tools = [
        oi("TOOL", number, 1, **{"tool.name": "stock", "tool_call.id": call_id, "input.value": "{}"})
        for number, call_id in ((3, "c2"), (4, "c1"))
    ]
    turn = only_turn(export(oi("AGENT", 1), llm(2, 1, [USER], [two | CALL]), *tools))
    assert [call.id for call in turn.tool_calls] == ["c1", "c2"]


def test_session_user_and_finish_are_told():
    values = {"session.id": "s-1", "user.id": "ann", "llm.finish_reason": "stop"}
    (group,) = group_turns(read_traces(export(llm(1, said=[FINAL], **values))), "conversation")
    assert (group.key, group.turns[0].user, group.turns[0].finish_reason) == ("s-1", "ann", "stop")


def test_hidden_content_is_nothing_said():
    turn = only_turn(export(llm(1, asked=[{"role": "user", "content": "__REDACTED__"}], said=[FINAL])))
    assert turn.user_text == ""


def test_other_kinds_are_no_turns():
    traces = read_traces(export(*(oi(kind, n) for n, kind in enumerate(("RETRIEVER", "EMBEDDING", "x"), 1))))
    assert traces[0].trace_id == TRACE_ID
    assert group_turns(traces)[0].turns == []
