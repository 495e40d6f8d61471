"""Where the installed agentevals has its web page."""

from pathlib import Path

from runs.evaluators.agentevals_engine import said_by

_WHERE = (
    "import importlib.util as u; found = u.find_spec('agentevals');"
    " print(found.submodule_search_locations[0] if found else '')"
)


def page_folder(python: str) -> Path | None:
    """The folder with agentevals' `index.html` in the environment of this interpreter; None without one."""
    found = said_by(python, _WHERE) if python else ""
    folder = Path(found) / "_static"
    return folder.resolve() if found and (folder / "index.html").is_file() else None
