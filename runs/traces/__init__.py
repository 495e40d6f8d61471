"""Reading agent traces: from a JSON document to the turns of a conversation.

`read_traces` reads Jaeger and OTLP JSON, `group_turns` finds the turns and says what belongs together.
"""

from runs.traces.grouping import GROUP_BY, group_turns
from runs.traces.model import Group, Span, Step, ToolCall, ToolResponse, Trace, TraceError, Turn
from runs.traces.reading import FORMATS, as_one_document, read_document, read_traces

__all__ = [
    "FORMATS",
    "GROUP_BY",
    "Group",
    "Span",
    "Step",
    "ToolCall",
    "ToolResponse",
    "Trace",
    "TraceError",
    "Turn",
    "as_one_document",
    "group_turns",
    "read_document",
    "read_traces",
]
