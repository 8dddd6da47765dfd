"""The tables of the page: scores, differences, types of instruction, coverage."""

from collections.abc import Sequence

from mre_jax.evaluation.statistics.compare import Summary, summarize
from mre_jax.report.cells import (
    NOTHING,
    accuracy_cell,
    coverage_mark,
    difference_cells,
    head,
    line,
    mean_cell,
    table,
    variant_name,
)
from mre_jax.report.charts import heat_class
from mre_jax.report.markup import Markup, tag
from mre_jax.report.scores import Scores, Variant, lower_is_better

TOP = 5.0
_ANSWER, _SCORE = "Yes", "Score"
HALF_RANGE = (0.0, TOP / 2, TOP)


def score_table(scores: Scores) -> Markup | None:
    """Systems against perspectives: share of yes, score, interval, coverage."""
    if not scores.perspectives:
        return None
    found = {
        metric: [scores.summary(variant, metric) for variant in scores.variants]
        for metric in scores.perspectives
    }
    answers = {
        metric: any(one and one.accuracy is not None for one in column)
        for metric, column in found.items()
    }
    groups = [
        tag("th", metric, colspan=1 + answers[metric], scope="colgroup", class_="group")
        for metric in scores.perspectives
    ]
    heads = [tag("tr", tag("td"), *groups), head(*_columns(answers))]
    lines = []
    for place, variant in enumerate(scores.variants):
        cells = []
        for metric, column in found.items():
            if answers[metric]:
                cells.append(accuracy_cell(column[place]))
            cells.append(mean_cell(column[place], best=_is_best(place, column, metric)))
        lines.append(line(variant_name(variant), cells))
    caption = "Scores from 0 to 5. Below each: 95 % interval, and of how many items it is the mean."
    return table(caption, heads, lines)


def other_table(scores: Scores) -> Markup | None:
    """Systems against metrics that are no perspectives."""
    metrics = [metric for metric in scores.metrics if metric not in scores.perspectives]
    variants = [one for one in scores.variants if any(scores.series(one, m) for m in metrics)]
    if not variants:
        return None
    lines = []
    for variant in variants:
        cells = []
        for metric in metrics:
            column = [scores.summary(one, metric) for one in variants]
            best = _is_best(variants.index(variant), column, metric)
            cells.append(mean_cell(scores.summary(variant, metric), digits=4, best=best))
        lines.append(line(variant_name(variant), cells))
    names = [f"{name} {'↓' if lower_is_better(name) else '↑'}" for name in metrics]
    caption = "Other metrics (↑ more is better, ↓ less), with 95 % intervals and coverage."
    return table(caption, [head(*names)], lines)


def difference_table(scores: Scores, reference: Variant) -> Markup | None:
    """Every other system less the reference, on the items that both have."""
    others = [variant for variant in scores.variants if variant != reference]
    if not others or not scores.perspectives:
        return None
    answers = scores.has_answers
    shares = (True, False) if answers else (False,)
    kinds = [(metric, of) for metric in scores.perspectives for of in shares]
    found = [
        (scores.difference(one, reference, metric, accuracy=of), of)
        for one in others
        for metric, of in kinds
    ]
    cells = iter(difference_cells(found))
    lines = [line(variant_name(variant), [next(cells) for _ in kinds]) for variant in others]
    groups = [
        tag("th", metric, colspan=1 + answers, scope="colgroup", class_="group")
        for metric in scores.perspectives
    ]
    heads = [tag("tr", tag("td"), *groups), head(*(_ANSWER if of else _SCORE for _, of in kinds))]
    caption = (
        f"Difference from {reference.label}, on the n items that both have; of shares of yes in "
        f"points. An arrow: the 95 % interval leaves zero out. p is corrected for the "
        f"{sum(one is not None for one, _ in found)} differences of this table by Holm's method."
    )
    return table(caption, heads, lines)


def kind_tables(scores: Scores) -> list[Markup]:
    """For each perspective, systems against types of instruction."""
    if not scores.kinds:
        return []
    tables = []
    for metric in scores.perspectives:
        lines = [
            line(
                variant_name(variant),
                [_kind_cell(scores, variant, metric, kind) for kind in scores.kinds],
            )
            for variant in scores.variants
        ]
        caption = f"{metric.capitalize()}: mean score by type of instruction, and coverage."
        tables.append(table(caption, [head(*scores.kinds)], lines, class_="heat"))
    return tables


def coverage_table(scores: Scores) -> Markup | None:
    """What became of the items without a value; None if there is none."""
    summaries = [
        scores.summary(one, metric) for one in scores.variants for metric in scores.metrics
    ]
    if all(one is None or one.coverage.ok == one.coverage.total for one in summaries):
        return None
    lines = [
        line(
            variant_name(variant),
            [_coverage_cell(scores.summary(variant, metric)) for metric in scores.metrics],
        )
        for variant in scores.variants
    ]
    caption = "Items with a value, of all; and what became of the others."
    whole = table(caption, [head(*scores.metrics)], lines)
    return tag("details", tag("summary", "Items without a value"), whole)


def _columns(answers: dict[str, bool]) -> list[str]:
    return [name for has in answers.values() for name in ((_ANSWER, _SCORE) if has else (_SCORE,))]


def _is_best(place: int, column: Sequence[Summary | None], metric: str) -> bool:
    """Whether a mean is the best of several; the same mean can be best more than once."""
    means = [one.mean for one in column if one and one.mean is not None]
    one = column[place]
    if one is None or one.mean is None or len(means) < 2:
        return False
    return one.mean == (min(means) if lower_is_better(metric) else max(means))


def _kind_cell(scores: Scores, variant: Variant, metric: str, kind: str) -> Markup:
    rows = [row for row in scores.series(variant, metric) if row.kind == kind]
    found = summarize(rows) if rows else None
    if found is None or found.mean is None:
        return tag("td", NOTHING)
    small = tag("small", coverage_mark(found.coverage))
    return tag("td", f"{found.mean:.2f}", small, class_=heat_class(found.mean, HALF_RANGE))


def _coverage_cell(summary: Summary | None) -> Markup:
    if summary is None:
        return tag("td", NOTHING)
    others = "; ".join(f"{count} {status}" for status, count in summary.coverage.others.items())
    return tag("td", coverage_mark(summary.coverage), tag("small", others) if others else None)
