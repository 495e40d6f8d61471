"""Tiny strict readers for settings: a wrong value names itself and its fix (STYLE.md 25)."""

import ipaddress
import os
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

_VIGILANT = {
    "connect_timeout": 10,
    "tcp_user_timeout": 15_000,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
}
LOOPBACK_HOSTS = ["127.0.0.1", "localhost", "[::1]"]


class SettingError(Exception):
    """A setting has a value that Runfolio cannot use; the text says which and how to mend it."""


def text(name: str, default: str = "") -> str:
    """The variable, or the content of the file that `<name>_FILE` names, which wins (DESIGN.md 3.1)."""
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name) or default
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(
            f"{name}_FILE={path} cannot be read ({error}). Name a readable text file."
        ) from error


def boolean(name: str, default: bool) -> bool:
    """`true` or `false`, in any case, and nothing else."""
    value = text(name, str(default)).lower()
    if value not in ("true", "false"):
        raise SettingError(f"{name}={value} is neither true nor false. Set {name}=true or {name}=false.")
    return value == "true"


def number(name: str, default: float, least: float, most: float) -> float:
    """A number from `least` to `most`."""
    raw = text(name, str(default))
    try:
        value = float(raw)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise SettingError(
            f"{name}={raw} is not a number from {least:g} to {most:g}. Try {name}={default:g}."
        )
    return value


def integer(name: str, default: int, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    value = number(name, default, least, most)
    if value != int(value):
        raise SettingError(f"{name}={value:g} is not a whole number. Try {name}={default}.")
    return int(value)


def choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    """One of a few words."""
    value = text(name, default)
    if value not in choices:
        raise SettingError(f"{name}={value} is not known. Set it to one of: {', '.join(choices)}.")
    return value


def words(name: str) -> list[str]:
    """A list, separated by commas or blanks."""
    return text(name).replace(",", " ").split()


def folders(name: str) -> list[str]:
    """Folders that exist, separated by commas, as absolute paths without links."""
    found = [Path(word.strip()) for word in text(name).split(",") if word.strip()]
    for folder in found:
        if not folder.is_absolute() or not folder.is_dir():
            raise SettingError(
                f"{name}: {folder} is not a folder. List absolute paths of folders that exist."
            )
    return [str(folder.resolve()) for folder in found]


def networks(name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Addresses or networks such as `10.0.0.0/8`."""
    try:
        return [ipaddress.ip_network(word, strict=False) for word in words(name)]
    except ValueError as error:
        raise SettingError(f"{name}: {error}. List addresses or networks, such as 10.0.0.0/8.") from error


def public_url(name: str, default: str) -> SplitResult:
    """The one address that people use: scheme and host, perhaps a port, no path (DESIGN.md 3.16)."""
    raw = text(name, default)
    url = urlsplit(raw)
    try:
        fits = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        fits = False
    if not fits or url.path not in ("", "/") or url.query or url.username:
        raise SettingError(f"{name}={raw} is not an address such as https://runs.example.com. Set it to one.")
    return url


def database(name: str) -> dict[str, object] | None:
    """Django's settings for the PostgreSQL that a URL names, or None where the variable is unset.

    Takes `postgresql://`, `postgres://` and `postgresql+asyncpg://...?ssl=require` (DESIGN.md 3.1).
    """
    raw = text(name)
    return database_from_url(raw, name) if raw else None


def database_from_url(raw: str, name: str = "DATABASE_URL") -> dict[str, object]:
    """Django's settings for the PostgreSQL that `raw` names; `name` is the setting to blame."""
    scheme = raw.partition("://")[0]
    if scheme not in ("postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg"):
        raise SettingError(
            f"{name} starts with {scheme[:20]!r}. Set it to postgresql://USER:PASSWORD@HOST/NAME."
        )
    try:
        parts = dict(conninfo_to_dict(_libpq_url(raw)))
    except (ProgrammingError, ValueError) as error:
        raise SettingError(f"{name} is not a PostgreSQL address ({str(error).strip()}).") from error
    if not parts.get("dbname"):
        raise SettingError(f"{name} names no database. Set it to postgresql://USER:PASSWORD@HOST/NAME.")
    keys = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    settings: dict[str, object] = {key: str(parts.pop(part, "")) for part, key in keys.items()}
    return {"ENGINE": "django.db.backends.postgresql", "OPTIONS": parts, **settings}


def vigilant(database: dict[str, Any]) -> dict[str, Any]:
    """These settings of a database, made to give a connection up after 15 s whose other end has vanished
    without a word, unless its URL says otherwise (RELIABILITY.md R12)."""
    return {**database, "OPTIONS": {**_VIGILANT, **database["OPTIONS"]}}


def _libpq_url(raw: str) -> str:
    """SQLAlchemy's and asyncpg's spellings turned into libpq's."""
    url = urlsplit(raw)
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    ssl = options.pop("ssl", None)
    if ssl is not None:
        options.setdefault("sslmode", {"true": "require", "false": "disable"}.get(ssl.lower(), ssl))
    return urlunsplit(("postgresql", url.netloc, url.path, urlencode(options), ""))
