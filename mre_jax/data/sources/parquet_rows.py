"""Rows of parquet files, a few at a time."""

import bisect
import contextlib
import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from etils import epath

from mre_jax.data.sources.rows import Row, existing, listed
from mre_jax.data.sources.table_files import table_files
from mre_jax.errors import ConfigError, DataError
from mre_jax.files import refuse_lfs_pointer

_BATCH = 8
_BUFFER = 1 << 20


class ParquetRows:
    """The rows of parquet files, one after the other.

    Only pages being read are in memory: of one row group at the most, which is how large public
    writers make a page of pictures.

    Args:
        path: a file, or a folder; see `table_files`.
        split: of a folder's files.

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
            if wanted := between(positions, start, stop):
                with _parquet(file) as parquet:
                    check_columns(file, parquet.schema_arrow.names, columns)
                    yield from _read_parquet(file, parquet, start, wanted, list(columns))

    @functools.cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for file in self._files:
            with _parquet(file) as parquet:
                starts.append(starts[-1] + parquet.metadata.num_rows)
        return starts


def between(positions: Sequence[int], start: int, stop: int) -> Sequence[int]:
    """Those of ascending positions that are in start .. stop-1."""
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
    refuse_lfs_pointer(file)
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
        if rows := between(wanted, first, end):
            batches = parquet.iter_batches(
                _BATCH, row_groups=[group], columns=columns, use_threads=False
            )
            begin = first
            for batch in batches:
                for row in between(rows, begin, begin + batch.num_rows):
                    yield f"{file} row {row - start}", batch.slice(row - begin, 1).to_pylist()[0]
                begin += batch.num_rows
                if begin > rows[-1]:
                    break
        first = end


def check_columns(file: epath.Path, found: Sequence[str], columns: Collection[str]) -> None:
    """Refuses a file that lacks one of the columns."""
    if missing := [name for name in columns if name not in found]:
        raise DataError(f"{file}: no column {missing[0]!r}; it has {listed(found)}")


def _parquet_files(path: epath.Path, split: str | None) -> list[epath.Path]:
    if not path.is_dir():
        return [path]
    if files := table_files(path, ".parquet", split):
        return files
    raise DataError(f"{path}: no parquet files in it")
