"""Did the agent call the expected tools with the expected arguments?

A turn scores 1 or 0. EXACT wants the same calls and no others; IN_ORDER allows others in between;
ANY_ORDER wants each expected call to have happened, whenever.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from runs.evaluators.base import Config, Task, Verdict, average
from runs.evaluators.eval_sets import ExpectedCall, ExpectedTurn
from runs.traces import ToolCall, Turn


class ToolTrajectory:
    name = "tool_trajectory_avg_score"
    description = "The expected tools were called, with the expected arguments."
    default_threshold = 0.5
    needs_eval_case = True
    waits = False
    Config = Config

    def judge(self, task: Task) -> Verdict:
        matches = _MATCHERS[task.settings.get("trajectory_match_type") or "EXACT"]
        compared = list(zip(task.turns, task.expected, strict=True))
        matched = [matches(turn.tool_calls, expected.tool_calls) for turn, expected in compared]
        scores = [1.0 if match else 0.0 for match in matched]
        comparisons = [_comparison(*pair, match) for pair, match in zip(compared, matched, strict=True)]
        return Verdict(average(scores), [*scores], {"comparisons": comparisons})


def _exact(actual: Sequence[ToolCall], expected: Sequence[ExpectedCall]) -> bool:
    return len(actual) == len(expected) and all(map(_same, actual, expected))


def _in_order(actual: Sequence[ToolCall], expected: Sequence[ExpectedCall]) -> bool:
    remaining = iter(actual)
    return all(any(_same(call, wanted) for call in remaining) for wanted in expected)


def _any_order(actual: Sequence[ToolCall], expected: Sequence[ExpectedCall]) -> bool:
    """Each call counts for one expectation. Only calls of the same name are compared with each other."""
    unused: dict[str | None, list[ToolCall]] = defaultdict(list)
    for call in actual:
        unused[call.name].append(call)
    for wanted in expected:
        candidates = unused[wanted.name]
        index = next((i for i, call in enumerate(candidates) if call.args == wanted.args), None)
        if index is None:
            return False
        del candidates[index]
    return True


def _same(call: ToolCall, wanted: ExpectedCall) -> bool:
    return call.name == wanted.name and call.args == wanted.args


_MATCHERS = {"EXACT": _exact, "IN_ORDER": _in_order, "ANY_ORDER": _any_order}


def _comparison(turn: Turn, expected: ExpectedTurn, matched: bool) -> dict[str, Any]:
    return {
        "invocation_id": turn.invocation_id,
        "expected": [{"name": call.name, "args": call.args} for call in expected.tool_calls],
        "actual": [{"name": call.name, "args": call.args} for call in turn.tool_calls],
        "matched": matched,
    }
