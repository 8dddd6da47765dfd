"""The rows of a table as a stream of mappings, never the whole table in memory."""

import abc
import bisect
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
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


class FileRows(abc.ABC):
    """The rows of files of one kind, one after the other.

    Args:
        path: path that was named, for messages.
        files: tables, at least one.
    """

    def __init__(self, path: epath.PathLike, files: Sequence[epath.Path]):
        self.path = str(path)
        self.folder = files[0].parent
        self._files = files

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, positions: Sequence[int], columns: Collection[str]) -> Iterator[Row | DataError]:
        for file, start, stop in zip(self._files, self._starts, self._starts[1:], strict=False):
            if wanted := between(positions, start, stop):
                with self._open(file) as reader:
                    yield from self._read(file, reader, [row - start for row in wanted], columns)

    @functools.cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for file in self._files:
            with self._open(file) as reader:
                starts.append(starts[-1] + self._count(file, reader))
        return starts

    @abc.abstractmethod
    def _open(self, file: epath.Path) -> AbstractContextManager[Any]:
        """A reader of a file; DataError if it is damaged."""

    @abc.abstractmethod
    def _count(self, file: epath.Path, reader: Any) -> int:
        """The number of a file's rows."""

    @abc.abstractmethod
    def _read(
        self, file: epath.Path, reader: Any, wanted: Sequence[int], columns: Collection[str]
    ) -> Iterator[Row | DataError]:
        """The wanted rows of a file, at least one, counted from 0."""


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


def between(positions: Sequence[int], start: int, stop: int) -> Sequence[int]:
    """Those of ascending positions that are in start .. stop-1."""
    return positions[bisect.bisect_left(positions, start) : bisect.bisect_left(positions, stop)]
