"""A file of one JSON object a line that only grows, and stays readable after a kill at any byte."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from mre_jax.errors import DataError
from mre_jax.io.files import full_disk_is_an_error, write_atomically

# A bucket's objects cannot grow: there the whole file is written again, this often.
UPLOAD_SECONDS = 30.0


class JsonLines:
    """The file, open for appending. On opening, what a killed process left of a line is dropped.

    Args:
        path: local, or `gs://...`, where a kill loses the rows of the last `UPLOAD_SECONDS`.
    """

    def __init__(self, path: epath.PathLike):
        self.path = epath.Path(path)
        whole = _whole_lines(self.path)
        self._lines = whole if "://" in str(path) else None
        self._uploaded = time.monotonic()
        self._pending = False
        if self._lines is None and self.path.exists():
            with self.path.open("ab") as file:
                file.truncate(len(whole))

    def append(self, row: Mapping[str, Any]) -> None:
        """Writes one line. Numbers that are not finite become null; arrays of one are numbers.

        Raises:
            DataError: if the disk is full.
        """
        line = (json.dumps(_plain(row), allow_nan=False) + "\n").encode()
        if self._lines is None:
            with full_disk_is_an_error(self.path), self.path.open("ab") as file:
                file.write(line)
            return
        self._lines += line
        self._pending = True
        if time.monotonic() - self._uploaded > UPLOAD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Brings a bucket's file up to date; on a disk every line is there already."""
        if self._lines is not None and self._pending:
            write_atomically(self.path, self._lines)
            self._uploaded = time.monotonic()
            self._pending = False


def read_json_lines(path: epath.PathLike) -> list[dict[str, Any]]:
    """The rows of a file that may be growing or have been left by a kill; none if it is not there.

    Raises:
        DataError: naming a line that is no object, other than an unfinished last one.
    """
    rows = []
    for number, line in enumerate(_whole_lines(epath.Path(path)).splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number} is no JSON object; remove that line")
        rows.append(row)
    return rows


def _whole_lines(path: epath.Path) -> bytes:
    if not path.exists():
        return b""
    data = bytes(path.read_bytes())
    return data[: data.rfind(b"\n") + 1]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic | np.ndarray) or hasattr(value, "addressable_shards"):
        value = np.asarray(value).item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
