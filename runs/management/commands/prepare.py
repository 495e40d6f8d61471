import json
import secrets
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from project import env
from runs import schema
from runs.first_start import first_start, write_secret


class Command(BaseCommand):
    help = "Migrates, and makes what a first start makes; `manage.py up` runs it. Prints a JSON object."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--demo", action="store_true", help="also load the demo's history")

    def handle(self, *args: Any, **options: Any) -> None:
        settings.RUNFOLIO_DATA.mkdir(mode=0o700, parents=True, exist_ok=True)
        _keep_secret_key()
        try:
            if settings.RUN_MIGRATIONS_ON_STARTUP:
                call_command("migrate", verbosity=0, interactive=False)
            elif problem := schema.newer() or schema.older():
                raise CommandError(problem)
            made = first_start(settings.RUNFOLIO_DATA)
            if options["demo"]:
                call_command("load_demo", rater=made.user.username, stdout=self.stderr)
        except OperationalError as error:
            raise CommandError(f"The database does not answer: {error}") from error
        self.stdout.write(json.dumps({"token_file": str(made.token_file), "link": made.link}))


def _keep_secret_key() -> None:
    """None is built in: web and worker read this one, unless SECRET_KEY is set."""
    path = settings.RUNFOLIO_DATA / "secret_key"
    if not env.text("SECRET_KEY") and not path.exists():
        settings.SECRET_KEY = secrets.token_urlsafe(50)  # what is encrypted from here on is read by others
        write_secret(path, settings.SECRET_KEY)
