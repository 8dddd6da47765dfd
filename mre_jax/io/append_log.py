"""A file of JSON lines that only grows, and that a killed writer leaves readable.

Every record is one write. A last line without its line end is what a killed writer left: readers
pass over it, and the next writer cuts it off.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from etils import epath

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.files import full_disk_is_an_error, locked
from mre_jax.io.json_file import to_line


class AppendLog:
    """The one writer of such a file, as a context manager.

    Args:
        path: of the file, on a local disk; it is made if it is not there.
        load: takes in what is there, on entering; if it fails the file is let go.

    Raises:
        ConfigError: for a bucket's path, which cannot be appended to, or a folder.
        BusyError: on entering, if another process holds the file.
        DataError: if it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], load: Callable[[], None] = lambda: None):
        if "://" in str(path):
            raise ConfigError(f"{path}: a bucket's files cannot grow; give a path on a local disk")
        self.path = Path(path)
        self._load = load
        self._descriptor = -1
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self.path.is_dir():
            raise ConfigError(f"{self.path}: a folder, where a file is wanted")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stack.enter_context(locked(self.path.parent, f".{self.path.name}.lock"))
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self.path, flags, 0o644)
        except OSError as error:
            self._stack.close()
            raise DataError(f"{self.path}: {error.strerror}; mend that or give another") from None
        self._stack.callback(os.close, self._descriptor)
        try:
            self._cut_torn_line()
            self._load()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def append(self, record: Mapping[str, Any]) -> int:
        """Writes one record; returns the offset of its line.

        Raises:
            DataError: if the disk is full; nothing of the record stays.
        """
        line = to_line(record).encode()
        offset = os.fstat(self._descriptor).st_size
        with full_disk_is_an_error(self.path):
            try:
                written = os.write(self._descriptor, line)
                while written < len(line):
                    written += os.write(self._descriptor, line[written:])
            except OSError:
                os.ftruncate(self._descriptor, offset)
                raise
        return offset

    def read(self, offset: int) -> dict[str, Any]:
        """The record at an offset that `append` or `records` gave."""
        data = b""
        while b"\n" not in data:
            part = os.pread(self._descriptor, 1 << 16, offset + len(data))
            if not part:
                break
            data += part
        return _parse(data.partition(b"\n")[0], f"{self.path}: byte {offset}")

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """All records with the offsets of their lines; see `read_records`."""
        return read_records(self.path)

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        end = size
        while end > 0:
            start = max(0, end - (1 << 16))
            found = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._descriptor, end)


def read_records(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the records of such a file, also while it is written, with the offsets of their lines.

    Raises:
        DataError: if it is missing, or naming the line that is no JSON object.
    """
    try:
        with epath.Path(path).open("rb") as file:
            offset = 0
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield offset, _parse(line, f"{path}:{number}")
                offset += len(line)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise DataError(f"{where}: not JSON; is this a journal?") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: not a JSON object; is this a journal?")
    return record
