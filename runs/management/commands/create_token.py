from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from runs.management.owners import named_owner
from runs.models import Token


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
        _, secret = Token.objects.issue(
            named_owner(options["owner"]), options["name"], options["scope"], until
        )
        self.stdout.write(secret)
