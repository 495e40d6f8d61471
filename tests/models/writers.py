"""A process that appends to one run over several connections: python -m tests.models.writers RUN NUMBER."""

import sys
from concurrent.futures import ThreadPoolExecutor

import django

CONNECTIONS, APPENDS = 13, 6


def ids(process: int, number: int) -> list[str]:
    return [f"{process}/{number}/{n}" for n in range(APPENDS)]


def write(run_id: str, process: int) -> None:
    from django.db import connections

    from runs.models import NewEvent, Run, append_events

    def send(number: int) -> None:
        try:
            for event_id in ids(process, number):
                append_events(Run(pk=run_id), [NewEvent("message", {"said": event_id}, event_id=event_id)])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(send, range(CONNECTIONS)))


if __name__ == "__main__":
    django.setup()
    write(sys.argv[1], int(sys.argv[2]))
