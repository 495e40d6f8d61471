"""Log lines: one event is one line, whatever a client wrote into it (RELIABILITY.md S12)."""

import logging
import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x9b]")


class OneLine(logging.Formatter):
    """Time, level, logger, message; control characters of the message are escaped.

    A traceback keeps its lines, indented: it is ours, and its texts are escaped as well.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _escape(super().formatMessage(record)).replace("\n", "\\n").replace("\t", "\\t")

    def formatException(self, ei: object) -> str:
        return _escape("    " + super().formatException(ei).replace("\n", "\n    "))  # type: ignore[arg-type]


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
