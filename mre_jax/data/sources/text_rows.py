"""Rows of text tables: CSV and TSV, JSON lines, and JSON lists; plain, or packed.

They are UTF-8, or UTF-16 that says so by its first two bytes, as spreadsheets write it.
"""

import abc
import bz2
import codecs
import contextlib
import csv
import functools
import gzip
import io
import itertools
import lzma
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import IO, Any

from etils import epath

from mre_jax.data.sources.rows import Row, existing, pick
from mre_jax.data.sources.source import attempt
from mre_jax.errors import DataError
from mre_jax.io.extra import of_extra
from mre_jax.io.files import refuse_lfs_pointer
from mre_jax.io.image import MAX_BYTES
from mre_jax.io.json_file import parse_json, parse_row

_SEPARATORS = (",", ";", "\t", "|")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _open_zst(file: IO[bytes]) -> IO[bytes]:
    pyarrow: Any = of_extra("pyarrow")  # Python has no reader of its own before 3.14
    with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd") as stream:
        return io.BytesIO(stream.read())


_PACKED: Mapping[str, Callable[[IO[bytes]], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zst,
}
PACKED = tuple(_PACKED)
"""Suffixes of packed tables."""


class TextRows(abc.ABC):
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

    @abc.abstractmethod
    def _items(self) -> Iterator[tuple[int, Any]]:
        """Where each row stands, counted from 1, and what it is made of."""

    @abc.abstractmethod
    def _row(self, where: str, item: Any) -> Row: ...


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

    An object that holds one such list beside other things, as {"data": [...]}, is taken for it.

    Raises:
        DataError: if the file holds something else.
    """

    def __init__(self, path: epath.PathLike):
        super().__init__(path)
        with _unpacked(self._file) as file:
            entries = parse_json(file.read(), self._file)
        inner = _lists_in(entries)
        if not isinstance(entries, list) and len(inner) != 1:
            keys = f" with {', '.join(entries)}"[:80] if isinstance(entries, dict) else ""
            raise DataError(
                f"{self.path}: want a list of objects, or JSON lines; it is one "
                f"{type(entries).__name__}{keys}"
            )
        self._entries = entries if isinstance(entries, list) else inner[0]

    def _items(self) -> Iterator[tuple[int, Any]]:
        return enumerate(self._entries, 1)

    def _row(self, where: str, item: Any) -> Row:
        if not isinstance(item, dict):
            raise DataError(f"{where}: want a JSON object, got {type(item).__name__}")
        return where, item


def _lists_in(entries: Any) -> list[list[Any]]:
    """The lists of objects that an object holds."""
    values = entries.values() if isinstance(entries, dict) else ()
    return [
        value
        for value in values
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value)
    ]


def open_json(path: epath.PathLike) -> TextRows:
    """A .json file, or one of JSON lines, whatever it is called: a list begins with "["."""
    file = existing(path)
    with _unpacked(file) as stream:
        begin = stream.read(256).removeprefix(codecs.BOM_UTF8).lstrip()
        stream.seek(0)
        first = attempt(parse_row, stream.readline().removeprefix(codecs.BOM_UTF8), str(file))
        alone = not stream.read(256).strip()
    if begin[:1] == b"[":
        return JsonRows(path)
    if ".json" not in [suffix.lower() for suffix in file.suffixes[-2:]]:
        return JsonlRows(path)
    is_row = not isinstance(first, DataError) and not (alone and _holds_rows(first))
    return JsonlRows(path) if is_row else JsonRows(path)


def _holds_rows(entries: dict[str, Any]) -> bool:
    """Whether an object is a table itself, in whatever form, and no row of one."""
    nested = all(isinstance(value, dict | list) for value in entries.values())
    return nested or bool(_lists_in(entries))


class CsvRows(TextRows):
    """Separated values with a header; an empty cell is a missing one.

    They are separated by commas, semicolons, tabs or bars: by what the header has most of.
    """

    @functools.cached_property
    def columns(self) -> Sequence[str]:
        _, header = next(self._records(), (0, []))
        if not header:
            raise DataError(f"{self.path}: no header in it")
        if repeated := {name for name in header if header.count(name) > 1}:
            raise DataError(f"{self.path}: column {min(repeated)!r} stands in the header twice")
        return header

    @functools.cached_property
    def _separator(self) -> str:
        with _text(self._file) as file:
            first = next((line for line in file if line.strip()), "")
        return max(_SEPARATORS, key=first.count)

    def _row(self, where: str, item: list[str]) -> Row:
        if len(item) != len(self.columns):
            raise DataError(f"{where}: {len(item)} cells, {len(self.columns)} in the header")
        return where, {n: cell or None for n, cell in zip(self.columns, item, strict=True)}

    def _items(self) -> Iterator[tuple[int, list[str]]]:
        return itertools.islice(self._records(), 1, None)

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """The last line of each record and its cells, the header first; blank lines do not count.

        Strictly, as a quote that is never closed would swallow all rows behind it.
        """
        csv.field_size_limit(2 * MAX_BYTES)  # a cell may hold a picture in base64
        with _text(self._file) as file:
            reader = csv.reader(file, delimiter=self._separator, strict=True)
            try:
                yield from ((reader.line_num, cells) for cells in reader if cells)
            except csv.Error as error:
                raise DataError(
                    f"{self.path}:{reader.line_num}: not CSV ({error}); a quote may be left open, "
                    "or one within a cell not be doubled"
                ) from None


@contextlib.contextmanager
def _unpacked(path: epath.Path) -> Iterator[IO[bytes]]:
    """The file's content as UTF-8, in the encoding that its first bytes show."""
    packed = path.suffix.lower()
    with path.open("rb") as file:
        if packed not in _PACKED:
            yield _as_utf8(file, path)
            return
        try:
            with _PACKED[packed](file) as unpacked:
                yield _as_utf8(unpacked, path)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{path}: damaged, or not packed as {packed} ({error})") from None


def _as_utf8(file: IO[bytes], path: epath.Path) -> IO[bytes]:
    start = file.read(2)
    file.seek(0)
    if start not in _UTF16:
        return file
    try:
        return io.BytesIO(file.read().decode("utf-16").encode())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-16 text ({error.reason}); save it as UTF-8") from None


@contextlib.contextmanager
def _text(path: epath.Path) -> Iterator[io.TextIOWrapper]:
    """A UTF-8 file, its line ends left as they are for the csv module to judge."""
    with _unpacked(path) as binary, io.TextIOWrapper(binary, "utf-8-sig", newline="") as file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
