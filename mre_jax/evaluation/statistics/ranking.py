"""Systems in the order of their scores, and how sure that order is."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from mre_jax.evaluation.provenance import check_comparable
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.compare import Summary, summarize
from mre_jax.evaluation.statistics.intervals import Bootstrap, draw_groups
from mre_jax.reward.scores import PERSPECTIVES

OVERALL = "overall"
"""The metric of `overall`: the mean of the perspectives of an edit."""


_LOWER_IS_BETTER = ("l1", "l2", "mse", "lpips", "fid", "kid", "error")
"""How the names of metrics begin of which less is better."""


@dataclasses.dataclass(frozen=True)
class Ranked:
    """A system's place among others.

    Attributes:
        system, condition: editor and its reward, as in the results.
        summary: its mean, with interval and coverage.
        rank: 1 for the best mean; equal means share the better rank.
        ranks: the lowest and the highest rank that it has in most draws of the groups.
    """

    system: str
    condition: str
    summary: Summary
    rank: int
    ranks: tuple[int, int]


def rank_systems(rows: Sequence[Result], bootstrap: Bootstrap | None = None) -> list[Ranked]:
    """The systems, and the rewards they were asked for, by their means in one metric, best first.

    Systems without a value come last, with the last rank. Each draw takes the same photos for all
    systems.

    Args:
        rows: results of one suite and judge, in one metric.

    Raises:
        DataError: if they are of different judges, prompts or settings.
    """
    check_comparable(rows)
    bootstrap = bootstrap or Bootstrap()
    sign = -1.0 if rows and lower_is_better(rows[0].metric) else 1.0
    series: dict[tuple[str, str], list[Result]] = collections.defaultdict(list)
    for row in rows:
        series[row.system, row.condition].append(row)
    drawn = _drawn_means(list(series.values()), bootstrap)
    outside = [bootstrap.outside, 1 - bootstrap.outside]
    spans = np.quantile(_ranks(sign * drawn), outside, axis=0, method="nearest").astype(int)
    summaries = [summarize(of, bootstrap) for of in series.values()]
    means = np.asarray([[np.nan if one.mean is None else one.mean for one in summaries]])
    ranked = [
        Ranked(system, condition, summary, int(rank), (int(low), int(high)))
        for (system, condition), summary, rank, low, high in zip(
            series, summaries, _ranks(sign * means)[0], *spans, strict=True
        )
    ]
    return sorted(ranked, key=lambda one: one.rank)


def lower_is_better(metric: str) -> bool:
    """Whether less is better, by the metric's name."""
    return metric.lower().startswith(_LOWER_IS_BETTER)


def overall(rows: Sequence[Result]) -> list[Result]:
    """For every edit, the mean of its scores in the perspectives; none for other metrics.

    An edit that lacks one of the perspectives that the rows have lacks its mean too.
    """
    wanted = {row.metric for row in rows if row.metric in PERSPECTIVES}
    edits: dict[tuple[str, ...], list[Result]] = collections.defaultdict(list)
    for row in rows:
        if row.metric in wanted:
            edits[row.suite, row.system, row.condition, row.item].append(row)
    return [_mean(found, len(wanted)) for found in edits.values()]


def _mean(rows: Sequence[Result], wanted: int) -> Result:
    bad = next((row.status for row in rows if row.status != "ok"), None)
    status = bad or ("ok" if len(rows) == wanted else "missing")
    values = [row.value for row in rows if row.value is not None]
    value = float(np.mean(values)) if status == "ok" else None
    # Each perspective has its own prompt.
    return dataclasses.replace(
        rows[0],
        metric=OVERALL,
        value=value,
        status=status,
        passed=None,
        prompt_hash="",
        reason="",
    )


def _drawn_means(series: Sequence[Sequence[Result]], bootstrap: Bootstrap) -> np.ndarray:
    """Means [draws, systems] under the same draws of groups; NaN where none was drawn."""
    groups = sorted({row.group for rows in series for row in rows})
    place = {name: index for index, name in enumerate(groups)}
    sums, sizes = np.zeros((2, len(groups), len(series)))
    for column, rows in enumerate(series):
        for row in rows:
            if row.value is not None:
                sums[place[row.group], column] += row.value
                sizes[place[row.group], column] += 1
    with np.errstate(invalid="ignore"):
        blocks = [(t @ sums) / (t @ sizes) for t in draw_groups(len(groups), bootstrap)]
    return np.concatenate(blocks)


def _ranks(means: np.ndarray) -> np.ndarray:
    """Ranks from 1 for the highest of each line; equal means share the better, NaN the last."""
    means = np.where(np.isnan(means), -np.inf, means)
    return 1 + (means[:, None, :] > means[:, :, None]).sum(-1)
