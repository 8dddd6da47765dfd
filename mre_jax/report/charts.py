"""Small charts as inline SVG.

Every colour stands as an attribute, so that a chart can be looked at alone, and as a class, by
which the page gives it the colours of its light or dark form. Lengths are in pixels of the view
box; a chart scales with the width it is given.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from mre_jax.report.markup import Markup, join, number, tag, visible

COLOURS = ("#31688e", "#2a9d6a", "#b5651d", "#8e4585", "#7a7a28", "#a83240")
"""One a series, in turn."""

_WIDTH = 460.0
_WIDE = 620.0  # of a chart with names to its left
_ROW, _LETTERS = 27.0, 30
_LEFT = 46.0  # room for the numbers and the name of the upright axis
_HEAT_LOW, _HEAT_MIDDLE, _HEAT_HIGH = (0xD3, 0x8A, 0x93), (0xF2, 0xF1, 0xEC), (0x7F, 0xBE, 0xA6)


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a chart, or the bars of one colour.

    Attributes:
        name: as the legend has it.
        x: positions, ascending; for bars the index of the label.
        y: values, as many.
        low, high: bounds of the interval of each value, or empty for none.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclasses.dataclass(frozen=True)
class _Frame:
    """The rectangle that values are drawn in."""

    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + self.width * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.y_range
        clipped = min(max(value, low), high)
        return self.top + self.height * (1 - (clipped - low) / (high - low))


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[float] = range(6),
    y_ticks: Sequence[float] = range(6),
    identity: bool = False,
) -> Markup:
    """Lines with points and the bands of their intervals.

    Args:
        x_ticks, y_ticks: at least two each; the first and the last are the ends of the axes, and
            values beyond them are drawn at the end.
        identity: whether to draw "what is asked is what is got".
    """
    legend, top = _legend([one.name for one in series])
    frame = _Frame(_LEFT, top, _WIDTH - _LEFT - 16, 216, _ends(x_ticks), _ends(y_ticks))
    parts = [legend, _axes(frame, x_ticks, y_ticks)]
    if identity:
        low = max(frame.x_range[0], frame.y_range[0])
        high = min(frame.x_range[1], frame.y_range[1])
        parts.append(_line(frame, (low, high), (low, high), "identity", None))
    parts += [_band(frame, one, place) for place, one in enumerate(series) if one.low]
    for place, one in enumerate(series):
        parts.append(_line(frame, one.x, one.y, f"line s{place % 6}", _colour(place)))
        parts += [
            tag("circle", cx=frame.x(x), cy=frame.y(y), r=3.5, **_paint(place))
            for x, y in zip(one.x, one.y, strict=True)
        ]
    bottom = frame.top + frame.height
    parts.append(_text(frame.left + frame.width / 2, bottom + 38, x_label, "middle", "label"))
    parts.append(_turned(13, frame.top + frame.height / 2, y_label))
    return _svg(_WIDTH, bottom + 46, title, parts)


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
    legend, top = _legend([one.name for one in parts], last=whole.name, width=_WIDE)
    left = 16 + 6.6 * max([8, *(len(label) for label in shown)])
    height = _ROW * max(len(labels), 1)
    # The axes of the other charts, turned: places go down, values to the right.
    frame = _Frame(left, top, _WIDE - left - 16, height, _ends(ticks), (len(labels) - 0.5, -0.5))
    drawn = [legend]
    for value in ticks:
        x = frame.x(value)
        ends = {"x1": x, "x2": x, "y1": top, "y2": top + height}
        drawn.append(tag("line", **ends, stroke="currentColor", stroke_opacity=0.16))
        drawn.append(_text(x, top + height + 18, f"{value:g}", "middle"))
    for place, (label, short) in enumerate(zip(labels, shown, strict=True)):
        y = top + _ROW * (place + 0.5) + 4
        drawn.append(tag("text", tag("title", label), short, x=left - 10, y=y, text_anchor="end"))
    for colour, one in enumerate(parts):
        drawn += [_dot(frame, x, y, 3.5, **_paint(colour)) for x, y in _points_of(one)]
    for index, (line, value) in enumerate(_points_of(whole)):
        middle = top + _ROW * (line + 0.5)
        low, high = frame.x(whole.low[index]), frame.x(whole.high[index])
        path = f"M{number(low)} {number(middle)}H{number(high)}"
        path += "".join(f"M{number(end)} {number(middle - 4)}v8" for end in (low, high))
        drawn.append(tag("path", d=path, stroke="currentColor", fill="none", class_="whisker"))
        drawn.append(_dot(frame, line, value, 5, class_="whole"))
    return _svg(_WIDE, top + height + 26, title, drawn)


def _dot(frame: _Frame, place: float, value: float, radius: float, **style: str) -> Markup:
    y = frame.top + _ROW * (place + 0.5)
    return tag("circle", cx=frame.x(value), cy=y, r=radius, **style)


def _points_of(one: Series) -> list[tuple[float, float]]:
    return list(zip(one.x, one.y, strict=True))


def _shortened(label: str) -> str:
    label = visible(label)  # as long as it will be shown
    return label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…"


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
    legend, top = _legend([name for name, _, _ in marks], width=width)
    frame = _Frame(_LEFT, top, 300, 300, _ends(ticks), _ends(ticks))
    ends = _ends(ticks)
    drawn = [legend, _axes(frame, ticks, ticks), _line(frame, ends, ends, "identity", None)]
    most = max(counts.values(), default=1)
    for (x, y), count in counts.items():
        said = tag("title", f"{count} at {x:g}, {y:g}")
        radius = max(1.2, 11 * (count / most) ** 0.5)
        place = {"cx": frame.x(x), "cy": frame.y(y), "r": radius}
        drawn.append(tag("circle", said, **place, fill="currentColor", fill_opacity=0.28))
    for colour, (name, x, y) in enumerate(marks):
        place = {"cx": frame.x(x), "cy": frame.y(y), "r": 6}
        drawn.append(tag("circle", tag("title", name), **place, **_paint(colour)))
    bottom = frame.top + frame.height
    drawn.append(_text(frame.left + frame.width / 2, bottom + 38, x_label, "middle", "label"))
    drawn.append(_turned(13, frame.top + frame.height / 2, y_label))
    return _svg(width, bottom + 46, title, drawn)


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
    parts: list[Markup | None] = [
        _text(left + width * len(columns) / 2, 18, column_title, "middle", "label"),
        _text(8, top - 12, row_title, "start", "label"),
    ]
    for place, name in enumerate(columns):
        parts.append(_text(left + width * (place + 0.5), top - 12, name, "middle"))
    for line, name in enumerate(rows):
        middle = top + height * (line + 0.5)
        parts.append(_text(left - 10, middle + 4, name, "end"))
        for place, value in enumerate(values[line]):
            x = left + width * place
            box = {"x": x + 1, "y": top + height * line + 1, "width": width - 2, "rx": 3}
            parts.append(tag("rect", **box, height=height - 2, **_heat(value, limits)))
            note = notes[line][place] if notes else ""
            lift = 2 if note else -5
            cell = {"x": x + width / 2, "text_anchor": "middle", "class_": "cell"}
            parts.append(tag("text", texts[line][place], y=middle - lift, font_size=16, **cell))
            parts.append(tag("text", note, y=middle + 16, font_size=11, **cell) if note else None)
    return _svg(left + width * len(columns) + 4, top + height * len(rows) + 4, title, parts)


def share_bar(shares: Sequence[float], names: Sequence[str], *, title: str) -> Markup:
    """One bar that is divided, as wins, ties and losses; the shares sum to 1."""
    parts, left = [], 0.0
    for place, share in enumerate(shares):
        width = _WIDTH * share
        box = {"x": left, "y": 0, "width": max(width - 1.5, 0), "height": 22}
        parts.append(tag("rect", tag("title", names[place]), **box, class_=f"share{place}"))
        if width > 34:
            parts.append(
                _text(left + width / 2, 15.5, f"{share:.0%}", "middle", f"on-share{place}")
            )
        left += width
    return _svg(_WIDTH, 22, title, parts)


def heat_class(value: float, limits: tuple[float, float, float]) -> str:
    """The class of a cell's colour, "h0" (low) to "h10" (high); see `heat_matrix`."""
    return f"h{5 + round(5 * _share(value, limits))}"


def _heat(value: float | None, limits: tuple[float, float, float]) -> dict[str, str]:
    if value is None:
        return {"fill": "none"}
    share = _share(value, limits)
    end = _HEAT_HIGH if share >= 0 else _HEAT_LOW
    mixed = [round(a + (b - a) * abs(share)) for a, b in zip(_HEAT_MIDDLE, end, strict=True)]
    return {"fill": "#" + bytes(mixed).hex(), "class_": heat_class(value, limits)}


def _share(value: float, limits: tuple[float, float, float]) -> float:
    """Where a value stands: -1 at the low limit, 0 in the middle, 1 at the high one."""
    low, middle, high = limits
    span = high - middle if value >= middle else middle - low
    return min(max((value - middle) / span, -1.0), 1.0)


def _svg(width: float, height: float, title: str, parts: Sequence[Markup | None]) -> Markup:
    box = f"0 0 {number(width)} {number(height)}"
    # Without a width the picture takes all the room there is, and small charts become huge.
    style = {"class_": "chart", "width": width, "height": height, "font_size": 12}
    return tag(
        "svg",
        tag("title", title),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=box,
        role="img",
        aria_label=title,
        font_family="system-ui, sans-serif",
        fill="currentColor",
        **style,
    )


def _ends(ticks: Sequence[float]) -> tuple[float, float]:
    return float(ticks[0]), float(ticks[-1])


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _paint(place: int) -> dict[str, str]:
    return {"class_": f"fill s{place % len(COLOURS)}", "fill": _colour(place)}


def _text(
    x: float, y: float, text: str, anchor: str = "start", class_: str | None = None
) -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=anchor, class_=class_)


def _turned(x: float, y: float, text: str) -> Markup:
    turn = f"translate({number(x)} {number(y)}) rotate(-90)"
    return tag("text", text, transform=turn, text_anchor="middle", class_="label")


def _legend(names: Sequence[str], last: str = "", width: float = _WIDTH) -> tuple[Markup, float]:
    """The names with their colours, in as many lines as they need, and the height of these.

    Args:
        last: a name more, in the colour of the text.
        width: of the chart.
    """
    parts: list[Markup] = []
    x, y = _LEFT, 8.0
    for place, name in enumerate([*names, *[last] * bool(last)]):
        paint = _paint(place) if place < len(names) else {"class_": "whole"}
        room = 16 + 7.0 * len(name) + 14  # an average letter of 12 px; a little of it is lost
        if x > _LEFT and x + room > width:
            x, y = _LEFT, y + 18
        parts.append(tag("rect", x=x, y=y, width=11, height=11, rx=2, **paint))
        parts.append(_text(x + 16, y + 10, name))
        x += room
    return join(parts), y + 26


def _axes(frame: _Frame, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Markup:
    right, bottom = frame.left + frame.width, frame.top + frame.height
    parts = []
    for value in y_ticks:
        y = frame.y(value)
        ends = {"x1": frame.left, "x2": right, "y1": y, "y2": y}
        parts.append(tag("line", **ends, stroke="currentColor", stroke_opacity=0.16))
        parts.append(_text(frame.left - 8, y + 4, f"{value:g}", "end"))
    for value in x_ticks:
        parts.append(_text(frame.x(value), bottom + 18, f"{value:g}", "middle"))
    return join(parts)


def _line(
    frame: _Frame, x: Sequence[float], y: Sequence[float], class_: str, colour: str | None
) -> Markup:
    points = _points(frame, x, y)
    style = {"stroke": colour or "currentColor", "stroke_width": 2.2 if colour else 1}
    dashes = None if colour else "3 4"
    return tag(
        "polyline", points=points, fill="none", **style, stroke_dasharray=dashes, class_=class_
    )


def _band(frame: _Frame, one: Series, place: int) -> Markup:
    there = _points(frame, one.x, one.high)
    back = _points(frame, tuple(reversed(one.x)), tuple(reversed(one.low)))
    return tag("polygon", points=f"{there} {back}", fill_opacity=0.16, **_paint(place))


def _points(frame: _Frame, x: Sequence[float], y: Sequence[float]) -> str:
    pairs = zip(x, y, strict=True)
    return " ".join(f"{number(frame.x(a))},{number(frame.y(b))}" for a, b in pairs)
