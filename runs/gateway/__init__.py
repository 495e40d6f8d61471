"""agentevals' own page, MCP server and SDK, which send no token, in front of Runfolio (issue 6, point 6)."""
