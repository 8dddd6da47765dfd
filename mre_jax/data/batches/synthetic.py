"""Batches of the right shapes without any files, for benchmarks and compile tests."""

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from mre_jax.data.batches.batch import Batch, Cached
from mre_jax.data.batches.order import draw, drop_conditions, positions
from mre_jax.data.cache.description import DTYPES
from mre_jax.reward.scores import MAX_SCORE, PERSPECTIVES


@dataclasses.dataclass(frozen=True)
class SyntheticCache:
    """Shapes of the latents and text states that stand for pictures and texts.

    The defaults are those of Stable Diffusion 1.5.

    Attributes:
        downscale: pixels per latent along each side.
        channels: channels of the latents.
        dtype: "float16" or "bfloat16".
        text_width: width of the text states; None leaves token ids.
        image_features: side and channels of SmartEdit's features, 16 and 320; None makes none.
    """

    downscale: int = 8
    channels: int = 4
    dtype: str = "bfloat16"
    text_width: int | None = None
    image_features: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class SyntheticLoader:
    """A `Loader` whose pictures and tokens are noise, made once; draws go on as in training.

    Attributes:
        batch_size: examples of all hosts together.
        seed: seed of the noise and the draws.
        resolution: side of the pictures in pixels.
        tokens: length of the text encoder's window.
        vocabulary: number of token ids.
        dropout: see `drop_conditions`.
        host: this host, from 0.
        hosts: a divisor of the batch size.
        cache: makes latents instead of pictures; None makes pictures.
    """

    batch_size: int
    seed: int = 0
    resolution: int = 256
    tokens: int = 77
    vocabulary: int = 49408
    dropout: float = 0.05
    host: int = 0
    hosts: int = 1
    cache: SyntheticCache | None = None

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        return next(self.batches(step))

    def batches(self, start: int = 0, stop: int = sys.maxsize) -> Iterator[Batch]:
        """The batches of steps start .. stop-1; they share their pictures, texts and scores."""
        first = self._first()
        for step in range(start, stop):
            where = positions(step, self.batch_size, self.host, self.hosts)
            draws = draw(self.seed, where)
            drop_text, drop_image = drop_conditions(draws.dropout, self.dropout)
            yield first._replace(
                drop_text=drop_text,
                drop_image=drop_image,
                flip=draws.flip < 0.5,
                key_data=draws.key_data,
                positions=where,
            )

    def _first(self) -> Batch:
        """A batch in which nothing is drawn yet."""
        size, side = len(positions(0, self.batch_size, self.host, self.hosts)), self.resolution
        noise = np.random.default_rng(self.seed)
        cached = None if self.cache is None else self._cached(self.cache, size, noise)
        pixels: Any = (None, None)
        if cached is None:
            pixels = noise.integers(0, 256, (2, size, side, side, 3), np.uint8)
        ids: Any = (None, None)
        if cached is None or cached.instruction_states is None:
            ids = noise.integers(0, self.vocabulary, (2, size, self.tokens), np.int32)
        return Batch(
            original=pixels[0],
            edited=pixels[1],
            instruction=ids[0],
            scores=noise.integers(0, MAX_SCORE + 1, (size, len(PERSPECTIVES))).astype(np.float32),
            reward_text=ids[1],
            present=np.ones(size, bool),
            drop_text=np.zeros(size, bool),
            drop_image=np.zeros(size, bool),
            flip=np.zeros(size, bool),
            key_data=np.zeros((size, 2), np.uint32),
            positions=np.arange(size),
            cached=cached,
        )

    def _cached(self, cache: SyntheticCache, size: int, noise: np.random.Generator) -> Cached:
        side = self.resolution // cache.downscale

        def normal(*shape: int) -> np.ndarray:
            return noise.standard_normal((size, *shape), np.float32).astype(DTYPES[cache.dtype])

        original, mean, logvar = (normal(side, side, cache.channels) for _ in range(3))
        cached = Cached(original, mean, logvar)
        if cache.text_width is None:
            return cached
        cached = cached._replace(
            instruction_states=normal(self.tokens, cache.text_width),
            reward_states=normal(self.tokens, cache.text_width),
            reward_pooled=normal(cache.text_width),
        )
        if cache.image_features is None:
            return cached
        patches, channels = cache.image_features
        return cached._replace(image_features=normal(patches, patches, channels))
