"""Small prepared folders."""

from pathlib import Path

from mre_jax.data.records.example import encode_triplet
from mre_jax.data.records.manifest import Manifest, shard_file, write_manifest
from mre_jax.data.records.shards import write_shard
from mre_jax.data.triplets import Triplet


def write_set(folder: Path, triplets: list[Triplet], shards: int = 3) -> Path:
    """Deals the triplets to shards in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for index in range(shards):
        path = folder / shard_file("toy", "train", index, shards)
        entries.append(write_shard(path, map(encode_triplet, triplets[index::shards])))
    write_manifest(folder, Manifest("toy", "train", {}, tuple(entries)))
    return folder
