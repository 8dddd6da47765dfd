"""Rows of binary tables that lie in several files, one after the other."""

import abc
import bisect
import functools
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from etils import epath

from mre_jax.data.sources.rows import Row, listed
from mre_jax.errors import DataError


class FileRows(abc.ABC):
    """The rows of files of one kind.

    Args:
        path: that was named, for messages.
        files: at least one.
    """

    def __init__(self, path: epath.PathLike, files: Sequence[epath.Path]):
        self.path = str(path)
        self.folder = files[0].parent
        self._files = files

    def __len__(self) -> int:
        return self._starts[-1]

    @functools.cached_property
    def columns(self) -> Sequence[str]:
        with self._open(self._files[0]) as reader:
            return self._names(reader)

    def read(self, positions: Sequence[int], columns: Collection[str]) -> Iterator[Row]:
        for file, start, stop in zip(self._files, self._starts, self._starts[1:], strict=False):
            if wanted := between(positions, start, stop):
                with self._open(file) as reader:
                    _check_columns(file, self._names(reader), columns)
                    for row, cells in self._read(reader, start, wanted, list(columns)):
                        yield f"{file} row {row - start}", cells

    @functools.cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for file in self._files:
            with self._open(file) as reader:
                starts.append(starts[-1] + self._count(reader))
        return starts

    @abc.abstractmethod
    def _open(self, file: epath.Path) -> AbstractContextManager[Any]:
        """A reader of a file; DataError if it is damaged."""

    @abc.abstractmethod
    def _names(self, reader: Any) -> list[str]:
        """Of the columns."""

    @abc.abstractmethod
    def _count(self, reader: Any) -> int:
        """Of the rows."""

    @abc.abstractmethod
    def _read(
        self, reader: Any, start: int, wanted: Sequence[int], columns: list[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The wanted rows of a file whose first row is row `start` of the set, with their cells."""


def between(positions: Sequence[int], start: int, stop: int) -> Sequence[int]:
    """Those of ascending positions that are in start .. stop-1."""
    return positions[bisect.bisect_left(positions, start) : bisect.bisect_left(positions, stop)]


def rows_of(batch: Any, first: int, wanted: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The wanted rows of a record batch that begins with row `first`; each is copied alone."""
    for row in between(wanted, first, first + batch.num_rows):
        yield row, batch.slice(row - first, 1).to_pylist()[0]


def _check_columns(file: epath.Path, found: Sequence[str], columns: Collection[str]) -> None:
    if missing := [name for name in columns if name not in found]:
        raise DataError(f"{file}: no column {missing[0]!r}; it has {listed(found)}")
