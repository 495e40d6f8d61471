from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.models import Owner
from runs.models.webhook import new_signing_secret, signing_secret
from runs.sealing import Unsealable


class Command(BaseCommand):
    help = "Prints the secret that an owner's deliveries are signed with (docs/webhooks.md)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("owner", help="its name")
        parser.add_argument("--new", action="store_true", help="make a new one first; the old one ends")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = Owner.objects.filter(name=options["owner"]).first()
        if owner is None:
            raise CommandError(f"There is no owner {options['owner']}.")
        try:
            self.stdout.write(new_signing_secret(owner) if options["new"] else signing_secret(owner))
        except Unsealable as error:
            raise CommandError(f"{error} A new one is made with --new.") from None
