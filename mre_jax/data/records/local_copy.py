"""Prepared sets that lie in a bucket, copied once to a local disk, where records are read.

For work that goes through all of a set, one record after the other: asked for so, each would cost a
round trip to the bucket, and a copy costs one pass. A training reads in place, many records at a
time: see `RecordSource`.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from etils import epath
from tqdm import tqdm

from mre_jax.data.records import manifest as manifests
from mre_jax.data.records.index import index_path
from mre_jax.data.records.manifest import Manifest, Shard
from mre_jax.errors import DataError
from mre_jax.io.files import locked, open_atomically, write_atomically

_BLOCK = 2**23


def local_copy(folder: epath.PathLike) -> epath.Path:
    """A local folder with the shards and the manifest of a prepared set.

    A local set is its own copy. That of another lies in `$MRE_DATA_CACHE`, by default
    `~/.cache/mre_jax/sets`, under the set's hash: it is made once for all processes and runs of a
    host, goes on after a stop, and may be removed when no run needs it.

    Raises:
        DataError: if the set is not whole, a shard arrives with another content than the manifest
            says, or the disk is full.
    """
    if "://" not in str(folder):
        return epath.Path(folder)
    manifest = manifests.check_manifest(folder)
    target = copies_folder() / f"{manifest.name}-{manifest.hash[:16]}"
    target.mkdir(parents=True, exist_ok=True)
    with locked(target, ".lock", wait=True):  # the host's other processes
        if not (target / manifests.FILE).exists():
            _copy(epath.Path(folder), target, manifest)
            _copy_index(epath.Path(folder), target, manifest)
            manifests.write_manifest(target, manifest)
    return epath.Path(target)


def copies_folder() -> Path:
    """Where the copies of all sets are."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("MRE_DATA_CACHE", cache / "mre_jax" / "sets"))


def _copy(folder: epath.Path, target: Path, manifest: Manifest) -> None:
    for torn in target.glob(".*.tmp"):
        torn.unlink()
    with tqdm(
        total=manifest.bytes, unit="B", unit_scale=True, desc=f"copy {folder}", disable=None
    ) as bar:
        for shard in manifest.shards:
            if not (target / shard.file).exists():
                _copy_shard(folder / shard.file, target / shard.file, shard, bar)
            else:
                bar.update(shard.bytes)


def _copy_index(folder: epath.Path, target: Path, manifest: Manifest) -> None:
    """Sets of earlier versions have none."""
    with contextlib.suppress(FileNotFoundError):
        index = index_path(folder, manifest)
        write_atomically(target / index.name, index.read_bytes())


def _copy_shard(source: epath.Path, target: Path, shard: Shard, bar: tqdm) -> None:
    digest = hashlib.sha256()
    with source.open("rb") as file, open_atomically(target) as copy:
        while block := file.read(_BLOCK):
            digest.update(block)
            copy.write(block)
            bar.update(len(block))
        if digest.hexdigest() != shard.sha256:
            raise DataError(
                f"{source}: its content is not that of the manifest; run it again, or copy the "
                "folder and see 'mre data verify'"
            )
