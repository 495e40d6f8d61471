"""Numbers, durations and times, read and written.

Readers raise ValueError without a message; the parser says what the field takes instead.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from decimal import Decimal

from runs.query.fields import Kind

Amount = int | float | Decimal | timedelta

_LONGEST = timedelta(days=36_500)
_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_MICROSECOND = timedelta(microseconds=1)

# [0-9] and not \d, which takes the digits of every script. Lengths keep to what a column can hold.
_RATING = re.compile("[1-5]")
_WHOLE = re.compile("[0-9]{1,15}")
_NUMBER = re.compile(r"[+-]?[0-9]*\.?[0-9]+(?:e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_MONEY = re.compile(r"(?=.)[0-9]{0,8}(?:\.[0-9]{1,6})?")
_DURATION = re.compile("(?=.)" + "".join(rf"(?:([0-9]{{1,9}}(?:\.[0-9]{{1,6}})?){unit})?" for unit in _UNITS))
_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    _DATE.pattern + r"T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?"
)


def read_amount(kind: Kind, text: str) -> Amount:
    """The number or duration in `text`. Raises ValueError."""
    return _READERS[kind](text)


@dataclass(frozen=True, slots=True)
class Clock:
    """What a time without a date or a zone refers to. `now` is aware."""

    now: datetime
    zone: tzinfo

    def read(self, text: str) -> tuple[datetime, str]:
        """The instant in UTC, and the text in its usual form. Raises ValueError.

        UTC, because a time that summer time makes ambiguous is not equal to itself in another zone.
        """
        written = text.lower()
        if _DATE.match(text):
            written = text.upper().replace(" ", "T")
            return self._date(written), written
        if written in ("today", "yesterday"):
            day = self.now.astimezone(self.zone).date() - timedelta(days=written == "yesterday")
            return datetime.combine(day, time(), self.zone).astimezone(UTC), written
        return self.now.astimezone(UTC) - _read_duration(written), written

    def _date(self, text: str) -> datetime:
        if not _DATE.fullmatch(text) and not _TIME.fullmatch(text):
            raise ValueError
        instant = datetime.fromisoformat(text)
        try:
            return (instant if instant.tzinfo else instant.replace(tzinfo=self.zone)).astimezone(UTC)
        except OverflowError:  # the first and last day there is, in a zone where it is another
            raise ValueError from None


def write(value: Amount | datetime | None) -> str:
    """The text that is read as `value`."""
    match value:
        case None:
            return "none"
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return _write_duration(value)
        case Decimal():
            return f"{value:f}"
        case _:
            return repr(value).removesuffix(".0")


def _read_rating(text: str) -> int:
    return int(_matched(_RATING, text)[0])


def _read_whole(text: str) -> int:
    return int(_matched(_WHOLE, text)[0])


def _read_number(text: str) -> float:
    number = float(_matched(_NUMBER, text)[0])
    if not math.isfinite(number):
        raise ValueError
    return number


def _read_money(text: str) -> Decimal:
    return Decimal(_matched(_MONEY, text)[0])


def _read_duration(text: str) -> timedelta:
    counts = zip(_matched(_DURATION, text.lower()).groups(), _UNITS.values(), strict=True)
    microseconds = int(sum(Decimal(count) * (unit // _MICROSECOND) for count, unit in counts if count))
    if microseconds > _LONGEST // _MICROSECOND:
        raise ValueError
    return timedelta(microseconds=microseconds)


_READERS: dict[Kind, Callable[[str], Amount]] = {
    Kind.RATING: _read_rating,
    Kind.WHOLE: _read_whole,
    Kind.NUMBER: _read_number,
    Kind.MONEY: _read_money,
    Kind.DURATION: _read_duration,
}


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    found = pattern.fullmatch(text)
    if found is None:
        raise ValueError
    return found


def _write_duration(duration: timedelta) -> str:
    text, rest = "", duration
    for unit, size in list(_UNITS.items())[:-1]:
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    milliseconds = Decimal(rest // _MICROSECOND) / 1000
    return text + (f"{milliseconds:f}ms" if rest else "") or "0s"
