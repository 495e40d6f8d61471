import signal
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from runs import schema
from runs.worker.loop import Worker


class Command(BaseCommand):
    help = "Executes queued evaluations until it is told to stop (Ctrl-C or SIGTERM)."

    def handle(self, *args: Any, **options: Any) -> None:
        with suppress(OperationalError):  # a database that is away is waited for
            if problem := schema.older():
                raise CommandError(problem)
        worker = Worker()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: worker.stop())
        worker.run()
