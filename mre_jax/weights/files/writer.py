"""Writing `.safetensors` tensor by tensor, with the memory of one.

The format is 8 bytes with the header's length, a JSON header of names, dtypes, shapes and offsets,
then the data without gaps (https://huggingface.co/docs/safetensors). Since shapes are known before
any tensor is read, the header goes first and the rest is appended.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from mre_jax.io.files import open_atomically
from mre_jax.io.json_file import to_bytes
from mre_jax.io.tensor_hash import as_bytes
from mre_jax.weights.files.source import DTYPES, TensorInfo


def canonical_order(tensors: Mapping[str, TensorInfo]) -> list[str]:
    """The order in a file: wide dtypes first, so that each tensor is aligned, then by name."""
    return sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))


def write_safetensors(
    path: Path,
    tensors: Mapping[str, TensorInfo],
    arrays: Iterable[tuple[str, np.ndarray]],
) -> str:
    """Write `arrays`, which come in `canonical_order(tensors)`, to `path`; return its SHA-256.

    The file appears under its name only when it is complete and on the disk.

    Raises:
        DataError: when the disk is full.
        ValueError: when `arrays` are not what `tensors` announces.
    """
    order = canonical_order(tensors)
    digest = hashlib.sha256()
    with open_atomically(path) as file:
        for piece in _pieces(tensors, order, arrays):
            file.write(piece)
            digest.update(piece)
            del piece  # else it would stay in memory while the next is read
    return digest.hexdigest()


def write_weights(
    path: Path,
    tensors: Mapping[str, TensorInfo],
    arrays: Iterable[tuple[str, np.ndarray]],
    *,
    shard_size: int = 5 * 10**9,
) -> dict[Path, str]:
    """As `write_safetensors`, in shards beside `path` with their index if it would be larger.

    Args:
        path: the name of a single file, `NAME.safetensors`.
        shard_size: bytes of tensors in a file, but for a tensor that is larger by itself.

    Returns:
        SHA-256 by path of the files with tensors.
    """
    shards: list[list[str]] = [[]]
    filled = 0
    for name in canonical_order(tensors):
        size = tensors[name].nbytes
        if shards[-1] and filled + size > shard_size:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    if len(shards) == 1:
        return {path: write_safetensors(path, tensors, arrays)}
    written: dict[Path, str] = {}
    placed: dict[str, str] = {}
    stream = iter(arrays)
    for number, names in enumerate(shards, 1):
        place = path.with_name(f"{path.stem}-{number:05}-of-{len(shards):05}{path.suffix}")
        part = {name: tensors[name] for name in names}
        written[place] = write_safetensors(place, part, itertools.islice(stream, len(names)))
        placed |= dict.fromkeys(names, place.name)
    # The stream ends with what it found wrong.
    if (left := next(stream, None)) is not None:
        raise ValueError(f"the tensor {left[0]} was not announced")
    total = sum(info.nbytes for info in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    with open_atomically(path.with_name(f"{path.name}.index.json")) as file:
        file.write(to_bytes(index))
    return written


def _pieces(
    tensors: Mapping[str, TensorInfo],
    order: list[str],
    arrays: Iterable[tuple[str, np.ndarray]],
) -> Iterator[bytes | memoryview]:
    header = _header(tensors, order)
    yield len(header).to_bytes(8, "little") + header
    expected = iter(order)
    for name, array in arrays:
        if name != next(expected, None) or TensorInfo(array.shape, array.dtype) != tensors[name]:
            raise ValueError(f"the tensor {name} came out of turn or with another shape")
        yield as_bytes(array)
        del array
    for name in expected:
        raise ValueError(f"the tensor {name} was announced and did not come")


def _header(tensors: Mapping[str, TensorInfo], order: list[str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in order:
        info = tensors[name]
        entries[name] = {
            "dtype": DTYPES[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [offset, offset + info.nbytes],
        }
        offset += info.nbytes
    header = json.dumps(entries, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8)
