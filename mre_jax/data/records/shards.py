"""Shards of a set: how many there are, which examples each holds, and how one is written."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from typing import IO

from etils import epath

from mre_jax.data.records.example import encode_triplet
from mre_jax.data.records.manifest import Shard, shard_file
from mre_jax.data.records.tfrecord import FOOTER_BYTES, HEADER_BYTES, write_records
from mre_jax.data.sources.selection import WHOLE, Check, read_checked
from mre_jax.data.sources.source import Source
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.files import open_atomically

SHARD_BYTES = 150 * 10**6
"""Size that shards are planned for: the estimate may be a third off and leave 100 to 200 MB."""

_SAMPLE = 64
_BLOCK = 2**20


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which examples go into which shard: a function of the input and the settings alone.

    Attributes:
        name: name of the set.
        split: "train" or another.
        positions: positions of the examples, ascending.
        shards: number of files; shard i takes the i-th of equal, contiguous parts.
        sample: SHA-256 of the records that were looked at to plan it.
        bad: how many of them were none.
    """

    name: str
    split: str
    positions: range
    shards: int
    sample: str
    bad: int = 0

    def file(self, index: int) -> str:
        """The name of a shard."""
        return shard_file(self.name, self.split, index, self.shards)

    def part(self, index: int) -> range:
        """The positions of a shard's examples."""
        count = len(self.positions)
        return self.positions[count * index // self.shards : count * (index + 1) // self.shards]


def plan_shards(
    source: Source,
    positions: range,
    *,
    name: str,
    split: str,
    shard_bytes: int = SHARD_BYTES,
    min_shards: int = 1,
    check: Check = WHOLE,
    extra_bytes: int = 0,
) -> Plan:
    """Chooses the number of shards by the size of some records, evenly spaced over the set.

    Args:
        source: where the examples come from.
        positions: positions of those that are taken.
        name: name of the set, part of the files' names.
        split: name of the split, likewise.
        shard_bytes: size to aim at.
        min_shards: never fewer, so that every host has one.
        check: check of the examples looked at. A bad one is no part of the sample: mended, it
            makes another one.
        extra_bytes: what is added to every record.

    Raises:
        ConfigError: if a number is out of range, or there are fewer examples than shards.
        DataError: if there is no example, or all that are looked at are bad.
    """
    shard_file(name, split, 0, 1)
    count = len(positions)
    if not count:
        raise DataError(f"{source.path}: no examples in it, or in this part of it")
    if shard_bytes < 1 or min_shards < 1:
        raise ConfigError("the size and the least number of shards must be at least 1")
    if min_shards > count:
        raise ConfigError(f"{min_shards} shards for {count} examples: some would be empty")
    looked = min(count, _SAMPLE)
    chosen = [positions[count * number // looked] for number in range(looked)]
    size, digest = 0, hashlib.sha256()
    bad: list[DataError] = []
    for triplet in read_checked(source, chosen, check):
        if isinstance(triplet, DataError):
            bad.append(triplet)
            continue
        record = encode_triplet(triplet)
        size += HEADER_BYTES + len(record) + FOOTER_BYTES + extra_bytes
        digest.update(hashlib.sha256(record).digest())
    if len(bad) == looked < count:
        raise DataError(f"{bad[0]}; and so with all {looked} examples that were looked at")
    shards = round(size * count / max(looked - len(bad), 1) / shard_bytes)
    shards = min(max(shards, min_shards), count)
    return Plan(name, split, positions, shards, digest.hexdigest(), len(bad))


def write_shard(path: epath.PathLike, records: Iterable[bytes]) -> Shard:
    """Writes a file of records that appears under its name when it is whole and on the disk.

    Returns:
        Its entry in the manifest.

    Raises:
        DataError: if the disk is full.
    """
    path = epath.Path(path)
    with open_atomically(path) as file:
        hashed = _HashedFile(file)
        count = write_records(hashed, records)  # type: ignore[arg-type]
    return Shard(path.name, count, hashed.size, hashed.digest.hexdigest())


def is_whole(folder: epath.PathLike, shard: Shard) -> bool:
    """Whether a shard's file is there with the content that its entry describes."""
    path = epath.Path(folder) / shard.file
    if not path.exists() or path.stat().length != shard.bytes:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest() == shard.sha256


class _HashedFile:
    """Writes through to a file, counting and hashing what passes."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.size, self.digest = 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self.digest.update(data)
        return self._file.write(data)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block
