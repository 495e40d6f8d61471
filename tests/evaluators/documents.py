"""Documents, eval sets and groups for the tests of the evaluators."""

from collections.abc import Callable
from itertools import chain
from typing import Any
from uuid import UUID

from runs.evaluators import (
    Config,
    Evaluation,
    Outcome,
    Task,
    Verdict,
    parse_eval_set,
    registry,
    validate_eval_config,
)
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


def evaluation(*evaluators: str | dict[str, Any], cases: EvalSet | None = None, **more: Any) -> Evaluation:
    """`more` goes beside the evaluators of the evalConfig."""
    entries = [{"type": "builtin", "name": e} if isinstance(e, str) else e for e in evaluators or BOTH]
    return Evaluation(RUN_ID, validate_eval_config({"evaluators": entries, **more}), cases)


def outcomes(
    found: list[Group], *evaluators: str | dict[str, Any], cases: EvalSet | None = None
) -> list[Outcome]:
    return list(evaluation(*evaluators, cases=cases).results(found))


def outcome(
    found: list[Group],
    name: str,
    *,
    cases: EvalSet | None = None,
    threshold: float | None = None,
    **config: Any,
) -> Outcome:
    """What a builtin evaluator with that `config` says of the only group."""
    entry = {"type": "builtin", "name": name, "threshold": threshold, "config": config}
    (only,) = outcomes(found, entry, cases=cases)
    return only


def answered(*answers: str) -> list[Group]:
    """A conversation of turns with these answers."""
    spans = [turn_spans(1 + 10 * n, f"question {n}", answer) for n, answer in enumerate(answers)]
    return groups(*chain.from_iterable(spans))


def answers_expected(*answers: str) -> EvalSet:
    """The eval set for `answered`."""
    return eval_set(case("c", *[(f"question {n}", answer, []) for n, answer in enumerate(answers)]))


class Fake:
    """An evaluator that scores 1, unless told otherwise."""

    description = "Scores 1."
    default_threshold = 0.5
    needs_eval_case = False
    waits = False
    Config = Config

    def __init__(self, name: str = "fake", judge: Callable[[Task], Any] | None = None, **more: Any) -> None:
        self.name = name
        self.judge = judge or (lambda task: Verdict(1.0, [1.0] * len(task.turns)))
        vars(self).update(more)


def put(monkeypatch: Any, *fakes: Fake) -> None:
    """For one test, these are evaluators."""
    for fake in fakes:
        monkeypatch.setitem(registry.EVALUATORS, fake.name, fake)
