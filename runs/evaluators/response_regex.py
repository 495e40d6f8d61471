"""Does the agent's answer match a regular expression?

Patterns are the library regex's, which has what the standard one lacks here: a limit to the time that a
match may take.
"""

import re
from math import prod

from pydantic import Field, field_validator

from runs.evaluators.answers import AnswerConfig, Look, clipped, counted, quoted, verdict_of
from runs.evaluators.base import EvaluationError, Task, Verdict

MAX_PATTERN_LENGTH = 2000
# Repeats are unrolled when a pattern is compiled: `(?:a{9999}){9999}` takes all memory.
MAX_REPEATS = 1_000_000
_REPEAT = re.compile(r"\{(\d*),?(\d*)\}")


class RegexConfig(AnswerConfig):
    pattern: str = Field(
        description="In the syntax of Python's library regex.", max_length=MAX_PATTERN_LENGTH
    )
    absent: bool = Field(False, description="The pattern must not be in the answer.")
    full: bool = Field(False, description="The whole answer must match, not a part of it.")
    ignore_case: bool = Field(False, description="A and a are the same.")
    timeout_seconds: float = Field(1.0, gt=0, le=10, description="For one answer.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        import regex

        counts = [max(int(count or 1) for count in found) for found in _REPEAT.findall(value)]
        if prod(max(1, count) for count in counts) > MAX_REPEATS:
            raise ValueError(f"its repeat counts multiply to more than {MAX_REPEATS:,}")
        try:
            regex.compile(value)
        except (regex.error, RecursionError, OverflowError, MemoryError) as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value


class ResponseRegex:
    name = "response_regex"
    description = "The answer matches a regular expression."
    default_threshold = 1.0
    needs_eval_case = False
    waits = False
    Config = RegexConfig

    def judge(self, task: Task) -> Verdict:
        config = task.config
        turns = task.all_turns
        looks = [Look() for _ in turns]
        for index in counted(len(turns), config):
            looks[index] = _look(turns[index].final_text, config)
        fine = f"{'does not match' if config.absent else 'matches'} {quoted(config.pattern)}"
        verdict = verdict_of(turns, looks, fine, "there is no answer")
        verdict.details["pattern"] = config.pattern
        return verdict


def _look(answer: str, config: RegexConfig) -> Look:
    import regex

    pattern = regex.compile(config.pattern, regex.IGNORECASE if config.ignore_case else 0)
    matches = pattern.fullmatch if config.full else pattern.search
    try:
        match = matches(answer, timeout=config.timeout_seconds)
    except TimeoutError:
        raise EvaluationError(
            f"The pattern {quoted(config.pattern)} took longer than {config.timeout_seconds:g} s"
            f" on an answer of {len(answer):,} characters."
        ) from None
    shown = {"found": clipped(match[0], 200), "at": match.start()} if match else {"actual": clipped(answer)}
    if config.absent:
        problem = f"has {quoted(match[0])}, which matches {quoted(config.pattern)}" if match else ""
        return Look(float(not match), problem, shown)
    return Look(float(bool(match)), f"does not match {quoted(config.pattern)}", shown)
