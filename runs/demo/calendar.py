"""When the demo's runs happen: mostly on weekdays and by day, and too many of them on one bad afternoon."""

from datetime import datetime, timedelta

from runs.demo.story import Chance

DAYS = 30
_BY_DAY = (9, 11, 12, 10, 8, 2, 1)  # how busy Monday to Sunday are
_BY_HOUR = (1, 0, 0, 0, 0, 1, 3, 6, 10, 12, 12, 9, 7, 10, 11, 9, 8, 5, 3, 2, 2, 1, 1, 1)
_INCIDENT_AGO = (3, 4, 5, 6, 7, 8, 9)  # days; the newest of them that was a Tuesday, Wednesday or Thursday


def moments(chance: Chance, now: datetime, count: int) -> list[datetime]:
    """`count` moments of the last 30 days, in order, none of the last ten minutes."""
    days = [now - timedelta(days=ago) for ago in range(DAYS)]
    weights = [_BY_DAY[day.weekday()] for day in days]
    found: list[datetime] = []
    while len(found) < count:
        day = chance.choices(days, weights)[0]
        hour = chance.choices(range(24), _BY_HOUR)[0]
        at = _clock(day, hour, chance.randrange(60)) + timedelta(milliseconds=chance.randrange(60_000))
        if now - timedelta(days=DAYS) < at < now - timedelta(minutes=10):
            found.append(at)
    return sorted(found)


def nights(now: datetime) -> list[datetime]:
    """Ten past two of each working day, when the suites run."""
    found = [_clock(now - timedelta(days=ago), 2, 10) for ago in range(DAYS - 1, -1, -1)]
    return [at for at in found if at.weekday() < 5 and at < now - timedelta(hours=1)]


def incident(now: datetime) -> datetime:
    """When the bad afternoon began."""
    days = [now - timedelta(days=ago) for ago in _INCIDENT_AGO]
    return _clock(next(day for day in days if day.weekday() in (1, 2, 3)), 13, 20)


def _clock(day: datetime, hour: int, minute: int) -> datetime:
    return day.replace(hour=hour, minute=minute, second=0, microsecond=0)
