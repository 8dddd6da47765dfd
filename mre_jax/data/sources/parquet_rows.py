"""Rows of parquet files, a few at a time."""

import bisect
import contextlib
import functools
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from etils import epath

from mre_jax.data.sources.rows import Row, existing
from mre_jax.errors import ConfigError, DataError

_BATCH = 8
_BUFFER = 1 << 20
_PART = re.compile(r"(.+)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?\.parquet")


class ParquetRows:
    """The rows of parquet files, one after the other.

    Only pages being read are in memory: of one row group at the most, which is how large public
    writers make a page of pictures.

    Args:
        path: a file, or a folder with files up to two levels below, which are read in the order
            of their names.
        split: of a folder's files, those named `SPLIT-00000-of-00262.parquet`, or in a folder
            `SPLIT`.

    Raises:
        DataError: if there is no such file, one is missing among those there, or they belong to
            several splits and none was chosen.
        ConfigError: if pyarrow is not installed.
    """

    def __init__(self, path: epath.PathLike, split: str | None = None):
        _pyarrow()
        self.path = str(path)
        self._files = _parquet_files(existing(path), split)
        self.folder = self._files[0].parent

    def __len__(self) -> int:
        return self._starts[-1]

    @functools.cached_property
    def columns(self) -> Sequence[str]:
        with _parquet(self._files[0]) as parquet:
            return list(parquet.schema_arrow.names)

    def read(self, positions: Sequence[int], columns: Collection[str]) -> Iterator[Row]:
        for file, start, stop in zip(self._files, self._starts, self._starts[1:], strict=False):
            if wanted := _between(positions, start, stop):
                with _parquet(file) as parquet:
                    _check_columns(file, parquet.schema_arrow.names, columns)
                    yield from _read_parquet(file, parquet, start, wanted, list(columns))

    @functools.cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for file in self._files:
            with _parquet(file) as parquet:
                starts.append(starts[-1] + parquet.metadata.num_rows)
        return starts


def _between(positions: Sequence[int], start: int, stop: int) -> Sequence[int]:
    return positions[bisect.bisect_left(positions, start) : bisect.bisect_left(positions, stop)]


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet  # only who reads parquet needs it
    except ImportError:
        raise ConfigError("reading parquet needs pyarrow: pip install 'mre_jax[data]'") from None
    return pyarrow


@contextlib.contextmanager
def _parquet(file: epath.Path) -> Iterator[Any]:
    pyarrow = _pyarrow()
    with file.open("rb") as handle:
        try:
            with pyarrow.parquet.ParquetFile(
                handle, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
            ) as parquet:
                yield parquet
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"{file}: damaged, or not parquet ({reason})") from None


def _read_parquet(
    file: epath.Path, parquet: Any, start: int, wanted: Sequence[int], columns: list[str]
) -> Iterator[Row]:
    """The wanted rows of one file, whose first row is row `start` of the set."""
    first = start
    for group in range(parquet.num_row_groups):
        end = first + parquet.metadata.row_group(group).num_rows
        if rows := _between(wanted, first, end):
            batches = parquet.iter_batches(
                _BATCH, row_groups=[group], columns=columns, use_threads=False
            )
            begin = first
            for batch in batches:
                for row in _between(rows, begin, begin + batch.num_rows):
                    yield f"{file} row {row - start}", batch.slice(row - begin, 1).to_pylist()[0]
                begin += batch.num_rows
                if begin > rows[-1]:
                    break
        first = end


def _check_columns(file: epath.Path, found: Sequence[str], columns: Collection[str]) -> None:
    if missing := [name for name in columns if name not in found]:
        raise DataError(f"{file}: no column {missing[0]!r}; it has {', '.join(found)}")


def _parquet_files(path: epath.Path, split: str | None) -> list[epath.Path]:
    if not path.is_dir():
        return [path]
    levels = ("*.parquet", "*/*.parquet", "*/*/*.parquet")
    found = sorted((file for level in levels for file in path.glob(level)), key=str)
    files = [file for file in found if not file.name.startswith(".")]
    splits = {_split(file, path) for file in files}
    if split is None and len(splits) > 1:
        raise DataError(f"{path}: files of several splits, {sorted(splits)}; choose one")
    chosen = [file for file in files if split in (None, _split(file, path))]
    if not chosen:
        there = f"of the splits {sorted(splits)}" if files else "none"
        raise DataError(f"{path}: no parquet files of split {split!r}; there are {there}")
    _check_complete(chosen)
    return chosen


def _split(file: epath.Path, root: epath.Path) -> str:
    if match := _PART.fullmatch(file.name):
        return match[1]
    return "" if file.parent == root else file.parent.name


def _check_complete(files: Sequence[epath.Path]) -> None:
    """Refuses a gap among numbered files: every later row would get another number."""
    numbered = [match for file in files if (match := _PART.fullmatch(file.name))]
    for expected, match in enumerate(numbered):
        if int(match[2]) != expected:
            raise DataError(
                f"{files[expected].parent}: file {expected} of {int(match[3])} is missing before "
                f"{match[0]}; the first files of a set may be read alone, but without gaps"
            )
