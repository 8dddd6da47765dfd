"""The kernel distance between two sets of features (Binkowski et al. 2018), in float64.

It is the unbiased estimate of the squared maximum mean discrepancy under the kernel
(x y / d + 1)^3: unlike the Fréchet distance its mean does not depend on the number of pictures,
and it can be below 0.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from mre_jax.errors import ConfigError, DataError

_ROWS = 1024


class KernelDistance(NamedTuple):
    """A kernel distance and how certain it is.

    Attributes:
        value: mean over the subsets.
        deviation: standard deviation over the subsets, which papers print behind the value; it
            says how much subsets differ, not how certain the value is.
        standard_error: standard error of the distance between the whole sets, by leaving out each
            picture once (jackknife), the sets taken as independent.
        subsets, subset_size: what the value was taken from.
    """

    value: float
    deviation: float
    standard_error: float
    subsets: int
    subset_size: int


def kernel_distance(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "m d"],
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """The distance between two sets of features.

    Args:
        a, b: one feature per picture.
        subsets, subset_size: how many random subsets of each set, and of how many features. Where
            a set has no more than `subset_size`, the whole sets are compared once.
        seed: seed of the choice of subsets.

    Raises:
        DataError: for fewer than three features in a set, different widths, or values that are
            not finite.
        ConfigError: for fewer than 1 subset, or subsets of fewer than 2.
    """
    if subsets < 1 or subset_size < 2:
        raise ConfigError(f"{subsets} subsets of {subset_size} are too few; take 1 of 2 or more")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    _check(a, b)
    whole, error = _whole(a, b)
    if min(len(a), len(b)) <= subset_size:
        return KernelDistance(whole, 0.0, error, 1, min(len(a), len(b)))
    rng = np.random.default_rng(seed)
    values = [
        _distance(*(x[rng.choice(len(x), subset_size, replace=False)] for x in (a, b)))
        for _ in range(subsets)
    ]
    return KernelDistance(
        float(np.mean(values)), float(np.std(values)), error, subsets, subset_size
    )


def _whole(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Distance and standard error, from what each row of the three kernel matrices sums to."""
    n, m = len(a), len(b)
    within_a, within_b = _row_sums(a, a) - _diagonal(a), _row_sums(b, b) - _diagonal(b)
    across_a, across_b = _row_sums(a, b), _row_sums(b, a)
    mean_a = within_a.sum() / (n * (n - 1))
    mean_b = within_b.sum() / (m * (m - 1))
    across = across_a.sum() / (n * m)
    # The distance without the i-th picture of one set; each pair within it counts twice.
    left_a = (within_a.sum() - 2 * within_a) / ((n - 1) * (n - 2))
    left_a = left_a + mean_b - 2 * (across_a.sum() - across_a) / ((n - 1) * m)
    left_b = (within_b.sum() - 2 * within_b) / ((m - 1) * (m - 2))
    left_b = left_b + mean_a - 2 * (across_b.sum() - across_b) / (n * (m - 1))
    variance = (n - 1) * left_a.var() + (m - 1) * left_b.var()
    return float(mean_a + mean_b - 2 * across), math.sqrt(variance)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """The unbiased estimate for two sets of one size."""
    n = len(a)
    within = sum((_kernel(x, x).sum() - _diagonal(x).sum()) / (n * (n - 1)) for x in (a, b))
    return float(within - 2 * _kernel(a, b).mean())


def _row_sums(a: np.ndarray, b: np.ndarray) -> Float64[np.ndarray, " n"]:
    """Sums over the rows of the kernel matrix, some rows at a time: it may not fit in memory."""
    parts = [_kernel(a[i : i + _ROWS], b).sum(axis=1) for i in range(0, len(a), _ROWS)]
    return np.concatenate(parts)


def _diagonal(a: np.ndarray) -> Float64[np.ndarray, " n"]:
    return (np.einsum("nd,nd->n", a, a) / a.shape[1] + 1) ** 3


def _kernel(a: np.ndarray, b: np.ndarray) -> Float64[np.ndarray, "n m"]:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if min(len(a), len(b)) < 3:
        raise DataError(
            f"a kernel distance needs three pictures or more in each set, not {min(len(a), len(b))}"
        )
    if a.shape[1] != b.shape[1]:
        raise DataError(
            f"features of widths {a.shape[1]} and {b.shape[1]} have no distance; use one network"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("a picture has features that are not finite; check the weights")
