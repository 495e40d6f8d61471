"""What became of an import: what is here now, what was left out and why, and how far it is."""

from collections import Counter
from dataclasses import dataclass, field

from runs.exact import clean_text

_MOST_PROBLEMS = 200  # that are told one by one
_MESSAGE = 500  # characters


@dataclass
class Report:
    """Counts of one import so far.

    `expected` is about how many things there are to read, as far as that is known, and `read` how many of
    them were. `skipped` counts by reason what was passed over on purpose; a problem is something damaged:
    where it stands, and what was done about it.
    """

    unit: str
    expected: int = 0
    read: int = 0
    taken: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    there: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)
    more_problems: int = 0

    @property
    def is_whole(self) -> bool:
        return not self.problems

    @property
    def has_news(self) -> bool:
        return bool(self.new or self.brought_up_to_date or self.problems)

    @property
    def new(self) -> list[tuple[str, int]]:
        """What was taken, and how many each."""
        return [(what, number) for what, number in self.taken.items() if number]

    @property
    def brought_up_to_date(self) -> list[tuple[str, int]]:
        return [(what, number) for what, number in self.changed.items() if number]

    @property
    def left_out(self) -> list[tuple[str, int]]:
        """What was passed over on purpose, and how many each."""
        return [(reason, number) for reason, number in self.skipped.items() if number > 0]

    def note(self, where: str, message: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append((clean_text(where)[:_MESSAGE], clean_text(message)[:_MESSAGE]))
        else:
            self.more_problems += 1
