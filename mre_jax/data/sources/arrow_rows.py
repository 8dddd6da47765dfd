"""Rows of Arrow files, as `datasets` saves them and keeps them in its cache.

Such a file is a stream of record batches; files of Arrow's random-access form are read too. On a
disk they are mapped into memory, so that of a batch of large pictures no more than a row is copied.
"""

import contextlib
import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from etils import epath

from mre_jax.data.sources.parquet_rows import between, check_columns
from mre_jax.data.sources.rows import Row, existing
from mre_jax.data.sources.table_files import table_files
from mre_jax.errors import ConfigError, DataError
from mre_jax.files import refuse_lfs_pointer

SUFFIX = ".arrow"
_RANDOM_ACCESS = b"ARROW1"


class ArrowRows:
    """The rows of Arrow files, one after the other.

    Args:
        path: a file, or a folder: of `datasets.save_to_disk`, also of several splits, or of the
            library's cache.
        split: of a folder that holds several.

    Raises:
        DataError: if there is no such file, one is missing among those there, or they belong to
            several splits and none was chosen.
        ConfigError: if pyarrow is not installed.
    """

    def __init__(self, path: epath.PathLike, split: str | None = None):
        _pyarrow()
        self.path = str(path)
        root = existing(path)
        self._files = table_files(root, SUFFIX, split, whole=True) if root.is_dir() else [root]
        if not self._files:
            raise DataError(f"{path}: no Arrow files in it")
        self.folder = self._files[0].parent

    def __len__(self) -> int:
        return self._starts[-1]

    @functools.cached_property
    def columns(self) -> Sequence[str]:
        with _reader(self._files[0]) as reader:
            return list(reader.schema.names)

    def read(self, positions: Sequence[int], columns: Collection[str]) -> Iterator[Row]:
        for file, start, stop in zip(self._files, self._starts, self._starts[1:], strict=False):
            if wanted := between(positions, start, stop):
                yield from _read_arrow(file, start, wanted, columns)

    @functools.cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for file in self._files:
            with _reader(file) as reader:
                rows = sum(batch.num_rows for batch in _batches(reader))
            starts.append(starts[-1] + rows)
        return starts


def _read_arrow(
    file: epath.Path, start: int, wanted: Sequence[int], columns: Collection[str]
) -> Iterator[Row]:
    """The wanted rows of one file, whose first row is row `start` of the set."""
    with _reader(file) as reader:
        check_columns(file, reader.schema.names, columns)
        first = start
        for batch in _batches(reader):
            batch = batch.select(list(columns) or reader.schema.names)
            for row in between(wanted, first, first + batch.num_rows):
                yield f"{file} row {row - start}", batch.slice(row - first, 1).to_pylist()[0]
            first += batch.num_rows
            if first > wanted[-1]:
                return


def _pyarrow() -> Any:
    try:
        import pyarrow  # only who reads Arrow needs it
    except ImportError:
        raise ConfigError("reading Arrow needs pyarrow: pip install 'mre_jax[data]'") from None
    return pyarrow


@contextlib.contextmanager
def _reader(file: epath.Path) -> Iterator[Any]:
    """A reader of either form."""
    pyarrow = _pyarrow()
    refuse_lfs_pointer(file)
    remote = "://" in str(file)
    try:
        with file.open("rb") if remote else pyarrow.memory_map(str(file)) as source:
            start = source.read(len(_RANDOM_ACCESS))
            source.seek(0)
            form = pyarrow.ipc.open_file if start == _RANDOM_ACCESS else pyarrow.ipc.open_stream
            with form(source) as reader:
                yield reader
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{file}: damaged, or not Arrow ({reason})") from None


def _batches(reader: Any) -> Iterator[Any]:
    if hasattr(reader, "num_record_batches"):
        return (reader.get_batch(index) for index in range(reader.num_record_batches))
    return iter(reader)
