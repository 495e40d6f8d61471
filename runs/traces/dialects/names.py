"""The words that every dialect is translated into: OpenTelemetry's GenAI conventions, and some of ours."""

from collections.abc import Mapping
from typing import Any, Literal

Source = Mapping[str, Any]  # what one dialect says of a span, in these words
Kind = Literal["model", "agent", "workflow", "chain", "tool", "other", "none"]

OPERATION = "gen_ai.operation.name"
INPUT = "gen_ai.input.messages"
OUTPUT = "gen_ai.output.messages"
SYSTEM = "gen_ai.system_instructions"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
AGENT_NAME = "gen_ai.agent.name"
TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
CONVERSATION_ID = "gen_ai.conversation.id"
USER = "user.id"

# Ours, for what the conventions have no word for.
KIND = "runfolio.kind"  # a Kind
HEARD = "runfolio.heard"  # messages: a framework's input, believed where no model call says what was asked
TOLD = "runfolio.told"  # messages: its output, likewise
TOOL_INPUT = "runfolio.tool.input"  # what a tool was given, where that does not name the arguments
TOOL_FAILED = "runfolio.tool.failed"  # True where the result itself says so
