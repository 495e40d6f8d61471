import sys
from argparse import _SubParsersAction
from contextlib import ExitStack
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.management.owners import named_owner
from runs.models import Owner
from runs.transfer.reading import Lines
from runs.transfer.taking import Report, take

_TOLD = 100  # runs between two words on how far it is


class Command(BaseCommand):
    help = "Takes in history that exists already. May be stopped and repeated: what is there stays as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        systems = parser.add_subparsers(dest="system", required=True, title="where it comes from")
        _add_runs(systems)

    def handle(self, *args: Any, **options: Any) -> None:
        _SYSTEMS[options["system"]](self, options)


# ── Another Runfolio ───────────────────────────────────────────────────────
def _add_runs(systems: "_SubParsersAction[CommandParser]") -> None:
    parser = systems.add_parser("runs", help="files that Runfolio exported as JSONL")
    parser.add_argument("file", nargs="+", help="gzipped or not; - is the standard input")
    parser.add_argument("--owner", help="whose the runs will be; needed where there are several owners")


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


_SYSTEMS = {"runs": _import_runs}
