"""`manage.py worker` without the fence: no write names its claim (the control of the chaos harness)."""

import sys

import django
from django.core.management import call_command


def main() -> None:
    sys.argv = ["manage.py", "worker"]
    django.setup()

    from runs.models import NewEvent, Run, queue

    everything = "unnest(%(ids)s::uuid[]) AS mine (id) WHERE run.id = mine.id"
    asked = "run.id, cancel_requested_at IS NOT NULL"
    queue._LOOK = f"SELECT {asked} FROM run, {everything}"
    queue._BEAT = (
        "UPDATE run SET lease_expires_at = statement_timestamp() + %(lease)s"
        f" FROM {everything} AND status = 'running' RETURNING {asked}"
    )

    def append(self: queue.Claim, events: list[NewEvent]) -> None:
        queue.append_events(Run(pk=self.run_id), events)

    queue.Claim._run = property(lambda self: Run.objects.filter(pk=self.run_id))
    queue.Claim.append = append
    call_command("worker")


if __name__ == "__main__":
    main()
