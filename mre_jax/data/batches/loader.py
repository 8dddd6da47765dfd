"""Batches of training: a function of seed and step, read ahead by threads or processes.

No state is kept between steps. A run that begins again at step s reads what it would have read,
and any number of hosts reads the same global batches, each its slice.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Int64

from mre_jax.data.batches.augment import Augmentation, augment
from mre_jax.data.batches.batch import Batch, Cached, Tokenize, TokenizeRewards, WritePrompts
from mre_jax.data.batches.order import (
    Draws,
    Order,
    draw,
    drop_conditions,
    instruction,
    member,
    positions,
)
from mre_jax.data.batches.pairs import Pairs
from mre_jax.data.cache.description import Cache, choose_cache
from mre_jax.data.cache.features import CachedRows
from mre_jax.data.records.example import Features
from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError
from mre_jax.io.extra import of_extra
from mre_jax.reward.file import Texts
from mre_jax.reward.scores import PERSPECTIVES, WORST, Scores
from mre_jax.reward.text import SEPARATOR, Parts, reward_parts
from mre_jax.smartedit.instruction_encoder import clip_pixels

MODULES = ("google_crc32c", "grain")
"""Of the extra `data`, those that reading a prepared set takes."""

PartsOf: TypeAlias = Callable[[Texts, Scores | None], Parts]
"""What of the texts and their scores enters the reward text."""


def require_data_extra() -> None:
    """Imports all `MODULES`, before anything that takes long.

    Raises:
        ConfigError: naming the one that is missing, and the extra.
    """
    for name in MODULES:
        of_extra(name)


@dataclasses.dataclass(frozen=True)
class Reading:
    """How batches are read ahead; what is in them does not depend on it.

    Attributes:
        threads: batches in the making at a time, in each process.
        workers: processes beside this one; 0 is none. Decoding and resizing let other threads run,
            so that workers pay only where threads leave cores idle.
        ahead: finished batches kept, in each process.

    Raises:
        ConfigError: if a number is out of range.
    """

    threads: int = 4
    workers: int = 0
    ahead: int = 4

    def __post_init__(self) -> None:
        if self.threads < 1 or self.workers < 0 or self.ahead < 1:
            raise ConfigError(f"{self}: want threads >= 1, workers >= 0, ahead >= 1")


@dataclasses.dataclass(frozen=True)
class Loader:
    """One host's part of every batch.

    Example:
        >>> loader = Loader([RecordSource("shards")], batch_size=4, seed=0,
        ...                 augmentation=Augmentation(resolution=32))
        >>> batch = loader.batch(step=0)
        >>> batch.original.shape, batch.scores.shape
        ((4, 32, 32, 3), (4, 3))

    Attributes:
        sources: one set or several.
        batch_size: examples of all hosts together.
        seed: seed of the order and of everything that chance decides.
        weights: share of each set; see `Order`.
        augmentation: sizes, filter and mirroring.
        dropout: share of examples that lose a condition; see `drop_conditions`.
        host: this host, from 0; `jax.process_index()`.
        hosts: `jax.process_count()`.
        tokenize: makes token ids of the texts; None leaves texts.
        tokenize_rewards: makes token ids of reward texts; by default `tokenize` does, of the parts
            as the released code joins them.
        parts_of: `reward_parts`, or a partial of it; worker processes must be able to pickle it.
        reading: threads and processes.
        cache: "auto" reads cached latents and texts where there are any, "required" refuses sets
            without, "never" reads pictures; see `choose_cache`. Whoever trains on a cache compares
            its weights first, by `check_cache`.
        pairs: of each set, the pairs to read in the place of its records: an epoch reads each once.
            The two edits of a pair are neighbours, the preferred one first, and meet the same
            chance. None reads records.
        clip_side: side of the squares that SmartEdit's vision tower sees; None makes none.
        write_prompts: makes prompts of the instructions; None makes none. Their token ids are there
            too if `tokenize` is, and else no texts of theirs.

    Raises:
        ConfigError: if a value is out of range, or the cache does not fit the augmentation.
    """

    sources: Sequence[RecordSource]
    batch_size: int
    seed: int
    weights: tuple[float, ...] | None = None
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    dropout: float = 0.05
    host: int = 0
    hosts: int = 1
    tokenize: Tokenize | None = None
    tokenize_rewards: TokenizeRewards | None = None
    parts_of: PartsOf = reward_parts
    reading: Reading = dataclasses.field(default_factory=Reading)
    cache: str = "auto"
    pairs: Sequence[Pairs] | None = None
    clip_side: int | None = None
    write_prompts: WritePrompts | None = None

    def __post_init__(self) -> None:
        _ = self.order, self.reads_cache
        drop_conditions(np.zeros(1), self.dropout)
        positions(0, self.batch_size, self.host, self.hosts)
        if self.batch_size % (self.hosts * self.together):
            raise ConfigError(
                f"batch_size={self.batch_size} does not divide into whole pairs over the "
                f"{self.hosts} hosts"
            )

    @property
    def together(self) -> int:
        """Neighbours in a batch that are read for each other: two of a pair, or one."""
        return 1 if self.pairs is None else 2

    @property
    def order(self) -> Order:
        """Which record, or pair, stands where."""
        sizes = [source.groups for source in self.sources]
        if self.pairs is not None:
            sizes = [len(pairs) for pairs in self.pairs]
        return Order(tuple(sizes), self.seed, self.weights)

    @property
    def reads_cache(self) -> Cache | None:
        """The cache that stands for pictures, and maybe for texts; None if pictures are read."""
        return choose_cache(self.sources, self.cache, self.augmentation)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which as many examples are read as there are, of each group one."""
        return sum(self.order.sizes) * self.together / self.batch_size

    def find(self, where: Int64[np.ndarray, " b"]) -> Iterator[tuple[RecordSource, int]]:
        """The set, and the number of its record, that is read at each position."""
        return ((self.sources[place.number], place.record) for place in self._places(where))

    def read(self, where: Int64[np.ndarray, " b"]) -> Iterator[tuple["Place", Triplet, Features]]:
        """What stands at each position, with its record; buckets are asked for many at a time."""
        places = list(self._places(where))
        records = {
            number: source.read_each([place.record for place in places if place.number == number])
            for number, source in enumerate(self.sources)
        }
        return ((place, *next(records[place.number])) for place in places)

    def _places(self, where: Int64[np.ndarray, " b"]) -> Iterator["Place"]:
        """What stands at each position."""
        order, (where, side) = self.order, np.divmod(where, self.together)
        rows = zip(*order.locate(where), order.epochs(where), side, strict=True)
        for number, group, epoch, which in (map(int, row) for row in rows):
            if self.pairs is not None:
                pair = self.pairs[number].records[group].tolist()
                yield Place(number, pair[which], epoch, pair[0])
            else:
                members = self.sources[number].members(group)
                record = member(self.seed, members, epoch, group, number)
                yield Place(number, record, epoch, record)

    def batch(self, step: int) -> Batch:
        """The batch of one step, read here and now.

        Raises:
            DataError: naming shard, record and offset of an example that is damaged, or whose
                pictures are.
        """
        return self._tokenized(self._assemble(step))

    def batches(self, start: int = 0, stop: int = sys.maxsize) -> Iterator[Batch]:
        """The batches of steps start .. stop-1, read ahead; see `batch`."""
        grain: Any = of_extra("grain")
        steps = grain.MapDataset.range(start, stop).map(self.without_tokenizer()._assemble)
        options = grain.ReadOptions(
            num_threads=self.reading.threads, prefetch_buffer_size=self.reading.ahead
        )
        dataset = steps.to_iter_dataset(options)
        if self.reading.workers:
            _parse_flags()
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(
                    num_workers=self.reading.workers, per_worker_buffer_size=self.reading.ahead
                )
            )
        return (self._tokenized(_as_plain_arrays(batch)) for batch in dataset)

    def without_tokenizer(self) -> "Loader":
        """The same batches with texts in them: what is sent to worker processes."""
        return dataclasses.replace(self, tokenize=None, tokenize_rewards=None, write_prompts=None)

    def _assemble(self, step: int) -> Batch:
        """A batch with texts; those of rewards in parts, as only the tokenizer knows their room."""
        where = positions(step, self.batch_size, self.host, self.hosts)
        draws = draw(self.seed, where[:: self.together] // self.together).repeated(self.together)
        flip = draws.flip < self.augmentation.flip
        drop_text, drop_image = drop_conditions(draws.dropout, self.dropout)
        cache = self.reads_cache
        pictures = _Pictures(self.augmentation, draws, flip) if cache is None else None
        rows = None if cache is None else CachedRows(cache, flip)
        triplets, instructions, squares = [], [], []
        for slot, (place, triplet, features) in enumerate(self.read(where)):
            texts = triplet.instructions or (triplet.instruction,)
            drawn = instruction(self.seed, texts, place.epoch, place.asked, place.number)
            instructions.append(drawn)
            if pictures is not None:
                pictures.fill(slot, triplet)
            if rows is not None:
                rows.fill(slot, features, triplet.where)
            if self.clip_side is not None:
                squares.append(clip_pixels([triplet.images()[0]], self.clip_side)[0])
            triplets.append(triplet)
        has_texts = cache is None or cache.text is None
        rewards: Any = [self._parts(triplet) for triplet in triplets]
        return Batch(
            original=pictures.original if pictures else None,
            edited=pictures.edited if pictures else None,
            instruction=instructions if has_texts or squares else None,
            scores=np.array([triplet.scores or WORST for triplet in triplets], np.float32),
            reward_text=rewards if has_texts else None,
            present=np.array([triplet.scores is not None for triplet in triplets]),
            drop_text=drop_text,
            drop_image=drop_image,
            flip=flip,
            key_data=draws.key_data,
            positions=where,
            cached=rows.cached() if rows else None,
            clip_pixels=np.stack(squares) if squares else None,
        )

    def _parts(self, triplet: Triplet) -> Parts:
        if triplet.scores is None:
            return ()
        return self.parts_of(triplet.texts or ("",) * len(PERSPECTIVES), triplet.scores)

    def _tokenized(self, batch: Batch) -> Batch:
        """The batch of `_assemble`, whose reward texts are in parts, as it is handed out."""
        if batch.instruction is None:
            return batch
        texts = list(batch.instruction)
        if batch.reward_text is not None:
            batch = self._with_rewards(batch, [tuple(parts) for parts in batch.reward_text])
        if self.write_prompts is not None:
            prompts = self.write_prompts(texts, batch.key_data)
            batch = batch._replace(instruction=None, prompts=prompts)
        return batch if self.tokenize is None else batch._replace(instruction=self.tokenize(texts))

    def _with_rewards(self, batch: Batch, rewards: Sequence[Parts]) -> Batch:
        if self.tokenize_rewards is not None:
            return batch._replace(reward_text=self.tokenize_rewards(rewards))
        joined = [SEPARATOR.join(parts) for parts in rewards]
        return batch._replace(reward_text=self.tokenize(joined) if self.tokenize else joined)


class Place(NamedTuple):
    """What stands at a position.

    Attributes:
        number: of the set.
        record: the record in it.
        epoch: of the set.
        asked: the record that an instruction is drawn for: that of a pair's other edit is the same.
    """

    number: int
    record: int
    epoch: int
    asked: int


class _Pictures:
    """The pixels of a batch, filled example by example."""

    def __init__(self, augmentation: Augmentation, draws: Draws, flip: Bool[np.ndarray, " b"]):
        self._augmentation, self._draws, self._flip = augmentation, draws, flip
        side = augmentation.resolution
        self.original, self.edited = np.empty((2, len(flip), side, side, 3), np.uint8)

    def fill(self, row: int, triplet: Triplet) -> None:
        """Decodes, resizes, cuts and mirrors a pair alike."""
        images = triplet.images()
        for pixels, image in zip((self.original, self.edited), images, strict=True):
            pixels[row] = augment(
                image,
                self._augmentation,
                top=self._draws.top[row],
                left=self._draws.left[row],
                mirror=bool(self._flip[row]),
                proportions=images[0].size,
            )


def _parse_flags() -> None:
    """Grain's workers read command line flags of absl, which this project does not use."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _as_plain_arrays(batch: Batch) -> Batch:
    """Views of what came through shared memory, which has an array type of its own."""
    cached = None if batch.cached is None else Cached(*map(_as_plain_array, batch.cached))
    return Batch(*map(_as_plain_array, batch))._replace(cached=cached)


def _as_plain_array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, np.ndarray) else value
