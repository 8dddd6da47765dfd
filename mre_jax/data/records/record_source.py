"""The triplets of a prepared folder, any of them at any time."""

import contextlib
import dataclasses
import functools
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeAlias

import numpy as np
from etils import epath
from jaxtyping import Bool, Int64
from tqdm import tqdm

from mre_jax.data.cache.description import Cache
from mre_jax.data.records.example import Features, decode_asked, decode_entry, decode_triplet
from mre_jax.data.records.index import Index, is_rewarded, load_index, make_index, write_index
from mre_jax.data.records.lengths import load_lengths, offsets_of, write_lengths
from mre_jax.data.records.local_copy import local_copy
from mre_jax.data.records.manifest import GROUPS, REWARDED, Manifest, Shard, check_manifest
from mre_jax.data.records.tfrecord import (
    find_records,
    open_shard,
    pread,
    read_record,
    record_offsets,
)
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.bucket import ReadAt, ahead, at_once, read_at
from mre_jax.io.files import reached
from mre_jax.reward.scores import MAX_SCORE

_Found: TypeAlias = tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]
"""Offsets and lengths of the records of a shard."""


class RecordSource:
    """Random access to the records of a prepared folder, in the order of its shards.

    Where each lies takes 32 bytes a record. Threads may share a source; it may be pickled, and
    opens its files again where it arrives.

    Example:
        >>> source = RecordSource("shards")
        >>> len(source), source[3].id, source[3].scores
        (7, '0000003', (0.0, 4.0, 2.0))

    Attributes:
        path: the folder.
        manifest: manifest of the folder.
    """

    def __init__(self, folder: epath.PathLike, *, requests: int = 0):
        """Checks the folder against its manifest, and finds the records.

        Those of a local folder are found by their headers; so are those of a bucket's, once, if the
        set is of an earlier version, which is said. Then what was found is kept beside the shards
        where it may be written.

        Args:
            requests: of a folder in a bucket, how many records `read_each` asks for at a time
                where they are; 0 reads the folder's `local_copy`.

        Raises:
            DataError: if a shard is missing, too many, of another size or number of records than
                the manifest says, or damaged; if the bucket cannot be reached.
        """
        self.path = epath.Path(folder)
        self._requests = requests if "://" in str(folder) else 0
        with reached(folder) if self._requests else contextlib.nullcontext():
            self._folder = self.path if self._requests else local_copy(folder)
            self.manifest = check_manifest(self._folder)
            found = self._find_far() if self._requests else self._find()
        parts = []
        for number, (offsets, lengths) in enumerate(found):
            shards = np.full_like(offsets, number)
            parts.append(np.stack([shards, np.arange(len(offsets)), offsets, lengths], axis=1))
        self._places: Int64[np.ndarray, "n 4"] = np.concatenate(parts)
        self._is_part = False
        self._open()

    def _find(self) -> list[_Found]:
        """Offsets and lengths of the records of each shard, by their headers."""
        shards = enumerate(self.manifest.shards)
        return [self._whole(shard, record_offsets(self._file(number))) for number, shard in shards]

    def _find_far(self) -> list[_Found]:
        """The same of a bucket, where every header costs a request unless the lengths are kept."""
        kept = load_lengths(self._folder, self.manifest)
        if kept is not None:
            return [(offsets_of(lengths), lengths) for lengths in kept]
        print(
            f"{self.path}: prepared without the lengths of its records; asking for all "
            f"{self.manifest.count} headers once",
            file=sys.stderr,
        )
        shards = self.manifest.shards
        found = at_once(functools.partial(_find_by_headers, self._folder), shards, self._requests)
        found = list(map(self._whole, shards, found))
        lengths = np.concatenate([lengths for _, lengths in found]).tolist()
        self._keep(write_lengths, lengths)
        return found

    def _whole(self, shard: Shard, found: _Found) -> _Found:
        """What was found, if it is as much as the manifest says."""
        if len(found[0]) != shard.count:
            raise DataError(
                f"{self._folder / shard.file}: {len(found[0])} records, {shard.count} in the "
                "manifest; prepare the set again"
            )
        return found

    def __len__(self) -> int:
        return len(self._places)

    @functools.cached_property
    def cache(self) -> Cache | None:
        """What is cached in the records; None if nothing is."""
        return Cache.of(self.manifest)

    @property
    def hash(self) -> str:
        """What identifies its content."""
        return self.manifest.hash

    @property
    def same_size(self) -> bool:
        """Whether pictures of a pair are of one size, or else damaged."""
        return self.manifest.settings.get("sizes", "same") == "same"

    def __getitem__(self, number: int) -> Triplet:
        """The triplet of one record.

        Raises:
            DataError: naming shard, record and offset of one that is damaged.
        """
        return self.read(number)[0]

    def read(self, number: int) -> tuple[Triplet, Features]:
        """The triplet of one record, and its other features; see `__getitem__`."""
        return self._decode(*self._read(number))

    def read_each(self, numbers: Iterable[int]) -> Iterator[tuple[Triplet, Features]]:
        """Yields what `read` says of each, in their order; a bucket is asked for many at a time."""
        return itertools.starmap(self._decode, self._read_each(numbers))

    def _decode(self, record: bytes, where: str) -> tuple[Triplet, Features]:
        triplet, features = decode_triplet(record, where)
        if not self.same_size:
            triplet = dataclasses.replace(triplet, same_size=False)
        return triplet, features

    @functools.cached_property
    def index(self) -> Index:
        """Scores and group of every record.

        Read from the file of `mre prepare`. For a set of an earlier version every record is read
        once, which is said, and the index is kept beside the shards where it may be written.

        Raises:
            DataError: if a record, or the index, is damaged.
        """
        index = load_index(self._folder, self.manifest)
        if index is None:
            print(
                f"{self.path}: prepared without an index of its scores; reading all "
                f"{len(self)} records once",
                file=sys.stderr,
            )
            index = make_index(itertools.starmap(decode_entry, self._read_each(range(len(self)))))
            self._keep(write_index, index)
        return index

    def asked(self) -> list[bytes]:
        """Of every record a hash of its original picture and instructions: what an edit is of.

        Reads every record once, and shows how far it is.

        Raises:
            DataError: if a record is damaged.
        """
        every = tqdm(range(len(self)), unit="record", desc=f"pairs of {self.path}", disable=None)
        return list(itertools.starmap(decode_asked, self._read_each(every)))

    @functools.cached_property
    def rewarded_count(self) -> int:
        """Records with a reward: as the manifest says, or counted by `index`."""
        if not self._is_part and (known := self.manifest.measured.get(REWARDED)) is not None:
            return int(known)
        return int(is_rewarded(self.index).sum())

    @functools.cached_property
    def _bounds(self) -> Int64[np.ndarray, " n"] | None:
        """Where each group begins, and the last ends; None if an epoch reads every record."""
        if GROUPS not in self.manifest.measured:
            return None
        return np.flatnonzero(np.diff(self.index["group"], prepend=-1, append=-1))

    @property
    def groups(self) -> int:
        """Records that an epoch reads: of each group one."""
        return len(self) if self._bounds is None else len(self._bounds) - 1

    def members(self, group: int) -> range:
        """The records of a group, which an epoch draws one of."""
        if self._bounds is None:
            return range(group, group + 1)
        return range(*self._bounds[group : group + 2].tolist())

    def with_min_score(self, min_score: float) -> "RecordSource":
        """The records of which every one of the three scores is at least `min_score`.

        Says how many are left out, and how many of them have no reward.

        Raises:
            ConfigError: if no score can be below it or none can reach it.
            DataError: if no record is left, none has scores, or one is damaged.
        """
        if not 0 < min_score <= MAX_SCORE:
            raise ConfigError(f"data.min_score={min_score} must be over 0 and at most {MAX_SCORE}")
        if not self.rewarded_count:
            raise DataError(
                f"{self.path}: no rewards in it, and data.min_score asks for them; prepare it with "
                "--rewards, or set data.min_score=null"
            )
        # In float32, as the records have them: 4.3 is at least 4.3.
        kept: Bool[np.ndarray, " n"] = np.all(self.index["scores"] >= np.float32(min_score), axis=1)
        if not kept.any():
            raise DataError(
                f"{self.path}: none of {len(self)} records has three scores of {min_score} or "
                "more; lower data.min_score"
            )
        unjudged = len(self) - self.rewarded_count
        print(
            f"{self.path}: {kept.sum()} of {len(self)} records have three scores of {min_score} or "
            f"more; {len(self) - kept.sum()} are left out, {unjudged} of them without a reward",
            file=sys.stderr,
        )
        return self._part(kept)

    def _part(self, kept: Bool[np.ndarray, " n"]) -> "RecordSource":
        part = RecordSource.__new__(RecordSource)
        part.__setstate__(
            self.__getstate__()
            | {"_places": self._places[kept], "index": self.index[kept], "_is_part": True}
        )
        return part

    def _keep(self, write: Callable[[epath.Path, Manifest, Any], None], found: Any) -> None:
        """Writes what was found beside the shards; of a set that is only read it is in memory."""
        with contextlib.suppress(OSError, DataError), reached(self._folder) as folder:
            write(folder, self.manifest, found)

    def _read_each(self, numbers: Iterable[int]) -> Iterator[tuple[bytes, str]]:
        if not self._requests:
            return map(self._read, numbers)
        return ahead(self._threads, self._read, numbers, 2 * self._requests)

    def _read(self, number: int) -> tuple[bytes, str]:
        shard, record, offset, length = self._places[number].tolist()
        file = self._file(shard)
        with reached(file) if self._requests else contextlib.nullcontext():
            data = read_record(self._reader(shard), offset, length, shard=file, record=record)
        return data, f"{file}: record {record} at byte {offset}"

    def _file(self, shard: int) -> str:
        return str(self._folder / self.manifest.shards[shard].file)

    def _reader(self, shard: int) -> ReadAt:
        with self._lock:
            if shard not in self._readers:
                self._readers[shard] = self._open_shard(self._file(shard))
            return self._readers[shard]

    def _open_shard(self, file: str) -> ReadAt:
        if self._requests:
            return read_at(file)
        self._files.append(open_shard(file))
        return pread(self._files[-1])

    def _open(self) -> None:
        self._readers: dict[int, ReadAt] = {}
        self._files: list[IO[bytes]] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._files)

    @functools.cached_property
    def _threads(self) -> ThreadPoolExecutor:
        """Those that ask a bucket."""
        return ThreadPoolExecutor(self._requests, "records")

    def __getstate__(self) -> dict[str, Any]:
        """All but open files, and the caches that are cheap to make again."""
        kept = ("path", "_folder", "_requests", "manifest", "_places", "_is_part", "index")
        return {name: value for name, value in vars(self).items() if name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()


def _find_by_headers(folder: epath.Path, shard: Shard) -> _Found:
    path = folder / shard.file
    return find_records(read_at(path), shard.bytes, str(path))


def _close(files: list[IO[bytes]]) -> None:
    for file in files:
        file.close()
