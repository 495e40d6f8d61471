"""What an evaluation's process is told to do: the order of a run (runs.worker.executor)."""

import os
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db.models import F

from runs.exact import Json
from runs.models import Result, Run

RECORDED = ("run", "session", "filter")
UNREAD = "unread"  # of an uploaded target: what was wrong with the files that could not be read, a list


class SourceError(Exception):
    """The evaluation cannot begin; the text becomes the run's error."""


def order_of(run: Run, spec: dict[str, Json], items: int | None) -> dict[str, Any]:
    """All that the process needs, and no more; `items` is how many recorded histories it will be given,
    None where it reads traces. Raises SourceError."""
    target = spec["target"]
    credentials = _credentials(spec["credentialRefs"] or {})
    told = {**spec, "target": {key: value for key, value in target.items() if key != "inline"}}
    return {
        "run_id": str(run.pk),
        "spec": {**told, "context": {}, "sinks": []},
        "document": _document(target),
        "fetch": _fetch(target, spec["context"]) if target["kind"] == "http" else None,
        "histories": items,
        "kept": [] if items is None else _kept(run),
        "memory_mb": settings.EVALUATOR_MEMORY,
        "deadline": settings.RUN_DEADLINE,
        "agentevals_python": settings.AGENTEVALS_PYTHON,
        "agentevals_network": settings.AGENTEVALS_NETWORK,
        "tools": _tools(credentials),
    }


def _tools(credentials: dict[str, str]) -> dict[str, Any]:
    """What evaluators may use of the world, as the operator's settings have it."""
    return {
        "folders": list(settings.EVALUATOR_FOLDERS),
        "credentials": credentials,
        "allow": list(settings.OUTGOING_ALLOW),
        "repository": settings.AGENTEVALS_EVALUATOR_REPO,
        "branch": settings.AGENTEVALS_EVALUATOR_BRANCH,
        "github_token": settings.AGENTEVALS_GITHUB_TOKEN,
        "limits": {"memory_mb": settings.EVALUATOR_MEMORY},
        "python": settings.EVALUATOR_PYTHON,
    }


def _document(target: dict[str, Json]) -> Json:
    if target["kind"] == "inline":
        if target["inline"] is None:
            raise SourceError("target.inline is missing: it holds the traces of an inline target")
        return target["inline"]
    if target["kind"] == "uploaded":
        if target["inline"] is None:
            raise SourceError("the files of an uploaded target are not kept: submit them inline")
        return target["inline"]
    return None


def _fetch(target: dict[str, Json], context: dict[str, Any]) -> dict[str, Any]:
    if not target["baseUrl"]:
        raise SourceError("target.baseUrl is missing: it says where to fetch the trace")
    url = _address(target["baseUrl"], target["traceId"])
    return {"url": url, "headers": _headers(context), "trace_id": target["traceId"]}


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
        return variable(value["from_env"], f"header {name}")
    if not isinstance(value, str) or any(character in value for character in "\r\n\x00"):
        raise SourceError(f"header {name} must be a line of text")
    return value


def _credentials(refs: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: variable(ref["name"], f"credential {name}") for name, ref in refs.items()}


def variable(name: str, user: str) -> str:
    """A spec may name only what the operator listed: else whoever submits could read the environment."""
    if name not in settings.SPEC_ENV_ALLOW:
        raise SourceError(f"{user}: the environment variable {name!r} is not in SPEC_ENV_ALLOW")
    if not os.environ.get(name):
        raise SourceError(f"{user}: the environment variable {name!r} is not set")
    return os.environ[name]


def _kept(run: Run) -> list[dict[str, Any]]:
    """What an attempt before this one has found out, so that the summary is of the whole."""
    rows = Result.objects.filter(run_id=run.pk).order_by("position")
    names = ("evaluator_name", "status", "score", "position")
    return list(rows.values(*names, result_id=F("pk")))
