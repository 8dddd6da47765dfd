"""The tables of the page: scores, differences, types of instruction, coverage."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

from mre_jax.evaluation.statistics.compare import Difference, Summary, summarize
from mre_jax.evaluation.statistics.intervals import Interval, holm
from mre_jax.evaluation.statistics.ranking import lower_is_better
from mre_jax.report.charts import heat_class
from mre_jax.report.html import Markup, render
from mre_jax.report.scores import Scores, Variant

TOP = 5.0
_ANSWER, _SCORE = "Yes", "Score"
HALF_RANGE = (0.0, TOP / 2, TOP)


@dataclasses.dataclass(frozen=True)
class Column:
    """One metric of a table.

    Attributes:
        found: by variant.
        best: the variants of the best mean, if there are several means.
        answers: whether there is a yes or no.
    """

    found: Mapping[Variant, Summary | None]
    best: Collection[Variant]
    answers: bool


@dataclasses.dataclass(frozen=True)
class ShownDifference:
    """A difference as a table shows it.

    Attributes:
        mean, bounds: mean and its interval, of scores, or of shares of yes in points of percent.
        digits: behind the point.
        p: corrected for the other differences of the table.
        items: items that both have.
    """

    mean: float
    bounds: Interval
    digits: int
    p: float
    items: int

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves zero out."""
        return (self.bounds.low > 0) - (self.bounds.high < 0)


def score_table(scores: Scores) -> Markup | None:
    """Systems against perspectives: share of yes, score, interval, coverage."""
    if not scores.perspectives:
        return None
    columns = [_column(scores, metric, scores.variants) for metric in scores.perspectives]
    parts = [(_ANSWER, _SCORE) if column.answers else (_SCORE,) for column in columns]
    names, widths = [name for part in parts for name in part], [len(part) for part in parts]
    return render("scores.html", scores=scores, columns=columns, names=names, widths=widths)


def other_table(scores: Scores) -> Markup | None:
    """Systems against metrics that are no perspectives."""
    metrics = [metric for metric in scores.metrics if metric not in scores.perspectives]
    variants = [one for one in scores.variants if any(scores.series(one, m) for m in metrics)]
    if not variants:
        return None
    columns = [_column(scores, metric, variants) for metric in metrics]
    names = [f"{name} {'↓' if lower_is_better(name) else '↑'}" for name in metrics]
    return render("other_metrics.html", variants=variants, columns=columns, names=names)


def difference_table(scores: Scores, reference: Variant) -> Markup | None:
    """Every other system less the reference, on the items that both have."""
    others = [variant for variant in scores.variants if variant != reference]
    if not others or not scores.perspectives:
        return None
    kinds = (True, False) if scores.has_answers else (False,)
    found, count = differences(scores, [(one, reference) for one in others], kinds)
    return render(
        "differences.html",
        scores=scores,
        reference=reference,
        count=count,
        lines=list(zip(others, found, strict=True)),
        widths=[len(kinds)] * len(scores.perspectives),
        names=[_ANSWER if of else _SCORE for _ in scores.perspectives for of in kinds],
    )


def differences(
    scores: Scores,
    pairs: Sequence[tuple[Variant, Variant]],
    kinds: Sequence[bool],
    metrics: Sequence[str] | None = None,
) -> tuple[list[list[ShownDifference | None]], int]:
    """A table's differences, whose p-values are corrected for each other, and how many they are.

    Args:
        pairs: a line each.
        kinds: for each metric, whether the difference is of shares of yes.
        metrics: None is all perspectives.
    """
    metrics = scores.perspectives if metrics is None else metrics
    found = [
        [(scores.difference(*pair, metric, accuracy=of), of) for metric in metrics for of in kinds]
        for pair in pairs
    ]
    measured = [one for line in found for one, _ in line if one is not None]
    corrected = iter(holm([one.p for one in measured]))
    lines = [[_shown(one, of, corrected) for one, of in line] for line in found]
    return lines, len(measured)


def _shown(
    one: Difference | None, share: bool, corrected: Iterator[float]
) -> ShownDifference | None:
    if one is None:
        return None
    scale, digits = (100, 1) if share else (1, 2)
    bounds = Interval(scale * one.interval.low, scale * one.interval.high)
    return ShownDifference(scale * one.mean, bounds, digits, next(corrected), one.items)


def kind_tables(scores: Scores) -> list[Markup]:
    """For each perspective, systems against types of instruction."""
    if not scores.kinds:
        return []
    return [
        render(
            "kinds.html",
            scores=scores,
            metric=metric,
            lines=[
                (variant, [_of_kind(scores, variant, metric, kind) for kind in scores.kinds])
                for variant in scores.variants
            ],
        )
        for metric in scores.perspectives
    ]


def coverage_table(scores: Scores) -> Markup | None:
    """What became of the items without a value; None if there is none."""
    summaries = [
        scores.summary(one, metric) for one in scores.variants for metric in scores.metrics
    ]
    if all(one is None or one.coverage.ok == one.coverage.total for one in summaries):
        return None
    return render("coverage.html", scores=scores)


def _column(scores: Scores, metric: str, variants: Sequence[Variant]) -> Column:
    found = {variant: scores.summary(variant, metric) for variant in variants}
    means = {v: one.mean for v, one in found.items() if one is not None and one.mean is not None}
    best: list[Variant] = []
    if len(means) > 1:
        top = (min if lower_is_better(metric) else max)(means.values())
        best = [variant for variant, mean in means.items() if mean == top]
    answers = any(one is not None and one.accuracy is not None for one in found.values())
    return Column(found, best, answers)


def _of_kind(
    scores: Scores, variant: Variant, metric: str, kind: str
) -> tuple[Summary | None, str]:
    """The mean over one type of instruction, and its colour; "" if there is none."""
    rows = [row for row in scores.series(variant, metric) if row.kind == kind]
    found = summarize(rows) if rows else None
    if found is None or found.mean is None:
        return None, ""
    return found, heat_class(found.mean, HALF_RANGE)
