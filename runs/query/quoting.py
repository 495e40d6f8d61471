r"""Quotes: `"exact words"`, with `\"` for a quote among them.

A backslash is itself unless a quote follows, so that "C:\logs" and "\\server\share" mean what they say;
backslashes right before a quote are doubled (the rule of Windows command lines).
"""

import re

QUOTED = r'"(?:[^"\\]|\\.)*"'  # for patterns with re.DOTALL

_BEFORE_QUOTE = re.compile(r'(\\+)("|\Z)')
_QUOTE = re.compile(r'(\\*)("|\Z)')


def quote(text: str) -> str:
    escaped = _QUOTE.sub(lambda found: found[1] * 2 + found[2].replace('"', r"\""), text)
    return f'"{escaped}"'


def unquote(text: str) -> str:
    """What is between the quotes of `text`; a text without quotes as it is."""
    if not text.startswith('"'):
        return text
    return _BEFORE_QUOTE.sub(lambda found: found[1][: len(found[1]) // 2] + found[2], text[1:-1])
