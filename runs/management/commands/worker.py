import os
import signal
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from runs import schema
from runs.worker.loop import EvaluationWorker

NICENESS = 10  # evaluations wait for nobody's click: pages and database of the same machine come first


class Command(BaseCommand):
    help = "Executes queued evaluations until it is told to stop (Ctrl-C or SIGTERM)."

    def handle(self, *args: Any, **options: Any) -> None:
        with suppress(OperationalError):  # a database that is away is waited for
            if problem := schema.older():
                raise CommandError(problem)
        os.nice(NICENESS)
        worker = EvaluationWorker()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: worker.stop())
        worker.run()
