"""Rows of Arrow and of parquet files, a few at a time.

An Arrow file, as `datasets` saves it and keeps it in its cache, is a stream of record batches;
files of Arrow's random-access form are read too. On a disk they are mapped into memory, so that of
a batch of large pictures no more than a row is copied. Of a parquet file only the pages being read
are in memory: of one row group at the most, which is how large public writers make a page of
pictures.
"""

import abc
import contextlib
import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from etils import epath

from mre_jax.data.sources.rows import FileRows, Row, between, existing, listed
from mre_jax.data.sources.table_files import table_files
from mre_jax.errors import DataError
from mre_jax.io.extra import of_extra
from mre_jax.io.files import refuse_lfs_pointer

_RANDOM_ACCESS = b"ARROW1"
_BATCH = 8
_BUFFER = 1 << 20


class _BatchRows(FileRows):
    """The rows of files that pyarrow reads in record batches.

    Args:
        path: a file, or a folder: of `datasets.save_to_disk`, also of several splits, of the
            library's cache, or as `table_files` says.
        split: split of a folder that holds several.

    Raises:
        DataError: if there is no such file, one is missing among those there, or they belong to
            several splits and none was chosen.
        ConfigError: if pyarrow is not installed.
    """

    kind: str
    suffix: str
    whole = False

    def __init__(self, path: epath.PathLike, split: str | None = None):
        of_extra("pyarrow.parquet")
        root, files = existing(path), [epath.Path(path)]
        if root.is_dir():
            files = table_files(root, self.suffix, split, whole=self.whole)
        if not files:
            raise DataError(f"{path}: no {self.kind} files in it")
        super().__init__(path, files)

    @functools.cached_property
    def columns(self) -> Sequence[str]:
        with self._open(self._files[0]) as reader:
            return self._names(reader)

    @contextlib.contextmanager
    def _open(self, file: epath.Path) -> Iterator[Any]:
        pyarrow: Any = of_extra("pyarrow")
        refuse_lfs_pointer(file)
        try:
            with self._reader(file) as reader:
                yield reader
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"{file}: damaged, or not {self.kind} ({reason})") from None

    def _read(
        self, file: epath.Path, reader: Any, wanted: Sequence[int], columns: Collection[str]
    ) -> Iterator[Row]:
        found = self._names(reader)
        if missing := [name for name in columns if name not in found]:
            raise DataError(f"{file}: no column {missing[0]!r}; it has {listed(found)}")
        for first, batch in self._batches(reader, wanted, list(columns) or found):
            for row in between(wanted, first, first + batch.num_rows):  # each is copied alone
                yield f"{file} row {row}", batch.slice(row - first, 1).to_pylist()[0]

    @abc.abstractmethod
    def _reader(self, file: epath.Path) -> contextlib.AbstractContextManager[Any]: ...

    @abc.abstractmethod
    def _names(self, reader: Any) -> list[str]: ...

    @abc.abstractmethod
    def _batches(
        self, reader: Any, wanted: Sequence[int], columns: list[str]
    ) -> Iterator[tuple[int, Any]]:
        """The batches with the wanted rows, of these columns, and the first row of each."""


class ArrowRows(_BatchRows):
    """The rows of Arrow files."""

    kind, suffix, whole = "Arrow", ".arrow", True

    @contextlib.contextmanager
    def _reader(self, file: epath.Path) -> Iterator[Any]:
        pyarrow: Any = of_extra("pyarrow")
        remote = "://" in str(file)
        with file.open("rb") if remote else pyarrow.memory_map(str(file)) as source:
            start = source.read(len(_RANDOM_ACCESS))
            source.seek(0)
            form = pyarrow.ipc.open_file if start == _RANDOM_ACCESS else pyarrow.ipc.open_stream
            with form(source) as reader:
                yield reader

    def _names(self, reader: Any) -> list[str]:
        return list(reader.schema.names)

    def _count(self, file: epath.Path, reader: Any) -> int:
        return sum(batch.num_rows for batch in _all_batches(reader))

    def _batches(
        self, reader: Any, wanted: Sequence[int], columns: list[str]
    ) -> Iterator[tuple[int, Any]]:
        first = 0
        for batch in _all_batches(reader):
            yield first, batch.select(columns)
            first += batch.num_rows
            if first > wanted[-1]:
                return


class ParquetRows(_BatchRows):
    """The rows of parquet files."""

    kind, suffix = "parquet", ".parquet"

    @contextlib.contextmanager
    def _reader(self, file: epath.Path) -> Iterator[Any]:
        parquet: Any = of_extra("pyarrow.parquet")
        with (
            file.open("rb") as handle,
            parquet.ParquetFile(
                handle, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
            ) as reader,
        ):
            yield reader

    def _names(self, reader: Any) -> list[str]:
        return list(reader.schema_arrow.names)

    def _count(self, file: epath.Path, reader: Any) -> int:
        return reader.metadata.num_rows

    def _batches(
        self, reader: Any, wanted: Sequence[int], columns: list[str]
    ) -> Iterator[tuple[int, Any]]:
        first = 0
        for group in range(reader.num_row_groups):
            end = first + reader.metadata.row_group(group).num_rows
            if rows := between(wanted, first, end):
                batches = reader.iter_batches(
                    _BATCH, row_groups=[group], columns=columns, use_threads=False
                )
                for batch in batches:
                    yield first, batch
                    first += batch.num_rows
                    if first > rows[-1]:
                        break
            first = end


def _all_batches(reader: Any) -> Iterator[Any]:
    if hasattr(reader, "num_record_batches"):
        return (reader.get_batch(index) for index in range(reader.num_record_batches))
    return iter(reader)
