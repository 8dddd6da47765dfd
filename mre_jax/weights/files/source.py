"""Where tensors come from: named arrays in PyTorch's layout, described first and read one by one.

A source never holds more than the tensor it was last asked for, so that a conversion needs the
memory of one tensor, whatever the size of the file.
"""

import abc
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from mre_jax.errors import DataError
from mre_jax.io.files import refuse_lfs_pointer
from mre_jax.weights.files import torch_legacy as legacy
from mre_jax.weights.files.torch_zip import PickledCheckpoint


class TensorInfo(NamedTuple):
    """What is known of a tensor before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Elements of the tensor."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in a file."""
        return self.size * self.dtype.itemsize


class TensorSource(abc.ABC):
    """Named tensors that are read on demand.

    Attributes:
        origin: what an error message calls this source, normally the file's path.
        tensors: name to shape and dtype, in the order of the file.
    """

    origin: str
    tensors: Mapping[str, TensorInfo]

    @abc.abstractmethod
    def read(self, name: str) -> np.ndarray:
        """The tensor `name`, C-contiguous, with the shape and dtype of `tensors[name]`."""


class SafetensorsFile(TensorSource):
    """One `.safetensors` file.

    Attributes:
        metadata: the texts in its header.

    Raises:
        DataError: when the file is missing, truncated, has a damaged header, or holds a dtype that
            no model here uses.
    """

    def __init__(self, path: Path):
        self.origin = str(path)
        self._path = path
        try:
            # Opening checks the whole header: sizes, gaps, overlaps and the length of the file.
            with safe_open(path, framework="numpy") as file:
                slices = {name: file.get_slice(name) for name in file.offset_keys()}
                self.metadata: Mapping[str, str] = file.metadata() or {}
            end = path.stat().st_size
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"{path} is not a readable safetensors file ({error}); fetch it again"
            ) from error
        dtypes = {name: stored.get_dtype() for name, stored in slices.items()}
        foreign = sorted(set(dtypes.values()) - _NAMED_DTYPES.keys())
        if foreign:
            raise DataError(
                f"{path} holds tensors of dtype {', '.join(foreign)}, which are not supported; "
                "save them as float32, float16 or bfloat16"
            )
        self.tensors = {
            name: TensorInfo(tuple(stored.get_shape()), _NAMED_DTYPES[dtypes[name]])
            for name, stored in slices.items()
        }
        # The tensors fill the rest of the file in this order.
        sizes = [info.nbytes for info in self.tensors.values()]
        starts = itertools.accumulate(sizes, initial=end - sum(sizes))
        self._starts = dict(zip(self.tensors, starts, strict=False))

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`, read and not mapped: a map would hold the whole file in memory."""
        info = self.tensors[name]
        flat = np.fromfile(self._path, info.dtype, info.size, offset=self._starts[name])
        return flat.reshape(info.shape)


class ShardedTensors(TensorSource):
    """Several weight files, safetensors or pickled, under one `*.index.json`.

    Raises:
        DataError: when the index is damaged, names a file that is missing or outside its folder,
            or a shard does not hold exactly the tensors that the index puts there.
    """

    def __init__(self, index: Path):
        self.origin = str(index)
        placed = self._placed(index)
        self._shards = {
            shard: open_tensors(index.parent / shard) for shard in sorted(set(placed.values()))
        }
        for shard, file in self._shards.items():
            listed = {name for name, place in placed.items() if place == shard}
            if listed != set(file.tensors):
                raise DataError(
                    f"{index} and {shard} disagree about {sorted(listed ^ set(file.tensors))[:3]}; "
                    "fetch the whole set of shards again"
                )
        self._placed_in = placed
        self.tensors = {name: self._shards[shard].tensors[name] for name, shard in placed.items()}

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        return self._shards[self._placed_in[name]].read(name)

    @staticmethod
    def _placed(index: Path) -> dict[str, str]:
        try:
            placed = json.loads(index.read_text())["weight_map"]
            names = set(placed.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{index} is not a readable index of shards ({error})") from error
        for name in names:
            if not isinstance(name, str) or Path(name).name != name:
                raise DataError(f"{index} names the shard {name!r}, which is outside its folder")
            if not (index.parent / name).is_file():
                raise DataError(f"{index} names the shard {name}, which is missing; fetch it again")
            if name.endswith(".json"):
                raise DataError(f"{index} names the shard {name}, which is no weight file")
        return placed


class PickledFile(TensorSource):
    """One PyTorch `.bin`, `.pt` or `.ckpt` file, read without executing anything in it.

    Raises:
        DataError: when the file is damaged, or asks to call something.
    """

    def __init__(self, path: Path):
        self.origin = str(path)
        is_legacy = _start(path).startswith(legacy.MAGIC)
        self._checkpoint: PickledCheckpoint | legacy.LegacyCheckpoint = (
            legacy.LegacyCheckpoint(path) if is_legacy else PickledCheckpoint(path)
        )
        self.tensors = {
            name: TensorInfo(tensor.shape, tensor.storage.dtype)
            for name, tensor in self._checkpoint.tensors.items()
        }

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        return self._checkpoint.read(self._checkpoint.tensors[name])


class Change(NamedTuple):
    """A tensor that is stored in one shape and wanted in another."""

    shape: tuple[int, ...]
    apply: Callable[[np.ndarray], np.ndarray]


class View(TensorSource):
    """Some tensors of another source, under other names.

    Args:
        source: the source behind this one.
        names: the name here to the name there.
        changes: by the name here, what becomes of the array on the way.

    Attributes:
        names: names that were given.
    """

    def __init__(
        self,
        source: TensorSource,
        names: Mapping[str, str],
        changes: Mapping[str, Change] | None = None,
    ):
        self.origin = source.origin
        self.names = names
        self._source, self._changes = source, changes or {}
        self.tensors = {name: self._described(name) for name in names}

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        array = self._source.read(self.names[name])
        if name in self._changes:
            array = np.asarray(self._changes[name].apply(array), order="C")
        return array

    def _described(self, name: str) -> TensorInfo:
        info = self._source.tensors[self.names[name]]
        change = self._changes.get(name)
        return info if change is None else TensorInfo(change.shape, info.dtype)


class Joined(TensorSource):
    """The tensors of several sources as those of one.

    Raises:
        DataError: when two of them hold the same name.
    """

    def __init__(self, sources: Sequence[TensorSource]):
        self.origin = " and ".join(str(source.origin) for source in sources)
        self._sources: dict[str, TensorSource] = {}
        for source in sources:
            for name in source.tensors:
                if name in self._sources:
                    raise DataError(f"{self.origin}: both hold {name}; keep one of the files")
                self._sources[name] = source
        self.tensors = {name: source.tensors[name] for name, source in self._sources.items()}

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        return self._sources[name].read(name)


class Cast(TensorSource):
    """Another source with its floating-point tensors in `dtype`; too large values become inf."""

    def __init__(self, source: TensorSource, dtype: np.dtype):
        self.origin = source.origin
        self._source = source
        self.tensors = {
            name: TensorInfo(info.shape, dtype if is_floating(info.dtype) else info.dtype)
            for name, info in source.tensors.items()
        }

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._source.read(name).astype(self.tensors[name].dtype, copy=False)


def renamed(source: TensorSource, rule: Callable[[str], str | None]) -> View:
    """`source` with every name replaced by `rule(name)`, without the tensors where that is None.

    Raises:
        DataError: when two tensors would get the same name.
    """
    names: dict[str, str] = {}
    for stored in source.tensors:
        name = rule(stored)
        if name is None:
            continue
        if name in names:
            raise DataError(
                f"{source.origin} holds {name} twice, as {names[name]} and as {stored}; "
                "keep one of them"
            )
        names[name] = stored
    return View(source, names)


def open_tensors(path: Path) -> TensorSource:
    """The source for a weight file, recognised by its first bytes, since people rename files.

    Raises:
        DataError: when it is neither safetensors nor a PyTorch file, or is damaged, or is another
            thing under such a name: a Git LFS pointer, an empty file, a server's answer.
    """
    if path.suffix == ".json" and ".index." in path.name:
        return ShardedTensors(path)
    suffix = path.suffix.lower()
    if suffix not in WEIGHT_SUFFIXES:
        raise DataError(
            f"{path} is not a weight file: expected a name that ends in .safetensors, "
            f".index.json, {', '.join(PICKLED_SUFFIXES)}"
        )
    _refuse_impostor(path)
    start = _start(path)
    if start.startswith((_ZIP, legacy.MAGIC)):
        return PickledFile(path)
    # After the length of a safetensors file's header there is its JSON.
    if suffix == ".safetensors" or start[8:9] == b"{":
        return SafetensorsFile(path)
    return PickledFile(path)


def is_floating(dtype: np.dtype) -> bool:
    """Whether `dtype` is a real floating-point type, bfloat16 included."""
    return dtype.kind == "f" or dtype == BFLOAT16


def _refuse_impostor(path: Path) -> None:
    """Refuses text where weights should be; what is missing is left to who opens it."""
    refuse_lfs_pointer(path)
    if not path.is_file():
        return
    start = _start(path)
    if not start:
        raise DataError(f"{path} is empty; fetch it again")
    text = " ".join(start.decode("latin-1").split())
    if text.isprintable() and text.isascii():
        is_page = text.lower().startswith(("<!doctype html", "<html"))
        what = "an HTML page" if is_page else f"text ({text[:40]!r})"
        raise DataError(f"{path} is {what} and no weights; fetch it again")


def _start(path: Path) -> bytes:
    """The first bytes of a file; none of one that is not there."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(64)


_ZIP = b"PK\x03\x04"
PICKLED_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
WEIGHT_SUFFIXES = (*PICKLED_SUFFIXES, ".safetensors")

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

# How safetensors calls them.
DTYPES = {
    np.dtype(np.float64): "F64",
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    BFLOAT16: "BF16",
    np.dtype(np.int64): "I64",
    np.dtype(np.int32): "I32",
    np.dtype(np.int16): "I16",
    np.dtype(np.int8): "I8",
    np.dtype(np.uint8): "U8",
    np.dtype(np.bool_): "BOOL",
}
_NAMED_DTYPES = {name: dtype for dtype, name in DTYPES.items()}
