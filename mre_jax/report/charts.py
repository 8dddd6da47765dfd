"""Small charts as inline SVG, drawn by matplotlib.

What matplotlib writes is made fit for a page: every style is an attribute, since the page's policy
allows no styles of elements; texts stay texts; a disc is a circle. A colour stands as an attribute,
so that a chart can be looked at alone, and as a class, by which the page gives it the colours of
its light or dark form. Lengths are in pixels of the view box; a chart scales with its width.
"""

import dataclasses
import functools
import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec
from xml.etree import ElementTree as ET

from mre_jax.io.extra import of_extra
from mre_jax.report.html import Markup, visible

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#31688e", "#2a9d6a", "#b5651d", "#8e4585", "#7a7a28", "#a83240")
"""One a series, in turn."""

_INK, _FAINT, _PAPER = "#1e2329", "#5d6570", "#fcfcfa"
_RULE, _GOOD, _BAD = "#dddbd3", "#1b7f5c", "#b03344"
_WIDTH = 460.0
_WIDE = 620.0  # of a chart with names to its left
_ROW, _LETTERS = 27.0, 30
_LEFT = 46.0  # room for the numbers and the name of the upright axis
_HEAT_LOW, _HEAT_MIDDLE, _HEAT_HIGH = (0xD3, 0x8A, 0x93), (0xF2, 0xF1, 0xEC), (0x7F, 0xBE, 0xA6)

Arguments = ParamSpec("Arguments")
Draw = Callable[Arguments, Markup]


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a chart, or the dots of one colour.

    Attributes:
        name: name in the legend.
        x: positions, ascending; for dots the index of the label.
        y: values, as many.
        low, high: bounds of the interval of each value, or empty for none.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def _styled(draw: Draw[Arguments]) -> Draw[Arguments]:
    """Draws with this module's settings of matplotlib, and leaves those of others alone."""

    @functools.wraps(draw)
    def styled(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Markup:
        matplotlib = of_extra("matplotlib", "report")
        with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
            # Only lengths are taken from matplotlib's font: the browser has the letters.
            warnings.filterwarnings("ignore", "Glyph")
            return draw(*args, **kwargs)

    return styled


@_styled
def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[float] = range(6),
    x_names: Sequence[str] = (),
    y_ticks: Sequence[float] = range(6),
    identity: bool = False,
) -> Markup:
    """Lines with points and the bands of their intervals.

    Args:
        x_ticks, y_ticks: ticks, at least two each; the first and the last are the ends of the
            axes, and values beyond them are drawn at the end.
        x_names: what stands at the ticks in place of their values.
        identity: whether to draw "what is asked is what is got".
    """
    top = _legend_height([one.name for one in series], _WIDTH)
    figure = _figure(_WIDTH, top + 262)
    _legend(figure, [(one.name, _colour(place)) for place, one in enumerate(series)])
    axes = _axes(figure, (_LEFT, top, _WIDTH - _LEFT - 16, 216), x_ticks, y_ticks)
    if x_names:
        axes.set_xticks(x_ticks, x_names)
    _name_axes(axes, x_label, y_label)
    if identity:
        _draw_identity(axes, max(x_ticks[0], y_ticks[0]), min(x_ticks[-1], y_ticks[-1]))
    for place, one in enumerate(series):
        low, high, y = (
            [min(max(value, y_ticks[0]), y_ticks[-1]) for value in values]
            for values in (one.low, one.high, one.y)
        )
        if low:
            there, back = list(one.x), list(reversed(one.x))
            band = [*high, *reversed(low)]
            axes.fill([*there, *back], band, color=_colour(place), alpha=0.16, lw=0)
        style: dict[str, Any] = {"lw": 2.2, "marker": "o", "ms": 7, "mew": 0, "clip_on": False}
        axes.plot(one.x, y, color=_colour(place), **style)
    return _svg(figure, title)


@_styled
def bar_chart(
    groups: Sequence[str],
    series: Sequence[Series],
    *,
    title: str,
    y_label: str,
    ticks: Sequence[float] = range(6),
) -> Markup:
    """Groups of standing bars with their values and intervals, a colour a series.

    Args:
        groups: names below the bars.
        series: x are the places of the groups.
        ticks: of the upright axis, from its foot to its top.
    """
    top = _legend_height([one.name for one in series], _WIDTH)
    figure = _figure(_WIDTH, top + 250)
    _legend(figure, [(one.name, _colour(place)) for place, one in enumerate(series)])
    box = (_LEFT, top, _WIDTH - _LEFT - 8, 216)
    axes = _axes(figure, box, (-0.5, len(groups) - 0.5), ticks)
    axes.set_xticks(range(len(groups)), [_shortened(name) for name in groups])
    _name_axes(axes, "", y_label)
    step = 0.88 / max(len(series), 1)
    for place, one in enumerate(series):
        for x, y, low, high in zip(one.x, one.y, one.low or one.y, one.high or one.y, strict=True):
            left = x - 0.44 + step * place
            bar = _box(axes, (left + 0.04 * step, 0, 0.92 * step, y), _colour(place))
            _tip(bar, f"{groups[round(x)]}, {one.name}: {y:.2f} [{low:.2f}, {high:.2f}]")
            middle = left + step / 2
            axes.plot((middle, middle), (low, high), color=_INK, alpha=0.75, lw=1.4)
            top_of_all = high + 0.015 * ticks[-1]
            axes.text(middle, top_of_all, f"{y:.1f}", ha="center", va="bottom", fontsize=10.5)
    return _svg(figure, title)


@_styled
def dot_chart(
    labels: Sequence[str],
    whole: Series,
    parts: Sequence[Series],
    *,
    title: str,
    ticks: Sequence[float] = range(6),
) -> Markup:
    """A line a label, from the top, with dots along a lying axis.

    Args:
        whole: x are the places of the labels, y the values, drawn with their intervals.
        parts: likewise, drawn as small dots in colours of their own.
    """
    shown = [_shortened(label) for label in labels]
    names = [one.name for one in [*parts, whole]]
    top = _legend_height(names, _WIDE)
    left = 16 + 6.6 * max([8, *(len(label) for label in shown)])
    height = _ROW * max(len(labels), 1)
    figure = _figure(_WIDE, top + height + 26)
    _legend(figure, [*((one.name, _colour(n)) for n, one in enumerate(parts)), (names[-1], _INK)])
    axes = _axes(figure, (left, top, _WIDE - left - 16, height), ticks, (len(labels) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.set_yticks([])
    beside = axes.get_yaxis_transform()
    for place, (label, short) in enumerate(zip(labels, shown, strict=True)):
        name = axes.text(-0.02, place, short, ha="right", va="center", transform=beside)
        _tip(name, label)
    for colour, one in enumerate(parts):
        _dots(axes, one.y, one.x, 3.5, _colour(colour))
    cap = 4 / _ROW
    for line, low, high in zip(whole.x, whole.low, whole.high, strict=True):
        x = [low, high, math.nan, low, low, math.nan, high, high]
        y = [line, line, math.nan, *(line - cap, line + cap, math.nan) * 2][:8]
        axes.plot(x, y, color=_INK, alpha=0.65, lw=1, clip_on=False)
    _dots(axes, whole.y, whole.x, 5, _INK)
    return _svg(figure, title)


@_styled
def scatter_chart(
    counts: Mapping[tuple[float, float], int],
    marks: Sequence[tuple[str, float, float]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    ticks: Sequence[float] = range(6),
) -> Markup:
    """Discs whose areas are how often two values occur together, and named marks over them.

    Args:
        counts: by the two values.
        marks: name and the two values of each.
    """
    width = _LEFT + 300 + 16
    top = _legend_height([name for name, _, _ in marks], width)
    figure = _figure(width, top + 346)
    _legend(figure, [(name, _colour(place)) for place, (name, _, _) in enumerate(marks)])
    axes = _axes(figure, (_LEFT, top, 300, 300), ticks, ticks)
    _name_axes(axes, x_label, y_label)
    _draw_identity(axes, ticks[0], ticks[-1])
    most = max(counts.values(), default=1)
    for (x, y), count in counts.items():
        radius = max(1.2, 11 * (count / most) ** 0.5)
        _tip(_dots(axes, [x], [y], radius, _INK, alpha=0.28), f"{count} at {x:g}, {y:g}")
    for place, (name, x, y) in enumerate(marks):
        _tip(_dots(axes, [x], [y], 6, _colour(place)), name)
    return _svg(figure, title)


@_styled
def heat_matrix(
    values: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    texts: Sequence[Sequence[str]],
    notes: Sequence[Sequence[str]] = (),
    limits: tuple[float, float, float],
    row_title: str = "",
    column_title: str = "",
) -> Markup:
    """A table of coloured cells.

    Args:
        values: what the colour says; None leaves the cell without one.
        texts: what is written in the cells.
        notes: a second, smaller line in the cells; empty for none.
        limits: values of the low, the middle and the high colour; what is beyond them is clipped.
        row_title, column_title: what the names of rows and columns stand for.
    """
    left, top, width, height = 112, 58, 108, 54
    figure = _figure(left + width * len(columns) + 4, top + height * len(rows) + 4)
    sheet = _sheet(figure)
    _write(sheet, left + width * len(columns) / 2, 18, column_title, color=_FAINT)
    _write(sheet, 8, top - 12, row_title, "left", color=_FAINT)
    for place, name in enumerate(columns):
        _write(sheet, left + width * (place + 0.5), top - 12, name)
    for line, name in enumerate(rows):
        middle = top + height * (line + 0.5)
        _write(sheet, left - 10, middle + 4, name, "right")
        for place, value in enumerate(values[line]):
            x = left + width * place
            if value is not None:
                box = (x + 1, top + height * line + 1, width - 2, height - 2)
                _box(sheet, box, _HEAT[_level(value, limits)])
            note = notes[line][place] if notes else ""
            lift = 2 if note else -5
            _write(sheet, x + width / 2, middle - lift, texts[line][place], fontsize=16)
            _write(sheet, x + width / 2, middle + 16, note, fontsize=11)
    return _svg(figure, title)


@_styled
def share_bar(shares: Sequence[float], names: Sequence[str], *, title: str) -> Markup:
    """One bar that is divided, as wins, ties and losses; the shares sum to 1."""
    figure = _figure(_WIDTH, 22)
    sheet = _sheet(figure)
    left = 0.0
    for place, share in enumerate(shares):
        width = _WIDTH * share
        paint, letters = ((_GOOD, _PAPER), (_RULE, _INK), (_BAD, _PAPER))[place % 3]
        _tip(_box(sheet, (left, 0, max(width - 1.5, 0), 22), paint), names[place])
        if width > 34:
            _write(sheet, left + width / 2, 15.5, f"{share:.0%}", color=letters)
        left += width
    return _svg(figure, title)


def heat_class(value: float, limits: tuple[float, float, float]) -> str:
    """The class of a cell's colour, "h0" (low) to "h10" (high); see `heat_matrix`."""
    return f"h{_level(value, limits)}"


def _level(value: float, limits: tuple[float, float, float]) -> int:
    """Where a value stands: 0 at the low limit, 5 in the middle, 10 at the high one."""
    low, middle, high = limits
    span = high - middle if value >= middle else middle - low
    return 5 + round(5 * min(max((value - middle) / span, -1.0), 1.0))


def _heat(level: int) -> str:
    end, share = (_HEAT_HIGH if level >= 5 else _HEAT_LOW), abs(level - 5) / 5
    mixed = (round(a + (b - a) * share) for a, b in zip(_HEAT_MIDDLE, end, strict=True))
    return "#" + bytes(mixed).hex()


_HEAT = tuple(map(_heat, range(11)))

_CLASSES = {
    **{colour: f"s{place}" for place, colour in enumerate(COLOURS)},
    **{colour: f"h{level}" for level, colour in enumerate(_HEAT)},
    **{_FAINT: "faint", _PAPER: "paper", _RULE: "rule", _GOOD: "good", _BAD: "bad"},
}
"""By which the page knows a colour; the ink is that of the text around."""

_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold dollars
    "text.color": _INK,
    "font.size": 12,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.labelcolor": _FAINT,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _INK,
    "grid.alpha": 0.16,
    "grid.linewidth": 1,
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
    **{
        f"{axis}tick.major.{what}": size
        for axis in "xy"
        for what, size in (("size", 0), ("pad", 8))
    },
}


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure((width / 72, height / 72), dpi=72, frameon=False)


def _axes(
    figure: "Figure",
    box: tuple[float, float, float, float],
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
) -> "Axes":
    """Axes in a box (left, top, width, height); the ticks give their ends."""
    left, top, width, height = box
    across, down = figure.get_size_inches() * 72
    bottom = down - top - height
    axes = figure.add_axes((left / across, bottom / down, width / across, height / down))
    axes.patch.set_visible(False)
    axes.set(xlim=(x_ticks[0], x_ticks[-1]), ylim=(y_ticks[0], y_ticks[-1]))
    axes.set_xticks(x_ticks, [f"{value:g}" for value in x_ticks])
    axes.set_yticks(y_ticks, [f"{value:g}" for value in y_ticks])
    return axes


def _name_axes(axes: "Axes", x_label: str, y_label: str) -> None:
    axes.set_xlabel(_line_of(x_label), labelpad=6)
    axes.set_ylabel(_line_of(y_label), labelpad=8)


def _sheet(figure: "Figure") -> "Axes":
    """Axes over a whole figure, whose units are pixels from the upper left corner."""
    width, height = figure.get_size_inches() * 72
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def _write(
    sheet: "Axes", x: float, y: float, text: str, align: str = "center", **style: Any
) -> None:
    if text:
        sheet.text(x, y, _line_of(text), ha=align, va="baseline", **style)


def _box(sheet: "Axes", box: tuple[float, float, float, float], colour: str) -> "Artist":
    from matplotlib.patches import Rectangle

    left, top, width, height = box
    return sheet.add_patch(Rectangle((left, top), width, height, fc=colour, lw=0))


def _dots(
    axes: "Axes", x: Sequence[float], y: Sequence[float], radius: float, colour: str, **style: Any
) -> "Artist":
    low, high = sorted(axes.get_xlim())
    inside = [min(max(value, low), high) for value in x]
    return axes.plot(inside, y, "o", ms=2 * radius, mew=0, color=colour, clip_on=False, **style)[0]


def _draw_identity(axes: "Axes", low: float, high: float) -> None:
    axes.plot((low, high), (low, high), color=_FAINT, lw=1, dashes=(3, 4))


def _legend_columns(names: Sequence[str], width: float) -> int:
    """As many as fit; a letter takes 7 pixels, and a little of that is lost."""
    lengths = [len(_line_of(name)) for name in names]
    for count in range(len(names), 1, -1):
        if sum(30 + 7 * max(lengths[place::count]) for place in range(count)) <= width - _LEFT:
            return count
    return 1


def _legend_height(names: Sequence[str], width: float) -> float:
    return 16 + 18.0 * math.ceil(len(names) / _legend_columns(names, width))


def _legend(figure: "Figure", names: Sequence[tuple[str, str]]) -> None:
    """Names and their colours, in as many lines as they need."""
    from matplotlib.patches import Patch

    if not names:
        return
    width, height = figure.get_size_inches() * 72
    columns = _legend_columns([name for name, _ in names], width)
    # Matplotlib goes down the columns, a reader along the lines.
    ordered = [one for place in range(columns) for one in names[place::columns]]
    figure.legend(
        handles=[Patch(fc=colour, lw=0) for _, colour in ordered],
        labels=[_line_of(name) for name, _ in ordered],
        loc="upper left",
        bbox_to_anchor=(_LEFT / width, 1 - 6 / height),
        ncols=columns,
        frameon=False,
        **{"borderpad": 0, "borderaxespad": 0, "labelspacing": 0.35, "handletextpad": 0.5},
        **{"handlelength": 0.9, "handleheight": 0.9, "columnspacing": 1.2},
    )


def _tip(artist: "Artist", text: str) -> None:
    """Has the text shown where one points at it."""
    artist.set_gid(f"{_TIP}{_line_of(text)}")


def _line_of(text: str) -> str:
    return " ".join(visible(text).split())


def _shortened(label: str) -> str:
    label = _line_of(label)  # as long as it will be shown
    return label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…"


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


_TIP = "tip: "
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"


def _svg(figure: "Figure", title: str) -> Markup:
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    width, height = (f"{size * 72:g}" for size in figure.get_size_inches())
    root = ET.Element(
        "svg",
        {
            "xmlns": _SVG[1:-1],
            "viewBox": f"0 0 {width} {height}",
            # Without a width the picture takes all the room there is, and small charts become huge.
            **{"width": width, "height": height, "class": "chart", "fill": "currentColor"},
            **{"role": "img", "aria-label": visible(title), "font-family": "system-ui, sans-serif"},
        },
    )
    ET.SubElement(root, "title").text = visible(title)
    radii: dict[str, str] = {}
    for element, tip in _leaves(ET.fromstring(written.getvalue())):  # noqa: S314 (just written)
        name, attributes = element.tag.removeprefix(_SVG), _attributes(element.get("style", ""))
        if name == "path" and "id" in element.attrib:  # the form of a mark, which begins below it
            radii[f"#{element.attrib['id']}"] = element.attrib["d"].split()[2]
            continue
        places = {key: value for key, value in element.items() if key in ("x", "y", "d")}
        if name == "use":
            name = "circle"
            places = {f"c{key}": place for key, place in places.items()}
            places["r"] = radii[element.attrib[_HREF]]
        turn = element.get("transform", "rotate(-0")
        if not turn.startswith("rotate(-0"):
            places["transform"] = turn
        places = {key: _short(value) for key, value in places.items()}
        copy = ET.SubElement(root, name, places | attributes)
        copy.text = element.text
        if tip:
            said = ET.Element("title")
            said.text, said.tail, copy.text = tip, copy.text, None
            copy.append(said)
    return Markup(ET.tostring(root, encoding="unicode"))


def _leaves(element: ET.Element, tip: str = "") -> Iterator[tuple[ET.Element, str]]:
    """The elements that are drawn, and what is shown where one points at them."""
    for child in element:
        if child.tag in (f"{_SVG}path", f"{_SVG}use", f"{_SVG}text"):
            yield child, tip
        elif child.tag != f"{_SVG}metadata":
            _, found, text = child.get("id", "").partition(_TIP)
            yield from _leaves(child, text if found else tip)


def _attributes(style: str) -> dict[str, str]:
    """A style as attributes; colours that the page knows are classes too."""
    found: dict[str, str] = {}
    classes: list[str] = []
    for key, _, value in (part.strip().partition(": ") for part in style.split(";")):
        if key in ("fill", "stroke"):
            found[key] = "currentColor" if value == _INK else value
            if value in _CLASSES:
                classes += ["fill" if key == "fill" else "line", _CLASSES[value]]
        elif key in ("font", "font-size"):
            found["font-size"] = re.findall(r"([\d.]+)px", value)[0]
        elif key and key != "font-family":
            found[key] = value
    if classes:
        found["class"] = " ".join(dict.fromkeys(classes))
    return found


def _short(value: str) -> str:
    """An attribute's numbers with two decimals, in one line."""
    numbers = re.compile(r"-?\d+\.\d+")
    value = " ".join(value.split())
    return numbers.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)
