"""Finding every damage of a prepared set, by file, record and offset.

Reading a TFRecord file stops at the first broken record, and does not notice a file that ends
early between two. Here the walk goes on behind a broken record, and the manifest says what must
be there.
"""

import contextlib
import dataclasses
import functools
import hashlib
import mmap
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from etils import epath

from mre_jax.data.cache.description import Cache
from mre_jax.data.cache.features import unpack
from mre_jax.data.records.example import decode_features, decode_triplet
from mre_jax.data.records.index import index_path, load_index
from mre_jax.data.records.lengths import lengths_path, load_lengths
from mre_jax.data.records.manifest import INDEX, Manifest, Shard, find_faults, load_manifest
from mre_jax.data.records.tfds_metadata import FILES
from mre_jax.data.records.tfrecord import (
    FOOTER_BYTES,
    HEADER_BYTES,
    masked_crc,
    open_shard,
    record_offsets,
)
from mre_jax.data.workers import map_processes
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.json_file import read_json

_HEADER, _CRC = struct.Struct("<QI"), struct.Struct("<I")
_GZIP = b"\x1f\x8b"
_WHERE = "record"


@dataclasses.dataclass(frozen=True)
class Damage:
    """One thing that is wrong.

    Attributes:
        shard: the file.
        record: number of the record in it, from 0; None if the file as a whole is meant. Behind
            a broken length it counts on as if one record were lost there.
        offset: where the record begins, in bytes; likewise.
        kind: one of `KINDS`.
        detail: what was found.
    """

    shard: str
    record: int | None
    offset: int | None
    kind: str
    detail: str

    def __str__(self) -> str:
        place = "" if self.record is None else f": record {self.record} at byte {self.offset}"
        return f"{self.shard}{place}: {self.kind}: {self.detail}"


KINDS = {
    "missing_file": "a shard, the index or a metadata file is not there",
    "extra_file": "a shard that the manifest does not know",
    "duplicate_file": "a shard with the content of another",
    "empty_file": "a shard of no bytes",
    "gzip_file": "a shard that was compressed",
    "not_tfrecord": "a file without a single record",
    "bad_metadata": "TensorFlow Datasets would not open the folder, or as another set; or the "
    "index of scores is of another set",
    "wrong_hash": "every record is whole, but the content is another one",
    "wrong_count": "a file that ends early, or late, between two records",
    "cut_record": "the file ends inside a record",
    "bad_length": "the length of a record does not match its checksum",
    "bad_content": "the content of a record does not match its checksum",
    "bad_features": "a feature is missing or of another type or shape",
    "bad_image": "a picture is empty, too large, damaged, or of another size than its pair",
    "duplicate_id": "an id that an earlier record has",
}


@dataclasses.dataclass(frozen=True)
class Record:
    """A whole record."""

    number: int
    offset: int
    payload: bytes


Item: TypeAlias = Record | Damage


@dataclasses.dataclass(frozen=True)
class VerifySpec:
    """The set to verify, and how.

    Attributes:
        folder: set of mre prepare, on a local disk.
        images: decode every picture too; most of the time goes there.
        workers: processes; what is found, and its order, does not depend on them.

    Raises:
        ConfigError: if there is less than one worker.
    """

    folder: epath.PathLike = dataclasses.field(metadata={"positional": True, "metavar": "DIR"})
    images: bool = True
    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"--workers {self.workers}: want at least 1")


def verify(
    spec: VerifySpec, progress: Callable[[int], object] = lambda records: None
) -> Iterator[Damage]:
    """Yields every damage of a set.

    Args:
        progress: called with the number of records of every shard that is done.

    Example:
        >>> list(verify(VerifySpec("shards")))
        []

    Raises:
        DataError: if there is no manifest to compare with.
    """
    folder, workers = epath.Path(spec.folder), spec.workers
    manifest = load_manifest(folder)
    yield from _verify_metadata(folder, manifest)
    yield from _verify_index(folder, manifest)
    lengths, faulty = _kept_lengths(folder, manifest)
    yield from faulty
    skip = set()
    for fault in find_faults(folder, manifest):
        if fault.kind != "wrong_size":  # the walk says what happened to it
            skip.add(fault.file)
            yield _of_file(fault.file, fault.kind, fault.detail)
    progress(sum(shard.count for shard in manifest.shards if shard.file in skip))
    shards = [shard for shard in manifest.shards if shard.file not in skip]
    check = functools.partial(check_shard, str(folder), manifest, spec.images)
    reports = map(check, shards) if workers == 1 else map_processes(workers, check, shards)
    seen: dict[str, str] = {}
    for shard, report in zip(shards, reports, strict=True):
        yield from _with_duplicates(shard.file, report, seen)
        # Where a shard is not whole, it is what is to be mended.
        if not report.damages and shard.file in lengths:
            yield from _verify_lengths(folder, manifest, shard, lengths[shard.file])
        progress(shard.count)


def walk(path: epath.PathLike) -> Iterator[Item]:
    """Yields the whole records of a file, and where they are broken; goes on behind them."""
    with _mapped(epath.Path(path)) as data:
        name = epath.Path(path).name
        if data[:2] == _GZIP and _length(data, 0) is None:
            yield Damage(name, 0, 0, "gzip_file", "gzip; decompress it")
            return
        offset = number = 0
        while offset < len(data):
            length = _length(data, offset)
            if length is None:
                start = _next_header(data, offset + 1)
                yield _broken_header(data, name, number, offset, start)
                offset = len(data) if start is None else start
            else:
                end = offset + HEADER_BYTES + length + FOOTER_BYTES
                yield _content(data, name, number, offset, end)
                offset = end
            number += 1


def _of_file(name: str, kind: str, detail: str) -> Damage:
    """A damage of a file as a whole."""
    return Damage(name, None, None, kind, detail)


def _verify_metadata(folder: epath.Path, manifest: Manifest) -> Iterator[Damage]:
    for name in FILES:
        if not (folder / name).exists():
            yield _of_file(name, "missing_file", "TensorFlow Datasets needs it")
            continue
        try:
            content = read_json(folder / name)
            lengths = [split["shardLengths"] for split in content.get("splits", ())]
        except (DataError, AttributeError, KeyError, TypeError) as error:
            yield _of_file(name, "bad_metadata", f"unreadable ({error})")
            continue
        counts = [str(shard.count) for shard in manifest.shards]
        if name == "dataset_info.json" and lengths != [counts]:
            yield _of_file(name, "bad_metadata", "other shards than in the manifest")


def _verify_index(folder: epath.Path, manifest: Manifest) -> Iterator[Damage]:
    name = index_path(folder, manifest).name
    try:
        if load_index(folder, manifest) is None and INDEX in manifest.measured:
            yield _of_file(name, "missing_file", "it is made anew when it is needed")
    except DataError as error:
        detail = str(error).removeprefix(f"{folder / name}: ")
        yield _of_file(name, "bad_metadata", detail)


def _kept_lengths(
    folder: epath.Path, manifest: Manifest
) -> tuple[dict[str, list[int]], list[Damage]]:
    """Of the records of each shard, where the set has such a file; and what is wrong with that."""
    path = lengths_path(folder, manifest)
    try:
        kept = load_lengths(folder, manifest) or []
    except DataError as error:
        detail = str(error).removeprefix(f"{path}: ")
        return {}, [_of_file(path.name, "bad_metadata", detail)]
    files = [shard.file for shard in manifest.shards]
    return {file: part.tolist() for file, part in zip(files, kept, strict=False)}, []


def _verify_lengths(
    folder: epath.Path, manifest: Manifest, shard: Shard, lengths: list[int]
) -> Iterator[Damage]:
    """Whether they are those in the headers of a shard that is whole."""
    if record_offsets(folder / shard.file)[1].tolist() != lengths:
        name = lengths_path(folder, manifest).name
        yield _of_file(name, "bad_metadata", f"not those of {shard.file}; remove it")


class Report(NamedTuple):
    """What was found in one shard.

    Attributes:
        damages: in the order of the records.
        ids: number and offset of the whole records, by id; the first of those that share one.
    """

    damages: list[Damage]
    ids: dict[str, tuple[int, int]]


def check_shard(folder: str, manifest: Manifest, images: bool, shard: Shard) -> Report:
    """Looks at one shard by itself, in whatever process."""
    seen: dict[str, tuple[int, int]] = {}
    path = epath.Path(folder) / shard.file
    return Report(list(_verify_shard(path, shard, manifest, images, seen)), seen)


def _with_duplicates(name: str, report: Report, seen: dict[str, str]) -> Iterator[Damage]:
    """The damages of a shard, with ids that stand in an earlier one too."""
    repeated = [
        Damage(name, number, offset, "duplicate_id", f"{id!r} is the id of {seen[id]} too")
        for id, (number, offset) in report.ids.items()
        if id in seen
    ]
    # Another content than the manifest's has then been explained.
    damages = [d for d in report.damages if not (repeated and d.kind == "wrong_hash")]
    yield from sorted([*damages, *repeated], key=lambda d: np.inf if d.record is None else d.record)
    for id, (number, _) in report.ids.items():
        seen.setdefault(id, f"{name} record {number}")


def _verify_shard(
    path: epath.Path,
    shard: Shard,
    manifest: Manifest,
    images: bool,
    seen: dict[str, tuple[int, int]],
) -> Iterator[Damage]:
    found = Counter[str]()
    digest = _sha256(path)
    twins = [other.file for other in manifest.shards if other.sha256 == digest]
    if twins and shard.file not in twins:
        yield _of_file(path.name, "duplicate_file", f"has the content of {twins[0]}")
        return
    count, cache = 0, Cache.of(manifest)
    same_size = manifest.settings.get("sizes", "same") == "same"
    for item in walk(path):
        count += 1
        damages = (
            iter([item])
            if isinstance(item, Damage)
            else _verify_record(item, path, images, same_size, cache, seen)
        )
        for damage in damages:
            found[damage.kind] += 1
            yield damage
    # A count that is off has been explained where the walk lost its way.
    if count != shard.count and not found.keys() & {"gzip_file", "not_tfrecord"}:
        size = path.stat().length
        detail = f"{count} records, {shard.count} in the manifest"
        yield Damage(path.name, count, size, "wrong_count", detail)
    elif not found and digest != shard.sha256:
        yield _of_file(path.name, "wrong_hash", f"sha256 {digest}, not {shard.sha256}")


def _verify_record(
    record: Record,
    path: epath.Path,
    images: bool,
    same_size: bool,
    cache: Cache | None,
    seen: dict[str, tuple[int, int]],
) -> Iterator[Damage]:
    def damage(kind: str, detail: object) -> Damage:
        text = str(detail).removeprefix(f"{_WHERE}: ")
        return Damage(path.name, record.number, record.offset, kind, text)

    try:
        features = decode_features(record.payload, _WHERE)
    except DataError as error:
        yield damage("bad_features", error)
        return
    empty = [name for name in ("original", "edited") if features.get(name) == [b""]]
    yield from (damage("bad_image", f"{name} picture: no bytes") for name in empty)
    if empty:
        return
    try:
        triplet, extra = decode_triplet(record.payload, _WHERE)
        cached = {} if cache is None else unpack(cache, extra, _WHERE)
    except DataError as error:
        yield damage("bad_features", error)
        return
    for name, value in cached.items():
        if not np.isfinite(value.astype(np.float32)).all():
            yield damage("bad_features", f"cached {name} is not finite")
    if triplet.id in seen:
        place = f"{path.name} record {seen[triplet.id][0]}"
        yield damage("duplicate_id", f"{triplet.id!r} is the id of {place} too")
    seen.setdefault(triplet.id, (record.number, record.offset))
    sizes = set()
    for decode in (triplet.original_image, triplet.edited_image) if images else ():
        try:
            sizes.add(decode().size)
        except DataError as error:
            yield damage("bad_image", error)
    if same_size and len(sizes) > 1:
        yield damage("bad_image", f"original and edited picture differ in size, {sizes}")


@contextlib.contextmanager
def _mapped(path: epath.Path) -> Iterator[mmap.mmap]:
    with open_shard(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _sha256(path: epath.Path) -> str:
    with _mapped(path) as data:
        return hashlib.sha256(data).hexdigest()


def _length(data: mmap.mmap, offset: int) -> int | None:
    """The length of the record that begins here; None if its checksum does not match."""
    header = data[offset : offset + HEADER_BYTES]
    if len(header) < HEADER_BYTES:
        return None
    length, crc = _HEADER.unpack(header)
    return length if crc == masked_crc(header[:8]) else None


def _next_header(data: mmap.mmap, offset: int) -> int | None:
    """Where the next record begins, found by a length that matches its checksum.

    A record is below 4 GiB, so that four bytes of its length are 0; these are looked for.
    """
    found = data.find(bytes(4), offset + 4)
    while found >= 0:
        if _length(data, found - 4) is not None:
            return found - 4
        found = data.find(bytes(4), found + 1)
    return None


def _broken_header(
    data: mmap.mmap, name: str, number: int, offset: int, start: int | None
) -> Damage:
    if start is None and offset == 0:
        return Damage(name, number, offset, "not_tfrecord", "no record in it")
    if len(data) - offset < HEADER_BYTES:
        return Damage(name, number, offset, "cut_record", "the file ends inside its header")
    reached = "to the end of the file" if start is None else f"up to byte {start}"
    return Damage(name, number, offset, "bad_length", f"unreadable from here {reached}")


def _content(data: mmap.mmap, name: str, number: int, offset: int, end: int) -> Item:
    if end > len(data):
        missing = f"{end - len(data)} of its {end - offset} bytes are missing"
        return Damage(name, number, offset, "cut_record", missing)
    payload = data[offset + HEADER_BYTES : end - FOOTER_BYTES]
    if _CRC.unpack(data[end - FOOTER_BYTES : end])[0] != masked_crc(payload):
        return Damage(name, number, offset, "bad_content", f"{len(payload)} bytes")
    return Record(number, offset, payload)
