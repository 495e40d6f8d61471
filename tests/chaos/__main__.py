"""Truth under kills: real workers on a PostgreSQL of their own, disturbed without end (issue 4, "Done when").

    python -m tests.chaos [--minutes 10] [--seed N] [--runs 500] [--disturbances 100] [--restarts 5]

Says what it did and what it found; exit code 1 where there is damage. `--without-fence` is the control: the
same with workers whose writes do not name their claim, and it fails where that does no damage.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import django

from runs.worker.descendants import become_subreaper
from tests.chaos import server


def main() -> None:
    options = _options()
    print(f"seed {options.seed}" + (", without the fence" if options.without_fence else ""), flush=True)
    began = time.monotonic()
    become_subreaper()  # so that whatever outlives its worker is found as ours
    with (
        tempfile.TemporaryDirectory(prefix="runfolio-chaos-", ignore_cleanup_errors=True) as folder,
        server.running(Path(folder)) as postgres,
    ):
        django.setup()
        damage = _disturb(options, postgres, Path(folder), began + options.minutes * 60)
    print(f"{time.monotonic() - began:.0f} s")
    for line in damage[:40]:
        print(f"DAMAGE {line}")
    print(f"{len(damage)} damages" if damage else "no damage", flush=True)
    sys.exit(bool(damage) != options.without_fence)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--runs", type=int, default=500, help="at least")
    parser.add_argument("--disturbances", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=5, help="of PostgreSQL")
    parser.add_argument("--without-fence", action="store_true")
    return parser.parse_args()


def _disturb(options: argparse.Namespace, postgres: server.Scratch, folder: Path, until: float) -> list[str]:
    """The whole of it; gives what is damaged."""
    from tests.chaos.disturbances import Disturber
    from tests.chaos.fleet import Fleet
    from tests.chaos.load import Load
    from tests.chaos.receiver import receiving
    from tests.chaos.verdict import damage_of

    load = Load(folder, options.seed)
    with Fleet(folder, fenced=True) as quiet:
        load.note_what_is_expected(quiet)
    if options.without_fence:
        postgres.take_the_fence_out()
    with receiving() as receiver, Fleet(folder, fenced=not options.without_fence) as fleet:
        load.sink = receiver.url
        disturber = Disturber(random.Random(options.seed), fleet, postgres, load)
        with load.feeding(options.runs):
            disturber.disturb(options.disturbances, options.restarts, until - 0.4 * options.minutes * 60)
        disturbed = time.monotonic()
        found = load.wait_for_the_end(fleet, until)
        print(f"{disturber.report()}\nthe rest took {time.monotonic() - disturbed:.0f} s", flush=True)
        found += fleet.stop()
        return found + damage_of(load, receiver)


if __name__ == "__main__":
    main()
