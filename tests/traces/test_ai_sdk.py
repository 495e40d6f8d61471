"""Vercel's AI SDK, versions 4 to 6."""

import json

import pytest

from runs.traces import group_turns, read_traces
from tests.traces.spans import export, span
from tests.traces.told import ANSWER, QUESTION, RESULT, only_turn, results, tells_all


def operation(name: str, number: int, parent: int | None = None, **said):
    values = {"ai.operationId": name, **said}
    return span(number, parent, name=name, attributes=values)


def conversation(arguments_name: str, usage: dict[str, int]):
    call = {"toolCallId": "c1", "toolName": "stock", arguments_name: '{"kind": "all"}'}
    asked = [
        {"role": "system", "content": "Keep shop."},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
    ]
    about = {"ai.telemetry.functionId": "shopkeeper", "ai.telemetry.metadata.sessionId": "s-1"}
    about |= {"ai.telemetry.metadata.userId": "ann"}
    model = {"gen_ai.request.model": "m-1", "gen_ai.system": "openai"}
    prompt = {"system": "Keep shop.", "messages": [{"role": "user", "content": QUESTION}]}
    return export(
        operation(
            "ai.generateText",
            1,
            **about,
            **usage,
            **{"ai.prompt": json.dumps(prompt), "ai.response.text": ANSWER},
        ),
        operation(
            "ai.generateText.doGenerate",
            2,
            1,
            **model,
            **usage,
            **{"ai.prompt.messages": json.dumps(asked), "ai.response.toolCalls": json.dumps([call])},
        ),
        operation(
            "ai.toolCall",
            3,
            1,
            **{
                "ai.toolCall.name": "stock",
                "ai.toolCall.id": "c1",
                "ai.toolCall.args": '{"kind": "all"}',
                "ai.toolCall.result": json.dumps(RESULT),
            },
        ),
        operation(
            "ai.generateText.doGenerate",
            4,
            1,
            **model,
            **usage,
            **{"ai.response.text": ANSWER, "ai.response.finishReason": "stop"},
        ),
    )


OLD = {"ai.usage.promptTokens": 10, "ai.usage.completionTokens": 2}
NEW = {"ai.usage.inputTokens": 10, "ai.usage.outputTokens": 2, "ai.usage.cachedInputTokens": 3}


@pytest.mark.parametrize(("arguments_name", "usage", "cached"), [("args", OLD, 0), ("input", NEW, 6)])
def test_a_loop_is_one_turn(arguments_name, usage, cached):
    document = conversation(arguments_name, usage)
    turn = only_turn(document)
    assert tells_all(turn)
    assert (results(turn), turn.agent_name, turn.user) == ([RESULT], "shopkeeper", "ann")
    assert (turn.input_tokens, turn.output_tokens, turn.cache_read_tokens) == (20, 4, cached)
    assert (turn.llm_calls, turn.models, turn.finish_reason) == (2, ["m-1"], "stop")
    assert group_turns(read_traces(document), "conversation")[0].key == "s-1"


def test_tool_results_in_its_messages():
    output = {"type": "json", "value": RESULT}
    history = [
        {"role": "user", "content": QUESTION},
        {
            "role": "tool",
            "content": [{"type": "tool-result", "toolCallId": "c1", "toolName": "stock", "output": output}],
        },
    ]
    call = [{"toolCallId": "c1", "toolName": "stock", "input": "{}"}]
    turn = only_turn(
        export(
            span(1),
            operation("ai.streamText.doStream", 2, 1, **{"ai.response.toolCalls": json.dumps(call)}),
            operation("ai.streamText.doStream", 3, 1, **{"ai.prompt.messages": json.dumps(history)}),
        )
    )
    assert results(turn) == [RESULT]


def test_an_object_is_the_answer():
    said = {"ai.prompt": json.dumps({"prompt": QUESTION}), "ai.response.object": '{"lamps": 3}'}
    turn = only_turn(export(operation("ai.generateObject", 1, **said)))
    assert (turn.user_text, turn.final_text) == (QUESTION, '{"lamps": 3}')


def test_embeddings_are_no_turn():
    assert group_turns(read_traces(export(operation("ai.embed", 1))))[0].turns == []
