"""Where the traces of a run come from (CONTRACTS.md 1.7)."""

import os
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings

from runs.api.strict_json import JsonError, read_json
from runs.exact import Json
from runs.outgoing import OutgoingError, fetch


class SourceError(Exception):
    """The traces cannot be had; the text becomes the run's error."""


def load_document(spec: dict[str, Json]) -> Json:
    """The trace document that the spec's target names. Raises SourceError."""
    _check_credentials(spec["credentialRefs"] or {})
    target = spec["target"]
    if target["kind"] == "inline":
        if target["inline"] is None:
            raise SourceError("target.inline is missing: it holds the traces of an inline target")
        return target["inline"]
    if target["kind"] == "http":
        return _fetch(target, spec["context"])
    raise SourceError("the files of an uploaded target are not kept: submit them inline")


def _fetch(target: dict[str, Json], context: dict[str, Any]) -> Json:
    if not target["baseUrl"]:
        raise SourceError("target.baseUrl is missing: it says where to fetch the trace")
    try:
        return read_json(fetch(_address(target["baseUrl"], target["traceId"]), _headers(context)))
    except OutgoingError as error:
        raise SourceError(f"fetching trace {target['traceId']}: {error}") from None
    except JsonError as error:
        raise SourceError(f"trace {target['traceId']} is not JSON: {error}") from None


def _address(base: str, trace_id: str) -> str:
    """The id goes behind the path; a query stays at the end, where the reference puts it before the id."""
    try:
        parts = urlsplit(base)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{trace_id}", fragment=""))
    except ValueError:
        raise SourceError("target.baseUrl is not an address") from None


def _headers(context: dict[str, Any]) -> dict[str, str]:
    headers = context.get("headers")
    if not isinstance(headers, dict):
        return {}
    return {str(name): _header_value(str(name), value) for name, value in headers.items()}


def _header_value(name: str, value: Json) -> str:
    if isinstance(value, dict) and isinstance(value.get("from_env"), str):
        return _variable(value["from_env"], f"header {name}")
    if not isinstance(value, str) or any(character in value for character in "\r\n\x00"):
        raise SourceError(f"header {name} must be a line of text")
    return value


def _check_credentials(refs: dict[str, dict[str, str]]) -> None:
    for name, ref in refs.items():
        _variable(ref["name"], f"credential {name}")


def _variable(variable: str, user: str) -> str:
    """A spec may name only what the operator listed: else whoever submits could read the environment."""
    if variable not in settings.SPEC_ENV_ALLOW:
        raise SourceError(f"{user}: the environment variable {variable!r} is not in SPEC_ENV_ALLOW")
    if not os.environ.get(variable):
        raise SourceError(f"{user}: the environment variable {variable!r} is not set")
    return os.environ[variable]
