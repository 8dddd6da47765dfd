"""Rows of Arrow files, as `datasets` saves them and keeps them in its cache.

Such a file is a stream of record batches; files of Arrow's random-access form are read too. On a
disk they are mapped into memory, so that of a batch of large pictures no more than a row is copied.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from etils import epath

from mre_jax.data.sources.file_rows import FileRows, rows_of
from mre_jax.data.sources.rows import existing
from mre_jax.data.sources.table_files import table_files
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.files import refuse_lfs_pointer

SUFFIX = ".arrow"
_RANDOM_ACCESS = b"ARROW1"


class ArrowRows(FileRows):
    """The rows of Arrow files.

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
        root = existing(path)
        files = table_files(root, SUFFIX, split, whole=True) if root.is_dir() else [root]
        if not files:
            raise DataError(f"{path}: no Arrow files in it")
        super().__init__(path, files)

    def _open(self, file: epath.Path) -> AbstractContextManager[Any]:
        return _reader(file)

    def _names(self, reader: Any) -> list[str]:
        return list(reader.schema.names)

    def _count(self, reader: Any) -> int:
        return sum(batch.num_rows for batch in _batches(reader))

    def _read(
        self, reader: Any, start: int, wanted: Sequence[int], columns: list[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for batch in _batches(reader):
            yield from rows_of(batch.select(columns or reader.schema.names), start, wanted)
            start += batch.num_rows
            if start > wanted[-1]:
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
