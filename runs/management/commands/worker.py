import signal
from typing import Any

from django.core.management.base import BaseCommand

from runs.worker.loop import Worker


class Command(BaseCommand):
    help = "Executes queued evaluations until it is told to stop (Ctrl-C or SIGTERM)."

    def handle(self, *args: Any, **options: Any) -> None:
        worker = Worker()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: worker.stop())
        worker.run()
