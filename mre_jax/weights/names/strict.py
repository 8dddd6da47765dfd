"""Every tensor a model has is in the file, and every tensor in the file is used: no guessing.

What does not fit is collected in one error, so that a user sees the whole picture at once.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from mre_jax.errors import DataError
from mre_jax.weights.files.source import TensorSource, is_floating


@dataclasses.dataclass
class Faults:
    """What keeps a source from being a model's weights: names, or descriptions that begin so."""

    missing: list[str] = dataclasses.field(default_factory=list)
    unexpected: list[str] = dataclasses.field(default_factory=list)
    misshaped: list[str] = dataclasses.field(default_factory=list)
    not_finite: list[str] = dataclasses.field(default_factory=list)
    blank: list[str] = dataclasses.field(default_factory=list)

    def __bool__(self) -> bool:
        return any(dataclasses.astuple(self))

    def __str__(self) -> str:
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape or kind": self.misshaped,
            "not finite": self.not_finite,
            "only zeros, as an interrupted download leaves them": self.blank,
        }
        return "; ".join(f"{len(v)} {kind}: {shortened(v)}" for kind, v in kinds.items() if v)


def compare(expected: Mapping[str, Any], source: TensorSource) -> Faults:
    """The faults that show without reading a tensor.

    Args:
        expected: name to anything with the `shape` that the model wants.
        source: the candidate.
    """
    faults = Faults(
        missing=[name for name in expected if name not in source.tensors],
        unexpected=[name for name in source.tensors if name not in expected],
    )
    for name in expected:
        if name not in source.tensors:
            continue
        info, shape = source.tensors[name], tuple(expected[name].shape)
        if info.shape != shape:
            faults.misshaped.append(f"{name} is {list(info.shape)}, not {list(shape)}")
        elif not is_floating(info.dtype):
            faults.misshaped.append(f"{name} is {info.dtype}, not floating-point")
    return faults


def stream(
    expected: Mapping[str, Any], source: TensorSource, order: Iterable[str] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Every expected tensor once, in `order` (default: that of the names).

    When the source does not fit, nothing is yielded; when only values are wrong, the error comes
    after the last tensor, so a consumer must not publish before the stream has ended.

    Raises:
        DataError: listing every tensor that is missing, unexpected, misshaped, not finite, or a
            normalisation's scale of zeros.
    """
    faults = compare(expected, source)
    fits = not faults
    names = sorted(source.tensors) if order is None or not fits else order
    for name in names:
        if name not in expected:
            continue
        array = source.read(name)
        if is_floating(array.dtype) and not np.isfinite(array).all():
            faults.not_finite.append(name)
        # Nothing passes such a scale: its network cannot have been trained.
        if array.ndim == 1 and name.endswith(".weight") and not array.any():
            faults.blank.append(name)
        if fits:
            yield name, array
        del array  # else it would stay in memory while the next is read
    if faults:
        raise _misfit(source, faults)


def require_fit(expected: Mapping[str, Any], source: TensorSource) -> None:
    """Refuses a source that does not fit, as `stream`, by what shows without reading a tensor.

    Raises:
        DataError: listing every tensor that is missing, unexpected or misshaped.
    """
    if faults := compare(expected, source):
        raise _misfit(source, faults)


def _misfit(source: TensorSource, faults: Faults) -> DataError:
    return DataError(
        f"{source.origin} does not fit the model: {faults}. "
        "Check that these weights and their config.json belong together"
    )


def shortened(names: list[str], limit: int = 3) -> str:
    """The first few of `names` in order, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(sorted(names)[:limit]) + more
