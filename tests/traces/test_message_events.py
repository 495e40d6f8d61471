"""Events on spans, as Strands, Azure's libraries and the conventions' oldest release write them."""

import json

from tests.traces.spans import agent, chat, event, export, tool
from tests.traces.told import ANSWER, QUESTION, RESULT, only_turn, results, tells_all


def test_bedrocks_content_as_the_text_of_an_event():
    use = [{"toolUse": {"toolUseId": "c1", "name": "stock", "input": {"kind": "all"}}}]
    result = [{"toolResult": {"toolUseId": "c1", "status": "success", "content": [{"json": RESULT}]}}]
    asked = event("gen_ai.user.message", content=json.dumps([{"text": QUESTION}]))
    first = chat(
        2, 1, events=[asked, event("gen_ai.choice", message=json.dumps(use), finish_reason="tool_use")]
    )
    told = event("gen_ai.tool.message", content=json.dumps(result))
    last = chat(3, 1, events=[asked, told, event("gen_ai.choice", message=json.dumps([{"text": ANSWER}]))])
    turn = only_turn(export(agent(1), first, last))
    assert tells_all(turn)
    assert (results(turn), turn.tool_calls[0].id) == ([RESULT], "c1")


def test_a_tools_span_tells_arguments_and_result_in_events():
    events = [
        event("gen_ai.tool.message", role="tool", content='{"kind": "all"}', id="c1"),
        event("gen_ai.choice", message=json.dumps([{"json": RESULT}]), id="c1"),
    ]
    turn = only_turn(export(agent(1), tool(2, 1, name="stock", events=events)))
    assert (turn.tool_calls[0].args, results(turn)) == ({"kind": "all"}, [RESULT])


def test_a_tools_span_tells_them_as_messages():
    call = {"type": "tool_call", "id": "c1", "name": "stock", "arguments": {"kind": "all"}}
    answer = {"type": "tool_call_response", "id": "c1", "response": RESULT}
    name = "gen_ai.client.inference.operation.details"
    events = [
        event(name, **{"gen_ai.input.messages": json.dumps([{"role": "tool", "parts": [call]}])}),
        event(name, **{"gen_ai.output.messages": json.dumps([{"role": "tool", "parts": [answer]}])}),
    ]
    turn = only_turn(export(agent(1), tool(2, 1, name="stock", events=events)))
    assert (turn.tool_calls[0].args, results(turn)) == ({"kind": "all"}, [RESULT])


def test_a_failed_result_of_bedrock_is_marked():
    use = [{"toolUse": {"toolUseId": "c1", "name": "stock", "input": {}}}]
    result = [{"toolResult": {"toolUseId": "c1", "status": "error", "content": [{"text": "gone"}]}}]
    turn = only_turn(
        export(
            agent(1),
            chat(2, 1, events=[event("gen_ai.choice", message=json.dumps(use))]),
            chat(3, 1, events=[event("gen_ai.tool.message", content=json.dumps(result))]),
        )
    )
    assert turn.tool_responses[0].is_error
    assert results(turn) == [{"result": "gone"}]


def test_azures_body_under_one_attribute():
    body = json.dumps({"role": "user", "content": QUESTION})
    choice = json.dumps({"index": 0, "finish_reason": "stop", "message": {"content": ANSWER}})
    events = [
        event("gen_ai.user.message", **{"gen_ai.event.content": body}),
        event("gen_ai.choice", **{"gen_ai.event.content": choice}),
    ]
    turn = only_turn(export(chat(1, events=events)))
    assert (turn.user_text, turn.final_text, turn.finish_reason) == (QUESTION, ANSWER, "stop")


def test_the_oldest_events_hold_all_messages():
    asked = json.dumps([{"role": "user", "content": QUESTION}])
    said = json.dumps([{"role": "assistant", "content": ANSWER}])
    events = [
        event("gen_ai.content.prompt", **{"gen_ai.prompt": asked}),
        event("gen_ai.content.completion", **{"gen_ai.completion": said}),
    ]
    turn = only_turn(export(chat(1, events=events)))
    assert (turn.user_text, turn.final_text) == (QUESTION, ANSWER)
