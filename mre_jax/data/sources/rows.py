"""The rows of a table as a stream of mappings, never the whole table in memory."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from etils import epath

from mre_jax.errors import DataError

Row: TypeAlias = tuple[str, Mapping[str, Any]]
"""File and row for messages, and the cells by column. A missing cell is absent or None."""

_T = TypeVar("_T")

LOOKED = 16
"""So many rows tell the columns where nothing else does: one of them may lack some."""

_SHOWN = 20


class Rows(Protocol):
    """The rows of a table.

    Attributes:
        path: for messages.
        folder: which relative paths in cells start from.
        columns: their names; None if only the rows know.
    """

    path: str
    folder: epath.Path

    @property
    def columns(self) -> Sequence[str] | None: ...

    def __len__(self) -> int: ...

    def read(self, positions: Sequence[int], columns: Collection[str]) -> Iterator[Row | DataError]:
        """Yields the rows at these ascending positions, with at least these columns.

        A row that is none is its error; what makes the others unreadable too is raised.
        """
        ...


def listed(names: Sequence[str]) -> str:
    """The first names, for a message."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def existing(path: epath.PathLike) -> epath.Path:
    """The path of a file or folder.

    Raises:
        DataError: if there is none.
    """
    path = epath.Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    return path


def pick(items: Iterator[_T], positions: Sequence[int]) -> Iterator[_T]:
    """The items at these ascending positions."""
    wanted = iter(positions)
    next_wanted = next(wanted, None)
    for position, item in enumerate(items):
        if next_wanted is None:
            return
        if position == next_wanted:
            yield item
            next_wanted = next(wanted, None)
