"""Taking in what another Runfolio exported (issue 5, point 9)."""

from collections import deque
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
from django.views.decorators.http import require_http_methods

from runs import access
from runs.access import SignedInRequest
from runs.models import Action, Owner, may, require
from runs.pages.parts import OwnerField
from runs.transfer.reading import Lines
from runs.transfer.taking import Report, take

_UNPACKED = 10  # times the largest body: what a gzipped file may hold here


class ImportForm(forms.Form):
    file = forms.FileField(
        label="File",
        widget=forms.FileInput(attrs={"accept": ".jsonl,.ndjson,.gz,application/x-ndjson,application/gzip"}),
        error_messages={
            "required": "Choose a file that Runfolio exported as JSONL.",
            "missing": "Choose a file that Runfolio exported as JSONL.",
            "empty": "The file is empty.",
        },
    )
    owner = forms.ModelChoiceField(Owner.objects.none(), label="Owner", empty_label=None)

    def __init__(self, request: SignedInRequest) -> None:
        super().__init__(request.POST or None, request.FILES or None)
        self.fields["owner"] = OwnerField(request, Action.SUBMIT)


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def import_runs(request: SignedInRequest) -> HttpResponse:
    require(request.user, Action.SUBMIT)
    form = ImportForm(request)
    if request.method == "POST" and form.is_valid():
        owner = form.cleaned_data["owner"]
        report = _taken(form, owner, defines=may(request.user, Action.MANAGE, owner.pk))
        context = {"place": "runs", "report": report, "owner": owner, "name": form.cleaned_data["file"].name}
        return render(request, "transfer/imported.html", context)
    context = {"place": "runs", "form": form, "most": filesizeformat(settings.MAX_BODY_BYTES)}
    status = 422 if request.method == "POST" else 200
    return render(request, "transfer/import.html", context, status=status)


def _taken(form: forms.Form, owner: Owner, defines: bool) -> Report:
    given: Any = form.cleaned_data["file"].file
    lines = Lines(given, _UNPACKED * settings.MAX_BODY_BYTES)
    return deque(take(lines, owner, defines), maxlen=1).pop()  # each run is a transaction of its own
