"""What is wrong with a query: where it is, and how to mend it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: a plain sentence that names the fix, and the characters to underline."""

    message: str
    start: int
    end: int


class QueryError(ValueError):
    """A text that is no query. `problems` has all its mistakes, in the order of the text.

    `message`, `start` and `end` are those of the first.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        self.message, self.start, self.end = problems[0].message, problems[0].start, problems[0].end
        super().__init__(" ".join(problem.message for problem in problems))
