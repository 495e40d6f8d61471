"""Evaluating what is recorded here: a task's run, or a session as a whole (issue 4, point 6)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.html import format_html
from django.views.decorators.http import require_http_methods

from runs import access
from runs.access import SignedInRequest
from runs.api.strict_json import JsonError, read_json
from runs.evaluators import EvalConfigError, evaluators, validate_eval_config
from runs.evaluators.registry import JUDGE, About
from runs.exact import Json
from runs.models import Action, Owner, Session, require
from runs.pages.parts import find_run
from runs.submission import SubmissionError, submit

_CHOSEN = ("tool_error_rate",)  # what needs nothing to be set


class JsonText(forms.CharField):
    """A JSON value of one kind, read strictly; None where nothing is written."""

    def __init__(self, kind: type, **options: Any) -> None:
        super().__init__(required=False, **options)
        self.kind = kind

    def clean(self, value: Any) -> Any:
        words = super().clean(value)
        if not words:
            return None
        try:
            given = read_json(words.encode())
        except JsonError as error:
            raise forms.ValidationError(f"This is not JSON: {error}.") from None
        if not isinstance(given, self.kind):
            wanted = "an object in { }" if self.kind is dict else "a list in [ ]"
            raise forms.ValidationError(f"This must be {wanted}.")
        return given


@dataclass(frozen=True, slots=True)
class Offer:
    """An evaluator with its fields, as the page shows them."""

    about: About
    use: forms.BoundField
    fields: list[forms.BoundField]


class EvaluateForm(forms.Form):
    """What needs no eval case, each with a threshold and its settings; and any others as JSON."""

    more = JsonText(
        list,
        label="Others, as JSON",
        help_text="A list of entries as in evalConfig.evaluators: a judge, a program, a server.",
        widget=forms.Textarea(attrs={"class": "in mono", "rows": 4, "spellcheck": "false"}),
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        self.offered = [one for one in evaluators() if not one.needs_eval_case and one.name != JUDGE]
        for one in self.offered:
            self.fields |= _fields(one)

    def offers(self) -> Iterator[Offer]:
        for one in self.offered:
            fields = [self[f"threshold-{one.name}"]]
            if one.config_schema.get("properties"):
                fields.append(self[f"config-{one.name}"])
            yield Offer(one, self[f"use-{one.name}"], fields)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for one in self.offered:
            entry = _entry(one, cleaned)
            if entry and f"config-{one.name}" not in self.errors:
                self._check(f"config-{one.name}", [entry])
        if cleaned.get("more"):
            self._check("more", cleaned["more"])
        if not self.errors:
            chosen = self.entries()
            if chosen:
                self._check(None, chosen)
            else:
                self.add_error(None, "Choose at least one evaluator.")
        return cleaned

    def entries(self) -> list[Json]:
        """The evaluators of the evalConfig."""
        given = self.cleaned_data
        chosen = [entry for one in self.offered if (entry := _entry(one, given))]
        return [*chosen, *(given.get("more") or [])]

    def _check(self, field: str | None, entries: list[Json]) -> None:
        try:
            validate_eval_config({"evaluators": entries})
        except EvalConfigError as error:
            self.add_error(field, _plain(str(error)))


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def evaluate_run(request: SignedInRequest, task_id: UUID) -> HttpResponse:
    run = find_run(request, task_id, Action.SUBMIT)
    if run.is_evaluation:
        raise Http404
    target: dict[str, Json] = {"kind": "run", "runId": str(run.pk)}
    return _page(request, run.owner, target, {"place": "runs", "run": run, "judged": run})


@access.signed_in
@require_http_methods(["GET", "HEAD", "POST"])
def evaluate_session(request: SignedInRequest, session_id: UUID) -> HttpResponse:
    """The runs of a session, in their order, as one conversation."""
    sessions = Session.objects.visible_to(request.user).select_related("owner")
    session = get_object_or_404(sessions, pk=session_id)
    require(request.user, Action.SUBMIT, session.owner)
    target: dict[str, Json] = {"kind": "session", "sessionId": str(session.pk)}
    return _page(request, session.owner, target, {"place": "sessions", "session": session, "judged": session})


def _page(
    request: SignedInRequest, owner: Owner, target: dict[str, Json], context: dict[str, Any]
) -> HttpResponse:
    form = EvaluateForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            made = submit(owner, {"spec": {"target": target, "evalConfig": {"evaluators": form.entries()}}})
        except SubmissionError as error:
            form.add_error(None, str(error))
        else:
            return redirect("run", made.pk)
    context |= {"form": form, "offers": list(form.offers())}
    return render(request, "runs/evaluate.html", context, status=422 if form.is_bound else 200)


# ── An evaluator's fields ──────────────────────────────────────────────────
def _fields(one: About) -> dict[str, forms.Field]:
    settings = one.config_schema.get("properties", {})
    needed = one.config_schema.get("required", [])
    return {
        f"use-{one.name}": forms.BooleanField(
            required=False, initial=one.name in _CHOSEN, label=format_html("<code>{}</code>", one.name)
        ),
        f"threshold-{one.name}": forms.FloatField(
            required=False, min_value=0, max_value=1, initial=one.default_threshold, label="Passes from"
        ),
        f"config-{one.name}": JsonText(
            dict,
            label="Settings, as JSON",
            help_text=_about_settings(settings, needed),
            widget=forms.TextInput(
                attrs={"class": "in mono", "placeholder": _example(settings, needed), "spellcheck": "false"}
            ),
        ),
    }


def _about_settings(settings: Mapping[str, Any], needed: list[str]) -> str:
    names = [f"{name} (needed)" if name in needed else name for name in settings]
    return ", ".join(names)


def _example(settings: Mapping[str, Any], needed: list[str]) -> str:
    shown = needed or list(settings)[:1]
    return "{" + ", ".join(f'"{name}": …' for name in shown) + "}" if shown else ""


def _entry(one: About, given: Mapping[str, Any]) -> dict[str, Json] | None:
    """The evaluator as evalConfig names it; None where it was not chosen."""
    if not given.get(f"use-{one.name}"):
        return None
    entry: dict[str, Json] = {"type": "builtin", "name": one.name}
    if given.get(f"threshold-{one.name}") is not None:
        entry["threshold"] = given[f"threshold-{one.name}"]
    if given.get(f"config-{one.name}"):
        entry["config"] = given[f"config-{one.name}"]
    return entry


def _plain(message: str) -> str:
    return message.removeprefix("Invalid eval_config: ")[:1000]
