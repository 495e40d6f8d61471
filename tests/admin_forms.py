"""Filling in the admin's forms as a browser does: what the page holds goes back with it."""

from html.parser import HTMLParser
from typing import Any

from django.db.models import Model
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse


def change_url(row: Model) -> str:
    return reverse(f"admin:runs_{row._meta.model_name}_change", args=[row.pk])


def opened(client: Client, row: Model) -> dict[str, Any]:
    """The fields of the row's page, as they would be sent if nothing were typed."""
    page = client.get(change_url(row))
    assert page.status_code == 200
    return fields_of(page.content.decode())


def correct(client: Client, row: Model, reason: str = "it was wrong", **typed: Any) -> HttpResponse:
    return client.post(change_url(row), {**opened(client, row), "reason": reason, **typed})


def errors(response: Any) -> str:
    """All that the page complains of; it must be the form again."""
    assert response.status_code == 200, response.status_code
    return str(response.context["errors"])


def fields_of(page: str) -> dict[str, Any]:
    parser = _Fields()
    parser.feed(page)
    return parser.fields


class _Fields(HTMLParser):
    """Reads the inputs of the form with the fields; the pages have other, smaller ones."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, Any] = {}
        self._inside = False
        self._area = self._select = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attributes}
        if tag == "form":
            self._inside = named.get("id", "").endswith("_form")
        elif self._inside and "name" in named:
            self._field(tag, named)
        elif tag == "option" and self._select and "selected" in named:
            self.fields[self._select] = named.get("value", "")

    def _field(self, tag: str, named: dict[str, str]) -> None:
        if tag == "textarea":
            self._area = named["name"]
            self.fields[self._area] = ""
        elif tag == "select":
            self._select = named["name"]
        elif tag == "input" and named.get("type") not in ("submit", "checkbox"):
            self.fields[named["name"]] = named.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._area:
            # A browser drops the first line's end and sends CR LF for the others.
            self.fields[self._area] = self.fields[self._area].removeprefix("\n").replace("\n", "\r\n")
            self._area = ""
        if tag == "select":
            self._select = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.fields[self._area] += data
