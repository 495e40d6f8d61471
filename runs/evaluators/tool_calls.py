"""Were the expected tools called, and did they work?"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

from runs.evaluators.base import Config, Task, Verdict, average
from runs.evaluators.eval_sets import ExpectedCall
from runs.traces import ToolCall, Turn


class F1Config(Config):
    match_args: bool = Field(
        True, description="The arguments must be the expected ones, too, where the eval set gives any."
    )


class ToolCallF1:
    """The harmonic mean of precision and recall in each turn; the order of calls does not matter."""

    name = "tool_call_f1"
    description = "How well the calls agree with the expected ones: the F1 of precision and recall."
    default_threshold = 0.5
    needs_eval_case = True
    waits = False
    Config = F1Config

    def judge(self, task: Task) -> Verdict:
        pairs = list(zip(task.turns, task.expected, strict=True))
        compared = [_compared(turn, expected.tool_calls, task.config.match_args) for turn, expected in pairs]
        scores = [turn["f1"] for turn in compared]
        matched = sum(len(turn["actual"]) - len(turn["unexpected"]) for turn in compared)
        actual = sum(len(turn["actual"]) for turn in compared)
        expected = sum(len(turn["expected"]) for turn in compared)
        details = {
            "reason": _agreement(matched, actual, expected),
            "precision": _share(matched, actual),
            "recall": _share(matched, expected),
            "comparisons": compared,
        }
        return Verdict(average(scores), scores, details)


class ErrorRateConfig(Config):
    tools: list[str] = Field(default_factory=list, description="The tools that count; without any, all do.")


class ToolErrorRate:
    """The share of calls that worked, of those whose end is recorded; skipped where none is."""

    name = "tool_error_rate"
    description = "The share of tool calls that did not fail."
    default_threshold = 1.0
    needs_eval_case = False
    waits = False
    Config = ErrorRateConfig

    def judge(self, task: Task) -> Verdict:
        ends = [_ends(turn, frozenset(task.config.tools)) for turn in task.all_turns]
        worked, failed = sum((w for w, _ in ends), Counter[str]()), sum((f for _, f in ends), Counter[str]())
        scores = [_share(w.total(), w.total() + f.total()) for w, f in ends]
        number = worked.total() + failed.total()
        if not number:
            return Verdict(None, scores, {"reason": "no result of a tool call is recorded"})
        names = ", ".join(f"{name} ({count})" for name, count in failed.most_common(5))
        reason = (
            f"{failed.total()} of {number} tool calls failed: {names}."
            if failed
            else f"None of {number} tool calls failed."
        )
        details = {
            "reason": reason,
            "calls": number,
            "failed": dict(failed),
            "error_rate": failed.total() / number,
        }
        return Verdict(worked.total() / number, scores, details)


def _compared(turn: Turn, expected: Sequence[ExpectedCall], match_args: bool) -> dict[str, Any]:
    missing, unexpected = _unmatched(turn.tool_calls, expected, match_args)
    matched = len(expected) - len(missing)
    precision, recall = _share(matched, len(turn.tool_calls)), _share(matched, len(expected))
    return {
        "invocation_id": turn.invocation_id,
        "expected": _shown(expected),
        "actual": _shown(turn.tool_calls),
        "matched": not missing and not unexpected,
        "missing": _shown(missing),
        "unexpected": _shown(unexpected),
        "precision": precision,
        "recall": recall,
        "f1": _f1(matched, len(turn.tool_calls), len(expected)),
    }


def _unmatched(
    actual: Iterable[ToolCall], expected: Sequence[ExpectedCall], match_args: bool
) -> tuple[list[ExpectedCall], list[ToolCall]]:
    """What was not called and what was not expected; each call counts for one expectation."""
    left: dict[str | None, list[ToolCall]] = defaultdict(list)
    for call in actual:
        left[call.name].append(call)
    missing = []
    # Those that any arguments satisfy come last, so that they take no call that another one needs.
    for wanted in sorted(expected, key=lambda wanted: wanted.args is None):
        candidates = left[wanted.name]
        any_args = not match_args or wanted.args is None
        index = next((i for i, call in enumerate(candidates) if any_args or call.args == wanted.args), None)
        if index is None:
            missing.append(wanted)
        else:
            del candidates[index]
    return missing, [call for calls in left.values() for call in calls]


def _f1(matched: int, actual: int, expected: int) -> float:
    """1 where nothing was expected and nothing called."""
    return 2 * matched / (actual + expected) if actual + expected else 1.0


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _agreement(matched: int, actual: int, expected: int) -> str:
    if not expected and not actual:
        return "No tool was expected, and none was called."
    if matched == actual == expected:
        return "All expected tool calls were made, and no others."
    others = actual - matched
    return (
        f"{matched} of {expected} expected tool calls were made"
        f" and {others or 'no'} other{'' if others == 1 else 's'}."
    )


def _shown(calls: Iterable[ToolCall | ExpectedCall]) -> list[dict[str, Any]]:
    return [{"name": call.name, "args": call.args} for call in calls]


def _ends(turn: Turn, only: frozenset[str]) -> tuple[Counter[str], Counter[str]]:
    """How many calls of each tool worked, and how many failed.

    A failure shows as an error of the tool among the steps, as a response that is an error, or as both.
    """
    worked, failed = Counter[str](), Counter[str]()
    for response in turn.tool_responses:
        (failed if response.is_error else worked)[response.name] += 1
    failed |= Counter(step.name for step in turn.steps if step.kind == "error" and step.role == "tool")
    if only:
        worked = Counter({name: count for name, count in worked.items() if name in only})
        failed = Counter({name: count for name, count in failed.items() if name in only})
    return worked, failed
