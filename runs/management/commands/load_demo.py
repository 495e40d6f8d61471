from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from runs.demo.load import load
from runs.models import Owner, User


class Command(BaseCommand):
    help = "Loads a month of believable history, to look at Runfolio with; once for an owner."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--owner", help="whose it will be; the first owner by default")
        parser.add_argument("--seed", type=int, default=1, help="another number tells another month")
        parser.add_argument("--rater", help="a person who will find ratings of their own among the others'")
        parser.add_argument(
            "--now", help="the end of the month, such as 2026-11-21T12:00:00Z; now by default"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        owner = _owner(options["owner"])
        count = load(owner, options["seed"], _moment(options["now"]), _person(options["rater"]))
        if count:
            self.stdout.write(f"{count} runs of the last 30 days are there now, for {owner.name}.")
        else:
            self.stdout.write(f"{owner.name} has the demo's history already; nothing was loaded.")


def _owner(name: str | None) -> Owner:
    owners = Owner.objects.order_by("pk")
    owner = (owners.filter(name=name) if name else owners).first()
    if owner is None:
        names = ", ".join(owners.values_list("name", flat=True)[:20])
        raise CommandError(f"no such owner; there are: {names or 'none yet, start with make up'}")
    return owner


def _person(name: str | None) -> User | None:
    person = User.objects.filter(username=name).first() if name else None
    if name and person is None:
        raise CommandError(f"nobody is called {name!r}")
    return person


def _moment(text: str | None) -> datetime:
    if text is None:
        return timezone.now()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"--now {text} is no time; write it as 2026-11-21T12:00:00Z") from None
    return moment if moment.tzinfo else timezone.make_aware(moment)
