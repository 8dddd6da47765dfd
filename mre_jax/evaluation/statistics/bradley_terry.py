"""Strengths of systems from which of two edits was preferred: the model of Bradley and Terry.

System i is preferred to j with probability p_i / (p_i + p_j) (Bradley and Terry, Rank Analysis of
Incomplete Block Designs, 1952, eq. 1); in logarithms, b = log p, that is a logistic regression of
b_i - b_j. The model knows no ties: one counts as half a win of either, so that what is maximised is

    sum over i, j of w_ij log(p_i / (p_i + p_j)),    w_ij: wins of i over j, with half of their ties

(the likelihood of Hunter, MM Algorithms for Generalized Bradley-Terry Models, 2004, eq. 3). To each
pair of systems that was compared, half a win of either is added, as Haldane (1956) adds to a logit:
a system that never lost would be infinitely strong otherwise. Two systems differ by exactly
log((w + 1/2) / (l + 1/2)).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from mre_jax.errors import DataError
from mre_jax.evaluation.statistics.intervals import (
    FEW,
    Bootstrap,
    Interval,
    draw_groups,
    percentiles,
)

ADDED = 0.5
"""Wins of either side that are added to each pair of systems."""

ELO = 400 / np.log(10)
"""Points of the Elo scale for one unit of log strength; 1000 is the mean of the systems."""

_STEPS, _LONGEST, _CLOSE = 100, 1.0, 1e-10
_BLOCK = 1 << 20  # numbers of one block of tables


@dataclasses.dataclass(frozen=True)
class Strength:
    """How strong one of several systems is.

    Attributes:
        elo: 1000 + 400 log10(p), p the strength, whose logarithms have a mean of 0 over the
            systems: 400 points are odds of ten to one.
        interval: of `elo`: a bootstrap of groups, or of fewer than 20 Student's t by leaving out
            one after the other; None with fewer than two, or where all are alike, so that nothing
            says how another would differ.
        rank: 1 for the strongest; equal ones share the better rank.
        ranks: the lowest and the highest rank that it has in most draws of the groups.
    """

    elo: float
    interval: Interval | None
    rank: int
    ranks: tuple[int, int]


def bradley_terry(
    first: Int[np.ndarray, "n"],
    second: Int[np.ndarray, "n"],
    points: Float[np.ndarray, "n"],
    groups: Sequence[str],
    count: int,
    bootstrap: Bootstrap | None = None,
) -> list[Strength]:
    """The strength of every system.

    Args:
        first, second: numbers of the two systems of each comparison, from 0.
        points: what the first got: 1 for a win, 0.5 for a tie, 0.
        groups: the picture of each comparison, which are drawn again.
        count: number of systems.

    Raises:
        DataError: if the systems fall into parts of which none was compared with another.

    Example:
        >>> import numpy as np
        >>> one, other = np.asarray([0, 0, 0, 0]), np.asarray([1, 1, 1, 1])
        >>> points = np.asarray([1, 1, 1, 0.0])
        >>> [round(s.elo) for s in bradley_terry(one, other, points, ["a", "b", "c", "d"], 2)]
        [1074, 926]
    """
    bootstrap = bootstrap or Bootstrap()
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    tables = np.zeros((len(names), count, count))
    np.add.at(tables, (index, first, second), points)
    np.add.at(tables, (index, second, first), 1 - points)
    compared = (tables + tables.transpose(0, 2, 1)).sum(0) > 0
    _check_connected(compared)
    elo = _elo(tables.sum(0)[None], compared)[0]
    drawn = np.concatenate(
        [
            _elo(np.tensordot(part, tables, 1), compared)
            for block in draw_groups(len(names), bootstrap)
            for part in np.array_split(block, max(1, len(block) * count**2 // _BLOCK))
        ]
    )
    intervals = _intervals(elo, tables, compared, drawn, bootstrap)
    outside = [bootstrap.outside, 1 - bootstrap.outside]
    spans = np.quantile(_ranks(drawn), outside, axis=0, method="nearest").astype(int)
    return [
        Strength(float(value), interval, int(rank), (int(low), int(high)))
        for value, interval, rank, low, high in zip(
            elo, intervals, _ranks(elo[None])[0], *spans, strict=True
        )
    ]


def log_strengths(
    wins: Float[np.ndarray, "b k k"],
) -> Float[np.ndarray, "b k"]:
    """Logarithms of the strengths that maximise the likelihood, with a mean of 0; Newton's method.

    Args:
        wins: [i, j]: of i over j, those that are added included.
    """
    found = np.zeros(wins.shape[:2])
    size = wins.shape[-1]
    total = wins + wins.transpose(0, 2, 1)
    for _ in range(_STEPS):
        chance = special.expit(found[:, :, None] - found[:, None, :])
        gradient = (wins - total * chance).sum(-1)
        weight = total * chance * (1 - chance)
        hessian = np.eye(size) * weight.sum(-1)[:, None] - weight + 1 / size
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        # A long step would leave the region where the curvature is that of here.
        step *= np.minimum(1, _LONGEST / np.maximum(np.abs(step).max(-1), _CLOSE))[:, None]
        found += step
        if np.abs(step).max() < _CLOSE:
            break
    return found - found.mean(-1, keepdims=True)


def _elo(
    wins: Float[np.ndarray, "b k k"], compared: Bool[np.ndarray, "k k"]
) -> Float[np.ndarray, "b k"]:
    return 1000 + ELO * log_strengths(wins + ADDED * compared)


def _intervals(
    elo: Float[np.ndarray, "k"],
    tables: Float[np.ndarray, "g k k"],
    compared: Bool[np.ndarray, "k k"],
    drawn: Float[np.ndarray, "b k"],
    bootstrap: Bootstrap,
) -> list[Interval | None]:
    groups = len(tables)
    if groups < 2:
        return [None] * len(elo)
    if groups >= FEW:
        bounds = [percentiles(of, bootstrap, groups) for of in drawn.T]
        return [one if one.high - one.low > _CLOSE else None for one in bounds]
    left = _elo(tables.sum(0) - tables, compared)
    error = np.sqrt((groups - 1) * left.var(0))
    reach = special.stdtrit(groups - 1, 1 - bootstrap.outside) * error
    return [
        Interval(float(value - far), float(value + far)) if far > _CLOSE else None
        for value, far in zip(elo, reach, strict=True)
    ]


def _check_connected(compared: Bool[np.ndarray, "k k"]) -> None:
    size = len(compared)
    reached = np.linalg.matrix_power((compared | np.eye(size, dtype=bool)).astype(float), size) > 0
    if not reached.all():
        raise DataError(
            "some systems were compared with none of the others, by themselves or through a third; "
            "compare them, or name with --systems those that were"
        )


def _ranks(values: Float[np.ndarray, "b k"]) -> Int[np.ndarray, "b k"]:
    """From 1 for the highest of each line; equal ones share the better rank."""
    return 1 + (values[:, None, :] > values[:, :, None] + _CLOSE).sum(-1)
