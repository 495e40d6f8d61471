"""Why an evaluation is not running, and where it runs, in a sentence (issue 4, point 10)."""

from datetime import datetime

from runs.exact import Json
from runs.models import Run
from runs.models.queue_view import (
    MOST,
    Place,
    Situation,
    last_reasons,
    open_attempts,
    place_of,
    situation,
    worker_of,
)
from runs.pages import text
from runs.templatetags import look

_REASON = 300  # characters


def why_not_running(run: Run) -> str:
    """Of a run that waits: what is in its way, the greatest obstacle alone."""
    now = situation()
    waits = place_of(run, now.line) if run.run_after is None else None
    reason = "" if waits else last_reasons([run]).get(run.pk, "")
    return f"{obstacle(run, now, waits, reason)}{_lacking(run, now)}"


def obstacle(run: Run, now: Situation, place: Place | None, last: str) -> str:
    """The same. `place` is None in the pause after an attempt that ended with `last`."""
    if now.queue.paused_at:
        why = f": “{_line(now.queue.reason)}”" if now.queue.reason else ""
        return f"The queue is paused by {_line(now.queue.paused_by)}{why}."
    if not now.alive:
        return "No worker is alive: manage.py worker starts one."
    if not now.places:
        return "Every worker is draining: none takes more runs."
    return _pause(run, last) if place is None else _in_line(now, place)


def in_list(run: Run, now: Situation, place: Place | None, last: str) -> str:
    """The same where the page says once what is in the way of all."""
    if place is None:
        return _pause(run, last)
    if now.queue.paused_at:
        return "The queue is paused."
    return _in_line(now, place) if now.places else "No worker takes runs."


def whereabouts(run: Run) -> str:
    """Of an evaluation that runs: which worker is at it, and at what."""
    attempt = open_attempts([run]).get(run.pk)
    since = f" since {_clock(run.claimed_at)}" if run.claimed_at else ""
    doing = f": {_line(attempt.doing)}" if attempt and attempt.doing else ""
    return f"Worker {_line(worker_of(run))} is at it{since}{doing}."


def fell_silent(run: Run) -> str:
    until = f" until {_clock(run.lease_expires_at)}" if run.lease_expires_at else ""
    return f"Its worker fell silent: {_line(worker_of(run))} had it{until}. Another one takes it over."


def capped(number: int) -> str:
    """A count that ends at MOST + 1."""
    return f"{MOST:,}+" if number > MOST else f"{number:,}"


def runs_of(number: int) -> str:
    return f"{capped(number)} run{'' if number == 1 else 's'}"


def _pause(run: Run, last: str) -> str:
    after = f", after “{_line(last)}”" if last else ""
    return f"Its next attempt is at {_clock(run.run_after)}{after}."


def _in_line(now: Situation, place: Place) -> str:
    before = place.own + place.others
    if now.free > before:
        return "A worker is about to take it."
    taken = f"All {now.places} places are taken" if now.free == 0 else "It waits for a place"
    if now.places == 1 and now.free == 0:
        taken = "The only place is taken"
    parts = [f"{runs_of(place.own)} of its own owner"] if place.own else []
    if place.others:
        owners = "another owner" if place.owners == 1 else f"{place.owners} other owners"
        parts.append(f"{runs_of(place.others)} of {owners}, who take turns")
    return f"{taken}; before it go {' and '.join(parts)}." if parts else f"{taken}; it is the next."


def _lacking(run: Run, now: Situation) -> str:
    """What it asks for and nobody has: it does not wait for that, it ends badly by it."""
    if not now.places:
        return ""
    asked = Run.objects.filter(pk=run.pk).values_list("spec__engine", "spec__evalConfig").first()
    engine, config = asked or (None, None)
    if engine == "agentevals" and not now.somebody_can("agentevals"):
        return " No worker has the engine agentevals, which it asks for: as it is, it is going to fail."
    if _has_program(config) and not now.somebody_can("code"):
        return " No worker may run the programs that it names: as it is, their results will be errored."
    return ""


def _has_program(config: Json) -> bool:
    entries = config.get("evaluators") if isinstance(config, dict) else None
    return isinstance(entries, list) and any(
        isinstance(entry, dict) and entry.get("type") == "code" for entry in entries
    )


def _clock(at: datetime | None) -> str:
    return f"{look.local(at):%H:%M:%S %Z}" if at else ""


def _line(words: str) -> str:
    return text.visible(" ".join(words[: _REASON * 2].split()))[:_REASON]
