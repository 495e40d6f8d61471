"""Documents, eval sets and groups for the tests of the evaluators."""

from typing import Any
from uuid import UUID

from runs.evaluators import Evaluation, Outcome, parse_eval_set, validate_eval_config
from runs.evaluators.eval_sets import EvalSet
from runs.traces import Group, group_turns, read_traces
from tests.traces.spans import agent, assistant, chat, export, tool, user

RUN_ID = UUID("00000000-0000-0000-0000-000000000001")
BOTH = ["tool_trajectory_avg_score", "response_match_score"]


def turn_spans(first: int, question: str, answer: str, *tools: tuple[str, str], **more: Any) -> list[dict]:
    """The spans of a turn: an agent, its tools (name, JSON of the arguments), its answer."""
    spans = [agent(first, **more)]
    for number, (name, arguments) in enumerate(tools, start=first + 1):
        given = {"gen_ai.tool.call.arguments": arguments}
        spans.append(tool(number, first, name=name, attributes=given, **more))
    last = first + len(tools) + 1
    spans.append(chat(last, first, asked=[user(question)], said=[assistant(answer)], **more))
    return spans


def groups(*spans: dict[str, Any], group_by: str = "auto", **more: Any) -> list[Group]:
    return group_turns(read_traces(export(*spans, **more)), group_by)


def case(eval_id: str, *turns: tuple[str, str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A case of turns (question, answer, tool uses)."""
    return {
        "eval_id": eval_id,
        "conversation": [
            {
                "invocation_id": f"turn-{number}",
                "user_content": {"role": "user", "parts": [{"text": question}]},
                "final_response": {"role": "model", "parts": [{"text": answer}]},
                "intermediate_data": {"tool_uses": tools, "tool_responses": []},
            }
            for number, (question, answer, tools) in enumerate(turns, start=1)
        ],
    }


def eval_set(*cases: dict[str, Any]) -> EvalSet:
    found = parse_eval_set({"eval_set_id": "set", "eval_cases": list(cases)})
    assert found is not None
    return found


def evaluation(
    found: list[Group], *evaluators: str | dict[str, Any], cases: EvalSet | None = None
) -> Evaluation:
    entries = [{"type": "builtin", "name": e} if isinstance(e, str) else e for e in evaluators or BOTH]
    return Evaluation(RUN_ID, found, validate_eval_config({"evaluators": entries}), cases)


def outcomes(
    found: list[Group], *evaluators: str | dict[str, Any], cases: EvalSet | None = None
) -> list[Outcome]:
    return list(evaluation(found, *evaluators, cases=cases).results())
