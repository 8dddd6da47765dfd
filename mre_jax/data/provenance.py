"""Where a triplet comes from whose edit a model made: by which weights, in which round, judged by
whom.
"""

import dataclasses
from typing import Any

from mre_jax.errors import DataError

_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What is known of an edit that a model made of another example's picture.

    Attributes:
        model: SHA-256 of the weights that made it.
        round: round of `mre improve`, from 1.
        seed: seed of its noise, together with the triplet's id.
        source: set of the example whose picture was edited.
        example: id of that example.
        judge: model that gave the scores; "" without.

    Example:
        >>> print(Provenance("0" * 64, round=1, seed=0, source="toy", example="7", judge="toy-1"))
        pictures of toy, round 1, model 000000000000, judge toy-1
    """

    model: str
    round: int
    seed: int
    source: str
    example: str
    judge: str = ""

    @classmethod
    def from_json(cls, value: Any, where: str) -> "Provenance":
        """The inverse of `to_json`.

        Raises:
            DataError: naming what is missing, unknown or of another type; `where` begins it.
        """
        if not isinstance(value, dict):
            raise DataError(f"{where}: provenance {value!r:.80} is no object")
        known = {field.name: field.type for field in dataclasses.fields(cls)}
        if unknown := sorted(value.keys() - known):
            raise DataError(f"{where}: provenance has an unknown field {unknown[0]!r}")
        for name, kind in known.items():
            if name not in value and name != "judge":
                raise DataError(f"{where}: provenance has no {name!r}")
            if name in value and type(value[name]) is not kind:
                raise DataError(f"{where}: provenance has {name} = {value[name]!r:.80}")
        return cls(**value)

    def to_json(self) -> dict[str, Any]:
        """As it stands in records and tables."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """All but seed and example: what the edits of a round have in common."""
        return (
            f"pictures of {self.source or '?'}, round {self.round}, "
            f"model {self.model[:_SHOWN]}, judge {self.judge or 'none'}"
        )
