"""Which runs go into a file: those of a query, or chosen ones, in the order of the list."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.utils import timezone

from runs.models import Run, User
from runs.models.finding import plan_of
from runs.models.listing import find_runs
from runs.models.run import PAYLOADS
from runs.models.tally import tally
from runs.query import Query

AT_ONCE = 200  # runs
_PATIENCE = 3600.0  # seconds; a list would stop sooner and say so


@dataclass(frozen=True, slots=True)
class Selection:
    """`ids` instead of the query where there are any; of both, what the person may see."""

    person: User
    query: Query
    ids: Sequence[UUID] = ()

    def check(self) -> None:
        """Raises QueryError where the query asks for words and has none, which only the search can tell."""
        plan_of(self.query, self.person)

    def batches(self) -> Iterator[list[Run]]:
        """The runs, newest first, without their payloads. Raises QueryError."""
        if self.ids:
            yield from _chosen(self.person, self.ids)
            return
        after = None
        while True:
            found = find_runs(self.query, self.person, after, AT_ONCE, _PATIENCE)
            if found.runs:
                yield found.runs
            if found.older is None:
                return
            after = found.older

    def count(self) -> tuple[int, bool]:
        """How many they are, and whether that is all: nobody counts very many. Raises QueryError."""
        if self.ids:
            return sum(len(runs) for runs in self.batches()), True
        found = tally(self.query, self.person, timezone.now())
        return found.total, found.is_whole


def _chosen(person: User, ids: Sequence[UUID]) -> Iterator[list[Run]]:
    runs = Run.objects.visible_to(person).filter(pk__in=ids).newest_first()
    yield list(runs.defer(*PAYLOADS))
