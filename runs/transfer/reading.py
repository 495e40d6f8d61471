"""The lines of a file that somebody gives us: bounded, strict, and each mistake with its line."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from django.conf import settings
from pydantic import BaseModel, ValidationError

from runs.api.strict_json import JsonError, read_json

_GZIP = b"\x1f\x8b"
_PIECE = 2**20


class LineError(ValueError):
    """What is wrong with a line of the file, or with the run that it belongs to."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Unreadable(ValueError):
    """From here on nothing more can be read: the file is broken, or too large."""


@dataclass(frozen=True, slots=True)
class Line:
    """`wrong` says why it holds no record; then `record` is empty."""

    number: int
    record: str
    values: dict[str, Any]
    wrong: str = ""

    def as_(self, model: type[BaseModel]) -> Any:
        """The record in that form. Raises LineError."""
        if self.wrong:
            raise LineError(self.number, self.wrong)
        try:
            return model.model_validate(self.values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise LineError(self.number, f"{self.record}: {field}: {first['msg']}") from None


def longest_line() -> int:
    """Bytes: what one body could have brought, written as base64, and some more."""
    return settings.MAX_BODY_BYTES * 3 // 2


class Lines:
    """The lines of an export, gzipped or not, one at a time; `most` bytes of it are read at all."""

    def __init__(self, file: IO[bytes], most: int | None = None) -> None:
        self._file = _plain(file)
        self._left = most
        self._number = 0
        self._again: Line | None = None

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        """Raises Unreadable."""
        if self._again is not None:
            line, self._again = self._again, None
            return line
        data, is_cut = self._read()
        while data.isspace():
            data, is_cut = self._read()
        if not data:
            raise StopIteration
        if is_cut:
            return Line(self._number, "", {}, f"the line is longer than {longest_line():,} bytes")
        return _parsed(self._number, data)

    def give_back(self, line: Line) -> None:
        """It comes again."""
        self._again = line

    def _read(self) -> tuple[bytes, bool]:
        """The next line, or its beginning where it is too long; the rest of it is passed over."""
        try:
            data = self._file.readline(longest_line() + 1)
            self._number += bool(data)
            is_cut = len(data) > longest_line()
            end = data[-1:]
            self._count(len(data))
            while is_cut and end != b"\n" and (more := self._file.readline(_PIECE)):
                end = more[-1:]
                self._count(len(more))
        except (OSError, EOFError, zlib.error) as error:  # gzip says so in three ways
            raise Unreadable(f"after line {self._number:,} the file cannot be unpacked: {error}") from None
        return data, is_cut

    def _count(self, size: int) -> None:
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise Unreadable(
                    f"line {self._number:,}: unpacked, the file is larger than this page takes; "
                    "give the whole of it to manage.py import runs"
                )


def _plain(file: IO[bytes]) -> IO[bytes]:
    start = file.peek(2)[:2] if hasattr(file, "peek") else _start(file)
    return gzip.GzipFile(fileobj=file) if start == _GZIP else file  # type: ignore[return-value]


def _start(file: IO[bytes]) -> bytes:
    start = file.read(2)
    file.seek(0)
    return start


def _parsed(number: int, data: bytes) -> Line:
    try:
        value = read_json(data)
    except JsonError as error:
        return Line(number, "", {}, f"this is not JSON: {error}")
    if not isinstance(value, dict) or not isinstance(value.get("record"), str):
        return Line(number, "", {}, "this is no record: a JSON object that names its `record`")
    return Line(number, value["record"], value)
