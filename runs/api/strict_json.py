"""JSON from strangers: read without loss, refused with a reason (DESIGN.md 3.7, 3.15; RELIABILITY.md I1-I3).

A duplicate key keeps its last value. Whole numbers keep all their digits.
"""

import json
import math
import re

import msgspec

from runs.exact import Json

MAX_DEPTH = 500
MAX_DIGITS = 4300  # Python's own limit for turning text into a whole number

_AT = re.compile(r" \(byte (\d+)\)$")


class JsonError(ValueError):
    """The bytes are not JSON that can be kept; `position` is the byte where that shows, where it is known."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


def read_json(data: bytes) -> Json:
    """The value that `data` holds. Raises JsonError.

    msgspec is strict and fast, and refuses lone surrogates, which the tool output of agents does hold;
    only for those the standard library reads again, with the checks it lacks.
    """
    try:
        value = msgspec.json.decode(data)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        value = _read_surrogates(data, error)
    if _is_deeper_than(value, MAX_DEPTH):
        raise _too_deep()
    return value


def _read_surrogates(data: bytes, error: Exception) -> Json:
    text = _decode(data)
    if "surrogate" not in str(error) and "\\u" not in text:
        raise _as_json_error(error) from None
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as wrong:
        raise JsonError(f"{wrong.msg}, line {wrong.lineno} column {wrong.colno}", wrong.pos) from None
    except JsonError:
        raise
    except ValueError:
        raise JsonError(f"a whole number has more than {MAX_DIGITS} digits") from None


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError(f"byte {error.start} is not UTF-8", error.start) from None


def _as_json_error(error: Exception) -> JsonError:
    found = _AT.search(str(error))
    return JsonError(str(error), int(found[1]) if found else 0)


def _too_deep() -> JsonError:
    return JsonError(f"nested more than {MAX_DEPTH} levels deep")


def _refuse_constant(name: str) -> Json:
    raise JsonError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise JsonError(f"the number {digits[:40]} is out of range")
    return number


def _is_deeper_than(value: Json, limit: int) -> bool:
    """Level by level, so that depth costs no stack."""
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
