"""How often own edits are trained on, beside the sets that a training began with."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mre_jax.data.records.record_source import RecordSource


class Mixture(NamedTuple):
    """What each set counts in a training.

    Attributes:
        own_share: share of own edits among the examples that are read, 0 to 1.
        weights: of `data.weights`, the sets first, own edits after them; None takes all examples
            equally often.
    """

    own_share: float
    weights: tuple[float, ...] | None


def mix(
    sizes: Sequence[int],
    own_sizes: Sequence[int],
    *,
    weights: Sequence[float] | None = None,
    max_own_share: float,
) -> Mixture:
    """Own edits as often as their number says, but no more often than they may.

    Args:
        sizes: examples of each set.
        own_sizes: own edits of each round; may be empty.
        weights: of the sets, by the configuration; None is by size.
        max_own_share: share of own edits, at most.

    Example:
        >>> mix([900], [100], max_own_share=0.3)
        Mixture(own_share=0.1, weights=None)
        >>> mix([60], [20, 20], max_own_share=0.2)
        Mixture(own_share=0.2, weights=(0.8, 0.1, 0.1))
    """
    share = sum(own_sizes) / (sum(sizes) + sum(own_sizes))
    if weights is None and share <= max_own_share:
        return Mixture(share, None)
    share = min(share, max_own_share)
    parts = _shared(weights or sizes, 1 - share) + _shared(own_sizes, share)
    return Mixture(share, parts)


def _shared(parts: Sequence[float], whole: float) -> tuple[float, ...]:
    return tuple(round(whole * part / sum(parts), 12) for part in parts)


def trained_on(source: RecordSource, min_score: float | None, *, may_lack: bool = False) -> int:
    """Examples of a set that an epoch reads; those with a lower score do not count.

    Args:
        may_lack: 0 if no example is as good; an error otherwise.

    Raises:
        DataError: as `RecordSource.with_min_score`.
    """
    if not min_score:
        return source.groups
    high = np.all(source.index["scores"] >= np.float32(min_score), axis=1)
    return 0 if may_lack and not high.any() else source.with_min_score(min_score).groups
