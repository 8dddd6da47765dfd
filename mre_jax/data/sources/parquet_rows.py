"""Rows of parquet files, a few at a time."""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from etils import epath

from mre_jax.data.sources.file_rows import FileRows, between, rows_of
from mre_jax.data.sources.rows import existing
from mre_jax.data.sources.table_files import table_files
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.files import refuse_lfs_pointer

_BATCH = 8
_BUFFER = 1 << 20


class ParquetRows(FileRows):
    """The rows of parquet files.

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
        super().__init__(path, _parquet_files(existing(path), split))

    def _open(self, file: epath.Path) -> AbstractContextManager[Any]:
        return _parquet(file)

    def _names(self, reader: Any) -> list[str]:
        return list(reader.schema_arrow.names)

    def _count(self, reader: Any) -> int:
        return reader.metadata.num_rows

    def _read(
        self, reader: Any, start: int, wanted: Sequence[int], columns: list[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        first = start
        for group in range(reader.num_row_groups):
            end = first + reader.metadata.row_group(group).num_rows
            if rows := between(wanted, first, end):
                batches = reader.iter_batches(
                    _BATCH, row_groups=[group], columns=columns, use_threads=False
                )
                for batch in batches:
                    yield from rows_of(batch, first, rows)
                    first += batch.num_rows
                    if first > rows[-1]:
                        break
            first = end


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


def _parquet_files(path: epath.Path, split: str | None) -> list[epath.Path]:
    if not path.is_dir():
        return [path]
    if files := table_files(path, ".parquet", split):
        return files
    raise DataError(f"{path}: no parquet files in it")
