"""How far a long command is: a line that moves in a terminal, a line now and then in a log."""

import time
from typing import Any

_EVERY = 10.0  # seconds, where nobody watches
_WIDTH = 24


class Bar:
    """Shows `done` of `total` things, with their speed and how long it will take."""

    def __init__(self, out: Any, unit: str) -> None:
        self._out, self._unit = out, unit
        self._moves = bool(getattr(out, "isatty", lambda: False)())
        self._began = self._told = time.monotonic()
        self._width = 0

    def show(self, done: int, total: int, more: str = "") -> None:
        now = time.monotonic()
        if now - self._told < (0.2 if self._moves else _EVERY):
            return
        self._told = now
        speed = done / (now - self._began)
        text = f"{done:,} of {max(done, total):,} {self._unit}{more}, {speed:,.0f}/s"
        if speed and total > done:
            text += f", {_duration((total - done) / speed)} to go"
        self._say(f"{_drawn(done, total)} {text}" if self._moves else text)

    def clear(self) -> None:
        """Takes the moving line away, before something else is said."""
        if self._width:
            self._out.write("\r" + " " * self._width, ending="\r")
            self._width = 0

    def _say(self, text: str) -> None:
        if not self._moves:
            self._out.write(text)
            return
        self._out.write("\r" + text.ljust(self._width), ending="")
        self._out.flush()
        self._width = len(text)


def _drawn(done: int, total: int) -> str:
    full = round(_WIDTH * min(1.0, done / total)) if total else 0
    return "█" * full + "░" * (_WIDTH - full)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
