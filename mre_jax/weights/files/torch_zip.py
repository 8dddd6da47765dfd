"""PyTorch's zip checkpoints (`.bin`, `.pt`, `.ckpt`), read without PyTorch and without trust.

Such a file is a zip archive of uncompressed members: `<name>/data.pkl`, the pickle of a state dict
whose tensors are references, and one `<name>/data/<key>` per storage. The pickle goes through
`unpickle`, which executes nothing; the storages are read by their offset.
"""

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mre_jax.errors import DataError
from mre_jax.weights.files.unpickle import StoredTensor, unpickle


class PickledCheckpoint:
    """The tensors of one file.

    Where the file holds a dict with an entry `state_dict` (as training checkpoints do), the
    tensors are that entry's; otherwise they are the top level's.

    Attributes:
        tensors: name to a description of the tensor.

    Raises:
        DataError: when the file is no zip checkpoint, is damaged, or is refused.
    """

    def __init__(self, path: Path):
        self.path = path
        self._members = _members(path)
        programs = [name for name in self._members if name.split("/", 1)[-1] == "data.pkl"]
        if len(programs) != 1:
            raise DataError(f"{path} holds {len(programs)} members data.pkl, not 1")
        self._folder = programs[0].removesuffix("data.pkl")
        self._require_little_endian()
        program = self._members[programs[0]]
        if program.size > _PROGRAM_LIMIT:
            raise DataError(f"{path}: its data.pkl of {program.size} bytes is not a state dict's")
        self._verified: set[str] = set()
        self._verify(programs[0])
        self.tensors = state_dict(unpickle(io.BytesIO(self._bytes(program)), str(path)), path)
        for name, tensor in self.tensors.items():
            member = self._members.get(f"{self._folder}data/{tensor.storage.key}")
            if member is None:
                raise DataError(f"{path} lacks the data of {name}; fetch it again")
            require_inside(path, name, tensor, member.size)

    def read(self, tensor: StoredTensor) -> np.ndarray:
        """The array that `tensor` describes, C-contiguous."""
        name = f"{self._folder}data/{tensor.storage.key}"
        member = self._members[name]
        flat = _spanned(self.path, member.start, tensor)
        if flat.nbytes == member.size:  # most tensors are a whole member: it is read once
            self._check(name, zlib.crc32(flat.view(np.uint8).data))
        else:
            self._verify(name)
        return _strided(flat, tensor)

    def _require_little_endian(self) -> None:
        order = self._members.get(f"{self._folder}byteorder")
        if order is not None and self._bytes(order) != b"little":
            raise DataError(f"{self.path} was saved with another byte order than little-endian")

    def _bytes(self, member: "_Member") -> bytes:
        with self.path.open("rb") as file:
            file.seek(member.start)
            return file.read(member.size)

    def _verify(self, name: str) -> None:
        """Compare a member with the checksum of the archive, once."""
        member = self._members[name]
        if name in self._verified:
            return
        checksum, left = 0, member.size
        with self.path.open("rb") as file:
            file.seek(member.start)
            while left > 0:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    break
                checksum, left = zlib.crc32(piece, checksum), left - len(piece)
        self._check(name, checksum)

    def _check(self, name: str, checksum: int) -> None:
        # 0 means that none was saved.
        if self._members[name].checksum not in (0, checksum):
            raise DataError(
                f"{self.path} is damaged: {name!r} does not have the checksum that was saved with "
                "it; fetch the file again"
            )
        self._verified.add(name)


class _Member(NamedTuple):
    start: int
    size: int
    checksum: int


def _members(path: Path) -> dict[str, _Member]:
    """The members of the archive by name, each uncompressed, inside the file, and apart."""
    try:
        with path.open("rb") as file:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
            members = {entry.filename: _member(file, entry, path) for entry in entries}
    except (OSError, zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} is not a readable PyTorch file ({error}); fetch it again"
        ) from error
    if len(members) != len(entries):
        raise DataError(f"{path} holds two members of the same name")
    end = 0
    for name, member in sorted(members.items(), key=lambda item: item[1].start):
        if member.start < end:
            raise DataError(f"{path}: its member {name!r} overlaps another")
        end = member.start + member.size
    if end > path.stat().st_size:
        raise DataError(f"{path} is truncated; fetch it again")
    return members


def _member(file, entry: zipfile.ZipInfo, path: Path) -> _Member:
    stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
    if not stored or entry.flag_bits & _ENCRYPTED:
        raise DataError(
            f"{path}: its member {entry.filename!r} is compressed or encrypted, which PyTorch "
            "never does; refused"
        )
    file.seek(entry.header_offset)
    signature, name_length, extra_length = struct.unpack("<4s22xHH", file.read(30))
    if signature != b"PK\x03\x04":
        raise DataError(f"{path} is damaged: no member where its directory has {entry.filename!r}")
    start = entry.header_offset + 30 + name_length + extra_length
    return _Member(start, entry.file_size, entry.CRC)


def state_dict(root: object, path: Path) -> dict[str, StoredTensor]:
    """The tensors in what a file's pickle describes, however deep its dicts are nested.

    Trainers wrap the tensors of a network, under `state_dict`, `model`, `module` or another name,
    beside the state of an optimizer and a few numbers that may be tensors too. Those of a dict
    `state_dict` go before all others. Otherwise those are taken of which there are more: the
    root's own, or those in its entries, and with several such entries a name says which.

    Raises:
        DataError: when there are none, or the strength of a LoRA is no tensor.
    """
    if not isinstance(root, dict):
        raise DataError(f"{path} holds no dict of tensors; save a state dict of its model")
    if not root.keys().isdisjoint(_HYPERNETWORK):
        raise DataError(f"{path} is a hypernetwork, which this program does not use")
    try:
        tensors = _tensors(root, set(), path)
    except RecursionError:
        raise DataError(f"{path} holds dicts within dicts without end; refused") from None
    if not tensors:
        raise DataError(f"{path} holds no tensors with names, neither at its top level nor inside")
    return tensors


def _tensors(value: dict, seen: set[int], path: Path) -> dict[str, StoredTensor]:
    """The tensors of a dict by name; a dict that is met again, as in a circle, has none."""
    if id(value) in seen:
        return {}
    seen.add(id(value))
    named = {name: item for name, item in value.items() if isinstance(name, str)}
    own = {name: item for name, item in named.items() if isinstance(item, StoredTensor)}
    for name in named.keys() - own.keys():
        if name.endswith(".alpha"):
            raise DataError(f"{path}: {name} is a plain number; save it as a tensor")
    dicts = {name: item for name, item in named.items() if isinstance(item, dict)}
    inner = {name: found for name, item in dicts.items() if (found := _tensors(item, seen, path))}
    if "state_dict" in inner:
        return inner["state_dict"]
    if sum(map(len, inner.values())) <= len(own):
        return own
    if len(inner) == 1:
        return next(iter(inner.values()))
    return {
        f"{name}.{key}": tensor for name, found in inner.items() for key, tensor in found.items()
    }


def window(path: Path, start: int, tensor: StoredTensor) -> np.ndarray:
    """The array that `tensor` describes, C-contiguous, from its storage at `start` of a file."""
    return _strided(_spanned(path, start, tensor), tensor)


def _spanned(path: Path, start: int, tensor: StoredTensor) -> np.ndarray:
    """All elements of the storage from the tensor's first to its last."""
    dtype = tensor.storage.dtype
    count = 0 if 0 in tensor.shape else _extent(tensor)
    return np.fromfile(path, dtype, count, offset=start + tensor.offset * dtype.itemsize)


def _strided(flat: np.ndarray, tensor: StoredTensor) -> np.ndarray:
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, flat.dtype)
    strides = [stride * flat.itemsize for stride in tensor.strides]
    return np.asarray(np.lib.stride_tricks.as_strided(flat, tensor.shape, strides), order="C")


def require_inside(path: Path, name: str, tensor: StoredTensor, size: int) -> None:
    """Refuses a tensor that reaches outside its storage of `size` bytes, or is much larger.

    Raises:
        DataError: naming the tensor.
    """
    itemsize = tensor.storage.dtype.itemsize
    stored = min(tensor.storage.size, size // itemsize)
    elements = int(np.prod([int(n) for n in tensor.shape], dtype=object))
    outside = elements > 0 and tensor.offset + _extent(tensor) > stored
    # A stride of 0 may repeat a stored value, but not to more than the file's own size.
    if outside or elements * itemsize > path.stat().st_size:
        raise DataError(f"{path}: the tensor {name} reaches outside its storage; fetch it again")


def _extent(tensor: StoredTensor) -> int:
    """How many elements of the storage the tensor spans, from its offset on."""
    pairs = zip(tensor.shape, tensor.strides, strict=True)
    return 1 + sum((size - 1) * stride for size, stride in pairs)


_ENCRYPTED = 0x1
# The widths of Stable Diffusion's text encoders, for each of which a hypernetwork has its layers.
_HYPERNETWORK = (320, 640, 768, 1024, 1280)
_PROGRAM_LIMIT = 1 << 28
_PIECE = 1 << 24
