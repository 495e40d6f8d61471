"""Lists that are spread over attributes: `gen_ai.prompt.0.role`, `gen_ai.prompt.0.tool_calls.0.name`."""

from collections.abc import Mapping
from typing import Any

from runs.traces.values import items, json_value

_MAX_INDEX_DIGITS = 9


def numbered(own: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
    """The entries under `prefix` (which ends in a dot) in order of their numbers, gaps closed."""
    entries: dict[int, dict[str, Any]] = {}
    for key, value in own.items():
        if key.startswith(prefix):
            index, rest = _split_index(key[len(prefix) :])
            if index is not None and rest:
                entries.setdefault(index, {})[rest] = value
    return [entries[index] for index in sorted(entries)]


def entries_of(own: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The entries of the list `name`, spread or in one value, as some exporters put it together again."""
    spread = numbered(own, f"{name}.")
    whole = items(json_value(own.get(name))) if not spread else []
    return spread or [flat for item in whole if isinstance(item, dict) and (flat := flattened(item))]


def flattened(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Nested objects and lists as dotted names; what has dots already stays.

    Keeps a stack of its own. Lists of plain values stay values.
    """
    flat: dict[str, Any] = {}
    todo: list[tuple[str, Any]] = list(entry.items())
    while todo:
        name, value = todo.pop()
        if isinstance(value, dict):
            todo.extend((f"{name}.{key}", item) for key, item in value.items())
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            todo.extend((f"{name}.{index}", item) for index, item in enumerate(value))
        else:
            flat[name] = value
    return flat


def _split_index(key: str) -> tuple[int | None, str]:
    number, _, rest = key.partition(".")
    usable = number.isascii() and number.isdecimal() and len(number) <= _MAX_INDEX_DIGITS
    return (int(number) if usable else None), rest
