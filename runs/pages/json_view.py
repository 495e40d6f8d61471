"""JSON for people: small values whole, large ones by branch (DESIGN.md 3.5)."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import Final, Literal

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from runs.exact import Json
from runs.pages import text

WHOLE = 4_000  # characters of JSON that are shown at once
WINDOW = 100  # entries of a branch that are shown at once
_STRING = 600  # characters of a text inside a branch


class _Large(dict[str, Json]):
    """Stands for an object that was not read."""


LARGE: Final = _Large()


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

    def under(self, path: str) -> "Branch":
        """The same, of a value that is at `path` of a larger one."""
        return replace(self, entries=[replace(entry, path=f"{path}{entry.path}") for entry in self.entries])


def at(value: Json, path: str) -> Json:
    """What is at a JSON pointer. Raises NoSuchPath."""
    for step in steps(path):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, ValueError, TypeError):
            raise NoSuchPath(path) from None
    return value


def steps(path: str) -> list[str]:
    """The keys of a JSON pointer."""
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


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
        [_entry(key, f"{path}/{escape_key(key)}", item) for key, item in window],
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


def entry_of(path: str, key: str, kind: str, size: int, entries: int | None, words: str | None) -> Entry:
    """A line of a branch at `path` as PostgreSQL tells of it, which reads no large value whole.

    kind: of JSON. size: characters of a text, bytes of all else. entries: of an array. words: a text or its
    beginning; the JSON of what is small; None for a branch.
    """
    here, shown_key = f"{path}/{escape_key(key)}", text.visible(key[:200])
    if kind == "string" and words is not None:
        if size > _STRING or text.is_base64(words):
            return _text_entry(shown_key, here, words, size)
        return Entry(shown_key, here, "small", pretty(words), "")
    if words is not None:
        return Entry(shown_key, here, "small", pretty(json.loads(words)), "")
    count = "" if entries is None else f"{entries:,} {'entry' if entries == 1 else 'entries'}, "
    return Entry(shown_key, here, "branch", SafeString(""), f"{count}{size / 1000:,.0f} kB")


def _entry(key: str, path: str, value: Json) -> Entry:
    shown_key = text.visible(key[:200])
    if isinstance(value, str) and (len(value) > _STRING or text.is_base64(value)):
        return _text_entry(shown_key, path, value[: max(_STRING, 300)], len(value))
    if value is LARGE:
        return Entry(shown_key, path, "branch", SafeString(""), "large")
    if isinstance(value, dict | list) and not is_small(value, 400):
        return Entry(shown_key, path, "branch", SafeString(""), size_of(value))
    return Entry(shown_key, path, "small", pretty(value), "")


def _text_entry(key: str, path: str, beginning: str, length: int) -> Entry:
    is_base64 = text.is_base64(beginning)
    preview = "" if is_base64 else text.without_base64(beginning[:_STRING]) + "…"
    about = f"{length:,} characters{', base64' if is_base64 else ''}"
    return Entry(key, path, "text", format_html("{}", text.visible(preview)), about)


def _items(value: Json) -> Iterable[tuple[str, Json]]:
    if isinstance(value, dict):
        return value.items()
    return ((str(index), item) for index, item in enumerate(value))


def escape_key(key: str) -> str:
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
