"""The triplets to be annotated, under the names that their rewards will have.

Named as `mre prepare --rewards` will look for them: by folder or id where a set has such names,
otherwise by row. A set that is prepared already goes by the ids in its shards.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from mre_jax.data.records.example import decode_triplet
from mre_jax.data.records.local_copy import local_copy
from mre_jax.data.records.manifest import FILE, check_manifest
from mre_jax.data.records.tfrecord import read_records
from mre_jax.data.sources import open_source
from mre_jax.data.sources.selection import Check, read_checked, select
from mre_jax.data.sources.source import Source
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError

AUTO, PREPARED = "auto", "prepared"

# Pictures are decoded by who makes them ready to be sent. An edit of another size can be judged.
_CHECK = Check(decode=False, same_size=False)


@dataclasses.dataclass(frozen=True)
class Items:
    """Triplets with the names of their rewards.

    Attributes:
        path: file or folder of the set.
        count: triplets.
        first: position of the first of them in the set.
        read: starts reading them, as (name, triplet), in the order of the set. One that cannot be
            read, or has no instruction, is its error.
        notes: what is to be said of how the set is read.
    """

    path: str
    count: int
    read: Callable[[], Iterator[tuple[str, Triplet | DataError]]]
    notes: Sequence[str] = ()
    first: int = 0


def open_items(
    path: epath.PathLike,
    source: str = AUTO,
    options: Mapping[str, Any] | None = None,
    max_examples: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> Items:
    """Opens a set, or a part of it.

    Args:
        path: file or folder of a public set, of `mre prepare` or of `mre toy`.
        source: layout of the set, as `mre prepare` takes it, "prepared", or "auto": prepared
            shards, the folder of `mre toy`, and InstructPix2Pix folders are known by what they
            hold.
        options: options of the layout's reader.
        max_examples: the set ends after these.
        shard: see `select`.

    Raises:
        ConfigError: if the layout is not recognised, or two rewards would have one name.
        DataError: if the set is missing, empty or damaged.
    """
    path, source = _layout(str(path), source)
    if source == PREPARED:
        if options:
            raise ConfigError(f"{path}: a prepared set has no --option")
        return _prepared(path, max_examples, shard)
    # One pair of each folder is judged, the one that a reward by the folder's name is taken for.
    own = {"seeds": "one"} if source == "instruct_pix2pix" else {}
    opened = open_source(source, path, **own | dict(options or {}))
    return _of_source(opened, max_examples, shard)


def _layout(path: str, source: str) -> tuple[str, str]:
    folder = epath.Path(path)
    if source != AUTO:
        return path, source
    if not folder.exists():
        raise DataError(f"{path}: no such file or folder")
    if (folder / FILE).exists():
        return path, PREPARED
    if (folder / "toy.json").exists():
        return str(folder / "triplets"), "instruct_pix2pix"
    if (folder / "seeds.json").exists():
        return path, "instruct_pix2pix"
    raise ConfigError(
        f"{path}: its layout is not recognised; give --source, as `mre prepare` takes it"
    )


def _of_source(source: Source, max_examples: int | None, shard: tuple[int, int]) -> Items:
    if not len(source):
        raise DataError(f"{source.path}: no examples in it")
    keys = source.keys()
    names = [str(row) for row in keys.rows] if keys.names is None else list(keys.names)
    if len(set(names)) < len(names):
        raise ConfigError(
            f"{source.path}: several examples have one name, and so would their rewards; give them "
            "ids of their own"
        )
    part = select(len(source), max_examples, shard)

    def read() -> Iterator[tuple[str, Triplet | DataError]]:
        return zip(names[part.start : part.stop], read_checked(source, part, _CHECK), strict=False)

    return Items(source.path, len(part), read, getattr(source, "notes", ()), part.start)


def _prepared(path: str, max_examples: int | None, shard: tuple[int, int]) -> Items:
    folder = local_copy(path)
    manifest = check_manifest(folder)
    part = select(manifest.count, max_examples, shard)

    def triplets() -> Iterator[tuple[str, Triplet | DataError]]:
        for shard in manifest.shards:
            for number, record in enumerate(read_records(folder / shard.file)):
                triplet, _ = decode_triplet(record, f"{shard.file}: record {number}")
                yield triplet.id, triplet

    def read() -> Iterator[tuple[str, Triplet | DataError]]:
        return itertools.islice(triplets(), part.start, part.stop)

    return Items(path, len(part), read, first=part.start)
