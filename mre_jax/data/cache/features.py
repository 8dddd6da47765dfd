"""Cached latents and text states as features of a record, and what rounding costs them.

A feature is one string of bytes: the array in the cache's dtype, little-endian, C order.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from mre_jax.data.batches.batch import Cached
from mre_jax.data.cache.description import DTYPES, LATENTS, Cache
from mre_jax.data.records.example import Features
from mre_jax.errors import DataError

_PREFIX = "cached_"


def feature_name(field: str) -> str:
    """The feature that holds a field of `Cached`."""
    return _PREFIX + field


class Rounding:
    """How far cached values are from those that the encoders gave.

    Attributes:
        parts: largest error, sum of errors and number of values by field, as JSON values.
    """

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {}

    def add(
        self, field: str, exact: Float32[np.ndarray, "*n"], kept: Float[np.ndarray, "*n"]
    ) -> None:
        """Notes the values of one example; fields are those of `Cached`."""
        error = np.abs(kept.astype(np.float32) - exact)
        total = float(error.sum(dtype=np.float64))
        self.add_parts({field: (float(error.max()), total, error.size)})

    def add_parts(self, parts: Mapping[str, Sequence[float]]) -> None:
        """Notes what another has noted."""
        for field, (largest, total, count) in parts.items():
            old = self.parts.get(field, [0.0, 0.0, 0])
            self.parts[field] = [max(old[0], largest), old[1] + total, old[2] + count]

    def summary(self) -> dict[str, dict[str, float]]:
        """Largest and mean absolute error by field, to four digits.

        A last bit of float32 that two programs round differently is lost in a cached value; it is
        not to show in the error, which stands in a manifest whose bytes name the set.
        """
        return {
            field: {"max": _to_four_digits(largest), "mean": _to_four_digits(total / count)}
            for field, (largest, total, count) in self.parts.items()
        }


def _to_four_digits(value: float) -> float:
    return float(f"{value:.4g}")


def pack(
    cache: Cache, values: Mapping[str, Float32[np.ndarray, "..."]], where: str, rounding: Rounding
) -> Features:
    """The features of one record.

    Args:
        cache: dtype and shapes.
        values: arrays of `cache.shapes`, by field of `Cached`.
        where: what errors call the example.
        rounding: notes the error.

    Raises:
        DataError: if a value is not finite, in float32 or in the cache's dtype.
    """
    features: Features = {}
    for field in cache.shapes:
        exact = values[field]
        with np.errstate(over="ignore"):  # what overflows is refused below
            kept = exact.astype(DTYPES[cache.dtype])
        if not np.isfinite(kept.astype(np.float32)).all():
            how = "not finite: the encoder's weights are damaged, or of another model"
            if np.isfinite(exact).all():
                how = f"too large for {cache.dtype}; take --dtype bfloat16"
            raise DataError(f"{where}: {field} is {how}")
        rounding.add(field, exact, kept)
        features[feature_name(field)] = [kept.tobytes()]
    return features


def unpack(cache: Cache, features: Features, where: str) -> dict[str, Float[np.ndarray, "..."]]:
    """What `pack` was given, rounded: read-only views of the record.

    Raises:
        DataError: if a feature is missing or of another size.
    """
    dtype, values = DTYPES[cache.dtype], {}
    for field, shape in cache.shapes.items():
        value = features.get(feature_name(field))
        size = dtype.itemsize * int(np.prod(shape))
        if value is None or isinstance(value, np.ndarray) or len(value) != 1:
            raise DataError(f"{where}: no feature {feature_name(field)!r}, which the cache needs")
        if len(value[0]) != size:
            raise DataError(
                f"{where}: feature {feature_name(field)!r} has {len(value[0])} bytes; want {size}"
            )
        values[field] = np.frombuffer(value[0], dtype).reshape(shape)
    return values


class CachedRows:
    """The `Cached` of a batch, filled example by example."""

    def __init__(self, cache: Cache, flip: Bool[np.ndarray, " b"]):
        self._cache, self._flip = cache, flip.astype(int).tolist()
        self._arrays = {
            field: np.empty(
                (len(flip), *(shape[1:] if field in LATENTS else shape)), DTYPES[cache.dtype]
            )
            for field, shape in cache.shapes.items()
        }

    def fill(self, row: int, features: Features, where: str) -> None:
        """Takes the features of one record; see `unpack`."""
        for field, value in unpack(self._cache, features, where).items():
            self._arrays[field][row] = value[self._flip[row]] if field in LATENTS else value

    def cached(self) -> Cached:
        """The rows."""
        arrays: dict[str, Any] = self._arrays
        return Cached(**arrays)
