"""JSON for people: small values whole, large ones by branch (DESIGN.md 3.5)."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from runs.exact import Json
from runs.pages import text

WHOLE = 4_000  # characters of JSON that are shown at once
WINDOW = 100  # entries of a branch that are shown at once
_STRING = 600  # characters of a text inside a branch


class NoSuchPath(LookupError):
    """There is nothing at this path of the value."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a branch: a key and what is under it.

    path: a JSON pointer (RFC 6901) from the value's top.
    """

    key: str
    path: str
    kind: Literal["small", "branch", "text"]
    shown: SafeString
    about: str


@dataclass(frozen=True, slots=True)
class Branch:
    """A window of the entries of an object or an array; `more_from` is where the next one begins."""

    entries: list[Entry]
    more_from: int | None
    left: int


def at(value: Json, path: str) -> Json:
    """What is at a JSON pointer. Raises NoSuchPath."""
    for step in path.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise NoSuchPath(path) from None
    return value


def is_small(value: Json, limit: int = WHOLE) -> bool:
    """Whether the value's JSON is shown whole. Stops counting at the limit, whatever the value's size."""
    left, todo = limit, [value]
    while todo and left >= 0:
        item = todo.pop()
        if isinstance(item, dict):
            left -= sum(len(key) + 6 for key in _first(item, left))
            todo.extend(_first(item.values(), left + 1))
        elif isinstance(item, list):
            left -= 4 * min(len(item), left + 1)
            todo.extend(item[: left + 1] if left > 0 else [])
        else:
            left -= len(item) if isinstance(item, str) else 5
    return left >= 0


def branch(value: Json, path: str = "", start: int = 0) -> Branch:
    """The entries of an object or an array from the `start`-th on."""
    items = list(_items(value))
    window = items[start : start + WINDOW]
    left = len(items) - start - len(window)
    return Branch(
        [_entry(key, f"{path}/{_escape(key)}", item) for key, item in window],
        start + WINDOW if left > 0 else None,
        max(0, left),
    )


def pretty(value: Json) -> SafeString:
    """Indented and coloured, escaped."""
    return mark_safe("".join(_pretty(value, "")))  # noqa: S308  every text in it is escaped


def inline(value: Json, limit: int = 160, separator: str = " ") -> str:
    """A value in one line, for a summary: the arguments of a call as `key="value"`."""
    if isinstance(value, dict):
        words = separator.join(f"{key}={_short(item)}" for key, item in _first_items(value, 8))
    else:
        words = "" if value is None else _short(value, limit)
    return text.visible(words[:limit] + ("…" if len(words) > limit else ""))


def size_of(value: Json) -> str:
    """How much there is, in the words that cost no counting of bytes."""
    if isinstance(value, dict):
        return f"{len(value):,} {'key' if len(value) == 1 else 'keys'}"
    if isinstance(value, list):
        return f"{len(value):,} {'entry' if len(value) == 1 else 'entries'}"
    return f"{len(value):,} characters" if isinstance(value, str) else ""


def _entry(key: str, path: str, value: Json) -> Entry:
    shown_key = text.visible(key[:200])
    if isinstance(value, str) and (len(value) > _STRING or text.is_base64(value)):
        about = f"{size_of(value)}{', base64' if text.is_base64(value) else ''}"
        preview = "" if text.is_base64(value) else text.without_base64(value[:_STRING]) + "…"
        return Entry(shown_key, path, "text", format_html("{}", text.visible(preview)), about)
    if isinstance(value, dict | list) and not is_small(value, 400):
        return Entry(shown_key, path, "branch", SafeString(""), size_of(value))
    return Entry(shown_key, path, "small", pretty(value), "")


def _items(value: Json) -> Iterable[tuple[str, Json]]:
    if isinstance(value, dict):
        return value.items()
    return ((str(index), item) for index, item in enumerate(value))


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _pretty(value: Json, indent: str) -> Iterator[str]:
    deeper = f"{indent}  "
    if isinstance(value, dict) and value:
        yield "{\n"
        for number, (key, item) in enumerate(value.items()):
            yield f"{deeper}{_span('j-k', _quoted(key))}: "
            yield from _pretty(item, deeper)
            yield ",\n" if number + 1 < len(value) else "\n"
        yield f"{indent}}}"
    elif isinstance(value, list) and value:
        if all(not isinstance(item, dict | list) for item in value) and is_small(value, 60):
            yield "[" + ", ".join("".join(_pretty(item, deeper)) for item in value) + "]"
            return
        yield "[\n"
        for number, item in enumerate(value):
            yield deeper
            yield from _pretty(item, deeper)
            yield ",\n" if number + 1 < len(value) else "\n"
        yield f"{indent}]"
    elif isinstance(value, str):
        yield _span("j-s", _quoted(value))
    elif value in ({}, []) and isinstance(value, dict | list):
        yield "{}" if isinstance(value, dict) else "[]"
    else:
        yield _span("j-n", json.dumps(value))


def _quoted(words: str) -> str:
    return text.visible(json.dumps(text.without_base64(words), ensure_ascii=False))


def _span(css: str, shown: str) -> str:
    return f'<span class="{css}">{escape(shown)}</span>'


def _short(value: Json, limit: int = 60) -> str:
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if isinstance(value, list):
        return f"[{len(value)}]"
    if isinstance(value, str):
        cut = text.without_base64(value[: limit * 4])
        return json.dumps(
            cut[:limit] + ("…" if len(cut) > limit or len(value) > limit * 4 else ""), ensure_ascii=False
        )
    return json.dumps(value)


def _first(items: Iterable[Json], number: int) -> list[Json]:
    return [item for item, _ in zip(items, range(max(0, number)), strict=False)]


def _first_items(value: dict[str, Json], number: int) -> list[tuple[str, Json]]:
    return [item for item, _ in zip(value.items(), range(number), strict=False)]
