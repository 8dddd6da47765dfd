"""People against a judge: the paper's Fig. 13, per edit and per system."""

import collections
from collections.abc import Sequence

from mre_jax.evaluation.provenance import comparable
from mre_jax.evaluation.statistics.agreement import (
    Coefficient,
    Correlation,
    correlate,
    correlate_systems,
    pair_edits,
)
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.report.cells import NOTHING, head, interval, line, signed, table, variant_name
from mre_jax.report.charts import scatter_chart
from mre_jax.report.markup import Markup, join, tag
from mre_jax.report.scores import Scores, Variant

_STEP = 4  # discs of the scatter stand at quarters of a score
_COEFFICIENTS = ("Spearman", "Kendall", "Pearson", "Quadratic kappa")


def people_against_judge(
    people: Scores, judge: Scores, bootstrap: Bootstrap | None = None
) -> list[Markup]:
    """How both agree in every perspective; none if they have scored no edits in common."""
    lines, charts = [], []
    for metric in people.perspectives:
        both = _rows(people, metric), _rows(judge, metric)
        pairs = pair_edits(*both)
        if len(pairs) < 2:
            continue
        systems = correlate_systems(*both, bootstrap)
        name = tag("strong", metric.capitalize())
        lines.append(_line(name, correlate(*both, bootstrap)))
        for one in systems:
            variant = variant_name(Variant(one.system, one.condition))
            means = tag("small", f"people {one.first:.2f}, judge {one.second:.2f}")
            lines.append(_line(join([variant, " ", means]), one.correlation))
        counts = collections.Counter(
            (round(_STEP * a.value) / _STEP, round(_STEP * b.value) / _STEP)
            for a, b in pairs
            if a.value is not None and b.value is not None
        )
        marks = [
            (Variant(one.system, one.condition).label, one.first, one.second) for one in systems
        ]
        chart = scatter_chart(
            counts,
            marks,
            title=f"{metric}: the judge's score against people's",
            x_label="people",
            y_label="judge",
        )
        charts.append(tag("figure", tag("figcaption", metric), chart, class_="chart-figure"))
    if not lines:
        return []
    caption = (
        "Over all edits that both have scored, and over each system's, with 95 % intervals; the "
        "difference is people's score less the judge's."
    )
    heads = [head(*_COEFFICIENTS, "Difference", "Same answer", "Edits", first="Perspective")]
    said = "A disc: edits with these two scores, by its area. In colour: the means of the systems."
    return [
        table(caption, heads, lines),
        tag("p", said, class_="faint"),
        tag("div", *charts, class_="charts"),
    ]


def _rows(scores: Scores, metric: str) -> list:
    return [row for row in scores.rows if row.metric == metric]


def _line(name: Markup, found: Correlation | None) -> Markup:
    if found is None:
        return line(name, [tag("td", NOTHING)] * (len(_COEFFICIENTS) + 3))
    cells = [_cell(one) for one in (found.spearman, found.kendall, found.pearson, found.kappa)]
    between = found.difference_interval
    small = tag("small", interval(between, 2, plus=True)) if between else None
    same = NOTHING if found.same_answer is None else f"{100 * found.same_answer:.1f} %"
    cells += [
        tag("td", signed(found.mean_difference), small),
        tag("td", same),
        tag("td", f"{found.items}"),
    ]
    return line(name, cells)


def _cell(found: Coefficient) -> Markup:
    if found.value is None:
        return tag("td", NOTHING)
    small = tag("small", interval(found.interval, 2)) if found.interval else None
    return tag("td", f"{found.value:.2f}", small)


def pairs_of_judges(suites: Sequence[Scores]) -> list[tuple[Scores, Scores]]:
    """People and judge of the same suite, where either has scored in one way."""
    return [
        (people, judge)
        for people in suites
        for judge in suites
        if people.people and not judge.people and people.suite == judge.suite
        if comparable(people.rows) and comparable(judge.rows)
    ]
