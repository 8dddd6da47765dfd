"""All uses of rewards side by side, on each set of triplets: a table and figures."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import TypeVar

from scipy.stats import t as student

from mre_jax.demo.plan import Plan
from mre_jax.demo.rounds import Round
from mre_jax.demo.scored import scored
from mre_jax.evaluation.results import Result, read_results
from mre_jax.evaluation.statistics.compare import summarize
from mre_jax.evaluation.statistics.intervals import Bootstrap, Interval
from mre_jax.io.columns import columns
from mre_jax.report.charts import Series, bar_chart, line_chart
from mre_jax.report.html import Markup
from mre_jax.reward.scores import PERSPECTIVES

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class UseScore:
    """What one use of rewards gives in one perspective, on one set of triplets.

    Attributes:
        use: its label.
        triplets: the label of their round.
        metric: the perspective.
        mean: of all edits, and of all seeds.
        interval: over pictures; of several seeds over these.
        by_its_judge: mean as the judge scores the edits who gave the rewards.
    """

    use: str
    triplets: str
    metric: str
    mean: float
    interval: Interval
    by_its_judge: float


def measure_uses(plan: Plan, rounds: Iterable[Round]) -> list[UseScore]:
    """The scores of every use on every set of triplets, from the results of rounds."""
    seeds: dict[str, list[Round]] = {}
    for round_ in rounds:
        seeds.setdefault(round_.label, []).append(round_)
    found = []
    for label, alike in seeds.items():
        exact = [read_results(plan.results_of(round_)) for round_ in alike]
        judged = exact
        if alike[0].judge:
            judged = [read_results(plan.results_of(one, by_its_judge=True)) for one in alike]
        for use in plan.uses:
            for metric in PERSPECTIVES:
                wanted = (use.edits, use.condition, metric)
                mean, interval = _mean([scored(rows, *wanted) for rows in exact])
                believed, _ = _mean([scored(rows, *wanted) for rows in judged])
                score = UseScore(use.label, label, metric, mean, interval, believed)
                found.append(score)
    return found


def uses_table(found: Sequence[UseScore], *, judges: bool = False) -> str:
    """A line a set of triplets and use, in the order of both.

    Args:
        judges: whether what the judge believes who gave the rewards stands beside what is true.
    """
    cells = {(one.triplets, one.use, one.metric): one for one in found}
    triplets, uses = _distinct(one.triplets for one in found), _distinct(one.use for one in found)
    names = [name.capitalize() for name in PERSPECTIVES]
    head = ["Judge" if judges else "Triplets", "Use of rewards", *names]
    rows = [[*head, *(f"{name}, by it" for name in names if judges)]]
    for label in triplets:
        for use in uses:
            scores = [cells[label, use, metric] for metric in PERSPECTIVES]
            believed = [f"{one.by_its_judge:.2f}" for one in scores if judges]
            rows.append([label, use, *map(_cell, scores), *believed])
    return columns(rows, headed=True)


def uses_charts(found: Sequence[UseScore]) -> dict[str, Markup]:
    """By perspective, curves of all uses over the triplets; bars by name if they are one set."""
    triplets, uses = _distinct(one.triplets for one in found), _distinct(one.use for one in found)
    if len(triplets) == 1:
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
                    range(len(triplets)),
                )
                for use in uses
            ],
            title=f"{metric} by triplets and use of rewards",
            x_label="triplets",
            y_label=f"{metric}, mean and 95 % interval",
            x_ticks=range(len(triplets)),
            x_names=triplets,
        )
        for metric in PERSPECTIVES
    }


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


def _distinct(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
