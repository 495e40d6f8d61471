"""A tool's span of a framework that records what went in and what came out, each as one payload."""

from typing import Any

from runs.traces.dialects.names import (
    KIND,
    TOOL_ARGUMENTS,
    TOOL_CALL_ID,
    TOOL_FAILED,
    TOOL_INPUT,
    TOOL_NAME,
    TOOL_RESULT,
    Source,
)
from runs.traces.payloads import arguments_in, result_in


def tool_use(name: Any, call_id: Any, given: Any, made: Any) -> Source:
    """What went in counts as the arguments when it is an object: LangChain gives a tool's only argument
    without its name, and there the model's own call tells more."""
    arguments, result = arguments_in(given), result_in(made)
    return {
        KIND: "tool",
        TOOL_NAME: name,
        TOOL_CALL_ID: call_id or result.call_id,
        TOOL_ARGUMENTS if isinstance(arguments, dict) else TOOL_INPUT: arguments,
        TOOL_RESULT: result.value,
        TOOL_FAILED: result.failed or None,
    }
