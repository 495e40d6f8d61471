"""The list as a file: of what the address asks for, with the columns that it names (issue 5, point 9)."""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import Error as DatabaseError
from django.http import HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_http_methods, require_safe

from runs import access, errors
from runs.access import SignedInRequest
from runs.models import User
from runs.pages.asked import asked, list_address
from runs.pages.run_table import COLUMNS
from runs.query import Problem, QueryError
from runs.streams import streamed
from runs.transfer import columns
from runs.transfer.everything import everything
from runs.transfer.lines import broken_line
from runs.transfer.selection import Selection
from runs.transfer.snapshot import in_one_snapshot
from runs.transfer.table import as_csv, as_jsonl, broken_csv

log = logging.getLogger(__name__)

_MOST_IDS = 900  # Django reads a thousand fields; an address holds about ninety, a form all
_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
_HIDDEN = tuple(name for name in columns.NAMES if name not in (*columns.ALWAYS, *COLUMNS))
_OWN = ("format", "parts", "columns")  # of the form; all else of the address goes along


class NoExport(ValueError):
    """The address asks for what there is not; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`query` is as it stands in the search box; `whole` is everything instead of columns."""

    selection: Selection
    query: str
    names: tuple[str, ...]
    format: str
    whole: bool


@access.signed_in
@require_http_methods(["GET", "POST"])
def export(request: SignedInRequest) -> HttpResponseBase:
    """Posted where very many runs were chosen one by one; it changes nothing."""
    try:
        wanted = _wanted(request.POST if request.method == "POST" else request.GET, request.user)
    except NoExport as error:
        return errors.response(request, 400, str(error))
    now = timezone.now()
    lines = _failing_loudly(in_one_snapshot(_lines(wanted, now)), _BROKEN[wanted.format])
    response = streamed(request, lines, _TYPES[wanted.format])
    if response.streaming:
        name = f"runs-{now:%Y-%m-%d-%H%M}.{wanted.format}"
        response["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    return response


@access.signed_in
@require_safe
def export_choose(request: SignedInRequest) -> HttpResponse:
    """Which format, which columns, and how many runs that would be."""
    try:
        wanted = _wanted(request.GET, request.user)
    except NoExport as error:
        return errors.response(request, 400, str(error))
    count, is_all = wanted.selection.count()
    context = {
        "place": "runs",
        "wanted": wanted,
        "count": count,
        "is_all": is_all,
        "columns": [(name, label, name in wanted.names) for name, label in COLUMNS.items()],
        "hidden": [(name, name.capitalize(), name in wanted.names) for name in _HIDDEN],
        "others": [
            (name, one) for name in request.GET if name not in _OWN for one in request.GET.getlist(name)
        ],
        "back": list_address(wanted.query),
    }
    return render(request, "transfer/choose.html", context)


def _wanted(data: QueryDict, person: User) -> Wanted:
    """Raises NoExport."""
    query = asked(data, person)
    if query.problems:
        raise _not_understood(query.problems)
    format_ = data.get("format", "csv")
    if format_ not in _TYPES:
        raise NoExport(f"There is no format {format_[:30]}. There are: csv and jsonl.")
    parts = data.get("parts") or ("columns" if format_ == "csv" else "everything")
    if parts not in ("columns", "everything"):
        raise NoExport(f"There are no parts {parts[:30]}. There are: columns and everything.")
    if parts == "everything" and format_ == "csv":
        raise NoExport("A CSV file has columns alone. Choose format=jsonl for everything.")
    selection = Selection(person, query.query, _ids(data))
    try:
        selection.check()
    except QueryError as error:
        raise _not_understood(error.problems) from None
    return Wanted(selection, str(query.query), _columns(data), format_, parts == "everything")


def _not_understood(problems: Sequence[Problem]) -> NoExport:
    return NoExport(f"The search was not understood, and nothing is exported: {problems[0].message}")


def _columns(data: QueryDict) -> tuple[str, ...]:
    try:
        return columns.chosen([name for one in data.getlist("columns") for name in one.split(",") if name])
    except columns.UnknownColumn as error:
        raise NoExport(str(error)) from None


def _ids(data: QueryDict) -> Sequence[UUID]:
    given = data.getlist("id")
    if len(given) > _MOST_IDS:
        raise NoExport(f"At most {_MOST_IDS:,} runs can be chosen one by one. Search for them instead.")
    try:
        return [UUID(one) for one in given]
    except ValueError:
        raise NoExport("id is no id of a run.") from None


def _lines(wanted: Wanted, now: datetime) -> Generator[bytes]:
    if wanted.format == "csv":
        return as_csv(wanted.selection, wanted.names)
    query = str(wanted.selection.query.fixed())
    if wanted.whole:
        return everything(wanted.selection, query, now)
    return as_jsonl(wanted.selection, wanted.names, query, now)


_BROKEN: dict[str, Callable[[str], bytes]] = {"csv": broken_csv, "jsonl": broken_line}


def _failing_loudly(lines: Iterator[bytes], last: Callable[[str], bytes]) -> Iterator[bytes]:
    """The lines; where they break off, a last one that says so, and then a transfer without its end."""
    try:
        yield from lines
    except Exception as error:
        log.exception("export")
        yield b"\n" + last(_why(error))
        raise


def _why(error: Exception) -> str:
    if isinstance(error, DatabaseError):
        return "the database did not answer"
    return "this is Runfolio's fault, and its log says more"
