"""Numbers as they stand in the page's tables, and the tables."""

from collections.abc import Sequence

from mre_jax.evaluation.statistics.compare import Coverage, Difference, Summary
from mre_jax.evaluation.statistics.intervals import Interval, holm
from mre_jax.report.markup import Markup, join, tag
from mre_jax.report.scores import Variant

NOTHING = "\u2013"
MINUS = "\u2212"


def table(
    caption: str, heads: Sequence[Markup], rows: Sequence[Markup], class_: str = ""
) -> Markup:
    """A table that scrolls sideways by itself where it is too wide.

    Args:
        heads, rows: `tr` elements.
    """
    whole = tag("table", tag("thead", *heads), tag("tbody", *rows), class_=class_ or None)
    # A box that scrolls must be reachable by the keyboard, or nobody without a mouse can.
    box = tag("div", whole, class_="scroll", role="region", aria_label=caption, tabindex="0")
    return tag("figure", tag("figcaption", caption), box, class_="table")


def head(*names: str, first: str = "System") -> Markup:
    """A line of column names."""
    cells = [tag("th", name, scope="col") for name in (first, *names)]
    return tag("tr", *cells)


def line(name: str, cells: Sequence[Markup]) -> Markup:
    """A line of a table."""
    return tag("tr", tag("th", name, scope="row"), *cells)


def variant_name(variant: Variant) -> Markup:
    """A system and, fainter, what it was asked for."""
    condition = tag("span", variant.condition, class_="condition") if variant.condition else None
    return join([variant.system, " " if condition else None, condition])


def mean_cell(
    summary: Summary | None, *, digits: int = 2, best: bool = False, brief: bool = False
) -> Markup:
    """A mean; below it, smaller, its interval and its coverage.

    Args:
        brief: without the coverage of what is complete.
    """
    if summary is None:
        return tag("td", NOTHING)
    mean = NOTHING if summary.mean is None else f"{summary.mean:.{digits}f}"
    complete = summary.coverage.ok == summary.coverage.total
    small = [] if brief and complete else [coverage_mark(summary.coverage)]
    if summary.interval is not None:
        small = [tag("span", interval(summary.interval, digits)), Markup("&ensp;"), *small]
    return tag("td", tag("span", mean, class_="best" if best else None), tag("small", *small))


def accuracy_cell(summary: Summary | None) -> Markup:
    """The share of yes in percent, with its interval."""
    if summary is None or summary.accuracy is None:
        return tag("td", NOTHING)
    parts: list[str] = [f"{100 * summary.accuracy:.1f} %"]
    if (found := summary.accuracy_interval) is not None:
        parts.append(tag("small", f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"))
    return tag("td", *parts)


def difference_cells(found: Sequence[tuple[Difference | None, bool]]) -> list[Markup]:
    """All the differences of a table, whose p-values are corrected for each other.

    Args:
        found: each with whether it is one of shares; see `difference_cell`.
    """
    corrected = iter(holm([one.p for one, _ in found if one]))
    return [
        difference_cell(one, next(corrected) if one else 1.0, points=points)
        for one, points in found
    ]


def difference_cell(found: Difference | None, p: float, *, points: bool = False) -> Markup:
    """A difference with its interval; an arrow where the interval leaves zero out.

    Args:
        p: corrected for the other differences of the table.
        points: whether it is one of shares, which is shown in points of percent.
    """
    if found is None:
        return tag("td", NOTHING)
    sign = (found.interval.low > 0) - (found.interval.high < 0)
    arrow = {1: "▲ ", -1: "▼ ", 0: ""}[sign]
    scale, digits = (100, 1) if points else (1, 2)
    bounds = Interval(scale * found.interval.low, scale * found.interval.high)
    text = f"{arrow}{signed(scale * found.mean, digits)}"
    small = f"{interval(bounds, digits, plus=True)}\u2002p {p_value(p)}\u2002n {found.items}"
    shown = tag("span", text, class_={1: "up", -1: "down"}.get(sign))
    return tag("td", shown, tag("small", small))


def coverage_mark(coverage: Coverage) -> Markup:
    """As "558/560", marked where it is not all; what became of the others is its title."""
    partial = coverage.ok < coverage.total
    return tag(
        "span",
        f"{coverage.ok}/{coverage.total}",
        class_="partial" if partial else None,
        title=str(coverage),
    )


def interval(found: Interval, digits: int, *, plus: bool = False) -> str:
    """As "[4.02, 4.21]"."""
    sign = "+" if plus else ""
    return f"[{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]".replace("-", MINUS)


def signed(value: float, digits: int = 2) -> str:
    """As "+0.31", or "-0.31" with a true minus sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def p_value(p: float) -> str:
    """As "= 0.03" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"
