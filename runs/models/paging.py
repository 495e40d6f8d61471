"""Keyset paging: a place in a list that is ordered by (created_at, id), without ties (DESIGN.md 3.4)."""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page; the next page starts behind it."""

    created_at: datetime
    id: UUID

    def __str__(self) -> str:
        plain = f"{self.created_at.isoformat()}|{self.id}"
        return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for anything that is not a cursor of ours."""
        try:
            plain = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode("ascii")
            at, _, row_id = plain.partition("|")
            created_at = datetime.fromisoformat(at)
            if created_at.tzinfo is None:
                raise ValueError("no time zone")
            return cls(created_at.astimezone(UTC), UUID(row_id))
        except (ValueError, OverflowError):
            raise ValueError("not a cursor that Runfolio gave") from None
