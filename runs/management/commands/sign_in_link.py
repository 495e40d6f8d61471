from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.first_start import sign_in_link
from runs.models import User


class Command(BaseCommand):
    help = "Prints a link that signs a person in once, within a day; there a password can be set."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="the name that the person signs in with")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"], is_active=True).first()
        if user is None:
            names = ", ".join(User.objects.filter(is_active=True).values_list("username", flat=True)[:20])
            raise CommandError(f"nobody is called {options['user']!r}; there are: {names or 'no people yet'}")
        self.stdout.write(sign_in_link(user))
