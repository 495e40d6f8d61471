"""Traces of OpenTelemetry become runs: sorted by trace, told, and written in bulk (issue 6, point 5).

`take_in` keeps an export; whoever has a document calls `spans_in` or `logs_in` for it first.
"""

from runs.ingest.arrivals import Arrival, Export, logs_in, spans_in, spans_in_protobuf
from runs.ingest.keeping import close_idle, forget_waiting, take_in

__all__ = [
    "Arrival",
    "Export",
    "close_idle",
    "forget_waiting",
    "logs_in",
    "spans_in",
    "spans_in_protobuf",
    "take_in",
]
