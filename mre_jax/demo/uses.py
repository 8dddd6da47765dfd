"""All uses of rewards side by side, at each share of clean triplets: a table and figures."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import TypeVar

from scipy.stats import t as student

from mre_jax.demo.plan import Plan
from mre_jax.demo.systems import Use
from mre_jax.evaluation.results import Result, read_results
from mre_jax.evaluation.statistics.compare import summarize
from mre_jax.evaluation.statistics.intervals import Bootstrap, Interval
from mre_jax.report.charts import Series, bar_chart, line_chart
from mre_jax.report.html import Markup
from mre_jax.reward.scores import PERSPECTIVES

_SHOWN = "as drawn"

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class UseScore:
    """What one use of rewards gives in one perspective.

    Attributes:
        use: its label.
        share: of clean triplets; None is as the toy world draws them.
        metric: the perspective.
        mean: of all edits, and of all seeds.
        interval: over pictures; of several seeds over these.
    """

    use: str
    share: float | None
    metric: str
    mean: float
    interval: Interval


def measure_uses(plan: Plan) -> list[UseScore]:
    """The scores of every use at every share, from the results of all rounds."""
    found = []
    for share in plan.scale.shares:
        seeds = [
            read_results(plan.results_of(round_)) for round_ in plan.rounds if round_.share == share
        ]
        for use in plan.uses:
            for metric in PERSPECTIVES:
                series = [_series(rows, use, metric) for rows in seeds]
                found.append(UseScore(use.label, share, metric, *_mean(series)))
    return found


def uses_table(found: Sequence[UseScore]) -> str:
    """A line a use and share, in the order of both."""
    cells = {(one.share, one.use, one.metric): one for one in found}
    shares, uses = _distinct(one.share for one in found), _distinct(one.use for one in found)
    rows = [["Clean", "Use of rewards", *(name.capitalize() for name in PERSPECTIVES)]]
    for share in shares:
        for use in uses:
            scores = [cells[share, use, metric] for metric in PERSPECTIVES]
            rows.append([_named(share), use, *map(_cell, scores)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in [*lines[:1], "-" * len(lines[0]), *lines[1:]])


def uses_charts(found: Sequence[UseScore]) -> dict[str, Markup]:
    """By perspective, curves of all uses over the share; bars by name if there is one share."""
    shares, uses = _distinct(one.share for one in found), _distinct(one.use for one in found)
    if len(shares) == 1:
        series = [
            _as_series(use, [one for one in found if one.use == use], range(len(PERSPECTIVES)))
            for use in uses
        ]
        title = "every use of rewards, by perspective"
        y_label = "score, mean and 95 % interval"
        return {"uses": bar_chart(PERSPECTIVES, series, title=title, y_label=y_label)}
    return {
        metric: line_chart(
            [
                _as_series(
                    use,
                    [one for one in found if (one.use, one.metric) == (use, metric)],
                    range(len(shares)),
                )
                for use in uses
            ],
            title=f"{metric} by share of clean triplets and use of rewards",
            x_label="clean triplets",
            y_label=f"{metric}, mean and 95 % interval",
            x_ticks=range(len(shares)),
            x_names=[_named(share) for share in shares],
        )
        for metric in PERSPECTIVES
    }


def _series(rows: Sequence[Result], use: Use, metric: str) -> list[Result]:
    wanted = (use.edits, use.condition, metric, "real-edit")
    return [r for r in rows if (r.system, r.condition, r.metric, r.suite) == wanted]


def _mean(series: Sequence[Sequence[Result]]) -> tuple[float, Interval]:
    """Of one seed over pictures; of several by Student's t over the seeds' means."""
    summaries = [summarize(rows, Bootstrap()) for rows in series]
    means = [one.mean for one in summaries if one.mean is not None]
    mean = statistics.fmean(means)
    if len(means) == 1:
        return mean, summaries[0].interval or Interval(mean, mean)
    reach = student.ppf(0.975, len(means) - 1) * statistics.stdev(means) / math.sqrt(len(means))
    return mean, Interval(mean - reach, mean + reach)


def _as_series(name: str, found: Sequence[UseScore], places: Sequence[float]) -> Series:
    return Series(
        name,
        places,
        [one.mean for one in found],
        [one.interval.low for one in found],
        [one.interval.high for one in found],
    )


def _cell(one: UseScore) -> str:
    return f"{one.mean:.2f} [{one.interval.low:.2f}, {one.interval.high:.2f}]"


def _named(share: float | None) -> str:
    return _SHOWN if share is None else f"{100 * share:g} %"


def _distinct(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
