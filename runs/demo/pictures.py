"""Small charts as PNG, drawn by hand: the demo needs images, and Runfolio no drawing library."""

import struct
import zlib
from collections.abc import Sequence

WIDTH, HEIGHT, MARGIN = 480, 240, 24  # pixels
_PAPER, _LINE, _BAR, _LAST = b"\xfd\xfd\xfc", b"\xca\xd2\xcf", b"\x0b\x5b\x6b", b"\xb3\x26\x1a"


def bar_chart(values: Sequence[float], mark_last: bool = False) -> bytes:
    """A PNG with a bar for each value; the last one stands out where it is to be looked at."""
    rows = [bytearray(_PAPER * WIDTH) for _ in range(HEIGHT)]
    for quarter in range(5):
        _fill(rows, MARGIN, WIDTH - MARGIN, _y(quarter / 4), _y(quarter / 4) + 1, _LINE)
    step = (WIDTH - 2 * MARGIN) / len(values)
    highest = max(values) or 1
    for number, value in enumerate(values):
        left = int(MARGIN + step * number + step * 0.15)
        colour = _LAST if mark_last and number == len(values) - 1 else _BAR
        _fill(rows, left, left + max(1, int(step * 0.7)), _y(value / highest), HEIGHT - MARGIN, colour)
    return _png(rows)


def _y(share: float) -> int:
    return int(HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN))


def _fill(rows: list[bytearray], left: int, right: int, top: int, bottom: int, colour: bytes) -> None:
    for row in rows[top:bottom]:
        row[left * 3 : right * 3] = colour * (right - left)


def _png(rows: Sequence[bytearray]) -> bytes:
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)  # 8 bits, RGB
    pixels = zlib.compress(b"".join(b"\x00" + row for row in rows), 9)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
