"""Writing PyTorch's zip checkpoints tensor by tensor, without PyTorch.

`torch_zip` says what such a file is. Each tensor has a storage of its own, at a multiple of 64
bytes as `torch.save` puts it.
"""

import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mre_jax.io.files import open_atomically
from mre_jax.io.tensor_hash import as_bytes
from mre_jax.weights.files.source import BFLOAT16, TensorInfo


def write_torch(
    path: Path, tensors: Mapping[str, TensorInfo], arrays: Iterable[tuple[str, np.ndarray]]
) -> None:
    """Writes a state dict that `torch.load(path, weights_only=True)` reads.

    The file appears under its name only when it is complete and on the disk.

    Args:
        tensors: in their order in the state dict, float32, float16, bfloat16 or int64.
        arrays: the same names, in any order.

    Raises:
        DataError: when the disk is full.
        ValueError: when `arrays` are not what `tensors` announces.
    """
    keys = {name: str(number) for number, name in enumerate(tensors)}
    left = dict(tensors)
    with open_atomically(path) as file, zipfile.ZipFile(file, "w") as archive:
        _add(archive, "data.pkl", _program(tensors, keys))
        _add(archive, "byteorder", b"little")
        for name, array in arrays:
            if left.pop(name, None) != TensorInfo(array.shape, array.dtype):
                raise ValueError(f"the tensor {name} was not announced, or with another shape")
            _add(archive, f"data/{keys[name]}", as_bytes(array))
            del array  # else it would stay in memory while the next is read
        if left:
            raise ValueError(f"the tensor {next(iter(left))} was announced and did not come")
        _add(archive, "version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, data: bytes | memoryview) -> None:
    member = zipfile.ZipInfo(f"archive/{name}")
    member.file_size = len(data)
    is_large = len(data) > _ZIP64_FROM
    start = archive.fp.tell() + 30 + len(member.filename) + 20 * is_large + 4  # type: ignore
    padding = -start % _ALIGNMENT
    member.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)
    with archive.open(member, "w", force_zip64=is_large) as file:
        file.write(data)


def _program(tensors: Mapping[str, TensorInfo], keys: Mapping[str, str]) -> bytes:
    """The pickle of the state dict: of each tensor a call that makes it of its storage."""
    pieces = [pickle.PROTO, b"\x02", pickle.EMPTY_DICT, pickle.MARK]
    for name, (shape, dtype) in tensors.items():
        size = int(np.prod(shape, dtype=np.int64))
        strides = tuple(
            int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))
        )
        storage = [
            *(pickle.MARK, _value("storage"), _named("torch", _STORAGES[dtype])),
            *(_value(keys[name]), _value("cpu"), _value(size), pickle.TUPLE, pickle.BINPERSID),
        ]
        hooks = [_named("collections", "OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE]
        pieces += [
            *(_value(name), _named("torch._utils", "_rebuild_tensor_v2"), pickle.MARK),
            *(*storage, _value(0), _value(shape), _value(strides), pickle.NEWFALSE, *hooks),
            *(pickle.TUPLE, pickle.REDUCE),
        ]
    return b"".join([*pieces, pickle.SETITEMS, pickle.STOP])


def _value(value: str | int | tuple[int, ...]) -> bytes:
    """What puts a plain value onto the stack: its own pickle without the first and last opcode."""
    return pickle.dumps(value, 2)[2:-1]


def _named(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


_STORAGES = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    BFLOAT16: "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
}
_ALIGNMENT = 64
_ZIP64_FROM = (1 << 31) - 1
