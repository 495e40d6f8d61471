"""Reading values that strangers wrote: nothing in here raises, whatever it is given."""

import ast
import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from runs.traces.model import Json

MAX_DEPTH = 64  # of nested attribute values; deeper ones are replaced by a note
MAX_TIME = 2**64 - 1  # OTLP's times are fixed64 nanoseconds
MAX_COUNT = 2**63 - 1
MAX_ID_LENGTH = 256
MAX_LITERAL = 10_000  # characters of Python's notation

_TOO_DEEP = "(nested too deeply to be read)"
_HEX = re.compile("[0-9a-f]+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def integer(value: Any, largest: int = MAX_TIME) -> int | None:
    """A whole number between 0 and `largest`, from a number or its text, else None."""
    number = _number(value)
    return number if number is not None and 0 <= number <= largest else None


def count_of(value: Any) -> int | None:
    """A number of tokens: None when not given, 0 where a negative one was."""
    number = _number(value)
    return None if number is None or number > MAX_COUNT else max(0, number)


def scalar_text(value: Any) -> str:
    """A text, or a number or boolean as text; empty for everything else."""
    if isinstance(value, str):
        return value
    return _digits(value) if isinstance(value, (bool, int, float)) else ""


def hex_id(value: Any, size: int) -> str:
    """A trace or span id of `size` bytes as lower-case hex; empty when there is none.

    Base64 (protobuf's JSON) becomes hex. Ids of other lengths, as old Jaeger clients have, stay as
    they are. All zeros is how OpenTelemetry says "no id".
    """
    if not isinstance(value, str) or len(value) > MAX_ID_LENGTH:
        return ""
    text = value.strip().lower()
    if len(text) == 2 * size and _HEX.fullmatch(text):
        return "" if not text.strip("0") else text
    return _base64_id(value, size) or (text if text.isprintable() else "")


def json_value(value: Any) -> Json:
    """Structured values as they are; a text as the JSON in it, None when it holds none.

    A text whose JSON we could not give back unchanged (NaN, numbers too large, nested without end)
    counts as holding none, so that callers keep the text.
    """
    if not isinstance(value, str):
        return value
    try:
        parsed = _parsed(value)
    except (ValueError, RecursionError):
        return None
    may_be_deep = value.count("[") + value.count("{") > MAX_DEPTH
    return None if may_be_deep and _deeper_than(parsed, MAX_DEPTH) else parsed


def json_or_text(value: Any) -> Json:
    """The JSON in a text, or the text itself."""
    parsed = json_value(value)
    return value if parsed is None else parsed


def python_value(value: Any) -> Json:
    """The object or list in a text written as Python prints it (`{'city': 'Rome'}`), else None.

    LangChain hands such texts to its tools' spans. Bounded, as Python's parser is not made for strangers.
    """
    if not isinstance(value, str) or len(value) > MAX_LITERAL or not value.startswith(("{", "[")):
        return None
    if sum(map(value.count, "[{(-+~")) > MAX_DEPTH:
        return None
    try:
        return plain(ast.literal_eval(value))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def as_text(value: Any) -> str:
    """A text as it is, anything else as JSON; empty for None."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, sort_keys=True, default=str)


def plain(value: Any, depth: int = 0) -> Json:
    """`value` as JSON that every store takes: finite, with text keys, at most MAX_DEPTH deep."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= MAX_DEPTH:
        return _TOO_DEEP
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return str(value)


def moment(nanoseconds: int) -> datetime | None:
    """The point in time, in UTC; None for 0 and for times beyond the year 9999."""
    if nanoseconds <= 0:
        return None
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return None


def word(value: Any) -> str:
    """`value` when it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def items(value: Any) -> list[Any]:
    """`value` when it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` when it is an object, else an empty one."""
    return value if type(value) is dict or isinstance(value, Mapping) else {}


def _parsed(text: str) -> Json:
    """msgspec is quick; what it refuses (lone surrogates, say) the standard library may still read."""
    try:
        return _QUICK.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return _DECODER.decode(text)


def _number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        pass
    try:
        return int(float(value))
    except (ValueError, OverflowError):
        return None


def _digits(value: float) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than Python is willing to write
        return ""


def _base64_id(value: str, size: int) -> str:
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return decoded.hex() if len(decoded) == size and any(decoded) else ""


def _refuse(name: str) -> None:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_QUICK = msgspec.json.Decoder()
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def _deeper_than(value: Json, limit: int) -> bool:
    """Walks level by level with lists of its own, so that depth costs no stack."""
    level = [value]
    for _ in range(limit):
        below: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return False
        level = below
    return True
