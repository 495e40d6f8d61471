"""Choosing evaluators: a form that their schemas make, for all that submits (issue 5, point 10)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.conf import settings
from django.forms.renderers import Jinja2
from django.utils.html import format_html
from django.utils.safestring import SafeString
from pydantic import ValidationError

from runs.evaluators import EvalConfigError, EvaluationError, evaluators, validate_eval_config
from runs.evaluators.mistakes import first_mistake
from runs.evaluators.params import MATCH_TYPES
from runs.evaluators.registry import JUDGE, About, named
from runs.exact import Json
from runs.pages import schema_fields
from runs.pages.jinja import draw
from runs.pages.schema_fields import JsonText, Schema

_TRAJECTORY = "tool_trajectory_avg_score"
_CAPITAL = re.compile(r"([A-Z])")


@dataclass(frozen=True, slots=True)
class Offer:
    """An evaluator with its fields, as the page shows them."""

    about: About
    use: forms.BoundField
    settings: list[forms.BoundField]


class EvaluatorForm(forms.Form):
    """Evaluators, each with a threshold and its settings; and any others as JSON.

    `entries` are those that it begins with, as in `evalConfig.evaluators`; what of them it has no fields for
    stands among the others.
    """

    default_renderer = Jinja2()  # one for all forms: each keeps its own compiled templates
    more = JsonText(
        list,
        label="Others, as JSON",
        help_text="A list of entries as in evalConfig.evaluators: a program, a server, one of agentevals.",
    )

    def __init__(
        self,
        data: Any = None,
        files: Any = None,
        *,
        with_cases: bool,
        chosen: Sequence[str] = (),
        entries: Sequence[Mapping[str, Json]] | None = None,
    ) -> None:
        super().__init__(data, files)
        self.offered = [one for one in evaluators() if with_cases or not one.needs_eval_case]
        begun = _by_name(entries or (), [one.name for one in self.offered])
        for one in self.offered:
            used = one.name in (chosen if entries is None else begun)
            self.fields |= _fields(one, begun.get(one.name, {}), used)
        others = [entry for entry in entries or () if entry not in begun.values()]
        self.fields["more"].initial = others or None

    @property
    def drawn(self) -> SafeString:
        """The evaluators with their fields as HTML."""
        return draw("submit/evaluators", offers=self.offers())

    def offers(self) -> Iterator[Offer]:
        for one in self.offered:
            names = [f"threshold-{one.name}", *(f"{_prefix(one)}{name}" for name in _names(one))]
            yield Offer(one, self[f"use-{one.name}"], [self[name] for name in names])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for one in self.offered:
            if cleaned.get(f"use-{one.name}"):
                self._check_settings(one, cleaned)
            else:
                self._forget_errors(one)
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
        chosen = [_entry(one, given) for one in self.offered if given.get(f"use-{one.name}")]
        return [*chosen, *(given.get("more") or [])]

    def credential_refs(self) -> dict[str, Json]:
        """The spec's `credentialRefs` for the variables that were chosen."""
        refs = {str(entry.get("credentialRef", "")) for entry in self.entries() if isinstance(entry, dict)}
        return {name: {"kind": "env", "name": name} for name in sorted(refs & set(settings.SPEC_ENV_ALLOW))}

    def _forget_errors(self, one: About) -> None:
        """What is not chosen is not shown, nor what is wrong with it."""
        for name in (f"threshold-{one.name}", *(f"{_prefix(one)}{name}" for name in _names(one))):
            self.errors.pop(name, None)

    def _check_settings(self, one: About, cleaned: Mapping[str, Any]) -> None:
        """Says what is wrong with an evaluator's settings, beside each."""
        for schema in (_beside(one), one.config_schema):
            for name in schema_fields.missing(schema, _prefix(one), cleaned):
                self.add_error(name, "This is needed.")
        if not any(f"{_prefix(one)}{name}" in self.errors for name in _names(one)):
            self._check_config(one, cleaned)

    def _check_config(self, one: About, cleaned: Mapping[str, Any]) -> None:
        config = schema_fields.given(one.config_schema, _prefix(one), cleaned)
        try:
            named(one.name).Config.model_validate(config)
        except EvaluationError as error:
            self.add_error(f"use-{one.name}", str(error))
        except ValidationError as error:
            place, what = first_mistake(error)
            field = f"{_prefix(one)}{_camel(re.split(r'[.\\[]', place)[0])}"
            self.add_error(
                field if field in self.fields else f"use-{one.name}", f"{place or one.name}: {what}"
            )

    def _check(self, field: str | None, entries: list[Json]) -> None:
        try:
            validate_eval_config({"evaluators": entries})
        except EvalConfigError as error:
            self.add_error(field, str(error).removeprefix("Invalid eval_config: ")[:1000])


# ── An evaluator's fields ──────────────────────────────────────────────────
def _fields(one: About, entry: Mapping[str, Json], used: bool) -> dict[str, forms.Field]:
    entry = _camel_keys(entry)
    config = entry.get("config")
    threshold = forms.FloatField(
        required=False,
        min_value=0,
        max_value=1,
        initial=entry.get("threshold", one.default_threshold),
        label="Passes from",
        help_text="A score from 0 to 1.",
        widget=forms.NumberInput({"step": "any"}),
    )
    label = format_html("<code>{}</code>", one.name)
    return {
        f"use-{one.name}": forms.BooleanField(required=False, initial=used, label=label),
        f"threshold-{one.name}": threshold,
        **schema_fields.fields_of(_beside(one), _prefix(one), entry),
        **schema_fields.fields_of(
            one.config_schema, _prefix(one), _camel_keys(config if isinstance(config, dict) else {})
        ),
    }


def _beside(one: About) -> Schema:
    """The settings that an entry of the evalConfig has beside its `config` (CONTRACTS.md 1.2)."""
    if one.name == _TRAJECTORY:
        about = "EXACT: the expected calls in their order. IN_ORDER: among others. ANY_ORDER: in any order."
        match = {"enum": list(MATCH_TYPES), "default": "EXACT", "description": about}
        return {"properties": {"trajectoryMatchType": match}}
    if one.name != JUDGE:
        return {}
    return {
        "properties": {
            "judgeModel": {"type": "string", "description": "As its endpoint calls it."},
            "judgeBaseUrl": {
                "type": "string",
                "description": "Of an endpoint that speaks OpenAI's chat completions: https://…/v1.",
            },
            "credentialRef": {
                "enum": ["", *settings.SPEC_ENV_ALLOW],
                "default": "",
                "description": "The worker's variable with its key: one that SPEC_ENV_ALLOW lists.",
            },
            "rubrics": {
                "type": "array",
                "items": {"type": "string"},
                "description": "What to look for, each judged by itself.",
            },
        },
        "required": ["judgeModel", "judgeBaseUrl"],
    }


def _names(one: About) -> list[str]:
    return [*_beside(one).get("properties", {}), *one.config_schema.get("properties", {})]


def _prefix(one: About) -> str:
    return f"{one.name}-"


def _entry(one: About, cleaned: Mapping[str, Any]) -> dict[str, Json]:
    """The evaluator as evalConfig names it. A threshold is said even where it is the evaluator's own: what
    that is may change."""
    entry: dict[str, Json] = {"type": "builtin", "name": one.name}
    if cleaned.get(f"threshold-{one.name}") is not None:
        entry["threshold"] = cleaned[f"threshold-{one.name}"]
    entry |= schema_fields.given(_beside(one), _prefix(one), cleaned)
    if config := schema_fields.given(one.config_schema, _prefix(one), cleaned):
        entry["config"] = config
    return entry


def _by_name(entries: Sequence[Mapping[str, Json]], offered: Sequence[str]) -> dict[str, Mapping[str, Json]]:
    """Those of the entries that the form has all fields for, with their keys in camelCase."""
    found = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if entry.get("type") == "builtin" and name in offered:
            found[str(name)] = entry
    return {name: entry for name, entry in found.items() if set(_camel_keys(entry)) <= _KNOWN[name == JUDGE]}


_KNOWN = {
    False: {"type", "name", "threshold", "trajectoryMatchType", "config"},
    True: {"type", "name", "threshold", "judgeModel", "judgeBaseUrl", "credentialRef", "rubrics", "config"},
}


def _camel_keys(values: Mapping[str, Json]) -> dict[str, Json]:
    return {_camel(str(name)): value for name, value in values.items()}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
