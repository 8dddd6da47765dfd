"""TensorBoard's event files, written without TensorFlow: scalars and pictures.

A file is a TFRecord of `Event` messages (tensorflow/core/util/event.proto), which are few and
small enough to be put together here, field by field. An event is on the disk when it is added:
tensorboardX's thread, of 2.6.5, loses up to two minutes to a kill, and a full disk ends the thread,
after which its queue of ten blocks the run for ever.
"""

import io
import itertools
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from mre_jax.errors import ConfigError
from mre_jax.io.files import full_disk_is_an_error, write_atomically

# A bucket's objects cannot grow: there a new file follows, this often.
UPLOAD_SECONDS = 60.0

_ids = itertools.count()


class EventFile:
    """What this process adds to a folder that TensorBoard watches.

    Args:
        folder: local or `gs://...`; it exists.
        start: steps from `start` on that are in the folder already are no longer shown.

    Raises:
        ConfigError: if the extra `data`, which frames the records, is missing.
    """

    def __init__(self, folder: epath.PathLike, start: int = 0):
        _require_framing()
        self._folder = epath.Path(folder)
        self._remote = "://" in str(folder)
        self._begin()
        self._add(_string(3, b"brain.Event:2"))
        # SessionLog.START, at which TensorBoard drops later steps of an earlier process.
        self._add(_number(2, start) + _string(7, _number(1, 1)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds numbers; one that is not finite is shown as such."""
        summary = b"".join(
            _string(1, _string(1, tag.encode()) + _float(2, value)) for tag, value in values.items()
        )
        self._add(_number(2, step) + _string(5, summary))

    def image(self, step: int, tag: str, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """Adds a picture."""
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        height, width, channels = pixels.shape
        image = _number(1, height) + _number(2, width) + _number(3, channels)
        image += _string(4, png.getvalue())
        value = _string(1, tag.encode()) + _string(4, image)
        self._add(_number(2, step) + _string(5, _string(1, value)))

    def close(self) -> None:
        """Writes what is left."""
        self._upload()

    def _begin(self) -> None:
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}"
        self._path = self._folder / f"{name}.{os.getpid()}.{next(_ids):06d}"
        self._pending = b""
        self._begun = time.monotonic()

    def _add(self, fields: bytes) -> None:
        from mre_jax.data.records.tfrecord import write_records

        record = io.BytesIO()
        write_records(record, [_double(1, time.time()) + fields])
        if self._remote:
            self._pending += record.getvalue()
            if time.monotonic() - self._begun > UPLOAD_SECONDS:
                self._upload()
                self._begin()
            return
        with full_disk_is_an_error(self._path), self._path.open("ab") as file:
            file.write(record.getvalue())

    def _upload(self) -> None:
        if self._pending:
            write_atomically(self._path, self._pending)
            self._pending = b""


def _require_framing() -> None:
    try:
        import google_crc32c  # noqa: F401
    except ImportError:
        raise ConfigError(
            "log.tensorboard needs google-crc32c: pip install -e '.[data]', or set "
            "log.tensorboard=false"
        ) from None


# Protocol buffers' encoding: a key (field number and wire type), then the value.
def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    # NumPy rounds what float32 cannot hold to infinity, where struct raises.
    with np.errstate(over="ignore"):
        return _varint(field << 3 | 5) + bytes(np.float32(value).astype("<f4").tobytes())


def _string(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    return bytes(_sevens(value))


def _sevens(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
