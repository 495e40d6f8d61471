"""Where the installed agentevals has its web page."""

import subprocess
from pathlib import Path

_WHERE = (
    "import importlib.util as u; found = u.find_spec('agentevals');"
    " print(found.submodule_search_locations[0] if found else '')"
)
_TIMEOUT = 20  # seconds


def page_folder(python: str) -> Path | None:
    """The folder with agentevals' `index.html` in the environment of this interpreter; None without one."""
    if not python:
        return None
    try:
        asked = subprocess.run(
            [python, "-I", "-c", _WHERE],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            env={},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    folder = Path(asked.stdout.strip()) / "_static"
    return folder.resolve() if asked.stdout.strip() and (folder / "index.html").is_file() else None
