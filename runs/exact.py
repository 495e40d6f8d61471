"""JSON that PostgreSQL's JSONB cannot hold as it came (DESIGN.md 3.7).

JSONB refuses NUL and lone surrogates, and turns a float such as 1e300 into an integer. Such a value
is stored twice: the JSONB with U+FFFD in their place, to be searched, and the exact JSON text, to be
given back. All other values are stored once.
"""

import json
import math
import re
from typing import Any

Json = Any  # what json.loads gives: dict, list, str, int, float, bool or None

_UNHOLDABLE = re.compile("[\x00\ud800-\udfff]")


def clean_text(text: str) -> str:
    """`text` with U+FFFD for what a PostgreSQL text cannot hold."""
    if text.isascii() and "\0" not in text:  # nearly all are, and these tests take no time
        return text
    return _UNHOLDABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def split_exact(value: Json) -> tuple[Json, str | None]:
    """What goes into the JSONB, and the exact JSON text (ASCII) where that differs, else None."""
    if not _needs_exact(value):
        return value, None
    return _clean(value), json.dumps(value)


def join_exact(value: Json, exact: str | None) -> Json:
    """The value as it came: the inverse of `split_exact`."""
    return value if exact is None else json.loads(exact)


def _needs_exact(value: Json) -> bool:
    """Walks with a list of its own, so that depth costs no stack."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            if _UNHOLDABLE.search(item):
                return True
        elif isinstance(item, dict):
            todo.extend(item)
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, float) and not _survives_jsonb(item):
            return True
    return False


def _survives_jsonb(number: float) -> bool:
    """JSONB's numeric knows no negative zero, and writes 1e+16 and above without a point."""
    return abs(number) < 1e16 and not (number == 0 and math.copysign(1, number) < 0)


def _clean(value: Json) -> Json:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value
