import re
import xml.etree.ElementTree as ET

import pytest

from mre_jax.report.charts import (
    Series,
    bar_chart,
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
    (band,) = [path for path in chart.findall(f".//{SVG}path") if path.get("opacity") == "0.16"]
    corners = re.findall(r"[ML] [\d.]+ ([\d.]+)", band.get("d"))[:7]
    there, back = [[float(y) for y in part] for part in (corners[:3], corners[-3:])]
    middle = [float(point.get("cy")) for point in chart.findall(f".//{SVG}circle")]
    for upper, y, lower in zip(there, middle, reversed(back), strict=True):
        assert upper <= y < lower  # 5 is the end of the axis


def test_values_beyond_the_axis_stay_in_the_chart():
    chart = line_chart([Series("x", (0, 5), (-3, 9))], title="t", x_label="", y_label="")
    height = box(chart)[3]
    assert all(0 <= float(p.get("cy")) <= height for p in parse(chart).findall(f".//{SVG}circle"))


def test_the_diagonal_is_drawn_where_it_is_asked_for():
    dashed = [draw_line(identity=on).count("stroke-dasharray") for on in (False, True)]
    assert dashed == [0, 1]


def test_a_legend_that_is_too_long_takes_more_lines():
    def legend(count):
        series = [Series(f"a rather long name {n}", (0,), (1,)) for n in range(count)]
        chart = parse(line_chart(series, title="t", x_label="", y_label=""))
        names = [text for text in chart.findall(f".//{SVG}text") if len(text.text) > 1]
        assert all(float(name.get("x")) + 7 * len(name.text) < 470 for name in names)
        return {name.get("y") for name in names}

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
    (cell,) = parse(chart).findall(f".//{SVG}path")
    assert cell.get("fill").startswith("#")
    assert cell.get("class") == "fill h2"


def test_a_bar_is_as_high_as_its_value_and_says_its_interval():
    series = [
        Series("one", (0, 1), (5.0, 2.5), (4.5, 2.0), (5.0, 3.0)),
        Series("two", (1,), (0.0,)),
    ]
    chart = parse(bar_chart(["a", "b"], series, title="t", y_label="score"))
    bars = [path for path in chart.findall(f".//{SVG}path") if path.find(f"{SVG}title") is not None]
    assert [bar.find(f"{SVG}title").text for bar in bars] == [
        "a, one: 5.00 [4.50, 5.00]",
        "b, one: 2.50 [2.00, 3.00]",
        "b, two: 0.00 [0.00, 0.00]",
    ]
    heights = []
    for bar in bars:
        y = [float(pair[1]) for pair in re.findall(r"[ML] ([\d.]+) ([\d.]+)", bar.get("d"))]
        heights.append(max(y) - min(y))
    assert heights == pytest.approx([216, 108, 0], abs=0.1)
    texts = [text.text for text in chart.findall(f".//{SVG}text")]
    assert {"a", "b", "one", "two", "5.0", "2.5", "score"} <= set(texts)


def test_ticks_may_have_names():
    series = [Series("s", (0, 1), (1, 2))]
    names = ("2 %", "50 %")
    chart = line_chart(
        series, title="t", x_label="share", y_label="", x_ticks=(0, 1), x_names=names
    )
    assert all(name in chart for name in names)


def test_a_divided_bar_is_full():
    chart = share_bar((0.5, 0.25, 0.25), ("won", "equal", "lost"), title="t")
    parts = parse(chart).findall(f".//{SVG}path")
    ends = [[float(x) for x in re.findall(r"[ML] ([\d.]+)", part.get("d"))] for part in parts]
    assert max(ends[-1]) == pytest.approx(box(chart)[2], abs=2)
    assert (min(ends[0]), max(ends[0])) == pytest.approx((0, box(chart)[2] / 2), abs=2)
    assert [part.find(f"{SVG}title").text for part in parts] == ["won", "equal", "lost"]


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
    assert float(four.get("r")) == pytest.approx(2 * float(one.get("r")), abs=0.01)
    assert float(four.get("cx")) > float(mark.get("cx")) > float(one.get("cx"))
    assert mark.find(f"{SVG}title").text == HOSTILE


def test_dollars_are_no_formulas_and_what_no_font_has_is_a_text():
    name = "$5 \\frac{$ 编辑 👩\u200d🚀\n\uffff"
    chart = line_chart([Series(name, (0, 5), (1, 2))], title=name, x_label="", y_label="")
    texts = [text.text for text in parse(chart).findall(f".//{SVG}text")]
    assert "$5 \\frac{$ 编辑 👩\u200d🚀 [U+FFFF]" in texts


def test_a_page_can_colour_every_part_and_forbid_styles():
    chart = draw_line(identity=True)
    assert " style=" not in chart and "<style" not in chart and " id=" not in chart
    for element in parse(chart).iter():
        colours = {element.get("fill"), element.get("stroke")} - {None, "none", "currentColor"}
        assert not colours or {"fill", "line"} & set(element.get("class").split())


def test_settings_of_matplotlib_stay_as_they_are():
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_line()
    assert dict(matplotlib.rcParams) == before
