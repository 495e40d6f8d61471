"""Submitting runs by uploading traces and an eval set."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from runs import access
from runs.access import SignedInRequest
from runs.api.strict_json import JsonError, read_json
from runs.exact import Json
from runs.models import Action, Owner, Run, require
from runs.pages.parts import OwnerField
from runs.submission import SubmissionError
from runs.submission import submit as submit_run
from runs.traces import TraceError, as_one_document, read_document, read_traces

_MATCHES = [("EXACT", "the same calls in the same order"), ("IN_ORDER", "the expected calls in order"),
            ("ANY_ORDER", "the expected calls in any order")]  # fmt: skip
_MOST_FILES = 20


class SeveralFilesInput(forms.FileInput):
    allow_multiple_selected = True


class JsonField(forms.FileField):
    """A file of JSON, read strictly."""

    widget = forms.FileInput(attrs={"accept": ".json,application/json"})

    def clean(self, data: Any, initial: Any = None) -> Json:
        file = super().clean(data, initial)
        return _read(file) if file else None


class TraceFilesField(forms.FileField):
    """Several files of JSON, or of one export on each line: gives (name, document) pairs."""

    widget = SeveralFilesInput(attrs={"accept": ".json,.jsonl,.ndjson,application/json"})

    def clean(self, data: Any, initial: Any = None) -> list[tuple[str, Json]]:
        files = data or []
        if not files:
            raise forms.ValidationError("Choose a trace file.")
        if len(files) > _MOST_FILES:
            raise forms.ValidationError(f"Send at most {_MOST_FILES} files at a time.")
        checked = [super(TraceFilesField, self).clean(file) for file in files]
        return [(str(file.name), _read(file, as_document)) for file in checked]


class SubmitForm(forms.Form):
    traces = TraceFilesField(
        label="Trace files",
        help_text="Jaeger or OpenTelemetry JSON, also one export a line. Each file becomes a run.",
    )
    eval_set = JsonField(
        required=False,
        label="Eval set",
        help_text="What was expected, as an ADK eval set. Without it there is nothing to compare with.",
    )
    trajectory = forms.BooleanField(required=False, initial=True, label="tool_trajectory_avg_score")
    match = forms.ChoiceField(choices=_MATCHES, label="Tools must be")
    response = forms.BooleanField(required=False, initial=True, label="response_match_score")
    threshold = forms.FloatField(min_value=0, max_value=1, initial=0.7, label="Threshold")
    session = forms.CharField(
        required=False,
        max_length=500,
        label="Session",
        help_text="Runs of one session are shown together.",
    )
    owner = forms.ModelChoiceField(Owner.objects.none(), label="Owner", empty_label=None)

    def __init__(self, request: SignedInRequest) -> None:
        super().__init__(request.POST or None, request.FILES or None)
        self.fields["owner"] = OwnerField(request, Action.SUBMIT)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not cleaned.get("trajectory") and not cleaned.get("response"):
            self.add_error("trajectory", "Choose at least one evaluator.")
        return cleaned


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def submit(request: SignedInRequest) -> HttpResponse:
    require(request.user, Action.SUBMIT)
    form = SubmitForm(request)
    if request.method == "POST" and form.is_valid():
        runs = _submit(form)
        if form.is_valid():
            return redirect("run", runs[0].pk) if len(runs) == 1 else redirect("run_list")
    context = {"place": "submit", "form": form}
    return render(request, "submit/submit.html", context, status=422 if form.is_bound else 200)


def _submit(form: SubmitForm) -> list[Run]:
    """All of the files become runs, or none; what is wrong with one stands beside the field."""
    runs: list[Run] = []
    with transaction.atomic():
        for name, document in form.cleaned_data["traces"]:
            try:
                if not read_traces(document):
                    raise TraceError("there is no trace in it")
                runs.append(
                    submit_run(form.cleaned_data["owner"], {"spec": _spec(form.cleaned_data, document)})
                )
            except (TraceError, SubmissionError) as error:
                form.add_error("traces", f"{name}: {error}")
        if not form.is_valid():
            transaction.set_rollback(True)
    return runs


def _spec(given: dict[str, Any], document: Json) -> dict[str, Json]:
    evaluators: list[dict[str, Json]] = []
    if given["trajectory"]:
        evaluators.append(
            {"type": "builtin", "name": "tool_trajectory_avg_score", "trajectoryMatchType": given["match"]}
        )
    if given["response"]:
        evaluators.append(
            {"type": "builtin", "name": "response_match_score", "threshold": given["threshold"]}
        )
    return {
        "target": {"kind": "inline", "inline": document},
        "evalSet": given["eval_set"],
        "evalConfig": {"evaluators": evaluators},
        "context": {"session": given["session"]} if given["session"] else {},
    }


def as_document(data: bytes) -> Json:
    """The traces in a file, as `target.inline` holds them."""
    return as_one_document(read_document(data, read_json))


def _read(file: UploadedFile, read: Callable[[bytes], Json] = read_json) -> Json:
    try:
        value = read(file.read())
    except (JsonError, TraceError) as error:
        raise forms.ValidationError(f"{file.name} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise forms.ValidationError(f"{file.name} is not a JSON object.")
    return value
