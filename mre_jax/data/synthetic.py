"""Batches of the right shapes without any files, for benchmarks and compile tests."""

import dataclasses
import sys
from collections.abc import Iterator

import numpy as np

from mre_jax.data.batch import Batch
from mre_jax.data.order import draw, drop_conditions, positions


@dataclasses.dataclass(frozen=True)
class SyntheticLoader:
    """A `Loader` whose pictures and tokens are noise, made once; draws go on as in training.

    Attributes:
        batch_size: of all hosts together.
        seed: of the noise and the draws.
        resolution: side of the pictures in pixels.
        tokens: length of the text encoder's window.
        vocabulary: token ids are below it.
        dropout: see `drop_conditions`.
        host: from 0.
        hosts: a divisor of the batch size.
    """

    batch_size: int
    seed: int = 0
    resolution: int = 256
    tokens: int = 77
    vocabulary: int = 49408
    dropout: float = 0.05
    host: int = 0
    hosts: int = 1

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        return next(self.batches(step))

    def batches(self, start: int = 0, stop: int = sys.maxsize) -> Iterator[Batch]:
        """The batches of steps start .. stop-1; they share their pictures, texts and scores."""
        where = positions(0, self.batch_size, self.host, self.hosts)
        size, side = len(where), self.resolution
        noise = np.random.default_rng(self.seed)
        pixels = noise.integers(0, 256, (2, size, side, side, 3), np.uint8)
        ids = noise.integers(0, self.vocabulary, (2, size, self.tokens), np.int32)
        scores = noise.integers(0, 6, (size, 3)).astype(np.float32)
        for step in range(start, stop):
            where = positions(step, self.batch_size, self.host, self.hosts)
            draws = draw(self.seed, where)
            drop_text, drop_image = drop_conditions(draws.dropout, self.dropout)
            yield Batch(
                original=pixels[0],
                edited=pixels[1],
                instruction=ids[0],
                scores=scores,
                reward_text=ids[1],
                present=np.ones(size, bool),
                drop_text=drop_text,
                drop_image=drop_image,
                flip=draws.flip < 0.5,
                key_data=draws.key_data,
                positions=where,
            )
