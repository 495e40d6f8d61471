"""Specs as callers and pages see them: the database keeps the truth (CONTRACTS.md 1.2, "Redaction")."""

import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

from runs.exact import Json

REDACTED = "REDACTED"
_SECRET_KEY = re.compile("authorization|password|secret|token|api_key|apikey|private_key|dsn", re.IGNORECASE)


def redacted_spec(spec: dict[str, Json]) -> dict[str, Json]:
    """A copy of a run's spec without the secrets of `context`, `sinks` and `target.baseUrl`.

    What is evaluated (`inline`, `evalSet`, `evalConfig`) stays as it is.
    """
    shown = dict(spec)
    for part in ("context", "sinks"):
        if part in shown:
            shown[part] = _redacted(shown[part])
    target = shown.get("target")
    if isinstance(target, dict) and isinstance(target.get("baseUrl"), str):
        shown["target"] = {**target, "baseUrl": _without_credentials(target["baseUrl"])}
    return shown


def split_secrets(spec: dict[str, Json]) -> tuple[dict[str, Json], Json]:
    """The spec without its secrets, and the parts that have some, whole; None where none has."""
    shown = redacted_spec(spec)
    parts = {part: spec[part] for part in ("context", "sinks") if spec.get(part) != shown.get(part)}
    if spec.get("target") != shown.get("target"):
        parts["baseUrl"] = spec["target"]["baseUrl"]
    return shown, parts or None


def join_secrets(spec: dict[str, Json], parts: dict[str, Json]) -> dict[str, Json]:
    """The inverse of `split_secrets`."""
    whole = {**spec, **{part: value for part, value in parts.items() if part != "baseUrl"}}
    if "baseUrl" in parts:
        whole["target"] = {**spec["target"], "baseUrl": parts["baseUrl"]}
    return whole


def _redacted(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _redacted_entry(str(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return value


def _redacted_entry(key: str, value: Json) -> Json:
    name = key.lower()
    if name == "headers_from_env":
        return value  # names of variables, not what is in them
    if name == "headers" and isinstance(value, dict):
        return {header: item if _is_reference(item) else REDACTED for header, item in value.items()}
    if name == "url" and isinstance(value, str):
        return redacted_url(value)
    if _SECRET_KEY.search(key) and not isinstance(value, dict | list):
        return None if value is None else REDACTED
    return _redacted(value)


def _is_reference(value: Json) -> bool:
    return isinstance(value, dict) and set(value) == {"from_env"} and isinstance(value["from_env"], str)


def redacted_url(url: str) -> str:
    """Scheme, host and port; a path or a query may hold a key and is only said to be there."""
    parts = _split(url)
    if parts is None:
        return REDACTED
    more = "/REDACTED" if parts.path not in ("", "/") or parts.query else ""
    return f"{parts.scheme}://{_host(parts)}{more}"


def _without_credentials(url: str) -> str:
    parts = _split(url)
    if parts is not None:
        return urlunsplit((parts.scheme, _host(parts), parts.path, "", ""))
    return REDACTED if "@" in url or "?" in url else url


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        return parts if parts.scheme and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]
