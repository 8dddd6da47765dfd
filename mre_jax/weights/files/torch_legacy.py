"""PyTorch's files from before version 1.6, read without PyTorch and without trust.

The weights that are published for older networks are such files. One is five pickles in a row
(a magic number, a version, the machine's byte order, the state dict, the keys of its storages),
then each storage: its number of elements in 8 bytes, and its bytes. The pickles go through
`mre_jax.weights.files.unpickle`, which executes nothing. There is no checksum.
"""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np

from mre_jax.errors import DataError
from mre_jax.weights.files.torch_zip import require_inside, state_dict, window
from mre_jax.weights.files.unpickle import Storage, StoredTensor, unpickle

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What such a file begins with: its first pickle."""


class LegacyCheckpoint:
    """The tensors of one file, as those of `PickledCheckpoint`.

    Attributes:
        tensors: name to a description of the tensor.

    Raises:
        DataError: when the file is damaged, of another byte order, or is refused.
    """

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            head = io.BytesIO(file.read(_PROGRAM_LIMIT))
        _, version, machine, root, keys = (unpickle(head, str(path)) for _ in range(5))
        if version != _VERSION or not isinstance(machine, dict):
            raise DataError(f"{path} is of an unknown version of PyTorch's older format")
        if machine.get("little_endian") is not True:
            raise DataError(f"{path} was saved with another byte order than little-endian")
        self.tensors = state_dict(root, path)
        self._starts = self._storages(keys, head.tell())
        for name, tensor in self.tensors.items():
            _, size = self._starts.get(tensor.storage.key, (0, 0))
            require_inside(path, name, tensor, size)

    def read(self, tensor: StoredTensor) -> np.ndarray:
        """The array that `tensor` describes, C-contiguous."""
        start, _ = self._starts[tensor.storage.key]
        return window(self.path, start, tensor)

    def _storages(self, keys: Any, start: int) -> dict[str, tuple[int, int]]:
        """Where the bytes of each storage are, and how many: only its tensors tell its dtype."""
        used = {tensor.storage.key: tensor.storage for tensor in self.tensors.values()}
        places: dict[str, tuple[int, int]] = {}
        total = self.path.stat().st_size
        with self.path.open("rb", buffering=0) as file:  # 8 bytes here and there
            for key in keys if isinstance(keys, list) else ():
                storage = used.get(key) if isinstance(key, str) else None
                if storage is None:
                    raise DataError(
                        f"{self.path} holds more than a state dict, which is not read from "
                        "PyTorch's format before 1.6; save its tensors as safetensors where you "
                        "trust it"
                    )
                file.seek(start)
                size = self._size(storage, file.read(8))
                places[key] = (start + 8, size)
                start += 8 + size
        if start > total:
            raise DataError(f"{self.path} is truncated; fetch it again")
        return places

    def _size(self, storage: Storage, written: bytes) -> int:
        if len(written) != 8:
            raise DataError(f"{self.path} is truncated; fetch it again")
        (count,) = struct.unpack("<q", written)
        if count != storage.size:
            raise DataError(f"{self.path} is damaged: a storage is not as long as it says")
        return count * storage.dtype.itemsize


_VERSION = 1001
_PROGRAM_LIMIT = 1 << 24
