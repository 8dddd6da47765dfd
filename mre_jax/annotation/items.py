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
        read: starts reading them, as (name, triplet), in the order of the set. One that cannot be
            read, or has no instruction, is its error.
        notes: what is to be said of how the set is read.
    """

    path: str
    count: int
    read: Callable[[], Iterator[tuple[str, Triplet | DataError]]]
    notes: Sequence[str] = ()


def open_items(
    path: epath.PathLike,
    source: str = AUTO,
    options: Mapping[str, Any] | None = None,
    max_examples: int | None = None,
) -> Items:
    """Opens a set.

    Args:
        path: file or folder of a public set, of `mre prepare` or of `mre toy`.
        source: layout of the set, as `mre prepare` takes it, "prepared", or "auto": prepared
            shards, the folder of `mre toy`, and InstructPix2Pix folders are known by what they
            hold.
        options: options of the layout's reader.
        max_examples: the set ends after these.

    Raises:
        ConfigError: if the layout is not recognised, or two rewards would have one name.
        DataError: if the set is missing, empty or damaged.
    """
    path, source = _layout(str(path), source)
    if source == PREPARED:
        if options:
            raise ConfigError(f"{path}: a prepared set has no --option")
        return _prepared(path, max_examples)
    # One pair of each folder is judged, the one that a reward by the folder's name is taken for.
    own = {"seeds": "one"} if source == "instruct_pix2pix" else {}
    return _of_source(open_source(source, path, **own | dict(options or {})), max_examples)


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


def _of_source(source: Source, max_examples: int | None) -> Items:
    if not len(source):
        raise DataError(f"{source.path}: no examples in it")
    keys = source.keys()
    names = [str(row) for row in keys.rows] if keys.names is None else list(keys.names)
    if len(set(names)) < len(names):
        raise ConfigError(
            f"{source.path}: several examples have one name, and so would their rewards; give them "
            "ids of their own"
        )
    count = len(select(len(source), max_examples))

    def read() -> Iterator[tuple[str, Triplet | DataError]]:
        return zip(names, read_checked(source, range(count), _CHECK), strict=False)

    return Items(source.path, count, read, getattr(source, "notes", ()))


def _prepared(path: str, max_examples: int | None) -> Items:
    folder = local_copy(path)
    manifest = check_manifest(folder)
    count = len(select(manifest.count, max_examples))

    def triplets() -> Iterator[tuple[str, Triplet | DataError]]:
        for shard in manifest.shards:
            for number, record in enumerate(read_records(folder / shard.file)):
                triplet, _ = decode_triplet(record, f"{shard.file}: record {number}")
                yield triplet.id, triplet

    return Items(path, count, lambda: itertools.islice(triplets(), count))
