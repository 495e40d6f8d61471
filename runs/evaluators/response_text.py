"""Is the agent's answer the expected text, or does it contain it?"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from runs.evaluators.answers import AnswerConfig, Look, clipped, counted, quoted, verdict_of
from runs.evaluators.base import Task, Verdict

_NO_ANSWER_EXPECTED = "the eval case gives no expected answer"


class ExactMatchConfig(AnswerConfig):
    ignore_case: bool = Field(False, description="A and a are the same.")
    ignore_space: bool = Field(
        False, description="White space around the answer and its amount inside do not count."
    )


class ResponseExactMatch:
    name = "response_exact_match"
    description = "The answer is the expected one, character by character."
    default_threshold = 1.0
    needs_eval_case = True
    waits = False
    Config = ExactMatchConfig

    def judge(self, task: Task) -> Verdict:
        looks = [Look() for _ in task.turns]
        for index in counted(len(task.turns), task.config):
            looks[index] = _compared(
                task.expected[index].final_text, task.turns[index].final_text, task.config
            )
        return verdict_of(task.turns, looks, "is the expected one", _NO_ANSWER_EXPECTED)


class ContainsConfig(AnswerConfig):
    texts: list[str] = Field(
        default_factory=list, description="What to look for; without any, the expected answer."
    )
    mode: Literal["all", "any", "none"] = Field("all", description="How many of them must be in the answer.")
    ignore_case: bool = Field(False, description="A and a are the same.")


class ResponseContains:
    """`all` scores the share of texts that are there, `none` the share that are not, `any` 1 or 0."""

    name = "response_contains"
    description = "The answer contains the given texts, or the expected answer."
    default_threshold = 1.0
    needs_eval_case = False
    waits = False
    Config = ContainsConfig

    def judge(self, task: Task) -> Verdict:
        given = [text for text in task.config.texts if text]
        turns = task.all_turns if given else task.turns
        if not given and not task.expected:
            reason = "there is nothing to look for: config has no texts, and there is no eval case"
            return Verdict(None, [None] * len(turns), {"reason": reason})
        looks = [Look() for _ in turns]
        for index in counted(len(turns), task.config):
            texts = given or [text for text in [task.expected[index].final_text.strip()] if text]
            looks[index] = _searched(texts, turns[index].final_text, task.config)
        fine = {
            "all": "contains what it should",
            "any": "contains one of the texts",
            "none": "contains none of the texts",
        }
        return verdict_of(turns, looks, fine[task.config.mode], _NO_ANSWER_EXPECTED)


def _compared(expected: str, actual: str, config: ExactMatchConfig) -> Look:
    if not expected:
        return Look()
    wanted, found = _comparable(expected, config), _comparable(actual, config)
    shown = {"expected": clipped(expected), "actual": clipped(actual)}
    if wanted == found:
        return Look(1.0, shown=shown)
    same = next((i for i, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), None)
    place = min(len(wanted), len(found)) if same is None else same
    problem = f"differs from the expected one from character {place + 1}: {_from(found, place)}"
    return Look(0.0, f"{problem} instead of {_from(wanted, place)}", {**shown, "differs_at": place})


def _comparable(text: str, config: ExactMatchConfig) -> str:
    text = " ".join(text.split()) if config.ignore_space else text
    return text.casefold() if config.ignore_case else text


def _from(text: str, place: int) -> str:
    """A little of the text from there on; repr, as white space may be all that differs."""
    return repr(clipped(text[place:], 30)) if place < len(text) else "its end"


def _searched(texts: Sequence[str], answer: str, config: ContainsConfig) -> Look:
    if not texts:
        return Look()
    whole = answer.casefold() if config.ignore_case else answer
    found = [text for text in texts if (text.casefold() if config.ignore_case else text) in whole]
    missing = [text for text in texts if text not in found]
    shown = {"found": _shown(found), "missing": _shown(missing), "actual": clipped(answer)}
    if config.mode == "none":
        return Look(len(missing) / len(texts), f"contains {_listed(found)}", shown)
    score = float(bool(found)) if config.mode == "any" else len(found) / len(texts)
    return Look(score, f"does not contain {_listed(missing)}", shown)


def _shown(texts: Sequence[str]) -> list[str]:
    return [clipped(text, 200) for text in texts[:50]]


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    return ", ".join(map(quoted, texts[:3])) + more
