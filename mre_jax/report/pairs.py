"""Comparisons of two edits: strengths of the systems as a chart, and who wins against whom."""

import math

from mre_jax.evaluation.statistics.intervals import few_groups_note
from mre_jax.evaluation.statistics.pairs import PairScores
from mre_jax.evaluation.tables.pairs import MEANING
from mre_jax.report.charts import Series, dot_chart
from mre_jax.report.html import Markup, render

_STEP = 100  # Elo points between lines of the chart


def pair_section(found: PairScores) -> list[Markup]:
    """A chart and a table of one suite in one metric."""
    note = few_groups_note([found.groups])
    return [render("pairs.html", found=found, chart=_chart(found), meaning=MEANING, note=note)]


def _chart(found: PairScores) -> Markup:
    points = []
    for place, name in enumerate(found.systems):
        strength = found.strengths[name]
        bounds = strength.interval
        low, high = (bounds.low, bounds.high) if bounds else (strength.elo, strength.elo)
        points.append((place, strength.elo, low, high))
    ends = [end for point in points for end in point[2:]]
    step = _STEP * math.ceil((max(ends) - min(ends)) / (8 * _STEP)) or _STEP
    first, last = math.floor(min(ends) / step), math.ceil(max(ends) / step)
    ticks = [step * number for number in range(first, max(last, first + 1) + 1)]
    whole = Series("Elo, 95 % interval", *zip(*points, strict=True))
    title = f"{found.suite}, {found.metric}: the systems by their strength in comparisons"
    return dot_chart(list(found.systems), whole, [], title=title, ticks=ticks)
