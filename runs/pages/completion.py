"""What completes the search box as one types, and what in it is wrong (issue 5, point 2)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from runs import access
from runs.access import SignedInRequest
from runs.models import Action, Choice, Owner
from runs.models.choice import session_keys
from runs.query import (
    FIELDS,
    MAX_LENGTH,
    Kind,
    Problem,
    QueryError,
    Typed,
    complete,
    parse,
    typed_value,
    written_key,
    written_value,
)

_MOST = 12  # options
_KEPT = ("agent", "model", "source", "evaluator", "metadata")  # fields whose values are choices
_TIMES = {"today": "", "yesterday": "", "1h": "an hour ago", "24h": "", "7d": "a week ago", "30d": ""}
_SUGGESTED: dict[Kind, dict[str, str]] = {
    Kind.TIME: _TIMES,
    Kind.RATING: {"5": "", "4": "", "3": "", "2": "", "1": "", "none": "not rated", "<=2": "bad ones"},
    Kind.DURATION: {">1m": "", ">5m": "", ">1h": "", "none": "not begun"},
}


@dataclass(frozen=True, slots=True)
class Option:
    """`text` is what comes into the box; of the shown `name`, from `start` to `end` is what was typed."""

    text: str
    name: str
    hint: str = ""
    start: int = 0
    end: int = 0

    @property
    def pieces(self) -> tuple[str, str, str]:
        return self.name[: self.start], self.name[self.start : self.end], self.name[self.end :]


@access.signed_in
@require_safe
def completion(request: SignedInRequest) -> HttpResponse:
    """The options for `q` with the cursor at `at`, and the mistakes that are not being typed right now."""
    text = request.GET.get("q", "")[: MAX_LENGTH + 1]
    at = request.GET.get("at", "")
    position = min(int(at), len(text)) if at.isascii() and at.isdigit() and len(at) < 6 else len(text)
    typed = typed_value(text, position)
    names = complete(text, position)
    named = (_name(one, position - names.start) for one in names.texts)
    options = list(_values(request, typed) if typed else named)
    context = {
        "options": options[:_MOST],
        "start": typed.start if typed else names.start,
        "end": typed.end if typed else names.end,
        "mistakes": mistakes_in(text, [one for one in _problems(request, text) if not _at(one, position)]),
    }
    return render(request, "runs/completion.html", context)


def mistakes_in(text: str, problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Each problem with the piece of text that it is about, and where that stands."""
    places = [(one.start, one.end, one.message) for one in problems]
    return [{"text": text[a:b], "start": a, "end": b, "message": message} for a, b, message in places]


def _at(problem: Problem, position: int) -> bool:
    return problem.start <= position <= problem.end


def _problems(request: SignedInRequest, text: str) -> tuple[Problem, ...]:
    try:
        parse(text, timezone.now(), request.user.zone)
    except QueryError as error:
        return error.problems
    return ()


def _name(name: str, typed: int) -> Option:
    return Option(name, name, FIELDS[name.rstrip(":.")].description, 0, typed)


def _values(request: SignedInRequest, typed: Typed) -> Iterator[Option]:
    field, beginning = FIELDS[typed.field], typed.beginning
    if typed.field in _KEPT:
        yield from (_of(value, typed) for value in _choices(request, typed))
    elif typed.field == "session":
        yield from (_of(key, typed) for key in session_keys(request.user, beginning, _MOST))
    elif typed.field == "owner":
        owners = Owner.objects.filter(pk__in=request.rights[Action.VIEW], name__icontains=beginning)
        yield from (_of(name, typed) for name in owners.values_list("name", flat=True)[:_MOST])
    else:
        suggested = dict.fromkeys(field.values, "") or _SUGGESTED.get(field.kind, {})
        for value, hint in suggested.items():
            if value.startswith(beginning.lower()):
                yield Option(f"{value} ", value, hint, 0, len(beginning))


def _of(value: str, typed: Typed) -> Option:
    """An option for a value as it is kept, quoted where it has to be."""
    start = max(0, value.lower().find(typed.beginning.lower()))
    if typed.field == "metadata":
        return Option(f"{written_key(value)}:", value, "", start, start + len(typed.beginning))
    return Option(f"{written_value(value)} ", value, "", start, start + len(typed.beginning))


def _choices(request: SignedInRequest, typed: Typed) -> list[str]:
    """Values that have what was typed in them; those that begin with it first."""
    offered = Choice.objects.visible_to(request.user).filter(field=typed.field)
    found = offered.filter(value__icontains=typed.beginning)
    values = found.order_by("value").values_list("value", flat=True).distinct()[: 20 * _MOST]
    begun = typed.beginning.lower()
    return sorted(values, key=lambda value: not value.lower().startswith(begun))
