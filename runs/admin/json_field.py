"""JSON in forms: read strictly, shown in lines, never printed at any size."""

import json
import re
from dataclasses import dataclass
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Func, IntegerField, TextField, Value
from django.db.models.functions import Cast, Coalesce, Greatest
from django.forms.fields import InvalidJSONInput
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html
from django.utils.safestring import SafeString

from runs.api.strict_json import JsonError, read_json
from runs.exact import Json, join_exact, split_exact

MOST_EDITABLE = 200_000  # bytes of text; a page with more is no help to edit
TOO_DEEP = "Nested too deeply to be shown here."

_SURROGATE = re.compile("[\ud800-\udfff]")
_PLACE = re.compile(r" \(byte \d+\)$")


class JsonField(forms.JSONField):
    """JSON without NaN and Infinity; a mistake is named with its line and column.

    exact: whether the column has another beside it for what JSONB cannot hold (DESIGN.md 3.7).
    nullable: whether null is a value of it.
    """

    def __init__(self, *, exact: bool, nullable: bool, **kwargs: Any) -> None:
        self.exact, self.nullable = exact, nullable
        area = forms.Textarea(attrs={"class": "vLargeTextField json", "rows": 12, "spellcheck": "false"})
        super().__init__(widget=area, required=False, **kwargs)

    def to_python(self, value: Any) -> Json:
        text = value.strip() if isinstance(value, str) else ""
        read = _read(text) if text else None
        if read is None and not self.nullable:
            raise ValidationError("This cannot be null; {} or [] is empty.")
        if not self.exact and split_exact(read)[1] is not None:
            raise ValidationError("A NUL, half an emoji or a number from 1e16 on cannot be kept here.")
        return read

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What was typed comes back as it was typed."""
        return InvalidJSONInput(data or "")

    def prepare_value(self, value: Any) -> str:
        return str(value) if isinstance(value, InvalidJSONInput) else pretty(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return _canonical(initial) != _canonical(self.to_python(data))
        except ValidationError:
            return True


def pretty(value: Json) -> str:
    """JSON in lines, as far as Python's stack goes; what no UTF-8 can hold stays escaped."""
    for indent in (2, None):
        try:
            text = json.dumps(value, indent=indent, ensure_ascii=False)
            return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)
        except RecursionError:
            continue
    return TOO_DEEP


@dataclass(frozen=True, slots=True)
class Shown:
    """A payload for reading, as Django's admin takes a computed field: JSON in lines, or just its size."""

    field: str
    size: int | None = None
    """In bytes, where it is too large to be shown."""

    @property
    def __name__(self) -> str:
        return self.field

    @property
    def short_description(self) -> str:
        return self.field.replace("_", " ")

    def __call__(self, row: models.Model) -> SafeString | str:
        if self.size is not None:
            return f"{filesizeformat(self.size)}: too large to be shown or edited here."
        value = full_value(row, self.field)
        if value is None:
            return "-"
        text = value if isinstance(value, str) else pretty(value)
        return format_html('<pre class="json" tabindex="0">{}</pre>', text)


def full_value(row: models.Model, field: str) -> Json:
    """The column's value exactly as it came."""
    return join_exact(getattr(row, field), getattr(row, f"{field}_exact", None))


def sizes(row: models.Model, fields: list[str]) -> dict[str, int]:
    """The bytes that each of these columns has as text; nothing but the sizes leaves the database."""
    if not fields:
        return {}
    lengths = {f"bytes_of_{field}": _length(type(row), field) for field in fields}
    found = type(row)._base_manager.filter(pk=row.pk).values(**lengths).get()
    return {field: found[f"bytes_of_{field}"] for field in fields}


def has_exact(model: type[models.Model], field: str) -> bool:
    return any(column.name == f"{field}_exact" for column in model._meta.get_fields())


class _Bytes(Func):
    function = "octet_length"
    output_field = IntegerField()


def _length(model: type[models.Model], field: str) -> Any:
    length = Coalesce(_Bytes(Cast(F(field), TextField())), Value(0))
    if not has_exact(model, field):
        return length
    return Greatest(length, Coalesce(_Bytes(F(f"{field}_exact")), Value(0)))


def _read(text: str) -> Json:
    data = text.replace("\r\n", "\n").encode()
    try:
        return read_json(data)
    except JsonError as error:
        message = _PLACE.sub("", str(error))
        raise ValidationError(f"{message}{_place(data, error)}.") from None


def _place(data: bytes, error: JsonError) -> str:
    """Where a mistake of the syntax shows; other mistakes, such as too much depth, have no one place."""
    if "truncated" in str(error):
        before = data.decode()
    elif _PLACE.search(str(error)):
        before = data[: error.position].decode(errors="replace")
    else:
        return ""
    return f", line {before.count('\n') + 1} column {len(before) - before.rfind('\n')}"


def _canonical(value: Json) -> str:
    return json.dumps(value, sort_keys=True)
