"""Rows of text tables: CSV and TSV, JSON lines, and JSON lists; plain, or packed by gzip."""

import codecs
import contextlib
import csv
import functools
import gzip
import io
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import IO, Any

from etils import epath

from mre_jax.data.attempt import attempt
from mre_jax.data.rewards import parse_json
from mre_jax.data.sources.rows import Row, existing, pick
from mre_jax.errors import DataError
from mre_jax.files import refuse_lfs_pointer
from mre_jax.json_lines import parse_row

GZIP = ".gz"
_SEPARATORS = (",", ";", "\t")


class TextRows:
    """What the readers of text tables share."""

    columns: Any = None

    def __init__(self, path: epath.PathLike):
        self.path = str(path)
        self._file = existing(path)
        self.folder = self._file.parent
        refuse_lfs_pointer(self._file)

    def __len__(self) -> int:
        return self._count

    def read(self, positions: Sequence[int], columns: Collection[str]) -> Iterator[Row | DataError]:
        del columns
        for place, item in pick(self._items(), positions):
            yield attempt(self._row, f"{self.path}:{place}", item)

    @functools.cached_property
    def _count(self) -> int:
        return sum(1 for _ in self._items())

    def _items(self) -> Iterator[tuple[int, Any]]:
        """Where each row stands, counted from 1, and what it is made of."""
        raise NotImplementedError

    def _row(self, where: str, item: Any) -> Row:
        raise NotImplementedError


class JsonlRows(TextRows):
    """One JSON object a line; blank lines do not count."""

    def _items(self) -> Iterator[tuple[int, bytes]]:
        with _unpacked(self._file) as file:
            for line, text in enumerate(file, 1):
                if line == 1:
                    text = text.removeprefix(codecs.BOM_UTF8)
                if text.strip():
                    yield line, text

    def _row(self, where: str, item: bytes) -> Row:
        return where, parse_row(item, where)


class JsonRows(TextRows):
    """A list of JSON objects, which is held in memory; rows are counted from 1.

    Raises:
        DataError: if the file holds something else.
    """

    def __init__(self, path: epath.PathLike):
        super().__init__(path)
        with _unpacked(self._file) as file:
            entries = parse_json(file.read(), self._file)
        if not isinstance(entries, list):
            keys = f" with {', '.join(entries)}"[:80] if isinstance(entries, dict) else ""
            raise DataError(
                f"{self.path}: want a list of objects, or JSON lines; it is one "
                f"{type(entries).__name__}{keys}"
            )
        self._entries = entries

    def _items(self) -> Iterator[tuple[int, Any]]:
        return enumerate(self._entries, 1)

    def _row(self, where: str, item: Any) -> Row:
        if not isinstance(item, dict):
            raise DataError(f"{where}: want a JSON object, got {type(item).__name__}")
        return where, item


def open_json(path: epath.PathLike) -> TextRows:
    """A .json file, or one of JSON lines, whatever it is called: a list begins with "["."""
    file = existing(path)
    with _unpacked(file) as stream:
        begin = stream.read(256).removeprefix(codecs.BOM_UTF8).lstrip()
        stream.seek(0)
        first = stream.readline().removeprefix(codecs.BOM_UTF8)
    whole_line = not isinstance(attempt(parse_row, first, str(file)), DataError)
    named_lines = ".json" not in [suffix.lower() for suffix in file.suffixes[-2:]]
    return JsonlRows(path) if begin[:1] != b"[" and (whole_line or named_lines) else JsonRows(path)


class CsvRows(TextRows):
    """Separated values with a header; an empty cell is a missing one.

    They are separated by commas, or by semicolons or tabs if the header has only those.
    """

    @functools.cached_property
    def columns(self) -> Sequence[str]:
        with _text(self._file) as file:
            header = next(csv.reader(file, delimiter=self._separator), [])
        if not header:
            raise DataError(f"{self.path}: no header in it")
        if repeated := {name for name in header if header.count(name) > 1}:
            raise DataError(f"{self.path}: column {min(repeated)!r} stands in the header twice")
        return header

    @functools.cached_property
    def _separator(self) -> str:
        with _text(self._file) as file:
            first = file.readline()
        found = [separator for separator in _SEPARATORS if separator in first]
        return found[0] if len(found) == 1 else ","

    def _row(self, where: str, item: list[str]) -> Row:
        if len(item) != len(self.columns):
            raise DataError(f"{where}: {len(item)} cells, {len(self.columns)} in the header")
        return where, {n: cell or None for n, cell in zip(self.columns, item, strict=True)}

    def _items(self) -> Iterator[tuple[int, list[str]]]:
        """The last line of each record and its cells."""
        with _text(self._file) as file:
            reader = csv.reader(file, delimiter=self._separator)
            try:
                next(reader, None)
                yield from ((reader.line_num, cells) for cells in reader if cells)
            except csv.Error as error:
                raise DataError(f"{self.path}:{reader.line_num}: not CSV ({error})") from None


@contextlib.contextmanager
def _unpacked(path: epath.Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        if path.suffix.lower() != GZIP:
            yield file
            return
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked  # type: ignore[misc]
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path}: damaged, or not gzip ({error})") from None


@contextlib.contextmanager
def _text(path: epath.Path) -> Iterator[io.TextIOWrapper]:
    """A UTF-8 file, its line ends left as they are for the csv module to judge."""
    with _unpacked(path) as binary, io.TextIOWrapper(binary, "utf-8-sig", newline="") as file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text ({error.reason})") from None
