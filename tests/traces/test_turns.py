"""group_turns: what is a turn, and what is in it."""

import json

import pytest

from runs.traces import Turn, group_turns, read_traces
from tests.traces.spans import SECOND, agent, answer_of, assistant, call, chat, export, span, tool, user


def turns_of(*spans, **more) -> list[Turn]:
    (group,) = group_turns(read_traces(export(*spans, **more)))
    return group.turns


def test_an_agent_span_is_a_turn():
    (turn,) = turns_of(
        agent(1),
        chat(2, 1, asked=[user("Where is it?")], said=[call("look_up", {"id": 7}, "c1")]),
        tool(3, 1, attributes={"gen_ai.tool.call.id": "c1", "gen_ai.tool.call.arguments": '{"id": 7}'}),
        chat(
            4, 1, asked=[user("Where is it?"), answer_of({"shelf": 3}, "c1")], said=[assistant("On shelf 3.")]
        ),
    )
    assert (turn.user_text, turn.final_text) == ("Where is it?", "On shelf 3.")
    assert [(c.name, c.args, c.id) for c in turn.tool_calls] == [("look_up", {"id": 7}, "c1")]
    assert [(r.name, r.response, r.is_error) for r in turn.tool_responses] == [
        ("look_up", {"shelf": 3}, False)
    ]
    assert (turn.agent_name, turn.models, turn.llm_calls, turn.error) == ("helper", ["model-1"], 2, None)
    assert turn.invocation_id == turn.span_id == f"{1:016x}"
    assert turn.duration_ms == 4000.0


def test_each_outermost_agent_is_a_turn_of_its_own():
    turns = turns_of(
        span(1),
        agent(2, 1),
        chat(3, 2, asked=[user("one")]),
        agent(4, 1),
        chat(5, 4, asked=[user("two")]),
    )
    assert [turn.user_text for turn in turns] == ["one", "two"]


def test_an_agent_inside_an_agent_belongs_to_its_turn():
    (turn,) = turns_of(agent(1), agent(2, 1, name="inner"), chat(3, 2, said=[assistant("done")]))
    assert turn.agent_name == "helper"
    assert turn.final_text == "done"


def test_model_calls_without_an_agent_are_a_turn_of_their_root():
    (turn,) = turns_of(span(1, name="POST /ask"), chat(2, 1, asked=[user("hi")], said=[assistant("hello")]))
    assert (turn.span_id, turn.user_text, turn.final_text) == (f"{1:016x}", "hi", "hello")


def test_an_agent_that_did_nothing_is_no_turn_unless_it_failed():
    assert turns_of(agent(1)) == []
    (turn,) = turns_of(agent(1, status={"code": 2, "message": "out of memory"}))
    assert turn.error == "out of memory"


def test_a_trace_of_something_else_has_no_turns():
    assert turns_of(span(1), span(2, 1, attributes={"http.request.method": "GET"})) == []


def test_what_a_delegate_under_a_tool_says_is_not_the_answer_but_counts():
    tokens = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1}
    (turn,) = turns_of(
        agent(1),
        chat(2, 1, said=[assistant("the answer")], attributes=tokens),
        tool(3, 1, name="ask_expert"),
        agent(4, 3, name="expert"),
        chat(5, 4, said=[assistant("the expert's view")], attributes=tokens),
    )
    assert turn.final_text == "the answer"
    assert (turn.input_tokens, turn.output_tokens, turn.llm_calls) == (20, 2, 2)


def test_a_wrapper_around_a_model_call_is_the_same_call():
    tokens = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1}
    (turn,) = turns_of(agent(1), chat(2, 1, attributes=tokens), span(3, 2), chat(4, 3, attributes=tokens))
    assert (turn.llm_calls, turn.input_tokens) == (1, 10)


def test_a_wrapper_around_two_model_calls_is_none():
    (turn,) = turns_of(agent(1), chat(2, 1), chat(3, 2), chat(4, 2))
    assert turn.llm_calls == 2


def test_nested_spans_of_one_tool_are_one_call():
    (turn,) = turns_of(
        agent(1),
        tool(2, 1),
        tool(3, 2, attributes={"gen_ai.tool.call.arguments": '{"from": "inside"}'}),
        tool(4, 3, name="other_tool"),
    )
    assert [(c.name, c.args) for c in turn.tool_calls] == [
        ("look_up", {"from": "inside"}),
        ("other_tool", {}),
    ]


def test_tools_known_from_messages_alone_are_put_where_they_were_asked_for():
    (turn,) = turns_of(
        agent(1),
        chat(2, 1, said=[call("first"), call("look_up"), call("last")]),
        tool(3, 1),
    )
    assert [c.name for c in turn.tool_calls] == ["first", "look_up", "last"]


def test_a_result_with_an_unknown_id_answers_the_next_call_in_order():
    (turn,) = turns_of(
        agent(1),
        chat(2, 1, said=[call("a", call_id="x1"), call("b", call_id="x2")]),
        chat(3, 1, asked=[answer_of("for a", "y1"), answer_of("for b", "y2")], said=[assistant("ok")]),
    )
    assert [(r.name, r.response) for r in turn.tool_responses] == [
        ("a", {"result": "for a"}),
        ("b", {"result": "for b"}),
    ]


def test_a_result_that_was_there_before_does_not_answer_a_later_call():
    (turn,) = turns_of(agent(1), chat(2, 1, asked=[answer_of("old")], said=[call("a")]))
    assert turn.tool_responses == []


def test_the_question_is_the_last_thing_the_user_said():
    history = [user("hello"), assistant("hi"), user("part one. "), user("part two."), answer_of("x")]
    (turn,) = turns_of(chat(1, asked=history))
    assert turn.user_text == "part one. part two."


def test_the_agents_own_messages_go_before_those_of_its_calls():
    said = {
        "gen_ai.input.messages": json.dumps([user("asked")]),
        "gen_ai.output.messages": json.dumps([assistant("answered")]),
    }
    (turn,) = turns_of(agent(1, attributes=said), chat(2, 1, asked=[user("x")], said=[assistant("y")]))
    assert (turn.user_text, turn.final_text) == ("asked", "answered")


def test_a_tool_without_a_name_takes_it_from_its_span():
    raw = span(2, 1, name="execute_tool fetch", attributes={"gen_ai.operation.name": "execute_tool"})
    (turn,) = turns_of(agent(1), raw)
    assert turn.tool_calls[0].name == "fetch"


def test_a_failed_tool_is_marked():
    failed = {"gen_ai.tool.call.result": '{"ok": false}', "error.type": "timeout"}
    (turn,) = turns_of(agent(1), tool(2, 1, attributes=failed))
    assert turn.tool_responses[0].is_error
    assert turn.error is None


def test_arguments_that_are_no_object_sit_under_a_key():
    raw = {"gen_ai.tool.call.arguments": "[1, 2]", "gen_ai.tool.call.result": "plain text"}
    (turn,) = turns_of(agent(1), tool(2, 1, attributes=raw))
    assert turn.tool_calls[0].args == {"value": [1, 2]}
    assert turn.tool_responses[0].response == {"result": "plain text"}


@pytest.mark.parametrize("odd", ["NaN", "[1e400]", "[" * 100_000, '{"a": ' * 200 + "1" + "}" * 200])
def test_arguments_that_json_could_not_give_back_stay_text(odd):
    (turn,) = turns_of(agent(1), tool(2, 1, attributes={"gen_ai.tool.call.arguments": odd}))
    assert turn.tool_calls[0].args == {"value": odd}


def test_times_are_utc_and_never_negative():
    backwards = agent(1, endTimeUnixNano="0", status={"code": 2})
    (turn,) = turns_of(backwards)
    assert turn.started_at is not None and turn.started_at.isoformat() == "1970-01-01T00:00:01+00:00"
    assert turn.ended_at is None
    assert turn.duration_ms == 0.0


@pytest.mark.parametrize("time", [253_402_300_800 * SECOND, 2**64 - 1, 10**400, "later", -5])
def test_a_time_that_no_calendar_has_is_unknown(time):
    (turn,) = turns_of(agent(1, startTimeUnixNano=time, endTimeUnixNano=time, status={"code": 2}))
    assert turn.started_at is None or turn.started_at.year > 2500
    assert turn.duration_ms >= 0


def test_token_counts_that_are_none_do_not_count():
    odd = {"gen_ai.usage.input_tokens": "many", "gen_ai.usage.output_tokens": -3}
    (turn,) = turns_of(chat(1, attributes=odd))
    assert (turn.input_tokens, turn.output_tokens) == (0, 0)


def test_ids_that_occur_again_later_answer_again():
    history = [call("look_up", {"n": 1}, "c0"), answer_of("first", "c0")]
    again = [*history, user("and now?"), call("look_up", {"n": 2}, "c0"), answer_of("second", "c0")]
    (turn,) = turns_of(
        agent(1),
        chat(2, 1, asked=[*history, user("and now?")], said=[call("look_up", {"n": 2}, "c0")]),
        chat(3, 1, asked=again, said=[assistant("done")]),
    )
    assert [r.response for r in turn.tool_responses] == [{"result": "second"}]


def test_spans_without_ids_take_those_of_the_calls_with_their_arguments():
    asked = [call("look_up", {"n": 1}, "c1"), call("look_up", {"n": 2}, "c2")]
    spans = [
        tool(number, 1, attributes={"gen_ai.tool.call.arguments": json.dumps({"n": n})})
        for number, n in ((3, 2), (4, 1))
    ]
    (turn,) = turns_of(agent(1), chat(2, 1, said=asked), *spans)
    assert [(c.args, c.id) for c in turn.tool_calls] == [({"n": 2}, "c2"), ({"n": 1}, "c1")]


def test_tools_that_started_at_once_are_in_the_order_of_asking():
    asked = [call("look_up", call_id="c1"), call("look_up", call_id="c2")]
    start = {"startTimeUnixNano": str(3 * SECOND)}
    spans = [
        tool(number, 1, attributes={"gen_ai.tool.call.id": call_id}, **start)
        for number, call_id in ((3, "c2"), (4, "c1"))
    ]
    (turn,) = turns_of(agent(1), chat(2, 1, said=asked), *spans)
    assert [c.id for c in turn.tool_calls] == ["c1", "c2"]


def test_instructions_may_be_messages():
    system = {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]}
    (turn,) = turns_of(chat(1, asked=[system, user("Where?")]))
    assert [(step.role, step.text) for step in turn.steps] == [("system", "Be brief."), ("user", "Where?")]


def test_what_adk_tells_of_other_agents_is_not_asked():
    told = user("For context:[other] said: Hello")
    document = chat(1, asked=[told, user("Where?")], attributes={"gcp.vertex.agent.event_id": "e"})
    assert turns_of(document)[0].user_text == "Where?"
    assert turns_of(chat(1, asked=[told]))[0].user_text == "For context:[other] said: Hello"


def test_user_and_finish_reason_are_told():
    said = {"user.id": "ann", "gen_ai.response.finish_reasons": ["length"]}
    (turn,) = turns_of(chat(1, attributes=said))
    assert (turn.user, turn.finish_reason) == ("ann", "length")


def test_an_agents_sum_counts_where_its_calls_report_nothing():
    tokens = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1}
    (turn,) = turns_of(agent(1, attributes=tokens), chat(2, 1))
    assert (turn.input_tokens, turn.output_tokens) == (10, 1)
    (turn,) = turns_of(agent(1, attributes=tokens), chat(2, 1, attributes={"gen_ai.usage.input_tokens": 4}))
    assert (turn.input_tokens, turn.output_tokens) == (4, 0)
