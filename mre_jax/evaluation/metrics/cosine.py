"""Cosines between rows of features."""

import numpy as np
from jaxtyping import Float, Float64

from mre_jax.errors import DataError


def unit(features: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
    """Every row at length 1; a row of zeros stays."""
    rows = features.astype(np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length == 0, 1, length)


def cosine(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """The cosine of each pair of rows, 0 where one of them is zero.

    Raises:
        DataError: for different numbers of rows.
    """
    _check_paired(a, b)
    return np.einsum("nd,nd->n", unit(a), unit(b))


def difference(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, "n d"]:
    """`a - b`.

    Raises:
        DataError: for different numbers of rows.
    """
    _check_paired(a, b)
    return a - b


def _check_paired(a: np.ndarray, b: np.ndarray) -> None:
    if len(a) != len(b):
        raise DataError(f"{len(a)} cannot be compared with {len(b)}; give the same number of both")
