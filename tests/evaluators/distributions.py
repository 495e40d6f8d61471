"""Packages that are installed for one test only."""

import sys
from pathlib import Path
from typing import Any

from runs.evaluators import registry


def install(monkeypatch: Any, folder: Path, name: str, source: str, **entry_points: str) -> None:
    """A distribution `name` with one module of the same name, and its entry points for evaluators."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{point} = {value}" for point, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{registry.ENTRY_POINTS}]", *lines, ""]))
    if str(folder) not in sys.path:
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    forget()


def forget() -> None:
    """What the registry has found is looked for again."""
    registry._others.cache_clear()
    registry._load.cache_clear()
