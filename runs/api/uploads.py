"""Files of agentevals' forms: traces and an eval set, read or refused as CONTRACTS.md 1.9 says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest
from ninja.errors import HttpError

from runs.api.strict_json import read_json
from runs.evaluators import EvalSetError, parse_eval_set
from runs.exact import Json
from runs.traces import Trace, TraceError, as_one_document, read_document, read_traces
from runs.traces.jaeger import is_jaeger
from runs.traces.otlp import is_export, is_otlp

MAX_FILE = 10 * 2**20  # bytes
_TRACE_SUFFIXES = (".json", ".jsonl")


class MissingField(Exception):
    """The form lacks a field that it must have."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(slots=True)
class Traces:
    """The traces of all files as one document, the file each trace is from, and why others were not read."""

    document: dict[str, Any] = field(default_factory=dict)
    found: list[Trace] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    file_of: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


def text_field(request: HttpRequest, name: str) -> str:
    """Raises MissingField."""
    if name not in request.POST:
        raise MissingField(name)
    return str(request.POST[name])


def read_trace_files(request: HttpRequest, trace_format: str | None = None) -> Traces:
    """The files of the field `trace_files`; one that cannot be read is told of in `problems`.

    Raises MissingField, and HttpError for a file that is refused by its name or size.
    """
    uploads = _named(request.FILES.getlist("trace_files"), "trace_files")
    contents = [(upload.name or "", _content(upload, f"File {upload.name}")) for upload in uploads]
    traces = Traces(files=[name for name, _ in contents])
    for name, content in contents:
        try:
            _add(traces, name, content, trace_format)
        except ValueError as error:
            traces.problems.append((name, str(error)))
    if traces.document:
        traces.found = read_traces(traces.document, trace_format)
    return traces


def read_eval_set_file(request: HttpRequest) -> tuple[str, bytes] | None:
    """The name and the bytes of the file of the field `eval_set_file`, where there is one."""
    upload = request.FILES.get("eval_set_file")
    if not isinstance(upload, UploadedFile) or not upload.name:
        return None
    if not upload.name.endswith(".json"):
        raise HttpError(400, "Invalid file extension for eval set. Only .json files are allowed.")
    return upload.name, _content(upload, "Eval set file", (".json",))


def parse_eval_set_file(content: bytes) -> dict[str, Json]:
    """The eval set as it was written. Raises ValueError."""
    raw = read_json(content)
    if not isinstance(raw, dict):
        raise EvalSetError("not a valid eval set: the whole: should be an object")
    parse_eval_set(raw)
    return raw


def _named(uploads: Sequence[Any], name: str) -> list[UploadedFile]:
    if not uploads:
        raise MissingField(name)
    return list(uploads)


def _content(upload: UploadedFile, what: str, suffixes: Sequence[str] = _TRACE_SUFFIXES) -> bytes:
    if not (upload.name or "").lower().endswith(tuple(suffixes)):
        raise HttpError(
            400, f"Invalid file extension for {upload.name}. Only .json and .jsonl files are allowed."
        )
    if (upload.size or 0) > MAX_FILE:
        raise HttpError(400, f"{what} exceeds 10MB limit")
    return bytes(upload.read())


def _add(traces: Traces, name: str, content: bytes, trace_format: str | None) -> None:
    """Raises ValueError where there is nothing to read."""
    document = _enveloped(as_one_document(read_document(content, read_json)))
    found = read_traces(document, trace_format)
    if traces.document and ("data" in document) != ("data" in traces.document):
        raise TraceError("the other files are of another format: send files of one format at a time")
    traces.document = as_one_document([traces.document, document])
    traces.file_of |= {trace.trace_id: name for trace in found}


def _enveloped(document: Json) -> dict[str, Any]:
    """Jaeger's or OTLP's own outermost object, so that several can be put together."""
    if isinstance(document, dict) and isinstance(document.get("trace"), dict):
        return dict(document["trace"])
    if is_jaeger(document) and not is_otlp(document):
        return dict(document) if "data" in document else {"data": [document]}
    if is_export(document):
        return dict(document)
    spans = document if isinstance(document, list) else [document]
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]} if is_otlp(document) else _nothing()


def _nothing() -> dict[str, Any]:
    raise TraceError("expected Jaeger JSON (data) or OTLP JSON (resourceSpans or batches)")
