"""Pairs of edits of one picture by one instruction, of which the scores prefer one."""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Int64

from mre_jax.data.records.index import is_rewarded
from mre_jax.data.records.record_source import RecordSource
from mre_jax.errors import DataError


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs of a set.

    Attributes:
        records: of each pair the preferred record and the other.
        alike: pairs that are left out, as their mean scores are too near each other.
    """

    records: Int64[np.ndarray, "n 2"]
    alike: int

    def __len__(self) -> int:
        return len(self.records)


def pair_up(source: RecordSource, margin: float = 0.0) -> Pairs:
    """All pairs of records with a reward, the same original and the same instructions.

    The same is a picture of the same bytes. Which pairs there are, and their order, depends on the
    set alone. Every record is read once.

    Args:
        margin: least difference of their mean scores, 0 to 5; equal ones are never a pair.

    Raises:
        DataError: if there is no pair, or a record is damaged.
    """
    edits: dict[bytes, list[int]] = {}
    for record, asked in enumerate(source.asked()):
        edits.setdefault(asked, []).append(record)
    rewarded = is_rewarded(source.index)
    # Rounded, as means of thirds are not exact, nor 4.3 in float32.
    means = source.index["scores"].astype(np.float64).mean(axis=1).round(6)
    pairs, alike = [], 0
    for records in edits.values():
        for one, other in itertools.combinations(filter(rewarded.__getitem__, records), 2):
            better, worse = (one, other) if means[one] >= means[other] else (other, one)
            apart = round(means[better] - means[worse], 6)
            if apart > 0 and apart >= margin:
                pairs.append((better, worse))
            else:
                alike += 1
    if not pairs:
        raise DataError(
            f"{source.path}: no two edits of one picture and instruction "
            + (
                f"differ by loss.preference.margin={margin:g} in mean score"
                if alike
                else "with a reward"
            )
            + "; prepare a set that has several edits of each, or set loss.preference=null"
        )
    return Pairs(np.array(pairs, np.int64), alike)
