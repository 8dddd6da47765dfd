"""A file of one JSON object a line that only grows and stays readable after a kill at any byte.

Every write ends with a line end. A last line without one is what a killed writer left: readers
pass over it, and the next writer cuts it off. A bucket's objects cannot grow: there the whole file
is written again now and then.
"""

import codecs
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from etils import epath

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.files import full_disk_is_an_error, locked, write_atomically
from mre_jax.io.json_file import parse_row, to_line

UPLOAD_SECONDS = 30.0
"""How often a bucket's file is written again; a kill loses what came since."""

_BLOCK = 1 << 16


class Line(NamedTuple):
    """An object of such a file.

    Attributes:
        where: its place for messages, "path:number".
        offset: bytes before it.
        row: the object.
    """

    where: str
    offset: int
    row: dict[str, Any]


class GrowingFile:
    """The one writer of such a file, as a context manager.

    Args:
        path: the file; made if it is not there.
        read: takes every line that is there, on entering; the file is let go if it fails.
        lock: refuses a second writer; without it the caller sees to it that there is none.
        bucket: takes a bucket's path too, if a kill may lose the rows of `UPLOAD_SECONDS`.

    Raises:
        ConfigError: for a folder, or for a bucket's path that is not taken.
        BusyError: on entering, if another process holds the file.
        DataError: on entering, if it cannot be opened.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with GrowingFile(f"{folder}/rows.jsonl") as file:
        ...         place = file.append({"step": 1})
        ...     [line.row for line in read_growing(file.path)]
        [{'step': 1}]
    """

    def __init__(
        self,
        path: epath.PathLike,
        read: Callable[[Line], object] | None = None,
        *,
        lock: bool = True,
        bucket: bool = False,
    ):
        self._remote = "://" in str(path)
        if self._remote and not bucket:
            raise ConfigError(f"{path}: a bucket's files cannot grow; give a path on a local disk")
        self.path = epath.Path(path)
        self._take, self._lock = read, lock
        self._stack = contextlib.ExitStack()
        self._descriptor = -1
        self._whole, self._uploaded, self._pending = b"", 0.0, False

    def __enter__(self) -> Self:
        if self._remote:
            self._whole = _complete(self.path.read_bytes()) if self.path.exists() else b""
            self._uploaded = time.monotonic()
        else:
            self._open()
        try:
            if self._take is not None:
                for line in self.lines():
                    self._take(line)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        with self._stack:
            if self._remote:
                self.flush()

    def append(self, *rows: Mapping[str, Any]) -> int:
        """Writes rows in one piece; returns the offset of the first.

        Raises:
            DataError: if the disk is full; nothing of the rows stays.
            ValueError: for a number that is not finite; see `plain`.
        """
        data = "".join(map(to_line, rows)).encode()
        if self._remote:
            offset = len(self._whole)
            self._whole += data
            self._pending = True
            if time.monotonic() - self._uploaded > UPLOAD_SECONDS:
                self.flush()
            return offset
        offset = os.fstat(self._descriptor).st_size
        with full_disk_is_an_error(self.path):
            try:
                written = 0
                while written < len(data):
                    written += os.write(self._descriptor, data[written:])
            except OSError:
                os.ftruncate(self._descriptor, offset)
                raise
        return offset

    def flush(self) -> None:
        """Has what was appended outlive the machine: on the disk itself, or in the bucket.

        Raises:
            DataError: if the disk is full.
        """
        if not self._remote:
            with full_disk_is_an_error(self.path):
                os.fsync(self._descriptor)
        elif self._pending:
            write_atomically(self.path, self._whole)
            self._uploaded, self._pending = time.monotonic(), False

    def read(self, offset: int) -> dict[str, Any]:
        """The row at an offset that `append` or `lines` gave, of a file on a disk."""
        data = b""
        while b"\n" not in data:
            part = os.pread(self._descriptor, _BLOCK, offset + len(data))
            if not part:
                break
            data += part
        return parse_row(data.partition(b"\n")[0], f"{self.path}: byte {offset}")

    def lines(self) -> Iterator[Line]:
        """All that is in the file; see `read_growing`."""
        return read_growing(self.path)

    def _open(self) -> None:
        if self.path.is_dir():
            raise ConfigError(f"{self.path}: a folder, where a file is wanted")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._lock:
                self._stack.enter_context(locked(self.path.parent, f".{self.path.name}.lock"))
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self.path, flags, 0o644)
            self._stack.callback(os.close, self._descriptor)
            self._cut_torn_line()
        except OSError as error:
            self._stack.close()
            raise DataError(f"{self.path}: {error.strerror}; mend that or give another") from None

    def _cut_torn_line(self) -> None:
        size = end = os.fstat(self._descriptor).st_size
        while end > 0:
            start = max(0, end - _BLOCK)
            found = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            end = start + found + 1
            if found >= 0:
                break
        if end < size:
            os.ftruncate(self._descriptor, end)


def read_growing(path: epath.PathLike) -> Iterator[Line]:
    """Yields the rows of such a file, also while it is written; blank lines do not count.

    Args:
        path: the file, on a disk or in a bucket.

    Raises:
        DataError: if it is missing or cannot be read, or naming the line that is no object.
    """
    try:
        with epath.Path(path).open("rb") as file:
            offset = 0
            for number, line in enumerate(file, 1):
                text = line if offset else line.removeprefix(codecs.BOM_UTF8)
                if line.endswith(b"\n") and text.strip():
                    where = f"{path}:{number}"
                    yield Line(where, offset, parse_row(text, where))
                offset += len(line)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def rows_so_far(path: epath.PathLike) -> list[dict[str, Any]]:
    """All rows of `read_growing`; none if the file is not there yet."""
    return [line.row for line in read_growing(path)] if epath.Path(path).exists() else []


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite are None, arrays of one are numbers."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic | np.ndarray) or hasattr(value, "addressable_shards"):
        value = np.asarray(value).item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _complete(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]
