"""A process that appends: a module of its own, since it is imported before Django is set up."""

import time
from multiprocessing.synchronize import Event as Flag
from typing import Any

import django


def write(owner_id: int, purging: Flag, stop: Flag, answers: Any) -> None:
    """Appends to one run after another until told to stop; gives how long each append took."""
    django.setup()
    from runs.models import NewEvent, Owner, Run, Session, append_events

    owner = Owner.objects.get(pk=owner_id)
    session = Session.objects.open(owner, "api", "bench")
    before: list[float] = []
    during: list[float] = []
    failed = number = 0
    while not stop.is_set():
        if number % 50 == 0:
            run = Run.objects.open_task(owner, session)
        number += 1
        began = time.perf_counter()
        try:
            append_events(run, [NewEvent("message", {"parts": [{"text": f"message {number} of many"}]})])
        except Exception as error:  # whatever it is, it is what must not happen
            print(repr(error), flush=True)
            failed += 1
        (during if purging.is_set() else before).append(time.perf_counter() - began)
    answers.put((before, during, failed))
