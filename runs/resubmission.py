"""Submitting a run again, changed: what is not shown of it stays as it was (issue 5, point 10)."""

import json

from django.db import transaction

from runs.exact import Json
from runs.models import Event, NewEvent, Run, append_events
from runs.redaction import REDACTED
from runs.submission import SubmissionError, submit

MOST_SHOWN = 20_000  # characters of one part of a spec
_PARTS = ("inline", "evalSet", "eval_set")  # those that may be large


def shown_spec(run: Run) -> Json:
    """The run's spec to be changed: without its secrets, and with a note in place of what is large."""
    return _abridged(run.shown_spec)


def restored(given: Json, shown: Json, whole: Json) -> Json:
    """`given` with what stands in it as it was shown put back as it is in `whole`, part by part."""
    if given == shown:
        return whole
    if isinstance(given, dict) and isinstance(shown, dict) and isinstance(whole, dict):
        return {
            key: restored(value, shown[key], whole[key]) if key in shown and key in whole else value
            for key, value in given.items()
        }
    lists = isinstance(given, list) and isinstance(shown, list) and isinstance(whole, list)
    if lists and len(given) == len(shown) == len(whole):
        return [restored(*three) for three in zip(given, shown, whole, strict=True)]
    return given


def submit_again(original: Run, body: dict[str, Json], by: str) -> Run:
    """A new run of the original's owner, linked to it. Raises SubmissionError, SpecConflict.

    Safe to repeat with the run id that `body` has: the run that is there comes back.
    """
    _refuse_marks(body.get("spec"))
    with transaction.atomic():
        made = submit(original.owner, body)
        linked = Run.objects.filter(pk=made.pk, owner=original.owner_id, retried=None).update(
            retried=original
        )
        if linked:
            why = f"retry of {original.pk}, changed"
            step: dict[str, Json] = {"to": str(made.status), "by": by, "reason": why}
            append_events(made, [NewEvent(Event.Kind.STATE, step)])
    return made


def _abridged(value: Json, name: str = "") -> Json:
    if name in _PARTS and (length := len(json.dumps(value))) > MOST_SHOWN:
        return f"UNCHANGED ({length:,} characters)"
    if isinstance(value, dict):
        return {key: _abridged(item, key) for key, item in value.items()}
    return value


def _refuse_marks(spec: Json) -> None:
    """A mark that was moved has nothing behind it. What is evaluated may say the word."""
    parts = {name: spec.get(name) for name in ("context", "sinks")} if isinstance(spec, dict) else {}
    for name, part in parts.items():
        if REDACTED in json.dumps(part):
            field = f"spec.{name}"
            raise SubmissionError(f"{field} still says {REDACTED} where something was changed", field)
