from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.models import Owner, counters

_LINE = "{0.table:8} {0.row!s:40} {0.column:18} {0.kept!s:>24} {0.counted!s:>24}"
_HEAD = counters.Difference("table", "row", "column", "kept", "counted")


class Command(BaseCommand):
    help = "Compares what lists and trends show with the rows beneath; differences end it with exit code 1."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--owner", help="whose data; everybody's by default")
        parser.add_argument(
            "--repair", action="store_true", help="make it true, and forget filter choices that no run has"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        owner = _owner(options["owner"])
        found = counters.repair(owner) if options["repair"] else counters.differences(owner)
        number = 0
        for number, difference in enumerate(found, 1):
            if number == 1:
                self.stdout.write(_LINE.format(_HEAD).rstrip())
            self.stdout.write(_LINE.format(difference).rstrip())
        if number and not options["repair"]:
            raise CommandError(f"{number} differ. Make them true with --repair.")
        self.stdout.write(f"{number} repaired." if number else "All is true.")


def _owner(name: str | None) -> Owner | None:
    if name is None:
        return None
    owner = Owner.objects.filter(name=name).first()
    if owner is None:
        raise CommandError(f"There is no owner {name}.")
    return owner
