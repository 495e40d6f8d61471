import os
import sys
import time
from argparse import _SubParsersAction
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, OperationalError, connection

from runs.exact import clean_text
from runs.importers import agentevals, bindu, openhands, traces
from runs.importers.database import Source, SourceError, opened
from runs.importers.report import Report as Imported
from runs.management.owners import named_owner
from runs.management.progress import Bar
from runs.models import Owner
from runs.models.imports import Busy
from runs.transfer.reading import Lines
from runs.transfer.taking import Report, take

_TOLD = 100  # runs between two words on how far it is
_PAUSE = 2.0  # seconds before a database is looked at again
_LONG_PAUSE = 10.0  # where it could not be read
_INTERRUPTED = 130  # as a shell has it of what Ctrl-C ended


class Command(BaseCommand):
    help = "Takes in history that exists already. May be stopped and repeated: what is there stays as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        systems = parser.add_subparsers(dest="system", required=True, title="where it comes from")
        _add_runs(systems)
        _add_bindu(systems)
        _add_agentevals(systems)
        _add_openhands(systems)
        _add_traces(systems)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            _SYSTEMS[options["system"]](self, options)
        except KeyboardInterrupt:
            self.stdout.write("\nStopped. What it has taken is here; the same command goes on from there.")
            if not options.get("follow"):
                sys.exit(_INTERRUPTED)


# ── Another Runfolio ───────────────────────────────────────────────────────
def _add_runs(systems: "_SubParsersAction[CommandParser]") -> None:
    parser = systems.add_parser("runs", help="files that Runfolio exported as JSONL")
    parser.add_argument("file", nargs="+", help="gzipped or not; - is the standard input")
    _add_owner(parser)


def _import_runs(command: Command, options: dict[str, Any]) -> None:
    owner, wrong = named_owner(options["owner"]), 0
    for name in options["file"]:
        report = _take(command, name, owner)
        _tell(command, name, report)
        wrong += not report.is_whole or report.refused > 0
    if wrong:
        raise CommandError("Not all of it is here; what is missing stands above.")


def _take(command: Command, name: str, owner: Owner) -> Report:
    report, told = Report(), 0
    with ExitStack() as open_files:
        try:
            file = sys.stdin.buffer if name == "-" else open_files.enter_context(open(name, "rb"))  # noqa: PTH123
        except OSError as error:
            raise CommandError(f"{name} cannot be read: {error.strerror}.") from None
        for report in take(Lines(file), owner, defines=True):
            if report.taken >= told + _TOLD:
                told = report.taken
                command.stdout.write(f"{told:,} runs", ending="\r")
    return report


def _tell(command: Command, name: str, report: Report) -> None:
    write = command.stdout.write
    write(
        f"{name}: {report.taken:,} runs taken, {report.there:,} were there already, "
        f"{report.refused:,} refused; {report.sessions:,} new sessions, {report.criteria:,} new criteria."
    )
    for reason, count in report.left_out:
        write(f"  left out: {count:,} {reason}")
    for line, message in report.problems:
        write(f"  line {line:,}: {message}")
    if report.more_problems:
        write(f"  and {report.more_problems:,} problems more")
    if not report.is_whole:
        why = report.stopped or "its last line is missing or not true"
        write(command.style.WARNING(f"  THE FILE IS NOT WHOLE: {why}. Runs may be missing."))


# ── Databases ──────────────────────────────────────────────────────────────
def _add_bindu(systems: "_SubParsersAction[CommandParser]") -> None:
    parser = systems.add_parser("bindu", help="the PostgreSQL of Bindu agents: every agent's schema in it")
    parser.add_argument("--schema", action="append", help="only this one; may be repeated")
    _add_database(parser)


def _import_bindu(command: Command, options: dict[str, Any]) -> None:
    owner = named_owner(options["owner"])
    _import(command, options, lambda source: bindu.take(source, owner, options["schema"]))


def _add_agentevals(systems: "_SubParsersAction[CommandParser]") -> None:
    parser = systems.add_parser("agentevals", help="the PostgreSQL of an agentevals server")
    parser.add_argument("--schema", default=agentevals.SCHEMA, help="where its tables are")
    _add_database(parser)


def _import_agentevals(command: Command, options: dict[str, Any]) -> None:
    owner = named_owner(options["owner"])
    _import(command, options, lambda source: agentevals.take(source, owner, options["schema"]))


def _add_database(parser: CommandParser) -> None:
    parser.add_argument("url", help="postgresql://USER:PASSWORD@HOST/NAME")
    parser.add_argument("--follow", action="store_true", help="go on with what comes later, until Ctrl-C")
    _add_owner(parser)


def _import(
    command: Command, options: dict[str, Any], taking: Callable[[Source], Iterator[Imported]]
) -> None:
    if options["follow"]:
        _follow(command, options["url"], taking)
        return
    try:
        report = _pass(command, options["url"], taking)
    except (SourceError, Interrupted, Busy) as error:
        raise CommandError(f"{error}.") from None
    _tell_imported(command, report)
    if not report.is_whole:
        raise CommandError("Not all of it is here as it was there; what is not stands above.")


def _follow(command: Command, url: str, taking: Callable[[Source], Iterator[Imported]]) -> None:
    """Reads again and again; a database that is away for a while is waited for."""
    first = True
    while True:
        try:
            report = _pass(command, url, taking)
            if first or report.has_news:
                _tell_imported(command, report)
            first, pause = False, _PAUSE
        except (SourceError, Interrupted) as error:
            if first:
                raise CommandError(f"{error}.") from None
            command.stdout.write(command.style.WARNING(f"{error}; trying again in {_LONG_PAUSE:g} s"))
            pause = _LONG_PAUSE
        except Busy as error:
            raise CommandError(f"{error}.") from None
        command.stdout.flush()
        time.sleep(pause)


def _pass(command: Command, url: str, taking: Callable[[Source], Iterator[Imported]]) -> Imported:
    """One reading of all that is new; gives the last report. Raises Interrupted."""
    try:
        with opened(url) as source:
            return _shown(command, taking(source))
    except IntegrityError:
        raise Interrupted("an agent has written the same here at that moment; do it again") from None
    except OperationalError as error:
        connection.close_if_unusable_or_obsolete()
        raise Interrupted(f"what is taken cannot be written: {str(error).partition(chr(10))[0]}") from None


class Interrupted(Exception):
    """It came to nothing further this time; the text says why. What was taken before is here."""


# ── Files ──────────────────────────────────────────────────────────────────
def _add_openhands(systems: "_SubParsersAction[CommandParser]") -> None:
    parser = systems.add_parser("openhands", help="folders of OpenHands conversations, or one such folder")
    parser.add_argument("folder", nargs="+", help="such as ~/.openhands/conversations")
    _add_owner(parser)


def _import_openhands(command: Command, options: dict[str, Any]) -> None:
    owner = named_owner(options["owner"])
    _import_each(
        *(command, options["folder"]),
        lambda name: openhands.take(openhands.Folder(_path(name)), owner, name),
    )


def _add_traces(systems: "_SubParsersAction[CommandParser]") -> None:
    parser = systems.add_parser("traces", help="files of traces: Jaeger's JSON, or OTLP's")
    parser.add_argument("file", nargs="+", help="one document, or one on each line; gzipped or not")
    _add_owner(parser)


def _import_traces(command: Command, options: dict[str, Any]) -> None:
    owner = named_owner(options["owner"])

    def take(name: str) -> Iterator[Imported]:
        with _path(name).open("rb") as file:
            yield from traces.take(file, owner, name)

    _import_each(command, options["file"], take)


def _path(name: str) -> Path:
    return Path(os.path.expanduser(name))  # noqa: PTH111  pathlib's raises for a user who is not there


def _import_each(command: Command, names: list[str], taking: Callable[[str], Iterator[Imported]]) -> None:
    wrong = 0
    for name in names:
        try:
            report = _shown(command, taking(name))
        except OSError as error:
            raise CommandError(f"{name} cannot be read: {error.strerror}.") from None
        except openhands.Unreadable as error:
            raise CommandError(f"{error}.") from None
        command.stdout.write(f"{clean_text(name)}:")
        _tell_imported(command, report)
        wrong += not report.is_whole
    if wrong:
        raise CommandError("Not all of it is here as it was there; what is not stands above.")


# ── What all of them tell ──────────────────────────────────────────────────
def _add_owner(parser: CommandParser) -> None:
    parser.add_argument("--owner", help="whose the runs will be; needed where there are several owners")


def _shown(command: Command, reports: Iterator[Imported]) -> Imported:
    """Goes through with it while the terminal shows how far it is."""
    bar = None
    report = Imported("")
    for report in reports:
        bar = bar or Bar(command.stdout, report.unit)
        bar.show(report.read, report.expected)
    if bar is not None:
        bar.clear()
    return report


def _tell_imported(command: Command, report: Imported) -> None:
    write = command.stdout.write
    write(f"Taken: {_counted(report.new) or 'nothing'}.")
    if report.brought_up_to_date:
        write(f"Brought up to date: {_counted(report.brought_up_to_date)}.")
    if report.there:
        write(f"There already: {report.there:,} {report.unit}.")
    for reason, count in report.left_out:
        write(f"  left out: {count:,} {reason}")
    for where, message in report.problems:
        write(f"  {where}: {message}")
    if report.more_problems:
        write(f"  and {report.more_problems:,} problems more")


def _counted(numbers: list[tuple[str, int]]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in numbers)


_SYSTEMS: dict[str, Callable[[Command, dict[str, Any]], None]] = {
    "runs": _import_runs,
    "bindu": _import_bindu,
    "agentevals": _import_agentevals,
    "openhands": _import_openhands,
    "traces": _import_traces,
}
