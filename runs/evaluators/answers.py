"""What the evaluators of the agent's answers share: which answers are looked at, and how it is told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from runs.evaluators.base import Config, Verdict, average
from runs.traces import Turn

SHOWN_LENGTH = 2000  # characters of a text in the details; the whole is in the history


class AnswerConfig(Config):
    turns: Literal["all", "last"] = Field("all", description="Whose answer counts: every turn's or the last.")


@dataclass(frozen=True, slots=True)
class Look:
    """What was found in one answer: its score (None: there is nothing to say), and what falls short.

    `problem` goes behind "The answer", such as `is not JSON`. `shown` are fields for the details.
    """

    score: float | None = None
    problem: str = ""
    shown: dict[str, Any] = field(default_factory=dict)


def counted(number: int, config: AnswerConfig) -> Sequence[int]:
    """The places of the turns whose answers count."""
    return range(number) if config.turns == "all" else range(number)[-1:]


def verdict_of(turns: Sequence[Turn], looks: Sequence[Look], fine: str, nothing: str) -> Verdict:
    """The average of the scores, with a reason and a piece of details for each answer looked at.

    `fine` goes behind "The answer" where nothing falls short. `nothing` is why there is no score when
    none of the looks has one.
    """
    scores = [look.score for look in looks]
    known = [score for score in scores if score is not None]
    if not known:
        return Verdict(None, scores, {"reason": nothing})
    told = [
        {"invocation_id": turn.invocation_id, "matched": look.score == 1, **look.shown}
        for turn, look in zip(turns, looks, strict=True)
        if look.score is not None
    ]
    return Verdict(average(known), scores, {"reason": _reason(looks, len(known), fine), "turns": told})


def clipped(text: str, length: int = SHOWN_LENGTH) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def quoted(text: str) -> str:
    """A piece of text inside a sentence."""
    return f"“{clipped(' '.join(text.split()), 100)}”"


def _reason(looks: Sequence[Look], known: int, fine: str) -> str:
    wrong = [
        (n, look.problem) for n, look in enumerate(looks, 1) if look.score is not None and look.score < 1
    ]
    if not wrong:
        return f"The answer {fine}." if known == 1 else f"Each of {known} answers {fine}."
    number, problem = wrong[0]
    if len(looks) == 1:
        return f"The answer {problem}."
    more = f" {len(wrong)} of {known} answers fall short." if len(wrong) > 1 else ""
    return f"The answer of turn {number} {problem}.{more}"
