"""Losses and speed of a run: a row of JSON for each logged step, and the same for TensorBoard."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8

from mre_jax.io.files import write_atomically
from mre_jax.io.growing_file import GrowingFile, plain, rows_so_far
from mre_jax.training.run.event_file import EventFile


class MetricsLog:
    """The log of one process that writes it. A step stands in it once, however often it was done.

    Args:
        path: the file of rows; local or `gs://...`.
        tensorboard: a folder for TensorBoard, made if it is not there; None is none.
        start: steps done when this process begins. Rows of later steps come from an earlier
            process that went on after its last checkpoint; they are dropped.

    Raises:
        ConfigError: if TensorBoard's files cannot be written here.
        DataError: if the file of rows is damaged.
    """

    def __init__(self, path: epath.PathLike, *, tensorboard: epath.PathLike | None, start: int = 0):
        _drop_after(epath.Path(path), start)
        self._rows = GrowingFile(path, lock=False, bucket=True).__enter__()
        self._events = None
        if tensorboard is not None:
            epath.Path(tensorboard).mkdir(parents=True, exist_ok=True)
            self._events = EventFile(tensorboard, start + 1)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds a row.

        Args:
            step: steps done.
            values: numbers by name, plain or arrays of one, or None; null in the row where not
                finite.
        """
        self._rows.append(plain({"step": step, **values}))
        if self._events is not None:
            numbers = {name: value for name, value in values.items() if value is not None}
            self._events.scalars(step, {k: float(np.asarray(v)) for k, v in numbers.items()})

    def image(self, step: int, name: str, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """Shows a picture in TensorBoard, if that is on."""
        if self._events is not None:
            self._events.image(step, name, pixels)

    def close(self) -> None:
        """Writes what is left."""
        self._rows.__exit__()
        if self._events is not None:
            self._events.close()


def _drop_after(path: epath.Path, start: int) -> None:
    rows = rows_so_far(path)
    kept = [row for row in rows if row.get("step", 0) <= start]
    if len(kept) < len(rows):
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
