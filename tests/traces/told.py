"""The short conversation that every dialect tells: a question, one tool call, its result, an answer."""

from runs.traces import Turn, group_turns, read_traces

QUESTION = "What is in stock?"
ANSWER = "Three lamps."
RESULT = {"lamps": 3}


def only_turn(document) -> Turn:
    (group,) = group_turns(read_traces(document))
    (turn,) = group.turns
    return turn


def tells_all(turn: Turn) -> bool:
    calls = [(call.name, call.args) for call in turn.tool_calls]
    return (turn.user_text, turn.final_text, calls) == (QUESTION, ANSWER, [("stock", {"kind": "all"})])


def results(turn: Turn) -> list:
    return [response.response for response in turn.tool_responses]
