"""What is known of every record of a set without reading it: its scores, and its group.

    index-HASH.npy    an entry a record, in the order of the shards; HASH is the manifest's

`mre prepare` writes it beside the shards. Sets of earlier versions have none: see
`RecordSource.index`.
"""

import hashlib
import io
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from etils import epath
from jaxtyping import Shaped

from mre_jax.data.records.example import NO_SCORE
from mre_jax.data.records.manifest import INDEX, Manifest
from mre_jax.errors import DataError
from mre_jax.io.files import write_atomically
from mre_jax.reward.scores import PERSPECTIVES, Scores

ENTRY = np.dtype([("scores", "<f4", (len(PERSPECTIVES),)), ("group", "<i8")])
"""Scores, `NO_SCORE` without a reward; and a number that neighbours of one group share."""

Index: TypeAlias = Shaped[np.ndarray, " n"]


def make_index(known: Iterable[tuple[Scores | None, str]]) -> Index:
    """The index of records, of which scores and name of the group are known; "" is no group."""
    entries, previous, number = [], "", -1
    no_scores = (NO_SCORE,) * len(PERSPECTIVES)
    for scores, group in known:
        number += not group or group != previous
        previous = group
        entries.append((scores or no_scores, number))
    return np.array(entries, ENTRY)


def is_rewarded(index: Index) -> Shaped[np.ndarray, " n"]:
    """Whether each record has a reward."""
    return (index["scores"] != NO_SCORE).any(axis=1)


def index_path(folder: epath.PathLike, manifest: Manifest) -> epath.Path:
    """Where the index of a set lies."""
    return epath.Path(folder) / f"index-{manifest.hash[:16]}.npy"


def write_index(folder: epath.PathLike, manifest: Manifest, index: Index) -> None:
    """Writes the index of a set, whole or not at all."""
    write_atomically(index_path(folder, manifest), _file_of(index))


def index_digest(index: Index) -> str:
    """SHA-256 of the file of an index, for the manifest."""
    return hashlib.sha256(_file_of(index)).hexdigest()


def _file_of(index: Index) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, index)
    return buffer.getvalue()


def load_index(folder: epath.PathLike, manifest: Manifest) -> Index | None:
    """The index of a set; None if it has none.

    Raises:
        DataError: if it is damaged.
    """
    path = index_path(folder, manifest)
    try:
        data = path.read_bytes()
        index: Any = np.load(io.BytesIO(data))
    except FileNotFoundError:
        return None
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: damaged ({error}); remove it, and it is made anew") from None
    expected = manifest.measured.get(INDEX, hashlib.sha256(data).hexdigest())
    fits = index.dtype == ENTRY and index.shape == (manifest.count,)
    if not fits or expected != hashlib.sha256(data).hexdigest():
        raise DataError(f"{path}: not the index of this set; remove it, and it is made anew")
    return index
