"""Taking in files: what another Runfolio exported (issue 5, point 9), traces, and OpenHands conversations
(issue 6, point 7)."""

import gzip
import zlib
from codecs import BOM_UTF8
from collections import deque
from typing import IO, Any

from django import forms
from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
from django.views.decorators.http import require_http_methods

from runs import access
from runs.access import SignedInRequest
from runs.importers import openhands, traces
from runs.importers.report import Report as Imported
from runs.models import Action, Owner, may, require
from runs.pages.parts import OwnerField
from runs.transfer.reading import Lines
from runs.transfer.taking import Report, take

_UNPACKED = 10  # times the largest body: what a compressed file may hold here
_HEAD = 64 * 1024  # bytes by which we tell what a file is
_OF_TRACES = (b'"resourceSpans"', b'"resource_spans"', b'"resourceLogs"', b'"batches"', b'"spans"', b'"data"')
_ACCEPTED = (
    ".jsonl,.ndjson,.json,.gz,.zip,application/json,application/x-ndjson,application/gzip,application/zip"
)
_NO_FILE = (
    "Choose a file that Runfolio exported as JSONL, a file of traces, or a .zip of OpenHands conversations."
)


class ImportForm(forms.Form):
    file = forms.FileField(
        label="File",
        widget=forms.FileInput(attrs={"accept": _ACCEPTED}),
        error_messages={"required": _NO_FILE, "missing": _NO_FILE, "empty": "The file is empty."},
    )
    owner = forms.ModelChoiceField(Owner.objects.none(), label="Owner", empty_label=None)

    def __init__(self, request: SignedInRequest) -> None:
        super().__init__(request.POST or None, request.FILES or None)
        self.fields["owner"] = OwnerField(request, Action.SUBMIT)

    def clean_file(self) -> Any:
        upload = self.cleaned_data["file"]
        if not _kind_of(upload.file):
            raise forms.ValidationError(f"This is nothing that can be imported. {_NO_FILE}")
        return upload


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def import_runs(request: SignedInRequest) -> HttpResponse:
    require(request.user, Action.SUBMIT)
    form = ImportForm(request)
    if request.method == "POST" and form.is_valid():
        return _imported(request, form.cleaned_data["file"], form.cleaned_data["owner"])
    context = {"place": "runs", "form": form, "most": filesizeformat(settings.MAX_BODY_BYTES)}
    status = 422 if request.method == "POST" else 200
    return render(request, "transfer/import.html", context, status=status)


def _imported(request: SignedInRequest, upload: Any, owner: Owner) -> HttpResponse:
    """Takes the file in and tells what became of it; each run or conversation is a transaction of its own."""
    file, name = upload.file, upload.name
    context = {"place": "runs", "owner": owner, "name": name}
    kind = _kind_of(file)
    if kind == "runs":
        report = _taken(file, owner, defines=may(request.user, Action.MANAGE, owner.pk))
        return render(request, "transfer/imported.html", {**context, "report": report})
    brought = _traces(file, owner, name) if kind == "traces" else _conversations(file, owner, name)
    return render(request, "transfer/brought.html", {**context, "report": brought, "kind": kind})


def _kind_of(file: IO[bytes]) -> str:
    """What the file holds, going by how it begins: runs, traces or conversations; empty where it is neither
    JSON nor packed."""
    head = file.read(_HEAD)
    file.seek(0)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):  # the second where nothing is in it
        return "conversations"
    if head.startswith(b"\x1f\x8b"):
        try:
            head = gzip.GzipFile(fileobj=file).read(_HEAD)
        except (OSError, EOFError, zlib.error):
            return "runs"  # whoever reads them says what is wrong
        finally:
            file.seek(0)
    if not head.removeprefix(BOM_UTF8).lstrip().startswith((b"{", b"[")):
        return ""
    is_export = b'"record"' in head.partition(b"\n")[0]
    return "traces" if not is_export and any(name in head for name in _OF_TRACES) else "runs"


def _taken(file: IO[bytes], owner: Owner, defines: bool) -> Report:
    lines = Lines(file, _UNPACKED * settings.MAX_BODY_BYTES)
    return deque(take(lines, owner, defines), maxlen=1).pop()


def _traces(file: IO[bytes], owner: Owner, name: str) -> Imported:
    return deque(traces.take(file, owner, name, _UNPACKED * settings.MAX_BODY_BYTES), maxlen=1).pop()


def _conversations(file: IO[bytes], owner: Owner, name: str) -> Imported:
    try:
        tree = openhands.Archive(file, _UNPACKED * settings.MAX_BODY_BYTES)
    except openhands.Unreadable as error:
        report = Imported("conversations")
        report.note(name, str(error))
        return report
    return deque(openhands.take(tree, owner, name), maxlen=1).pop()
