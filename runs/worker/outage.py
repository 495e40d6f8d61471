"""When the database fails: what passes is waited for, what it refuses is not repeated."""

import time
from collections.abc import Callable

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connections

# Classes of SQLSTATE that say nothing against the statement: connection, transaction, resources, locks,
# operator, system.
_PASSING = {"08", "25", "40", "53", "55", "57", "58"}
_PAUSE = 0.2  # seconds between two tries


def is_passing(error: DatabaseError) -> bool:
    """Whether the database failed; what it refuses otherwise, it would refuse again and again."""
    state = getattr(error.__cause__, "sqlstate", None)
    return isinstance(error, OperationalError | InterfaceError) and (state is None or state[:2] in _PASSING)


def persistently(step: Callable[[], None], patience: float) -> None:
    """Does `step`, one transaction that may be done twice, until it is done or `patience` seconds are over.

    Raises what the last try raised.
    """
    until = time.monotonic() + patience
    while True:
        try:
            step()
            return
        except DatabaseError as error:
            if not is_passing(error) or time.monotonic() > until:
                raise
        connections.close_all()
        time.sleep(_PAUSE)
