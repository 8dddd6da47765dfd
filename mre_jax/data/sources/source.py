"""What every source of triplets offers: its length, reading by position, and keys for rewards.

Beside it stands what several readers share: errors as values, so that a stream goes on behind what
is bad in it; and the choice of one of several, the same on every machine.
"""

import dataclasses
import difflib
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from mre_jax.data.triplets import Triplet
from mre_jax.errors import DataError

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Keys:
    """What the rewards of a source's examples may be found by.

    Attributes:
        rows: the row of each example in the whole set, before a split.
        total: rows of the whole set.
        names: the folder or the id of each example; None if the set has no names.
        aliases: a second name, by which a reward may call the examples at these positions:
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
        name: name of the set, kept in every triplet.
        path: path of the file or folder, for messages.
    """

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> str: ...

    def __len__(self) -> int: ...

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        """Yields the examples at these positions.

        An example of which something is missing or of the wrong kind is an error that names file
        and row; see `strict`.

        Args:
            positions: ascending, from 0 to the length; a range or a list.

        Raises:
            DataError: for what makes other examples unreadable too, as a damaged file of many.
        """
        ...

    def keys(self) -> Keys:
        """What rewards are joined by; reads no picture."""
        ...


def attempt(make: Callable[..., Item], *args: object) -> Item | DataError:
    """What `make` gives for the arguments, or the `DataError` that it raises."""
    try:
        return make(*args)
    except DataError as error:
        return error


def strict(items: Iterator[Item | DataError]) -> Iterator[Item]:
    """Passes items on.

    Raises:
        DataError: the first error among them.
    """
    for item in items:
        if isinstance(item, DataError):
            raise item
        yield item


def choose(options: Sequence[Item], seed: int, name: str, what: str) -> Item:
    """A function of seed, example and what is chosen alone."""
    digest = hashlib.sha256(f"{seed}/{name}/{what}".encode()).digest()
    return options[int.from_bytes(digest[:8], "big") % len(options)]


def choose_text(value: object, seed: int, name: str) -> tuple[Any, tuple[Any, ...]]:
    """One of a list of instructions, and all of several; anything else as it is, and none."""
    if isinstance(value, list) and value:
        return choose(value, seed, name, "edit"), tuple(value) if len(value) > 1 else ()
    return value, ()


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for messages at the known name that is meant, or nothing."""
    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""
