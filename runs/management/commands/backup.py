from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from project import dumps
from project.dumps import DumpError
from project.postgres import PostgresError


class Command(BaseCommand):
    help = "Writes the whole database, as of one moment, to a file. Runfolio may go on meanwhile."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="replaced if it exists, once the new one is complete")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        if settings.EMBEDDED and not (settings.RUNFOLIO_DATA / "postgres").exists():
            raise CommandError(
                f"There is no database in {settings.RUNFOLIO_DATA}. Set RUNFOLIO_DATA or DATABASE_URL."
            )
        try:
            with dumps.running_database():
                size = dumps.save(file.absolute())
        except (DumpError, PostgresError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{file} holds the database ({size:,} bytes), but not the files secret_key and token."
        )
