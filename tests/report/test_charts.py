import xml.etree.ElementTree as ET

import pytest

from mre_jax.report.charts import (
    Series,
    dot_chart,
    heat_class,
    heat_matrix,
    line_chart,
    scatter_chart,
    share_bar,
)

SVG = "{http://www.w3.org/2000/svg}"
LIMITS = (0.0, 2.5, 5.0)
HOSTILE = "a</text><script>alert(1)</script>&\"'"


def parse(chart):
    return ET.fromstring(chart)  # noqa: S314 (our own output)


def box(chart):
    return [float(part) for part in parse(chart).get("viewBox").split()]


def draw_line(**changes):
    series = [Series("following", (0, 3, 5), (1, 2, 5), (0.5, 1.5, 4.5), (1.5, 2.5, 5))]
    return line_chart(series, title="t", x_label="asked", y_label="achieved", **changes)


def test_a_line_goes_through_its_points():
    points = parse(draw_line()).findall(f".//{SVG}circle")
    x = [float(point.get("cx")) for point in points]
    y = [float(point.get("cy")) for point in points]
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(3 / 5, abs=1e-3)
    # Upwards is less.
    assert (y[0] - y[1]) / (y[0] - y[2]) == pytest.approx(1 / 4, abs=1e-3)


def test_a_band_is_between_its_bounds():
    chart = parse(draw_line())
    (band,) = chart.findall(f".//{SVG}polygon")
    there, back = band.get("points").split()[:3], band.get("points").split()[3:]
    middle = [float(point.get("cy")) for point in chart.findall(f".//{SVG}circle")]
    for upper, y, lower in zip(there, middle, reversed(back), strict=True):
        assert float(upper.split(",")[1]) <= y <= float(lower.split(",")[1])


def test_values_beyond_the_axis_stay_in_the_chart():
    chart = line_chart([Series("x", (0, 5), (-3, 9))], title="t", x_label="", y_label="")
    height = box(chart)[3]
    assert all(0 <= float(p.get("cy")) <= height for p in parse(chart).findall(f".//{SVG}circle"))


def test_the_diagonal_is_drawn_where_it_is_asked_for():
    lines = [
        len(parse(draw_line(identity=on)).findall(f".//{SVG}polyline")) for on in (False, True)
    ]
    assert lines == [1, 2]


def test_a_legend_that_is_too_long_takes_more_lines():
    def legend(count):
        series = [Series(f"a rather long name {n}", (0,), (1,)) for n in range(count)]
        chart = parse(line_chart(series, title="t", x_label="", y_label=""))
        return {r.get("y") for r in chart.findall(f".//{SVG}rect") if r.get("width") == "11"}

    assert len(legend(2)) == 1
    assert len(legend(6)) == 3


@pytest.mark.parametrize(
    ("value", "name"),
    [(-1.0, "h0"), (0.0, "h0"), (2.5, "h5"), (4.0, "h8"), (5.0, "h10"), (9.0, "h10")],
)
def test_heat_goes_from_low_to_high(value, name):
    assert heat_class(value, LIMITS) == name


def test_a_matrix_writes_every_cell_and_leaves_the_unknown_uncoloured():
    chart = heat_matrix(
        [[1.0, None]],
        ["row"],
        ["one", "two"],
        title="t",
        texts=[["1.0", "nothing"]],
        notes=[["[0, 2]", ""]],
        limits=LIMITS,
    )
    texts = [text.text for text in parse(chart).findall(f".//{SVG}text")]
    assert {"row", "one", "two", "1.0", "nothing", "[0, 2]"} <= set(texts)
    fills = [cell.get("fill") for cell in parse(chart).findall(f".//{SVG}rect")]
    assert fills[0].startswith("#")
    assert fills[1] == "none"


def test_a_divided_bar_is_full():
    chart = share_bar((0.5, 0.25, 0.25), ("won", "equal", "lost"), title="t")
    parts = parse(chart).findall(f".//{SVG}rect")
    last = parts[-1]
    assert float(last.get("x")) + float(last.get("width")) == pytest.approx(box(chart)[2], abs=2)
    assert float(parts[0].get("width")) == pytest.approx(box(chart)[2] / 2, abs=2)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: line_chart(
            [Series(HOSTILE, (0,), (1,))], title=HOSTILE, x_label=HOSTILE, y_label=""
        ),
        lambda: share_bar((1.0,), (HOSTILE,), title=HOSTILE),
        lambda: heat_matrix(
            [[1.0]], [HOSTILE], [HOSTILE], title=HOSTILE, texts=[[HOSTILE]], limits=LIMITS
        ),
    ],
)
def test_names_are_text(draw):
    chart = parse(draw())
    assert chart.find(f".//{SVG}script") is None
    assert chart.get("aria-label") == HOSTILE


def test_dots_lie_at_their_values_one_line_a_label():
    whole = Series("all", (0, 1), (1.0, 4.0), (0.5, 3.5), (1.5, 4.5))
    chart = dot_chart([HOSTILE, "b"], whole, [Series("part", (1,), (2.5,))], title=HOSTILE)
    part, first, second = parse(chart).findall(f".//{SVG}circle")
    x, y = ([float(dot.get(name)) for dot in (first, part, second)] for name in ("cx", "cy"))
    assert x[1] - x[0] == pytest.approx(x[2] - x[1])
    assert y[0] < y[1] == y[2]


def test_discs_have_areas_by_how_often_two_values_meet():
    chart = scatter_chart(
        {(1, 1): 1, (4, 2): 4}, [(HOSTILE, 3.0, 2.0)], title="t", x_label="x", y_label="y"
    )
    one, four, mark = parse(chart).findall(f".//{SVG}circle")
    assert float(four.get("r")) == 2 * float(one.get("r"))
    assert float(four.get("cx")) > float(mark.get("cx")) > float(one.get("cx"))
    assert mark.find(f"{SVG}title").text == HOSTILE
