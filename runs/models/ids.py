"""Ids of our own making."""

import secrets
import time
from uuid import UUID


def uuid7() -> UUID:
    """A UUID that sorts by the millisecond it was made in (RFC 9562), so that indexes grow at one end."""
    milliseconds = time.time_ns() // 1_000_000
    number = (milliseconds << 80) | secrets.randbits(80)
    number = number & ~(0xF << 76) | (0x7 << 76)
    return UUID(int=number & ~(0x3 << 62) | (0x2 << 62))
