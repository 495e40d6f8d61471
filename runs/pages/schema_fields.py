"""Form fields made of a JSON Schema: the one maker of them (issue 5, point 10).

One field for each property. What a person leaves as it is by default is not sent, so that a spec says only
what somebody chose.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from django import forms

from runs.api.strict_json import JsonError, read_json
from runs.exact import Json

type Schema = Mapping[str, Any]

_ROWS = 3
_LONE = re.compile("[\ud800-\udfff]")
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")


class JsonText(forms.CharField):
    """A JSON value of one kind, read strictly; None where nothing is written."""

    def __init__(self, kind: type, **options: Any) -> None:
        mono = {"class": "in mono", "rows": _ROWS, "spellcheck": "false"}
        super().__init__(**{"required": False, "widget": forms.Textarea(attrs=mono), **options})
        self.kind = kind

    def prepare_value(self, value: Any) -> Any:
        """What is written in it: a text is what somebody typed."""
        return value if value is None or isinstance(value, str) else readable(value)

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


class LinesField(forms.CharField):
    """A list: a text on each line, or a JSON list, as texts of several lines need."""

    def __init__(self, **options: Any) -> None:
        area = forms.Textarea(attrs={"class": "in", "rows": _ROWS})
        super().__init__(**{"required": False, "widget": area, **options})

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        plain = all(isinstance(one, str) and one.strip() == one and "\n" not in one for one in value)
        return "\n".join(value) if plain else readable(value)

    def clean(self, value: Any) -> Any:
        words = super().clean(value)
        if words.startswith("["):
            try:
                given = read_json(words.encode())
            except JsonError:
                given = None  # a text that begins so
            if isinstance(given, list):
                return given
        return [line.strip() for line in words.splitlines() if line.strip()]


def fields_of(
    schema: Schema, prefix: str, values: Mapping[str, Json] | None = None
) -> dict[str, forms.Field]:
    """A field for each property by `prefix` and its name; `values` are those that it begins with.

    None is required by itself, since they may belong to something that is not chosen: `missing` tells.
    """
    values = values or {}
    fields = {}
    for name, about in _properties(schema):
        field = _field(name, about)
        field.needed = name in schema.get("required", ())
        if name in values:
            field.initial = values[name]
        fields[f"{prefix}{name}"] = field
    return fields


def given(schema: Schema, prefix: str, cleaned: Mapping[str, Any]) -> dict[str, Json]:
    """What was chosen otherwise than by default, by the names of the properties."""
    chosen = {name: (cleaned.get(f"{prefix}{name}"), about) for name, about in _properties(schema)}
    return {
        name: value
        for name, (value, about) in chosen.items()
        if value not in (None, "", [], about.get("default")) or (value is False and about.get("default"))
    }


def missing(schema: Schema, prefix: str, cleaned: Mapping[str, Any]) -> list[str]:
    """The fields that need a value and have none, by their names in the form."""
    names = [f"{prefix}{name}" for name in schema.get("required", ())]
    return [name for name in names if name in cleaned and cleaned[name] in (None, "", [])]


def readable(value: Json) -> str:
    """JSON in the letters of any language; with escapes where some text has none that can be sent."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return json.dumps(value, indent=2) if _LONE.search(text) else text


def _properties(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Each with what it refers to; one that may be null as what it is else."""
    defs = schema.get("$defs", {})
    for name, about in schema.get("properties", {}).items():
        others = [one for one in about.get("anyOf", ()) if one.get("type") != "null"]
        about = {**about, **others[0]} if len(others) == 1 else about
        if "$ref" in about:
            about = {**defs.get(about["$ref"].rpartition("/")[2], {}), **about}
        yield name, about


def _field(name: str, about: Schema) -> Any:
    options: dict[str, Any] = {
        "required": False,
        "label": _words(name),
        "help_text": about.get("description", ""),
        "initial": about.get("default"),
    }
    if "enum" in about:
        return forms.ChoiceField(choices=[(one, one or "none") for one in about["enum"]], **options)
    match about.get("type"):
        case "boolean":
            return forms.BooleanField(**options)
        case "integer":
            return forms.IntegerField(**options, **_bounds(about))
        case "number":
            return forms.FloatField(**options, **_bounds(about), widget=forms.NumberInput({"step": "any"}))
        case "string":
            return forms.CharField(**options, max_length=about.get("maxLength"))
        case "array" if about.get("items", {}).get("type") == "string":
            options["help_text"] = f"{options['help_text']} One a line.".strip()
            return LinesField(**options)
        case "array":
            return JsonText(list, **options)
    options["help_text"] = f"{options['help_text']} A JSON object.".strip()
    return JsonText(dict, **options)


def _bounds(about: Schema) -> dict[str, Any]:
    """Those that a field can say as they are; of the others the schema's owner tells."""
    bounds = {"min_value": about.get("minimum"), "max_value": about.get("maximum")}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _words(name: str) -> str:
    """ "maxSeconds" as "Max seconds"."""
    return _CAPITAL.sub(lambda found: f" {found[0].lower()}", name).replace("_", " ").capitalize()
