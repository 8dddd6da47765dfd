"""How long each record of a set is, so that one in a bucket is found without a look at its shard.

    lengths-HASH.npy    bytes of each payload, in the order of the shards; HASH is the manifest's

`mre prepare` writes it beside the shards. Sets of earlier versions have none: see `RecordSource`.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Int64

from mre_jax.data.records.manifest import Manifest
from mre_jax.data.records.tfrecord import FOOTER_BYTES, HEADER_BYTES
from mre_jax.errors import DataError
from mre_jax.io.files import write_atomically

_DTYPE = "<u4"
_FRAME = HEADER_BYTES + FOOTER_BYTES


def lengths_path(folder: epath.PathLike, manifest: Manifest) -> epath.Path:
    """Where the lengths of a set lie."""
    return epath.Path(folder) / f"lengths-{manifest.hash[:16]}.npy"


def write_lengths(folder: epath.PathLike, manifest: Manifest, lengths: Iterable[int]) -> None:
    """Writes the lengths of all records of a set, whole or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([*lengths], _DTYPE))
    write_atomically(lengths_path(folder, manifest), buffer.getvalue())


def load_lengths(
    folder: epath.PathLike, manifest: Manifest
) -> list[Int64[np.ndarray, " n"]] | None:
    """The lengths of the records of each shard; None if the set has no such file.

    Raises:
        DataError: if it is damaged, or its records would not fill the shards.
    """
    path = lengths_path(folder, manifest)
    try:
        lengths: Any = np.load(io.BytesIO(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: damaged ({error}); remove it, and it is made anew") from None
    if lengths.dtype == _DTYPE and lengths.shape == (manifest.count,):
        parts = list(_by_shard(lengths.astype(np.int64), manifest))
        sizes = [int((part + _FRAME).sum()) for part in parts]
        if sizes == [shard.bytes for shard in manifest.shards]:
            return parts
    raise DataError(f"{path}: not the lengths of this set; remove it, and it is made anew")


def offsets_of(lengths: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Where each record of a shard begins, in bytes.

    Example:
        >>> offsets_of(np.array([5, 0, 1000])).tolist()
        [0, 21, 37]
    """
    ends = np.cumsum(lengths + _FRAME)
    return ends - (lengths + _FRAME)


def _by_shard(
    lengths: Int64[np.ndarray, " n"], manifest: Manifest
) -> Iterator[Int64[np.ndarray, " m"]]:
    start = 0
    for shard in manifest.shards:
        yield lengths[start : start + shard.count]
        start += shard.count
