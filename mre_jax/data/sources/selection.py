"""The part of a set that one process reads, and what is asked of its examples."""

import dataclasses
import re
from collections.abc import Iterator, Sequence

from mre_jax.data.sources.source import Source, attempt
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError


def parse_shard(text: str) -> tuple[int, int]:
    """Reads "2/8", part 2 (counted from 0) of 8.

    Raises:
        ConfigError: if it is something else.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match and int(match[1]) < int(match[2]):
        return int(match[1]), int(match[2])
    raise ConfigError(f"--shard {text!r}: want I/N with I from 0 to N-1, as 0/8")


def select(count: int, max_examples: int | None = None, shard: tuple[int, int] = (0, 1)) -> range:
    """The positions of one part of a set.

    The parts of all shards, one after the other, are what a single process reads: the first
    `max_examples` in the order of the set.

    Args:
        count: examples of the set.
        max_examples: the set ends after these; None is all.
        shard: (index, number of parts); parts are contiguous and differ by one at most.

    Raises:
        ConfigError: if a number is out of range.
    """
    index, parts = shard
    if not 0 <= index < parts:
        raise ConfigError(f"shard {index} of {parts}: want an index from 0 to the parts - 1")
    if max_examples is not None and max_examples < 1:
        raise ConfigError(f"max_examples is {max_examples}; it must be at least 1")
    total = count if max_examples is None else min(count, max_examples)
    return range(total * index // parts, total * (index + 1) // parts)


@dataclasses.dataclass(frozen=True)
class Check:
    """What is asked of an example beyond being one.

    Attributes:
        decode: whether both pictures must be decodable.
        same_size: whether they must be of one size; if not, training resizes the edited picture.
        instruction: whether it must not be empty.
    """

    decode: bool = True
    same_size: bool = True
    instruction: bool = True

    def __call__(self, triplet: Triplet) -> Triplet:
        """The triplet, with `same_size` as here.

        Raises:
            DataError: if it does not pass.
        """
        if triplet.same_size != self.same_size:
            triplet = dataclasses.replace(triplet, same_size=self.same_size)
        asked = (triplet.instruction, *triplet.instructions)
        if self.instruction and not all(text.strip() for text in asked):
            raise DataError(f"{triplet.where or triplet.id}: the instruction is empty")
        if self.decode:
            triplet.images()
        return triplet


WHOLE = Check()
"""All of it."""


def read_checked(
    source: Source, positions: Sequence[int], check: Check
) -> Iterator[Triplet | DataError]:
    """`Source.read`, where an example that does not pass the check is an error too."""
    for item in source.read(positions):
        yield item if isinstance(item, DataError) else attempt(check, item)
