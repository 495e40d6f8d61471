"""Specs to evaluate, and programs that misbehave while they judge."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUILTIN = {"type": "builtin", "name": "turn_count", "config": {"minTurns": 1}}


def sample_spec() -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((ROOT / "samples" / "run.json").read_text())["spec"]
    return spec


def spec_of(document: Any = None, *evaluators: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A stored spec: the sample's traces, or `document`, judged by `evaluators`."""
    sample = sample_spec()
    target = {
        "kind": "inline",
        "inline": sample["target"]["inline"] if document is None else document,
        "baseUrl": None,
        "traceId": None,
        "traceFormat": None,
        "traceCount": None,
        "traceFiles": None,
    }
    rest: dict[str, Any] = {"sinks": [], "context": {}, "credentialRefs": None}
    config = {"evalConfig": {"evaluators": list(evaluators)}} if evaluators else {}
    return {**sample, **rest, "target": target, **config, **more}


def code(path: Path, timeout: int = 120) -> dict[str, Any]:
    """The evaluator that runs this program."""
    return {"type": "code", "name": path.stem, "path": path.name, "timeout": timeout}


def fetched(url: str) -> dict[str, Any]:
    """The target of a trace that is fetched."""
    return {"kind": "http", "baseUrl": url, "traceId": "a" * 32, "traceFormat": None}


def copies(times: int) -> dict[str, Any]:
    """The first trace of the sample many times over, each under ids of its own: so many items."""
    resource = sample_spec()["target"]["inline"]["resourceSpans"][0]
    return {
        "resourceSpans": [
            {
                **resource,
                "scopeSpans": [
                    {**scope, "spans": [_renumbered(span, number) for span in scope["spans"]]}
                    for scope in resource["scopeSpans"]
                ],
            }
            for number in range(times)
        ]
    }


def _renumbered(span: dict[str, Any], number: int) -> dict[str, Any]:
    """Conversation ids go, so that each copy is an item of its own."""
    attributes = [one for one in span.get("attributes", []) if "conversation" not in one["key"]]
    trace_id = f"{number:08x}{span['traceId'][8:]}"
    return {**span, "traceId": trace_id, "attributes": attributes}


# ── Programs ───────────────────────────────────────────────────────────────
GOOD = "print('{\"score\": 1.0}')\n"

# Will not be ended by SIGTERM, and would go on for a minute.
STUBBORN = """
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({mark!r}).write_text(str(os.getpid()))
time.sleep(60)
"""

# Leaves its session and its parents; the one who was started waits.
DAEMON = """
import os, pathlib, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        pathlib.Path({mark!r}).write_text(str(os.getpid()))
        time.sleep(60)
    os._exit(0)
time.sleep(60)
"""


class Programs:
    """A folder of evaluators; each tells its process's id in a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, body: str) -> dict[str, Any]:
        path = self.folder / f"{name}.py"
        path.write_text(body.replace("{mark!r}", repr(str(self._mark(name)))))
        return code(path)

    def started(self, name: str) -> int | None:
        """The process, once it has told; from then on it does nothing but wait."""
        mark = self._mark(name)
        return int(mark.read_text() or 0) or None if mark.exists() else None

    def _mark(self, name: str) -> Path:
        return self.folder / f"{name}.pid"


def is_gone(pid: int) -> bool:
    """Whether the process has ended, though nobody may have collected it yet."""
    if sys.platform != "linux":
        raise NotImplementedError("these tests look into /proc")
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
