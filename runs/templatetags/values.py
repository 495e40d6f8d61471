"""Values of strangers in a transcript: how much of one is shown, and in what form."""

import json
from dataclasses import dataclass
from typing import Literal

from django import template

from runs.exact import Json
from runs.pages import json_view, text

register = template.Library()

_WHOLE = 200_000  # characters of a text on a page of its own


@dataclass(frozen=True, slots=True)
class ShownValue:
    """`terminal` is text, `json` is shown whole; of `big` only the size is shown."""

    kind: Literal["terminal", "json", "big"]
    text: str
    about: str
    cut: bool


@register.simple_tag
def value_of(value: Json, whole: bool = False) -> ShownValue:
    """A text, or an object that only wraps one, reads as a terminal's output; the rest is JSON.

    `whole`: as much of a text as a page of its own can take.
    """
    words = _only_text(value)
    if words is not None:
        shown = text.shortened(words, _WHOLE if whole else text.PREVIEW)
        return ShownValue("terminal", shown, json_view.size_of(words), len(shown) < len(words))
    if json_view.is_small(value):
        return ShownValue("json", "", "", False)
    preview = text.shortened(json.dumps(value, indent=1, ensure_ascii=False)) if _is_modest(value) else ""
    if preview:
        return ShownValue("terminal", preview, "", True)
    return ShownValue("big", "", json_view.size_of(value), False)


def _is_modest(value: Json) -> bool:
    return json_view.is_small(value, 200_000)


def _only_text(value: Json) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) == 1:
        (inner,) = value.values()
        return inner if isinstance(inner, str) else None
    return None


@register.filter
def called(actor: str, names: dict[str, str]) -> str:
    """The name of an actor where it is known."""
    return names.get(actor, actor)


@register.filter
def old_or_new(value: Json) -> str:
    """A value of a change in words: a text as it is, the rest as short JSON."""
    if value is None:
        return "nothing"
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.visible(text.without_base64(text.shortened(words, 1000))) or "empty"
