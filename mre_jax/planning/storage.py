"""Disks, buckets and hosts: bytes of data and checkpoints, cores of the loader, when to save."""

import dataclasses
import math
from collections.abc import Sequence

from mre_jax.data.cache.description import Cache
from mre_jax.data.records.manifest import FILE, Manifest, load_manifest
from mre_jax.errors import DataError
from mre_jax.io.files import reached
from mre_jax.planning.hardware import Slice, hardware
from mre_jax.planning.work import Sizes, Work
from mre_jax.training.config import TrainConfig

GB = 10**9


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The examples of a run.

    Attributes:
        examples: how many; None if it is not known.
        bytes: of all shards.
        inputs: what a step reads of them, one of `memory.INPUTS`; None if it is not known.
        known: whether the sets were there to be looked at.
    """

    examples: int | None
    bytes: int
    inputs: str | None
    known: bool


@dataclasses.dataclass(frozen=True)
class Saves:
    """Checkpoints.

    Attributes:
        bytes: of one.
        seconds: that a save takes all hosts, at `bucket_write` each.
        interval: seconds between saves that lose least to saving and to preemptions.
        lost: share of the time that is lost so.
    """

    bytes: int
    seconds: float
    interval: float
    lost: float


def data_set(config: TrainConfig, examples: int | None) -> DataSet:
    """What the manifests of the sets say; of sets that are not here, what the caller knows.

    Raises:
        DataError: for a set that is here and damaged.
    """
    manifests = _manifests(config.data.paths)
    if manifests is None:
        size = 0 if examples is None else examples * int(hardware()["record_bytes"])
        return DataSet(examples, size, None, False)
    inputs = inputs_of(config, [Cache.of(manifest) for manifest in manifests])
    count = sum(manifest.count for manifest in manifests)
    return DataSet(count, sum(manifest.bytes for manifest in manifests), inputs, True)


def inputs_of(config: TrainConfig, caches: Sequence[Cache | None]) -> str:
    """What a step reads of sets with these caches, one of `memory.INPUTS`."""
    if config.data.cache == "never" or not caches or None in caches:
        return "pictures"
    return "texts" if all(cache and cache.text is not None for cache in caches) else "latents"


def cached_bytes(config: TrainConfig, sizes: Sizes, inputs: str) -> int:
    """What a cache adds to a record: latents of picture and mirror image, and text states."""
    side, tokens = config.data.resolution // sizes.vae.downscale, sizes.text.max_position_embeddings
    width = sizes.text.hidden_size
    latents = 2 * 3 * side * side * sizes.vae.latent_channels * 2
    texts = (2 * tokens * width + width) * 2
    return {"pictures": 0, "latents": latents, "texts": latents + texts}[inputs]


def loader_cores(config: TrainConfig, where: Slice, inputs: str, images: float) -> float:
    """Cores of a host that keep its chips busy.

    Args:
        images: a second, on all chips.
    """
    seconds = float(hardware()["loader"][inputs])
    if inputs == "pictures":
        seconds *= (config.data.resolution / 256) ** 2
    return images / where.hosts * seconds


def saves_of(config: TrainConfig, work: Work, where: Slice, hours: float) -> Saves:
    """When to save, by Young's and Daly's formula of first order: sqrt(2 x save x time to a loss).

    Args:
        hours: between two preemptions, on average.
    """
    size = save_bytes(config, work)
    seconds = size / where.hosts / (float(hardware()["bucket_write"]) * 1e6)
    mean = hours * 3600
    interval = math.sqrt(2 * seconds * mean)
    # A run goes on while it saves: at most the save is lost, half an interval, and a new start.
    lost = seconds / interval + (interval / 2 + start_seconds()) / mean
    return Saves(size, seconds, interval, min(1.0, lost))


def save_bytes(config: TrainConfig, work: Work) -> int:
    """Of one checkpoint: parameters, two moments and maybe their moving average, in float32."""
    return work.parameters * (3 + (config.model.ema_decay is not None)) * 4


def start_seconds() -> float:
    """What a start takes: weights, compiling, the first batch."""
    return float(hardware()["start_seconds"])


def checkpoint_bytes(config: TrainConfig, size: int) -> int:
    """Of all that lie in the run's directory at once, one that is being written included."""
    kept = config.checkpoint.keep + 1 + len(config.checkpoint.pinned)
    if config.checkpoint.keep_every:
        kept += config.steps // config.checkpoint.keep_every
    return kept * size


def _manifests(folders: Sequence[str]) -> list[Manifest] | None:
    """Of all sets; None if one is not here, or in a bucket that cannot be reached from here."""
    found = []
    for folder in folders:
        try:
            with reached(folder) as path:
                if not (path / FILE).exists():
                    return None
                found.append(load_manifest(path))
        except DataError:
            if "://" in folder:
                return None
            raise
    return found
