"""The maker of form fields, by example; the forms that it makes are in test_submit and test_evaluate."""

from typing import Any

import pytest
from django import forms
from pydantic import BaseModel, Field

from runs.evaluators import evaluators
from runs.pages import schema_fields


class Price(BaseModel):
    input: float


class Settings(BaseModel):
    word: str = Field(max_length=10, description="What to look for.")
    most: int | None = Field(None, ge=0)
    share: float = Field(0.5, ge=0, le=1)
    strict: bool = True
    texts: list[str] = []
    numbers: list[int] = []
    price: Price | None = None


SCHEMA = Settings.model_json_schema()


def form_of(data: Any = None, values: Any = None) -> forms.Form:
    form = forms.Form(data)
    form.fields |= schema_fields.fields_of(SCHEMA, "x-", values)
    return form


def given(**data: Any) -> dict[str, Any]:
    form = form_of({f"x-{name}": value for name, value in {"word": "a", "strict": "on", **data}.items()})
    assert form.is_valid(), form.errors
    return schema_fields.given(SCHEMA, "x-", form.cleaned_data)


def test_each_property_becomes_a_field_of_its_kind():
    kinds = {name.removeprefix("x-"): type(field).__name__ for name, field in form_of().fields.items()}
    assert kinds == {
        "word": "CharField",
        "most": "IntegerField",
        "share": "FloatField",
        "strict": "BooleanField",
        "texts": "LinesField",
        "numbers": "JsonText",
        "price": "JsonText",
    }


def test_descriptions_defaults_and_what_is_needed_are_told():
    fields = form_of().fields
    assert fields["x-word"].help_text == "What to look for."
    assert fields["x-share"].initial == 0.5
    assert [name for name, field in fields.items() if field.needed] == ["x-word"]


def test_what_is_as_by_default_is_not_given():
    assert given(share="0.5", most="", texts="") == {"word": "a"}


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("most", "0", 0),
        ("share", "0.25", 0.25),
        ("strict", "", False),
        ("texts", "one\n\n two ", ["one", "two"]),
        ("texts", '["a\\nb", "c"]', ["a\nb", "c"]),
        ("texts", "[a", ["[a"]),
        ("numbers", "[1, 2]", [1, 2]),
        ("price", '{"input": 1}', {"input": 1}),
    ],
)
def test_what_is_written_is_given(name, written, value):
    assert given(**{name: written})[name] == value


@pytest.mark.parametrize(
    ("name", "written"),
    [("most", "-1"), ("most", "x"), ("share", "2"), ("word", "a" * 11), ("numbers", "{}"), ("price", "[")],
)
def test_what_the_schema_refuses_is_wrong(name, written):
    assert f"x-{name}" in form_of({f"x-{name}": written}).errors


def test_what_is_needed_and_missing_is_named():
    form = form_of({"x-word": ""})
    form.is_valid()
    assert schema_fields.missing(SCHEMA, "x-", form.cleaned_data) == ["x-word"]


@pytest.mark.parametrize("texts", [["a", "b"], ["a\nb"], [" a"], ["سلام"]])
def test_a_list_that_is_shown_comes_back_as_it_was(texts):
    shown = form_of(values={"texts": texts})["x-texts"].value()
    assert given(texts=shown)["texts"] == texts


@pytest.mark.parametrize("about", evaluators(), ids=lambda about: about.name)
def test_every_evaluator_gets_its_fields(about):
    fields = schema_fields.fields_of(about.config_schema, "x-")
    assert set(fields) == {f"x-{name}" for name in about.config_schema.get("properties", {})}
