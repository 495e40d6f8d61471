"""Submitting runs: files with traces, a whole spec, or a run again with changes (issue 5, point 10).

Checking comes first: what the files hold and what would be compared, before anything is sent. Checked files
are kept meanwhile, so that they need not be chosen again.
"""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django import forms
from django.db import transaction
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from runs import access
from runs.access import SignedInRequest
from runs.api.strict_json import JsonError, read_json
from runs.evaluators import EvalSet, EvalSetError, parse_eval_set
from runs.exact import Json
from runs.models import Action, Owner, Run, SpecConflict, Upload, User, require
from runs.pages.evaluator_form import EvaluatorForm
from runs.pages.parts import OwnerField, find_run
from runs.pages.schema_fields import readable
from runs.pages.sources import Report, Source, read_eval_set, read_source, report_of
from runs.resubmission import restored, shown_spec, submit_again
from runs.sealing import Unsealable
from runs.submission import SubmissionError
from runs.submission import submit as submit_run
from runs.traces import TraceError, read_traces

_CHOSEN = ("tool_trajectory_avg_score", "response_match_score")
_MOST_FILES = 20
_FILES = ".json,.jsonl,.ndjson,.gz,application/json,application/gzip"


class SeveralFilesInput(forms.FileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Several files, each as it was sent: gives (name, bytes) pairs."""

    widget = SeveralFilesInput(attrs={"accept": _FILES})

    def clean(self, data: Any, initial: Any = None) -> list[tuple[str, bytes]]:
        files = data if isinstance(data, list) else [data] if data else []
        if len(files) > _MOST_FILES:
            raise forms.ValidationError(f"Send at most {_MOST_FILES} files at a time.")
        checked = [super(FilesField, self).clean(file) for file in files]
        return [(str(file.name), file.read()) for file in checked]


class UuidsField(forms.Field):
    """The ids of kept files, as many as stand in the form; what is none is left out."""

    widget = forms.MultipleHiddenInput

    def clean(self, value: Any) -> list[UUID]:
        return [UUID(one) for one in value or () if _is_uuid(one)]


class SubmitForm(EvaluatorForm):
    """Files and evaluators. With an `original`, what is not said anew is as it was submitted."""

    traces = FilesField(
        required=False,
        label="Trace files",
        help_text="Jaeger or OpenTelemetry JSON, also one export a line, also packed with gzip. "
        "Drop them here or choose several. Each file becomes a run.",
    )
    eval_set = FilesField(
        required=False,
        label="Eval set",
        help_text="What was expected, as an ADK eval set. Without it there is nothing to compare with.",
    )
    kept = UuidsField(required=False)
    kept_eval_set = UuidsField(required=False)
    traces_as_before = forms.BooleanField(required=False, initial=True)
    eval_set_as_before = forms.BooleanField(required=False, initial=True)
    session = forms.CharField(
        required=False,
        max_length=500,
        label="Session",
        help_text="Runs of one session are shown together.",
        widget=forms.TextInput(attrs={"dir": "auto"}),
    )
    owner = forms.ModelChoiceField(Owner.objects.none(), label="Owner", empty_label=None)

    def __init__(self, request: SignedInRequest, original: Run | None) -> None:
        self.person, self.original = request.user, original
        self.before: dict[str, Any] = original.shown_spec if original else {}
        data, files = (request.POST, request.FILES) if request.method == "POST" else (None, None)
        entries = self.before.get("evalConfig", {}).get("evaluators") if original else None
        super().__init__(data, files, with_cases=True, chosen=_CHOSEN, entries=_entries(entries))
        self.fields["eval_set"].widget = forms.FileInput(attrs={"accept": _FILES})
        self.fields["owner"] = OwnerField(request, Action.SUBMIT)
        if original:
            self.fields["owner"].required = False  # it is the original's
            self.fields["session"].initial = self.before.get("context", {}).get("session")
        self.fields["traces"].needed = True  # type: ignore[attr-defined]  # chosen now, kept, or as before
        self.sources: list[Source] = []
        self.readable: dict[str, list[Upload | tuple[str, bytes]]] = {"traces": [], "eval_set": []}

    @property
    def has_target(self) -> bool:
        """Whether the original's target is one that is not in a file, and stays."""
        return bool(self.original) and self.before["target"].get("kind") != "inline"

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not self.has_target:
            self._read_traces(cleaned)
        self._read_eval_set(cleaned)
        return cleaned

    def keep_files(self) -> None:
        """Keeps the files that can be read, for the next time that the form is sent."""
        for kind, files in self.readable.items():
            self.readable[kind] = [
                one if isinstance(one, Upload) else Upload.objects.keep(self.person, kind, *one)
                for one in files
            ]

    def kept_files(self) -> dict[str, list[Upload]]:
        return {kind: [one for one in of if isinstance(one, Upload)] for kind, of in self.readable.items()}

    def eval_cases(self) -> EvalSet | None:
        return parse_eval_set(self.cleaned_data["eval_set"])

    def specs(self) -> Iterator[tuple[Source | None, dict[str, Json]]]:
        """A spec for each source; for a target that stays, the one, without a source."""
        whole = self.original.full_spec if self.original else {}
        base = {**whole, **self._settings(whole), "evalSet": self.cleaned_data["eval_set"]}
        if self.has_target:
            yield None, base
        for source in self.sources:
            target = {**whole.get("target", {}), "kind": "inline", "inline": source.document}
            yield source, {**base, "target": target}

    def _settings(self, whole: dict[str, Any]) -> dict[str, Json]:
        refs = {**(whole.get("credentialRefs") or {}), **self.credential_refs()}
        session = self.cleaned_data["session"]
        context = {name: value for name, value in whole.get("context", {}).items() if name != "session"}
        return {
            "evalConfig": {**whole.get("evalConfig", {}), "evaluators": self.entries()},
            "context": {**context, "session": session} if session else context,
            "credentialRefs": refs or None,
        }

    def _read_traces(self, cleaned: dict[str, Any]) -> None:
        files = [
            *Upload.objects.of(self.person, "traces", cleaned.get("kept", ())),
            *cleaned.get("traces", ()),
        ]
        for one in files:
            try:
                self.sources.append(_source(one))
                self.readable["traces"].append(one)
            except forms.ValidationError as error:
                self.add_error("traces", error)
        if not files and cleaned.get("traces_as_before") and self.original:
            document = self.original.shown_spec["target"].get("inline")
            self.sources.append(_source_of(f"The traces of {self.original}", document))
        if not self.sources and "traces" not in self.errors:
            self.add_error("traces", "Choose a trace file.")

    def _read_eval_set(self, cleaned: dict[str, Any]) -> None:
        files = cleaned.get("eval_set") or Upload.objects.of(
            self.person, "eval_set", cleaned.get("kept_eval_set", ())
        )
        cleaned["eval_set"] = None
        if not files and cleaned.get("eval_set_as_before"):
            cleaned["eval_set"] = self.before.get("evalSet")
        for one in files[:1]:
            try:
                cleaned["eval_set"] = read_eval_set(*_named(one))
                self.readable["eval_set"] = [one]
            except forms.ValidationError as error:
                self.add_error("eval_set", error)


class SpecForm(forms.Form):
    """A whole spec, checked as the API checks it."""

    spec = forms.CharField(
        label="Spec",
        strip=False,
        help_text="The body of POST /api/runs, or the spec alone.",
        widget=forms.Textarea(attrs={"class": "in mono", "rows": 24, "spellcheck": "false", "dir": "ltr"}),
    )
    owner = forms.ModelChoiceField(Owner.objects.none(), label="Owner", empty_label=None)

    def __init__(self, request: SignedInRequest, original: Run | None) -> None:
        super().__init__(request.POST if request.method == "POST" else None)
        self.original = original
        self.fields["owner"] = OwnerField(request, Action.SUBMIT)
        if original:
            self.fields["owner"].required = False  # it is the original's
        self.initial_spec = readable(shown_spec(original) if original else _EXAMPLE)
        self.fields["spec"].initial = self.initial_spec

    def clean_spec(self) -> dict[str, Json]:
        """The body for `submit`."""
        try:
            body = read_json(self.cleaned_data["spec"].encode("utf-8", "surrogatepass"))
        except JsonError as error:
            raise forms.ValidationError(f"This is not JSON: {error}.") from None
        if not isinstance(body, dict):
            raise forms.ValidationError("This must be an object in { }.")
        body = body if "spec" in body else {"spec": body}
        if self.original:
            shown, whole = shown_spec(self.original), self.original.full_spec
            body = {**body, "spec": restored(body["spec"], shown, whole)}
        return body


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def submit(request: SignedInRequest) -> HttpResponse:
    require(request.user, Action.SUBMIT)
    original = _original(request)
    form, reports = SubmitForm(request, original), list[Report]()
    valid = request.method == "POST" and form.is_valid()
    if valid and "check" in request.POST:
        reports = _reports(form)
    elif valid and (runs := _submit(form)):
        return redirect("run", runs[0].pk) if len(runs) == 1 else redirect("run_list")
    if form.is_bound:
        form.keep_files()
    context = _context(request, form, original) | {
        "checked": valid and form.is_valid(),
        "reports": reports,
        "sound": not any(report.warnings for report in reports),
        "doubts": _doubts(form) if reports or (valid and form.has_target) else [],
        "kept": form.kept_files(),
        "number": len(form.sources) or 1,
    }
    return render(request, "submit/submit.html", context, status=422 if form.errors else 200)


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def submit_spec(request: SignedInRequest) -> HttpResponse:
    """The same as JSON, for programmers."""
    require(request.user, Action.SUBMIT)
    original = _original(request)
    form, checked, reports = SpecForm(request, original), False, list[Report]()
    if request.method == "POST" and _opened(form) and form.is_valid():
        owner = original.owner if original else form.cleaned_data["owner"]
        check = "check" in request.POST
        run = _send(form, owner, request.user, check=check)
        if run and not check:
            return redirect("run", run.pk)
        checked = run is not None
        reports = _reports_of(form.cleaned_data["spec"]["spec"]) if checked else []
    context = _context(request, form, original) | {"checked": checked, "reports": reports}
    return render(request, "submit/spec.html", context, status=422 if form.errors else 200)


# ── Loading ────────────────────────────────────────────────────────────────
def _original(request: SignedInRequest) -> Run | None:
    """The evaluation that `from` names, with its spec. Raises Http404 where this person sees none."""
    asked = request.GET.get("from", "")
    if not asked:
        return None
    if not _is_uuid(asked):
        raise Http404
    run = find_run(request, UUID(asked), Action.SUBMIT)
    run.refresh_from_db(
        fields=["spec", "spec_exact", "secrets"], from_queryset=Run.objects.visible_to(request.user)
    )
    if not run.is_evaluation or run.spec is None:  # one from elsewhere may have come without
        raise Http404
    return run


def _context(request: SignedInRequest, form: forms.Form, original: Run | None) -> dict[str, Any]:
    query = f"?from={original.pk}" if original else ""
    return {"place": "submit", "form": form, "original": original, "query": query}


# ── Checking ───────────────────────────────────────────────────────────────
def _reports(form: SubmitForm) -> list[Report]:
    cases, config = form.eval_cases(), form.before.get("evalConfig", {})
    return [_report(source, cases, config) for source in form.sources]


def _reports_of(spec: Any) -> list[Report]:
    """Of a spec that is valid: empty where its traces are elsewhere or cannot be read."""
    target = spec.get("target", {})
    if target.get("kind") != "inline":
        return []
    try:
        cases = parse_eval_set(spec.get("evalSet", spec.get("eval_set")))
        source = _source_of("target.inline", target.get("inline"))
    except (forms.ValidationError, EvalSetError):
        return []
    return [_report(source, cases, spec.get("evalConfig", spec.get("eval_config", {})))]


def _report(source: Source, cases: EvalSet | None, config: Any) -> Report:
    group_by = config.get("groupBy", config.get("group_by", "auto"))
    return report_of(source, cases, str(group_by))


def _doubts(form: SubmitForm) -> list[str]:
    """What would go, and say little."""
    if form.cleaned_data["eval_set"] is not None:
        return []
    names = {str(entry.get("name")) for entry in form.entries()}
    skipped = [one.name for one in form.offered if one.needs_eval_case and one.name in names]
    return [f"Without an eval set these skip everything: {', '.join(skipped)}."] if skipped else []


# ── Sending ────────────────────────────────────────────────────────────────
def _submit(form: SubmitForm) -> list[Run]:
    """All of the files become runs, or none; what is wrong with one stands beside the field."""
    runs: list[Run] = []
    if not _opened(form):
        return runs
    owner = form.original.owner if form.original else form.cleaned_data["owner"]
    with transaction.atomic():
        for source, spec in form.specs():
            try:
                runs.append(_once(form.original, owner, spec, source.key if source else None, form.person))
            except SubmissionError as error:
                form.add_error(
                    "traces" if source else None, f"{source.name}: {error}" if source else str(error)
                )
        if not form.is_valid():
            transaction.set_rollback(True)
    return runs if form.is_valid() else []


def _once(original: Run | None, owner: Owner, spec: dict[str, Json], key: UUID | None, person: User) -> Run:
    """A kept file's id is its run's, so that a second click makes no second run; changed, it is another."""
    body: dict[str, Json] = {"spec": spec}
    try:
        with transaction.atomic():
            return _one(original, owner, {**body, "runId": str(key)} if key else body, person)
    except SpecConflict:
        return _one(original, owner, body, person)


def _one(original: Run | None, owner: Owner, body: dict[str, Json], person: User) -> Run:
    return submit_again(original, body, person.display_name) if original else submit_run(owner, body)


def _send(form: SpecForm, owner: Owner, person: User, *, check: bool) -> Run | None:
    """The run that the spec makes, taken back where it is only checked; None with errors in the form."""
    with transaction.atomic():
        try:
            run = _one(form.original, owner, form.cleaned_data["spec"], person)
        except SubmissionError as error:
            for words in _words(error):
                form.add_error("spec", words)
        except SpecConflict:
            form.add_error("spec", "runId: it is taken by a run with another spec.")
        else:
            transaction.set_rollback(check)
            return run
        transaction.set_rollback(True)
    return None


def _opened(form: SubmitForm | SpecForm) -> bool:
    """Whether the original's secrets can be opened; if not, the form says what to do."""
    try:
        if form.original:
            form.original.full_spec  # noqa: B018  it is opened
    except Unsealable as error:
        form.errors  # noqa: B018  the form is cleaned first
        form.add_error(None, str(error).capitalize())
        return False
    return True


def _words(error: SubmissionError) -> list[str]:
    """Every mistake in the API's words."""
    if not error.errors:
        return [str(error)]
    return [f"{'.'.join(str(step) for step in one['loc'])}: {one['msg']}" for one in error.errors]


# ── Files and values ───────────────────────────────────────────────────────
def _source(one: Upload | tuple[str, bytes]) -> Source:
    return read_source(*_named(one), key=one.pk if isinstance(one, Upload) else None)


def _source_of(name: str, document: Json) -> Source:
    """Raises ValidationError where these are no traces."""
    try:
        return Source(name, document, read_traces(document))
    except TraceError as error:
        raise forms.ValidationError(f"{name}: {error}") from None


def _named(one: Upload | tuple[str, bytes]) -> tuple[str, bytes]:
    return (one.name, bytes(one.content)) if isinstance(one, Upload) else one


def _entries(value: Json) -> list[dict[str, Json]] | None:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else None


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


_EXAMPLE: dict[str, Json] = {
    "target": {"kind": "filter", "query": "kind:task after:1d"},
    "evalConfig": {"evaluators": [{"type": "builtin", "name": "tool_error_rate", "threshold": 1.0}]},
}
