"""Pydantic AI, before its spans said what the conventions say."""

import json

from tests.traces.spans import export, span
from tests.traces.told import ANSWER, QUESTION, RESULT, only_turn, results, tells_all

CALL = {"id": "c1", "type": "function", "function": {"name": "stock", "arguments": '{"kind": "all"}'}}
EVENTS = [
    {"event.name": "gen_ai.system.message", "content": "Keep shop.", "gen_ai.message.index": 0},
    {"event.name": "gen_ai.user.message", "content": QUESTION, "gen_ai.message.index": 0},
    {"event.name": "gen_ai.choice", "index": 0, "message": {"role": "assistant", "tool_calls": [CALL]}},
]


def run(**said):
    """An agent's span around a model call and a tool."""
    events = {"events": json.dumps(EVENTS), "gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1"}
    use = {"gen_ai.tool.name": "stock", "gen_ai.tool.call.id": "c1", "tool_arguments": '{"kind": "all"}'}
    use |= {"tool_response": json.dumps(RESULT)}
    said = {"agent_name": "shopkeeper", "model_name": "m-1", "final_result": ANSWER} | said
    return export(
        span(1, name="agent run", attributes=said),
        span(2, 1, name="chat m-1", attributes=events),
        span(3, 1, name="running tool", attributes=use),
    )


def test_events_listed_in_an_attribute():
    earlier = [
        {"event.name": "gen_ai.user.message", "content": "Hello"},
        {"event.name": "gen_ai.assistant.message", "content": "Hi."},
    ]
    turn = only_turn(run(all_messages_events=json.dumps(earlier + EVENTS[:2])))
    assert tells_all(turn)
    assert (results(turn), turn.agent_name, turn.llm_calls) == ([RESULT], "shopkeeper", 1)
    assert turn.steps[0].text == "Keep shop."


def test_all_messages_in_an_attribute():
    history = [
        {"role": "user", "parts": [{"type": "text", "content": "Hello"}]},
        {"role": "assistant", "parts": [{"type": "text", "content": "Hi."}]},
        {"role": "user", "parts": [{"type": "text", "content": QUESTION}]},
    ]
    assert tells_all(only_turn(run(**{"pydantic_ai.all_messages": json.dumps(history)})))


def test_the_sum_of_a_run_counts_only_without_the_calls_own():
    said = {
        "pydantic_ai.all_messages": "[]",
        "gen_ai.aggregated_usage.input_tokens": 7,
        "gen_ai.aggregated_usage.output_tokens": 1,
    }
    turn = only_turn(run(**said))
    assert (turn.input_tokens, turn.output_tokens) == (7, 1)
