from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from runs.models import rollup
from runs.models.reindex import reindex


class Command(BaseCommand):
    help = "Makes what is derived from the record anew, while others work: the search index and the rollups."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", nargs="+", choices=["search", "rollups"])
        parser.add_argument("--missing", action="store_true", help="search: only runs that are not in it")

    def handle(self, *args: Any, **options: Any) -> None:
        if "search" in options["what"]:
            self._rebuild_search(options["missing"])
        if "rollups" in options["what"]:
            mended = rollup.mend()
            self.stdout.write(f"{len(mended):,} sums were not what a recount gives, and are now.")

    def _rebuild_search(self, only_missing: bool) -> None:
        done = 0
        for done in reindex(only_missing):
            self.stdout.write(f"{done:,} runs", ending="\r")
        self.stdout.write(f"{done:,} runs are searchable as they are recorded.")
