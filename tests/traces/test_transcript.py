"""Turn.steps: the turn as a person reads it."""

import json

from runs.traces import group_turns, read_traces
from tests.traces.spans import SECOND, agent, assistant, chat, event, export, tool, user


def steps_of(*spans):
    (group,) = group_turns(read_traces(export(*spans)))
    return group.turns[0].steps


def told(steps):
    return [(step.kind, step.role, step.text or step.data) for step in steps]


def test_steps_are_in_order_of_time():
    steps = steps_of(
        agent(1),
        chat(2, 1, asked=[user("well?")], said=[assistant("Let me see.")]),
        tool(3, 1, attributes={"gen_ai.tool.call.result": '{"n": 1}'}),
        chat(4, 1, said=[assistant("One.")]),
    )
    assert told(steps) == [
        ("message", "user", "well?"),
        ("message", "agent", "Let me see."),
        ("tool_call", "agent", {}),
        ("tool_result", "tool", {"n": 1}),
        ("message", "agent", "One."),
    ]


def test_what_the_model_said_comes_before_a_tool_that_ran_inside_its_span():
    long_call = chat(2, 1, said=[assistant("Let me see.")], endTimeUnixNano=str(9 * SECOND))
    assert [step.kind for step in steps_of(agent(1), long_call, tool(3, 2))] == ["message", "tool_call"]


def test_a_message_tells_model_tokens_and_time():
    tokens = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 4}
    (step,) = steps_of(chat(2, said=[assistant("hi")], attributes=tokens))
    assert (step.model, step.tokens, step.duration_ms) == ("model-1", 14, 1000.0)
    assert step.at is not None and step.at.second == 3


def test_system_instructions_come_first_and_once():
    system = {"gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}])}
    steps = steps_of(
        agent(1), chat(2, 1, asked=[user("a")], attributes=system), chat(3, 1, attributes=system)
    )
    assert told(steps) == [("message", "system", "Be brief."), ("message", "user", "a")]


def test_an_answer_that_only_the_agents_span_has_is_told_last():
    said = {"gen_ai.output.messages": json.dumps([assistant("All done.")])}
    steps = steps_of(agent(1, attributes=said), tool(2, 1))
    assert told(steps)[-1] == ("message", "agent", "All done.")


def test_errors_of_model_tool_and_turn_are_told():
    failed = {"code": 2, "message": "no connection"}
    steps = steps_of(
        agent(1, status={"code": 2, "message": "gave up"}),
        chat(2, 1, status={"code": 2}, events=[event("exception", **{"exception.message": "rate limit"})]),
        tool(3, 1, status=failed),
    )
    assert [(s.role, s.text) for s in steps if s.kind == "error"] == [
        ("agent", "rate limit"),
        ("tool", "no connection"),
        ("agent", "gave up"),
    ]
