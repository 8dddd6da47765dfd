"""Coefficients of agreement between scores of the same edits, with intervals over their photos."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int, Num

from mre_jax.evaluation.statistics.intervals import (
    FEW,
    Bootstrap,
    Grouped,
    Interval,
    draw_groups,
    jackknife_interval,
    percentiles,
)

Scale = str
"""How far two scores are apart: "interval", by their difference, or "ordinal", by how many scores
lie between."""


@dataclasses.dataclass(frozen=True)
class Coefficient:
    """A coefficient from -1 to 1.

    Attributes:
        value: None where it is undefined, as between a judge and one that always says the same.
        interval: confidence interval of `value`; None where that is undefined, as in perfect
            agreement.
    """

    value: float | None
    interval: Interval | None


def pearson(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float | None:
    """Pearson's correlation; None if one side is constant."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def spearman(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float | None:
    """Spearman's correlation of ranks; None if one side is constant."""
    from scipy.stats import rankdata  # takes a second to import

    return pearson(rankdata(x), rankdata(y))


def kendall(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float | None:
    """Kendall's tau-b; None if one side is constant."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    from scipy.stats import kendalltau

    return float(kendalltau(x, y).statistic)


def kappa(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float | None:
    """Cohen's kappa with quadratic weights; None if all scores of both sides are the same."""
    # By chance, two scores differ by both variances and the difference of the means.
    expected = x.var() + y.var() + (x.mean() - y.mean()) ** 2 if len(x) else 0.0
    return float(1 - np.mean((x - y) ** 2) / expected) if expected > 0 else None


def coefficient(
    of: Callable[..., float | None],
    x: Float[np.ndarray, "n"],
    y: Float[np.ndarray, "n"],
    index: Int[np.ndarray, "n"],
    bootstrap: Bootstrap,
) -> Coefficient:
    """A coefficient of pairs of scores; `index` is the group of each pair."""
    return Coefficient(of(x, y), jackknife_interval(lambda at: of(x[at], y[at]), index, bootstrap))


def krippendorff_alpha(
    units: Sequence[Sequence[float]],
    groups: Sequence[str],
    scale: Scale = "ordinal",
    bootstrap: Bootstrap | None = None,
) -> Coefficient:
    """Krippendorff's alpha, for any number of scores of each unit (Krippendorff, 2011).

    Args:
        units: the scores of each; those of fewer than two say nothing.
        groups: name of each unit's group.
        scale: "ordinal" or "interval".
    """
    bootstrap = bootstrap or Bootstrap()
    values = np.unique([score for unit in units for score in unit])
    index = Grouped.of(np.zeros(len(units)), groups)
    tables = np.zeros((index.count, len(values), len(values)))
    for place, unit in zip(index.index, units, strict=True):
        counts = np.bincount(np.searchsorted(values, unit), minlength=len(values))
        if len(unit) > 1:
            tables[place] += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)

    def alpha(times: Float[np.ndarray, "draws g"]) -> Float[np.ndarray, "draws"]:
        return _alpha(np.tensordot(times, tables, 1), values, scale)

    value = float(alpha(np.ones((1, index.count)))[0])
    if np.isnan(value):
        return Coefficient(None, None)
    if index.count >= FEW:
        draws = np.concatenate(
            [
                alpha(part)
                for block in draw_groups(index.count, bootstrap)
                for part in np.array_split(block, max(1, block.size // _ALPHA_BLOCK))
            ]
        )
        return Coefficient(value, percentiles(draws, bootstrap, index.count) if value < 1 else None)
    ones = np.ones(index.count)

    def left(at: Int[np.ndarray, "m"]) -> float:
        return float(alpha(np.isin(np.arange(index.count), at)[None] * ones)[0])

    return Coefficient(value, jackknife_interval(left, np.arange(index.count), bootstrap))


_ALPHA_BLOCK = 1 << 15


def _alpha(
    tables: Float[np.ndarray, "b k k"], values: Num[np.ndarray, "k"], scale: Scale
) -> Float[np.ndarray, "b"]:
    """Alpha of tables of coincidences."""
    counts = tables.sum(-1)
    total = counts.sum(-1)
    # Between two scores on the ordinal scale lie half of those that are equal to either.
    places = counts.cumsum(-1) - counts / 2 if scale == "ordinal" else values[None]
    distance = (places[:, :, None] - places[:, None, :]) ** 2
    seen = (tables * distance).sum((-1, -2))
    expected = (counts[:, :, None] * counts[:, None, :] * distance).sum((-1, -2)) / (total - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 0, 1 - seen / expected, np.nan)
