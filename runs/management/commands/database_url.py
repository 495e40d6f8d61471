from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from project import env, postgres


class Command(BaseCommand):
    help = "Prints the address of the database, for file stores of agents (docs/openhands.md)."

    def handle(self, *args: Any, **options: Any) -> None:
        running = (
            postgres.address(settings.RUNFOLIO_DATA) if settings.EMBEDDED else (env.text("DATABASE_URL"),)
        )
        if running is None:
            raise CommandError("PostgreSQL is not running on this data folder: start it with make up.")
        self.stdout.write(running[0])
