"""Values of strangers in a transcript, in the form that reads best: a difference, a table, the output of a
terminal, JSON, or its branches (issue 5, point 3)."""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from django.utils.safestring import SafeString, mark_safe

from runs.exact import Json
from runs.pages import json_view, text
from runs.pages.jinja import draw

_WHOLE = 100_000  # characters of a text where it stands alone
_JSON_TEXT = 200_000  # characters; a longer text is not tried as JSON
_ROWS, _COLUMNS, _CELL = 50, 12, 200  # of a table that are shown; characters of a cell
_LIKE = 0.6  # of a table's columns that each of its rows has

_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@", re.MULTILINE)
_FILES = re.compile(r"^--- .*\n\+\+\+ ", re.MULTILINE)
_CHANGED = re.compile(r"^[-+](?![-+]{2} ).*\S", re.MULTILINE)
_PLAIN = ("terminal", "json", "diff")
_PRE = '<pre class="code" tabindex="0" dir="auto">{}</pre>'
_DELIMITERS = (",", "\t", ";", "|")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a list of like objects, or of a text with columns; `left` is how many more there are."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int]
    left: int


@dataclass(frozen=True, slots=True)
class Shown:
    """`html` is a difference or a terminal's output; `cut`: there is more, `about` it."""

    kind: Literal["diff", "terminal", "table", "json", "tree", "nothing"]
    html: str = ""
    table: Table | None = None
    branch: json_view.Branch | None = None
    path: str = ""
    about: str = ""
    cut: bool = False


def draw_value(
    value: Json, base: str, seq: int, path: str = "", *, alone: bool = False, bad: bool = False
) -> SafeString:
    """The value as HTML. `base` is the address of its run; `path` is where it is in the payload of event
    `seq`; `bad`: it tells of an error."""
    shown = shape(value, path, _WHOLE if alone else text.PREVIEW)
    if shown.kind in _PLAIN and not shown.cut:  # nearly all are, and a template costs more than they do
        frame = '<p class="err-box">{}</p>' if bad and shown.kind == "terminal" else _PRE
        return SafeString(frame.replace("{}", shown.html))
    return draw("runs/value", shown=shown, base=base, seq=seq, part=f"event-{seq}", alone=alone, bad=bad)


def shape(value: Json, path: str = "", limit: int = text.PREVIEW) -> Shown:
    """How a value is shown; of a text at most `limit` characters."""
    if value is None or value in ("", {}, []):
        return Shown("nothing")
    inner, inner_path = _only_text(value, path)
    if inner is not None:
        return _text(inner, inner_path, limit)
    return _tree(value, path)


def _text(words: str, path: str, limit: int) -> Shown:
    about = json_view.size_of(words)
    if words[:1].strip() in ("{", "[") and len(words) <= _JSON_TEXT:
        try:
            value = json.loads(words)
        except (ValueError, RecursionError):
            pass
        else:
            if json_view.is_small(value):
                return Shown("json", json_view.pretty(value))
            if table := _table_of_objects(value):
                return Shown("table", table=table, about=about, cut=bool(table.left))
            words = json.dumps(value, indent=1, ensure_ascii=False)
    shown = text.shortened(words, limit)
    cut = len(shown) < len(words)
    if _is_difference(shown):
        return Shown("diff", _difference(shown), about=about, cut=cut)
    if table := _table_of_text(shown, cut=cut):
        return Shown("table", table=table, about=about, cut=cut or bool(table.left))
    return Shown("terminal", text.terminal(shown), about=about, cut=cut)


def _tree(value: Json, path: str) -> Shown:
    if table := _table_of_objects(value):
        return Shown("table", table=table, about=json_view.size_of(value), cut=bool(table.left))
    if json_view.is_small(value, 1_000):
        return Shown("json", json_view.pretty(value))
    return Shown("tree", branch=json_view.branch(value, path), path=path, about=json_view.size_of(value))


def _only_text(value: Json, path: str) -> tuple[str | None, str]:
    """A text, or an object that only wraps one."""
    if isinstance(value, str):
        return value, path
    if isinstance(value, dict) and len(value) == 1:
        ((key, inner),) = value.items()
        if isinstance(inner, str) and len(inner) > 80:
            return inner, f"{path}/{json_view.escape_key(key)}"
    return None, path


# ── Differences ────────────────────────────────────────────────────────────
def _is_difference(words: str) -> bool:
    """A unified one: a hunk's head, or the two files, and lines that change."""
    return bool(_HUNK.search(words) or _FILES.search(words)) and _CHANGED.search(words) is not None


def _difference(words: str) -> SafeString:
    """Lines that came and went as blocks of their own, without a line's end between them."""
    pieces = []
    for line in text.visible(text.without_base64(words)).split("\n"):
        shown = escape(line)
        if line.startswith("+") and not line.startswith("+++ "):
            pieces.append(f"<ins>{shown}</ins>")
        elif line.startswith("-") and not line.startswith("--- "):
            pieces.append(f"<del>{shown}</del>")
        elif line.startswith("@@"):
            pieces.append(f'<span class="a-b">{shown}</span>\n')
        else:
            pieces.append(f"{shown}\n")
    return mark_safe("".join(pieces))  # noqa: S308  each line is escaped


# ── Tables ─────────────────────────────────────────────────────────────────
def _table_of_objects(value: Json) -> Table | None:
    """Several objects with much the same keys, whose values are no objects themselves."""
    if (
        not isinstance(value, list)
        or len(value) < 2
        or not all(isinstance(row, dict) for row in value[:_ROWS])
    ):
        return None
    shown = value[:_ROWS]
    head = list(dict.fromkeys(key for row in shown for key in row))
    if not 1 < len(head) <= _COLUMNS or any(len(row) < _LIKE * len(head) for row in shown):
        return None
    if any(isinstance(cell, dict | list) and cell for row in shown for cell in row.values()):
        return None
    rows = [[_cell(row.get(key)) if key in row else "" for key in head] for row in shown]
    numeric = frozenset(
        place
        for place, key in enumerate(head)
        if all(type(row.get(key)) in (int, float, type(None)) for row in shown)
    )
    return Table([text.visible(key[:_CELL]) for key in head], rows, numeric, len(value) - len(shown))


def _table_of_text(words: str, *, cut: bool) -> Table | None:
    """Lines with the same number of columns, as CSV writes them; the first is the head."""
    lines = words.strip("\n").split("\n")
    if cut:
        lines = lines[:-1]
    if len(lines) < 3:
        return None
    for delimiter in _DELIMITERS:
        width = lines[0].count(delimiter) + 1
        if not 1 < width <= _COLUMNS or "\x1b" in words:
            continue
        rows = _rows(lines, delimiter)
        if rows and len({len(row) for row in rows}) == 1 and all(cell.strip() for cell in rows[0]):
            body = [[_cell(cell.strip()) for cell in row] for row in rows[1 : _ROWS + 1]]
            numeric = frozenset(
                place for place in range(width) if all(_is_number(row[place]) for row in body)
            )
            if delimiter != "\t" and not numeric and width < 3:
                return None  # two columns of words and a comma: prose is like that, too
            return Table(
                [_cell(cell.strip()) for cell in rows[0]], body, numeric, max(0, len(rows) - 1 - _ROWS)
            )
    return None


def _rows(lines: list[str], delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        return []


def _cell(value: Json) -> str:
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    short = text.without_base64(words[: _CELL * 4])
    return text.visible(short[:_CELL] + ("…" if len(short) > _CELL or len(words) > _CELL * 4 else ""))


def _is_number(words: str) -> bool:
    try:
        float(words)
    except ValueError:
        return False
    return True
