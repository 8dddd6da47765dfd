"""The Fréchet distance between two sets of features (Heusel et al. 2017), in float64.

It is a distance between normal distributions, estimated with a bias that grows as the sets shrink
below the features' width: numbers of different n do not compare, so n stands beside each.
"""

import numpy as np
from jaxtyping import Float, Float64

from mre_jax.errors import DataError


class Moments:
    """Mean and covariance of features that come in batches; its size is that of one covariance.

    Attributes:
        count: features so far.
        mean: theirs [d], or None before the first.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Float64[np.ndarray, " d"] | None = None
        self._scatter: Float64[np.ndarray, "d d"] | None = None

    def add(self, features: Float[np.ndarray, "n d"]) -> None:
        """Takes a batch in (Chan et al. 1983: no sum of squares whose digits would cancel).

        Raises:
            DataError: for features of another width than before, or that are not finite.
        """
        rows = np.asarray(features, np.float64)
        if not np.isfinite(rows).all():
            raise DataError("a picture has features that are not finite; check the weights")
        if len(rows) == 0:
            return
        mean = rows.mean(axis=0)
        centred = rows - mean
        scatter = centred.T @ centred
        total = self.count + len(rows)
        if self.mean is None or self._scatter is None:
            self.mean, self._scatter, self.count = mean, scatter, total
            return
        if mean.shape != self.mean.shape:
            raise DataError(
                f"features of width {len(mean)} do not go with those of width {len(self.mean)}; "
                "use one network for all pictures"
            )
        shift = mean - self.mean
        self._scatter += scatter
        self._scatter += np.outer(shift, shift * (self.count * len(rows) / total))
        self.mean = self.mean + shift * (len(rows) / total)
        self.count = total

    def covariance(self) -> Float64[np.ndarray, "d d"]:
        """The unbiased covariance.

        Raises:
            DataError: for fewer than two features.
        """
        if self._scatter is None or self.count < 2:
            raise DataError(
                f"a Fréchet distance needs two pictures or more in each set, not {self.count}"
            )
        return self._scatter / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), never below 0.

    With C = R R^T the trace of the root is the sum of the singular values of R_a^T R_b: real and
    exact for singular covariances too, as those of few pictures are.

    Raises:
        DataError: for fewer than two features in a set, or sets of different widths.
    """
    first, second = a.covariance(), b.covariance()
    if a.mean is None or b.mean is None or first.shape != second.shape:
        raise DataError(
            f"features of widths {len(first)} and {len(second)} have no distance; use one network"
        )
    overlap = np.linalg.svd(_root(first).T @ _root(second), compute_uv=False).sum()
    shift = a.mean - b.mean
    distance = shift @ shift + np.trace(first) + np.trace(second) - 2 * overlap
    return max(0.0, float(distance))


def _root(covariance: Float64[np.ndarray, "d d"]) -> Float64[np.ndarray, "d r"]:
    """R with R R^T = `covariance`, of r columns for rank r.

    Eigenvalues that are rounding errors of 0 are left out: their roots would be a hundred million
    times larger than they are.
    """
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * max(0.0, values[-1])
    return vectors[:, kept] * np.sqrt(values[kept])
