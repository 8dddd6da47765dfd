"""The sets of a run: whole, with the rewards it asks for, and cached by the weights it has."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from etils import epath

from mre_jax.data.batches.augment import Augmentation
from mre_jax.data.cache.description import Cache, EncoderHashes, check_cache, choose_cache
from mre_jax.data.records.example import decode_triplet
from mre_jax.data.records.manifest import REWARDED, Manifest, check_manifest
from mre_jax.data.records.tfrecord import read_ends
from mre_jax.doctor.finding import DATA, Finding, failure, ok, refused
from mre_jax.errors import MreError
from mre_jax.io.bucket import at_once
from mre_jax.io.files import reached
from mre_jax.training.config import TrainConfig
from mre_jax.training.data import perspectives

CHECK = "data"


@dataclasses.dataclass
class PreparedSet:
    """A set whose shards are where they are: nothing is copied to look at it.

    Attributes:
        path: its folder.
        manifest: its manifest.
    """

    path: epath.Path
    manifest: Manifest

    @property
    def cache(self) -> Cache | None:
        """What is cached in its records."""
        return Cache.of(self.manifest)


Sets: TypeAlias = Mapping[str, PreparedSet | MreError]
"""By folder; or what is wrong with it."""


def open_sets(config: TrainConfig) -> Sets:
    """The sets of a run, with first and last record of each shard read where they are."""
    found: dict[str, PreparedSet | MreError] = {}
    for folder in (*config.data.paths, *config.validation.data):
        try:
            found[folder] = _opened(folder)
        except MreError as error:
            found[folder] = error
    return found


def check_data(config: TrainConfig, sets: Sets) -> Iterator[Finding]:
    """Manifest, and first and last record of each shard, of every set that the run reads.

    Example:
        >>> from mre_jax import DataConfig, ModelConfig, TrainConfig
        >>> config = TrainConfig("first", 1, ModelConfig(TOY), DataConfig(("shards",), 8))
        >>> [finding.level for finding in check_data(config, open_sets(config))]
        ['ok']
    """
    for folder, one in sets.items():
        if not isinstance(one, PreparedSet):
            yield refused(CHECK, one)
        elif folder in config.data.paths and _lacks_rewards(one, config):
            says = f"{folder}: no rewards in it, and the configuration asks for them"
            yield failure(CHECK, says, "prepare it with --rewards", DATA)
        else:
            manifest = one.manifest
            yield ok(CHECK, f"{folder}: {len(manifest.shards)} shards, {manifest.count} records")


def check_cached(
    config: TrainConfig, sets: Sets, hashes: EncoderHashes | None
) -> Iterator[Finding]:
    """Whether the caches of the sets are such as the run reads, and of its weights.

    Args:
        hashes: of the run's encoders; None if they cannot be read here.
    """
    data = config.data
    augmentation = Augmentation(
        data.resolution, resize_to=data.resize, filter=data.filter, flip=data.flip, fit=data.fit
    )
    whole = [one for folder in data.paths if isinstance(one := sets[folder], PreparedSet)]
    if not whole:
        return  # told of by the check of the data
    try:
        cache = choose_cache(whole, data.cache, augmentation)
        if cache is not None and hashes is not None:
            check_cache(
                whole,
                hashes,
                none_for_top=data.none_for_top,
                perspectives=perspectives(config),
                reward_cut=data.reward_cut,
            )
    except MreError as error:
        yield refused("cache", error)
        return
    if cache is None:
        yield ok("cache", "pictures are encoded in every step")
    elif hashes is None:
        yield ok("cache", f"{cache}; by which weights cannot be seen from here")
    else:
        yield ok("cache", f"of these weights: {cache}")


def _opened(folder: str) -> PreparedSet:
    with reached(folder) as path:
        found = PreparedSet(path, check_manifest(path))
        at_once(_read_ends, [path / shard.file for shard in found.manifest.shards])
        _ = found.cache
    return found


def _read_ends(path: epath.Path) -> None:
    for record in read_ends(path):
        decode_triplet(record, str(path))


def _lacks_rewards(one: PreparedSet, config: TrainConfig) -> bool:
    """Sets of earlier versions do not tell."""
    asks = config.model.takes_reward or config.loss.preference is not None
    asks = asks or config.loss.score_weighting != "none" or config.data.min_score is not None
    return asks and one.manifest.measured.get(REWARDED) == 0
