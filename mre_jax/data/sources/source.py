"""What every source of triplets offers: its length, reading by position, and keys for rewards."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from mre_jax.data.triplets import Triplet
from mre_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class Keys:
    """What the rewards of a source's examples may be found by.

    Attributes:
        rows: the row of each example in the whole set, before a split.
        total: rows of the whole set.
        names: the folder or the id of each example; None if the set has no names.
        aliases: of the examples at these positions, the name by which a reward may call them too:
            the folder's, of the one among its pairs that a reward by folder is taken for; or that
            of the pair, if the example has the folder's.
        elsewhere: names that the chosen split leaves out.
        ambiguous: names that hold several pairs, of which a reward describes one.
    """

    rows: Sequence[int]
    total: int
    names: Sequence[str] | None = None
    aliases: Mapping[int, str] = dataclasses.field(default_factory=dict)
    elsewhere: Collection[str] = ()
    ambiguous: Collection[str] = ()


class Source(Protocol):
    """A set of triplets in a stable order, read as a stream.

    Only an index of ids is held in memory. Reading a part skips what lies before it, as far as
    the layout lets it.

    Attributes:
        name: of the set, kept in every triplet.
        path: of the file or folder, for messages.
    """

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> str: ...

    def __len__(self) -> int: ...

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        """Yields the examples at these positions.

        An example of which something is missing or of the wrong kind is an error that names file
        and row; see `mre_jax.data.attempt.strict`.

        Args:
            positions: ascending, from 0 to the length; a range or a list.

        Raises:
            DataError: for what makes other examples unreadable too, as a damaged file of many.
        """
        ...

    def keys(self) -> Keys:
        """What rewards are joined by; reads no picture."""
        ...
