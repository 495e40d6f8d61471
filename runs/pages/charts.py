"""Charts as SVG: pure functions from numbers to marks (look/LOOK.md; no style attributes, no script).

The drawing is stretched to its place; strokes and dots are not, for they do not scale. A dot is a line of no
length with a round or a square end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

HEIGHT = 88
STEP = 10  # of one period across
_TOP, _BOTTOM = 5.0, 83.0  # where the axis ends
_GAP = 13.0  # between two labels of ends
SHAPES = 4  # series that can be told apart
_LABEL = 20  # characters


@dataclass(frozen=True, slots=True)
class Series:
    """One line: a value for every period, None where there is nothing, in words and with an address."""

    name: str
    values: Sequence[float | None]
    said: Sequence[str]
    links: Sequence[str]


@dataclass(frozen=True, slots=True)
class Bar:
    """What went well, went wrong and was cancelled in one period."""

    well: int
    wrong: int
    cancelled: int
    said: str
    link: str


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from `low` to `high`."""

    low: float
    high: float

    def y(self, value: float) -> float:
        share = (min(self.high, max(self.low, value)) - self.low) / (self.high - self.low)
        return round(_BOTTOM - share * (_BOTTOM - _TOP), 1)

    @property
    def marks(self) -> tuple[float, float, float]:
        """From the top down."""
        return self.high, (self.low + self.high) / 2, self.low


def scale_of(series: Sequence[Series], whole: bool = False) -> Scale:
    """From 0 to a round number above all values; `whole` ones have a whole middle."""
    top = max((value for one in series for value in one.values if value is not None), default=0)
    return Scale(0, nice(top, whole))


def nice(top: float, whole: bool = False) -> float:
    """The next of 1, 2, 4, 5 and 10 times a power of ten; of whole numbers at least 2."""
    if top <= 0:
        return 2 if whole else 1
    power = 1.0
    while power * 10 <= top:
        power *= 10
    while power > top:
        power /= 10
    found = next(power * step for step in (1, 2, 4, 5, 10) if power * step >= top)
    return max(2.0, found) if whole else found


def lines(
    name: str, about: str, series: Sequence[Series], scale: Scale, columns: Sequence[tuple[str, str]]
) -> SafeString:
    """A line for each series. Every point is a link, or where there are many, every period: `columns` are
    its words and address then."""
    count = max((len(one.values) for one in series), default=0)
    if columns:
        marks = f"{_lone_ones(series, scale)}{_columns(columns)}"
    else:
        marks = SafeString("".join(_points(one, shape, scale) for shape, one in enumerate(series)))
    return _drawing(name, about, count, SafeString(_grid(count) + _paths(series, scale) + marks))


def bars(name: str, about: str, given: Sequence[Bar]) -> tuple[SafeString, tuple[int, int]]:
    """What went wrong hangs below the line, in the same scale both ways; gives the highest and lowest too."""
    up = max((bar.well for bar in given), default=0)
    down = max((bar.wrong + bar.cancelled for bar in given), default=0)
    unit = (_BOTTOM - _TOP) / max(1, up + down)
    zero = round(_TOP + up * unit, 1)
    parts = "".join(
        f'<a href="{escape(bar.link)}" tabindex="-1"><title>{escape(bar.said)}</title>'
        f'<rect class="c-col" x="{at * STEP}" width="10" height="88"/>'
        f"{_rects(bar, at * STEP + 1, zero, unit)}</a>"
        for at, bar in enumerate(given)
    )
    line = f'<path class="g-zero" d="M0 {zero}H{len(given) * STEP}"/>'
    return _drawing(name, about, len(given), SafeString(parts + line)), (up, down)


def ends(series: Sequence[Series], scale: Scale) -> SafeString:
    """The names of the lines beside their ends, moved apart where they would lie on each other."""
    placed = sorted(
        (scale.y(last), shape, one.name)
        for shape, one in enumerate(series)
        if (last := next((value for value in reversed(one.values) if value is not None), None)) is not None
    )
    heights = _apart([y for y, _, _ in placed])
    labels = format_html_join(
        "",
        '<path class="ln s{}" d="M2 {}h14"/><path class="pt s{}" d="M9 {}h0"/><text x="22" y="{}">{}</text>',
        (
            (shape, y, shape, y, y + 4, _short(said))
            for y, (_, shape, said) in zip(heights, placed, strict=True)
        ),
    )
    return format_html('<svg class="ends" viewBox="0 0 150 88" aria-hidden="true">{}</svg>', labels)


def swatch(shape: int) -> SafeString:
    """The sample of a line, for a legend."""
    return format_html(
        '<svg class="swatch" viewBox="0 0 24 12" aria-hidden="true"><path class="ln s{0}" d="M0 6h24"/>'
        '<path class="pt s{0}" d="M12 6h0"/></svg>',
        shape,
    )


def _apart(heights: Sequence[float]) -> list[float]:
    """The heights, from the top down, each _GAP below the one before; the last one at the axis at most."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + _GAP) if moved else height)
    over = max(0.0, moved[-1] - _BOTTOM) if moved else 0.0
    settled: list[float] = []
    for height in moved:
        lowest = settled[-1] + _GAP if settled else _TOP
        settled.append(round(max(lowest, height - over), 1))
    return settled


def _drawing(name: str, about: str, count: int, inside: SafeString) -> SafeString:
    return format_html(
        '<svg class="chart" viewBox="0 0 {0} 88" preserveAspectRatio="none" role="group"'
        ' aria-labelledby="{1}-t {1}-d"><title id="{1}-t">{2}</title><desc id="{1}-d">{3}</desc>{4}</svg>',
        max(1, count) * STEP,
        *(name, about.partition(":")[0], about.partition(":")[2].strip() or about, inside),
    )


# Written out, as format_html takes most of a page's time for thousands of marks; what is not ours is escaped.
def _points(series: Series, shape: int, scale: Scale) -> str:
    return "".join(
        f'<a href="{escape(series.links[at])}" tabindex="-1"><title>{escape(series.said[at])}</title>'
        f'<path class="pt s{shape}" d="M{at * STEP + 5} {scale.y(value)}h0"/></a>'
        for at, value in enumerate(series.values)
        if value is not None
    )


def _lone_ones(series: Sequence[Series], scale: Scale) -> str:
    """Dots for values to which no line leads."""
    dots = (
        "".join(
            f"M{at * STEP + 5} {scale.y(value)}h0"
            for at, value in enumerate(one.values)
            if value is not None and _is_alone(one.values, at)
        )
        for one in series
    )
    return "".join(f'<path class="pt s{shape}" d="{each}"/>' for shape, each in enumerate(dots) if each)


def _is_alone(values: Sequence[float | None], at: int) -> bool:
    return (at == 0 or values[at - 1] is None) and (at + 1 == len(values) or values[at + 1] is None)


def _columns(columns: Sequence[tuple[str, str]]) -> str:
    return "".join(
        f'<a href="{escape(link)}" tabindex="-1"><title>{escape(said)}</title>'
        f'<path class="c-col" d="M{at * STEP} 0h10v88h-10z"/></a>'
        for at, (said, link) in enumerate(columns)
    )


def _grid(count: int) -> str:
    width = max(1, count) * STEP
    middle = (_TOP + _BOTTOM) / 2
    return (
        f'<path class="g-line" d="M0 {_TOP}H{width}M0 {middle}H{width}"/>'
        f'<path class="g-zero" d="M0 {_BOTTOM}H{width}"/>'
    )


def _paths(series: Sequence[Series], scale: Scale) -> str:
    return "".join(
        f'<path class="ln s{shape}" d="{_path(one.values, scale.y)}"/>' for shape, one in enumerate(series)
    )


def _path(values: Sequence[float | None], y: Callable[[float], float]) -> str:
    """A line that is broken where there is nothing; a value alone is a dot."""
    steps = []
    for at, value in enumerate(values):
        if value is not None:
            begins = at == 0 or values[at - 1] is None
            end = "h0" if _is_alone(values, at) else ""
            steps.append(f"{'M' if begins else 'L'}{at * STEP + 5} {y(value)}{end}")
    return "".join(steps)


def _rects(bar: Bar, x: int, zero: float, unit: float) -> str:
    parts = [
        ("c-ok", zero - bar.well * unit, bar.well * unit),
        ("c-bad", zero, bar.wrong * unit),
        ("c-can", zero + bar.wrong * unit, bar.cancelled * unit),
    ]
    return "".join(
        f'<rect class="{css}" x="{x}" y="{round(y, 1)}" width="8" height="{round(height, 1)}"/>'
        for css, y, height in parts
        if height
    )


def _short(name: str) -> str:
    return name if len(name) <= _LABEL else f"{name[: _LABEL - 1]}…"
