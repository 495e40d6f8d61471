"""Texts that agents, tools and people wrote, made safe to show (DESIGN.md 3.5, 3.7)."""

import re
from functools import cache, lru_cache
from html import escape

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

PREVIEW = 4_000  # characters of a long value that are shown before one asks for more

_LONE = re.compile("[\ud800-\udfff]")
# Control characters but tab, newline and escape, which terminal() reads.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]")
_BASE64 = re.compile(r"data:[\w/+.;=-]{0,100};base64,[A-Za-z0-9+/=_-]{40,}|[A-Za-z0-9+/_-]{256,}={0,2}")
_DIGIT = re.compile("[0-9]")  # so long a run of base64 has some; a word without spaces has none
_COLOUR = re.compile("\x1b\\[([0-9;]*)m")
_OTHER_ESCAPE = re.compile("\x1b(?:\\[[0-9;?]*[A-Za-ln-z@]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[@-Z\\\\^_])")
_COLOURS = (
    {"31": "a-r", "91": "a-r", "32": "a-g", "92": "a-g", "33": "a-y", "93": "a-y"}
    | dict.fromkeys(("34", "35", "36", "94", "95", "96"), "a-b")
    | dict.fromkeys(("2", "90", "30", "37"), "a-d")
)

_TAGS = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong"),
    *("s", "a", "table", "thead", "tbody", "tr", "th", "td", "div", "span"),
}


def visible(text: str) -> str:
    """NUL and other control characters as pictures of themselves, lone surrogates as U+FFFD."""
    shown = _CONTROL.sub(lambda found: chr(0x2421 if found[0] == "\x7f" else 0x2400 + ord(found[0])), text)
    return _LONE.sub("\N{REPLACEMENT CHARACTER}", shown.replace("\r\n", "\n")).replace("\x1b", "␛")


def without_base64(text: str) -> str:
    """`text` with a note in place of data URIs and long runs of base64, which tell a reader nothing."""
    return _BASE64.sub(
        lambda found: f"⟨{len(found[0]):,} characters of base64⟩" if _DIGIT.search(found[0]) else found[0],
        text,
    )


def is_base64(text: str) -> bool:
    """Whether the whole text is a data URI or base64: shown by its size only."""
    return len(text) > 255 and bool(_BASE64.fullmatch(text.strip()) and _DIGIT.search(text))


def shortened(text: str, limit: int = PREVIEW) -> str:
    """The beginning of a text, cut between words where that costs little."""
    if len(text) <= limit:
        return text
    cut = text[:limit]
    space = cut.rfind("\n", limit - 200)
    return cut[: space if space > 0 else limit]


def markdown(text: str) -> SafeString:
    """Markdown as HTML without images, raw HTML or anything that loads from elsewhere."""
    return _kept(text) if len(text) <= PREVIEW else _render(text)


@lru_cache(maxsize=2_000)
def _kept(text: str) -> SafeString:
    """Reading Markdown costs a millisecond for each kilobyte, and what was said is shown again and again."""
    return _render(text)


def _render(text: str) -> SafeString:
    html = _markdown().render(visible(without_base64(text)))
    return mark_safe(  # noqa: S308  nh3 has just cleaned it
        nh3.clean(
            html,
            tags=_TAGS,
            attributes={
                "a": {"href"},
                "ol": {"start"},
                "th": {"class"},
                "td": {"class"},
                "div": {"class", "tabindex", "role", "aria-label"},
                "pre": {"class", "tabindex"},
            },
            url_schemes={"http", "https", "mailto"},
            link_rel="noopener noreferrer nofollow",
        )
    )


def terminal(text: str) -> SafeString:
    """Output of a terminal: colours as classes, other escapes dropped."""
    plain = _OTHER_ESCAPE.sub("", without_base64(text))
    pieces, css, at = [], "", 0
    for found in _COLOUR.finditer(plain):
        pieces.append(_coloured(plain[at : found.start()], css))
        css = _next_colour(css, found[1])
        at = found.end()
    pieces.append(_coloured(plain[at:], css))
    return mark_safe("".join(pieces))  # noqa: S308  each piece is escaped


def _coloured(text: str, css: str) -> str:
    shown = escape(visible(text))
    return f'<span class="{css}">{shown}</span>' if css and shown else shown


def _next_colour(css: str, codes: str) -> str:
    for code in codes.split(";"):
        if code in ("", "0", "39"):
            css = ""
        css = _COLOURS.get(code, css)
    return css


@cache
def _markdown() -> MarkdownIt:
    """`js-default` knows no raw HTML; images would be fetched from strangers, so they become links."""
    reader = MarkdownIt("js-default", {"linkify": False})
    reader.add_render_rule("heading_open", _heading)
    reader.add_render_rule("heading_close", _heading)
    reader.add_render_rule("image", _image_as_link)
    reader.add_render_rule(
        "table_open", lambda *_: '<div class="scroll-x" tabindex="0" role="region" aria-label="Table"><table>'
    )
    reader.add_render_rule("table_close", lambda *_: "</table></div>")
    reader.add_render_rule("fence", _code)
    reader.add_render_rule("code_block", _code)
    reader.add_render_rule("th_open", _cell)
    reader.add_render_rule("td_open", _cell)
    return reader


def _heading(self, tokens, index, options, env):  # type: ignore[no-untyped-def]
    """Turns are h2, so what is written in them begins at h3 (LOOK.md)."""
    token = tokens[index]
    level = min(6, int(token.tag[1]) + 2)
    return f"<h{level}>" if token.nesting == 1 else f"</h{level}>\n"


def _image_as_link(self, tokens, index, options, env):  # type: ignore[no-untyped-def]
    token = tokens[index]
    source = str(token.attrs.get("src", ""))
    name = escape(token.content or "image")
    if source.startswith(("http://", "https://")):
        return f'<a href="{escape(source)}">{name} (image, not loaded)</a>'
    return f"{name} (image)"


def _code(self, tokens, index, options, env):  # type: ignore[no-untyped-def]
    return f'<pre class="code" tabindex="0">{escape(tokens[index].content)}</pre>\n'


def _cell(self, tokens, index, options, env):  # type: ignore[no-untyped-def]
    """Alignment comes as a style attribute, which the CSP refuses."""
    token = tokens[index]
    css = ' class="num"' if "right" in str(token.attrs.get("style", "")) else ""
    return f"<{token.tag}{css}>"
