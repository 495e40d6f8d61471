from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from runs.models import Owner, Token


class Command(BaseCommand):
    help = "Makes an API token and prints it; it is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--owner", help="whose data it reads and writes; needed where there are several")
        parser.add_argument("--name", default="command line", help="what to call it in lists")
        parser.add_argument(
            "--scope", action="append", choices=Token.Scope.values, help="repeat for several; all by default"
        )
        parser.add_argument("--days", type=int, help="how long it works; for ever by default")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["days"] is not None and not 0 < options["days"] < 36500:
            raise CommandError("--days must be from 1 to 36499")
        until = timezone.now() + timedelta(days=options["days"]) if options["days"] else None
        _, secret = Token.objects.issue(_owner(options["owner"]), options["name"], options["scope"], until)
        self.stdout.write(secret)


def _owner(name: str | None) -> Owner:
    owners = list(Owner.objects.filter(name=name) if name else Owner.objects.all()[:2])
    if len(owners) == 1:
        return owners[0]
    names = ", ".join(Owner.objects.values_list("name", flat=True)[:20])
    raise CommandError(f"name the owner with --owner; there are: {names or 'none yet, start with make up'}")
