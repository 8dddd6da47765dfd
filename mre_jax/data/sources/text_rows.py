"""Rows of CSV and JSONL files."""

import contextlib
import csv
import functools
import io
import json
from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

from etils import epath

from mre_jax.data.sources.rows import Row, existing
from mre_jax.errors import DataError

_T = TypeVar("_T")


class JsonlRows:
    """One JSON object a line; blank lines do not count."""

    columns = None

    def __init__(self, path: epath.PathLike):
        self.path = str(path)
        self._file = existing(path)
        self.folder = self._file.parent

    def __len__(self) -> int:
        return self._count

    def read(self, positions: Sequence[int], columns: Collection[str]) -> Iterator[Row]:
        del columns
        for line, text in _pick(self._lines(), positions):
            where = f"{self.path}:{line}"
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                raise DataError(f"{where}: not JSON ({error.msg})") from None
            if not isinstance(row, dict):
                raise DataError(f"{where}: want a JSON object, got {type(row).__name__}")
            yield where, row

    @functools.cached_property
    def _count(self) -> int:
        return sum(1 for _ in self._lines())

    def _lines(self) -> Iterator[tuple[int, str]]:
        with _text(self._file) as file:
            for line, text in enumerate(file, 1):
                if text.strip():
                    yield line, text


class CsvRows:
    """Comma-separated values with a header; an empty cell is a missing one."""

    def __init__(self, path: epath.PathLike):
        self.path = str(path)
        self._file = existing(path)
        self.folder = self._file.parent

    def __len__(self) -> int:
        return self._count

    @functools.cached_property
    def columns(self) -> Sequence[str]:
        with _text(self._file) as file:
            header = next(csv.reader(file), [])
        if not header:
            raise DataError(f"{self.path}: no header in it")
        if repeated := {name for name in header if header.count(name) > 1}:
            raise DataError(f"{self.path}: column {min(repeated)!r} stands in the header twice")
        return header

    def read(self, positions: Sequence[int], columns: Collection[str]) -> Iterator[Row]:
        header = self.columns
        for line, cells in _pick(self._lines(), positions):
            where = f"{self.path}:{line}"
            if len(cells) != len(header):
                raise DataError(f"{where}: {len(cells)} cells, {len(header)} in the header")
            row = zip(header, cells, strict=True)
            yield where, {name: cell or None for name, cell in row if name in columns}

    @functools.cached_property
    def _count(self) -> int:
        return sum(1 for _ in self._lines())

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """The last line of each record and its cells."""
        with _text(self._file) as file:
            reader = csv.reader(file)
            try:
                next(reader, None)
                yield from ((reader.line_num, cells) for cells in reader if cells)
            except csv.Error as error:
                raise DataError(f"{self.path}:{reader.line_num}: not CSV ({error})") from None


@contextlib.contextmanager
def _text(path: epath.Path) -> Iterator[io.TextIOWrapper]:
    """A UTF-8 file, its line ends left as they are for the csv module to judge."""
    with path.open("rb") as binary, io.TextIOWrapper(binary, "utf-8-sig", newline="") as file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text ({error.reason})") from None


def _pick(items: Iterator[_T], positions: Sequence[int]) -> Iterator[_T]:
    wanted = iter(positions)
    next_wanted = next(wanted, None)
    for position, item in enumerate(items):
        if next_wanted is None:
            return
        if position == next_wanted:
            yield item
            next_wanted = next(wanted, None)
