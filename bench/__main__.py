"""`python -m bench [part ...]`: all parts without a name."""

import argparse
import subprocess
import sys
from importlib import import_module

import django

from bench.server import scratch_server

PARTS = ("append", "lists", "search", "deletion", "queue", "pages", "otlp", "files", "streams")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument("--runs", type=int, default=1_000_000, help="in the lists that are measured")
    parser.add_argument("--rounds", type=int, default=15, help="of each measurement; medians are printed")
    chosen = parser.parse_args()
    if len(chosen.parts) == 1:
        with scratch_server():
            django.setup()
            import_module(f"bench.{chosen.parts[0]}").main(chosen.runs, chosen.rounds)
        return
    for part in chosen.parts or PARTS:  # each on a server, and in a process, of its own
        print(f"\n== {part}", flush=True)
        options = ["--runs", str(chosen.runs), "--rounds", str(chosen.rounds)]
        subprocess.run([sys.executable, "-m", "bench", part, *options], check=True)


if __name__ == "__main__":
    main()
