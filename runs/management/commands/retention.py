from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from runs.models import Extent, Owner, retention


class Command(BaseCommand):
    help = "Shows which runs are due to be deleted for good; with --apply deletes them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--owner", help="whose runs; everybody's by default")
        parser.add_argument("--apply", action="store_true", help="delete them, now and for good")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        for owner in _owners(options["owner"]):
            self.stdout.write(f"{owner}")
            for due in retention.due_of(owner, now):
                self._line(due.reason, due.extent())
            if options["apply"]:
                self._line("deleted", retention.apply(owner, now, by="command line"))
        if not options["apply"]:
            self.stdout.write("Nothing was deleted. Repeat this with --apply to delete what is due.")

    def _line(self, reason: str, extent: Extent) -> None:
        sessions = f", and {_counted(extent.sessions, 'session')}" if extent.sessions else ""
        size = filesizeformat(extent.bytes).replace("\xa0", " ")
        self.stdout.write(f"  {_counted(extent.runs, 'run'):>12} {size:>11}  {reason}{sessions}")


def _owners(name: str | None) -> list[Owner]:
    if name is None:
        return list(Owner.objects.order_by("name"))
    owners = list(Owner.objects.filter(name=name))
    if not owners:
        raise CommandError(f"There is no owner {name}.")
    return owners


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
