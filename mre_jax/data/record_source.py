"""The triplets of a prepared folder, any of them at any time."""

import functools
import threading
import weakref
from typing import IO, Any

import numpy as np
from etils import epath
from jaxtyping import Int64

from mre_jax.data.cache import Cache
from mre_jax.data.example import Features, decode_scores, decode_triplet
from mre_jax.data.local_copy import local_copy
from mre_jax.data.manifest import check_manifest
from mre_jax.data.rewards import MAX_SCORE
from mre_jax.data.tfrecord import open_shard, read_record, record_offsets
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError


class RecordSource:
    """Random access to the records of a prepared folder, in the order of its shards.

    The index takes 32 bytes a record. Threads may share a source; it may be pickled, and opens its
    files again where it arrives.

    Attributes:
        path: the folder; one in a bucket is read from its `local_copy`.
        manifest: of the folder.
    """

    def __init__(self, folder: epath.PathLike):
        """Checks the folder against its manifest, and builds the index from the records' headers.

        Raises:
            DataError: if a shard is missing, too many, of another size or number of records than
                the manifest says, or damaged.
        """
        self.path = epath.Path(folder)
        self._local = local_copy(folder)
        self.manifest = check_manifest(self._local)
        parts = []
        for number, shard in enumerate(self.manifest.shards):
            offsets, lengths = record_offsets(self._file(number))
            if len(offsets) != shard.count:
                raise DataError(
                    f"{self._file(number)}: {len(offsets)} records, {shard.count} in the manifest; "
                    "prepare the set again"
                )
            shards = np.full_like(offsets, number)
            parts.append(np.stack([shards, np.arange(len(offsets)), offsets, lengths], axis=1))
        self._index: Int64[np.ndarray, "n 4"] = np.concatenate(parts)
        self._open()

    def __len__(self) -> int:
        return len(self._index)

    @functools.cached_property
    def cache(self) -> Cache | None:
        """What is cached in the records; None if nothing is."""
        return Cache.of(self.manifest)

    def __getitem__(self, number: int) -> Triplet:
        """The triplet of one record.

        Raises:
            DataError: naming shard, record and offset of one that is damaged.
        """
        return self.read(number)[0]

    def read(self, number: int) -> tuple[Triplet, Features]:
        """The triplet of one record, and its other features; see `__getitem__`."""
        record, where = self._read(number)
        return decode_triplet(record, where)

    def with_min_score(self, min_score: float) -> "RecordSource":
        """The records of which every one of the three scores is at least `min_score`.

        Reads every record once.

        Raises:
            ConfigError: if no score can be below it or none can reach it.
            DataError: if no record is left, none has scores, or one is damaged.
        """
        if not 0 < min_score <= MAX_SCORE:
            raise ConfigError(f"data.min_score={min_score} must be over 0 and at most {MAX_SCORE}")
        kept, scored = [], False
        for number in range(len(self)):
            scores = decode_scores(*self._read(number))
            scored = scored or scores is not None
            if scores is not None and min(scores) >= min_score:
                kept.append(number)
        if not scored:
            raise DataError(
                f"{self.path}: no rewards in it, and data.min_score asks for them; prepare it with "
                "--rewards, or set data.min_score=null"
            )
        if not kept:
            raise DataError(
                f"{self.path}: none of {len(self)} records has three scores of {min_score} or "
                "more; lower data.min_score"
            )
        part = RecordSource.__new__(RecordSource)
        part.__setstate__(self.__getstate__() | {"_index": self._index[kept]})
        return part

    def _read(self, number: int) -> tuple[bytes, str]:
        shard, record, offset, length = self._index[number].tolist()
        file = self._file(shard)
        data = read_record(self._descriptor(shard), offset, length, shard=file, record=record)
        return data, f"{file}: record {record} at byte {offset}"

    def _file(self, shard: int) -> str:
        return str(self._local / self.manifest.shards[shard].file)

    def _descriptor(self, shard: int) -> int:
        with self._lock:
            if shard not in self._files:
                self._files[shard] = open_shard(self._file(shard))
            return self._files[shard].fileno()

    def _open(self) -> None:
        self._files: dict[int, IO[bytes]] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._files)

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("path", "_local", "manifest", "_index")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()


def _close(files: dict[int, IO[bytes]]) -> None:
    for file in files.values():
        file.close()
