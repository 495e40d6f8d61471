"""JSON as another database holds it: all that JSONB takes, which is more than Python's reader does."""

import json
from dataclasses import dataclass

from runs.exact import Json

_LONGEST_NUMBER = 4000  # digits; Python reads 4,300, and JSONB holds 131,072


@dataclass(frozen=True, slots=True)
class Value:
    """A JSON value and its text, as a JSONB takes it; `problem` says where it is not what it was."""

    text: str
    value: Json
    problem: str = ""


def read(text: str) -> Value:
    """The value of a JSONB's text.

    A number that is too long for everybody who reads it becomes a text, and so does what nests too deeply.
    """
    try:
        return Value(text, json.loads(text))
    except ValueError:
        value = json.loads(text, parse_int=_number)
        return Value(
            json.dumps(value), value, f"a number of more than {_LONGEST_NUMBER:,} digits is a text here"
        )
    except RecursionError:
        return Value(json.dumps(text), text, "it nests too deeply, and is a text here")


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) < _LONGEST_NUMBER else digits
