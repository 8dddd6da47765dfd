"""Adds the cache to records as they are written: batches of examples through the encoders."""

import dataclasses
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import Array, Int32, UInt8
from PIL import Image

from mre_jax.data.batches.augment import Augmentation, augment
from mre_jax.data.cache.description import (
    KEPT,
    THUMBNAILS,
    Cache,
    CacheOptions,
    SmartEditCache,
    TextCache,
)
from mre_jax.data.cache.encoders import CacheEncoders, tokenize_quietly
from mre_jax.data.cache.features import Rounding, pack
from mre_jax.data.records.example import Features
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.reward.text import Parts, join_rewards, reward_parts
from mre_jax.smartedit.templates import Templates
from mre_jax.weights.lora import Loras

THUMBNAIL = 64
"""Longer side in pixels of what is left of dropped pictures."""

_THREADS = 4


class CacheMaker:
    """The `Extender` that caches what a model's encoders say.

    Attributes:
        cache: what it makes.
    """

    def __init__(
        self,
        model: epath.PathLike,
        options: CacheOptions,
        devices: Sequence[jax.Device] | None = None,
        *,
        base: epath.PathLike | None = None,
        lora: Loras = (),
        templates: Templates | None = None,
        split_llm: bool = False,
    ):
        """Loads the encoders; what had to be changed or assumed is said in warnings.

        Args:
            model: anything that `load_model` takes.
            options: what to make.
            devices: devices that share the work; by default all of this host.
            base: a model for what `model` lacks.
            lora: LoRA files to merge into the text encoder, as `load_component` takes them.
            templates: of a SmartEdit's prompts, in the place of the model's own.
            split_llm: whether each device holds a part of a SmartEdit's language model.

        Raises:
            ConfigError: if the options do not fit the model.
            DataError: if the model cannot be read.
        """
        if lora and not options.text:
            raise ConfigError(
                "a LoRA changes no latents; cache the texts too (--text), or leave it out"
            )
        self._options = options
        self._encoders = CacheEncoders(
            model,
            text=options.text,
            base=base,
            lora=lora,
            templates=templates,
            split_llm=split_llm,
            devices=devices,
        )
        downscale = self._encoders.downscale
        if options.resolution % downscale:
            raise ConfigError(
                f"resolution {options.resolution} must be a multiple of the VAE's {downscale}"
            )
        self._augmentation = Augmentation(options.resolution, filter=options.filter)
        self.cache = Cache(
            vae=self._encoders.hashes.vae,
            dtype=options.dtype,
            resolution=options.resolution,
            filter=options.filter,
            latents=self._encoders.latents(options.resolution),
            text=self._text_cache(),
            pictures=THUMBNAILS if options.drop_pictures else KEPT,
            platform=jax.default_backend(),
            smartedit=self._smartedit_cache(),
        )
        self._forget()

    def extend(self, triplets: Iterator[Triplet]) -> Iterator[tuple[Triplet, Features]]:
        """Yields the triplets with their cached features.

        Raises:
            DataError: naming the example whose pictures cannot be decoded or encoded.
        """
        self._forget()
        size = self._options.batch_size * self._encoders.devices
        running: tuple[list[Triplet], dict[str, Array]] | None = None
        with ThreadPoolExecutor(_THREADS) as pool:
            while batch := list(itertools.islice(triplets, size)):
                arrays = self._start(batch, size, pool)
                if running is not None:
                    yield from self._finish(*running)
                running = batch, arrays
        if running is not None:
            yield from self._finish(*running)

    def measured(self) -> dict[str, Any]:
        """Rounding errors, and how many texts the encoder's window cut, since `extend` began."""
        return {"rounding": self._rounding.parts, "cut": dict(self._cut), "texts": self._texts}

    def merged(self, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The same of a whole set: largest and mean absolute error, and shares of texts."""
        rounding, texts = Rounding(), sum(part["texts"] for part in parts)
        cut = dict.fromkeys(self._cut, 0)
        for part in parts:
            rounding.add_parts(part["rounding"])
            for name in cut:
                cut[name] += part["cut"][name]
        merged: dict[str, Any] = {"rounding": rounding.summary()}
        return merged | ({"texts": texts, "cut_texts": cut} if self.cache.text else {})

    def _text_cache(self) -> TextCache | None:
        encoders = self._encoders
        if encoders.tokenizer is None:
            return None
        return TextCache(
            text_encoder=str(encoders.hashes.text_encoder),
            tokenizer=str(encoders.hashes.tokenizer),
            tokens=encoders.tokenizer.length,
            width=encoders.text_width,
            none_for_top=self._options.none_for_top,
            perspectives=self._options.perspectives,
            reward_cut=self._options.reward_cut,
        )

    def _smartedit_cache(self) -> SmartEditCache | None:
        encoders = self._encoders
        if encoders.instructions is None or encoders.tokenizer is None:
            return None
        networks = encoders.instructions.encoder
        states, vision = networks.qformer.config, networks.vision.config
        side = vision.image_size // vision.patch_size
        text = states.query_length, states.hidden_size
        image = side, side, networks.bim.config.out_channels
        empty = encoders.tokenizer.length, encoders.text_width
        if text != empty:
            raise ConfigError(
                f"SmartEdit's {text[0]} states of width {text[1]} cannot stand in the place of the "
                f"text encoder's {empty[0]} of width {empty[1]}; take both from one model"
            )
        return SmartEditCache(
            str(encoders.hashes.smartedit), str(encoders.hashes.prompts), *text, image
        )

    def _forget(self) -> None:
        self._rounding, self._texts = Rounding(), 0
        self._cut = {"instruction": 0, "reward_text": 0}

    def _start(self, batch: list[Triplet], size: int, pool: ThreadPoolExecutor) -> dict[str, Array]:
        """Has a batch encoded that is filled up to `size`, so that one program serves all."""
        pixels, seen = zip(*pool.map(self._pixels, batch), strict=True)
        ids = self._ids(batch)
        arrays = self._encoders(
            _filled(np.stack(pixels), size), None if ids is None else _filled(ids, size)
        )
        if (encoder := self._encoders.instructions) is None:
            return arrays
        prompts = encoder.prompts([triplet.instruction for triplet in batch])
        self._cut["instruction"] += int(prompts.too_long.sum())
        text, image = encoder.encode(prompts, np.stack(seen))
        return {**arrays, "instruction_states": text, "image_features": image}

    def _pixels(
        self, triplet: Triplet
    ) -> tuple[UInt8[np.ndarray, "2 H W 3"], UInt8[np.ndarray, "s s 3"] | None]:
        """Original and edited picture for the VAE, and the original for SmartEdit's CLIP."""
        images, encoder = triplet.images(), self._encoders.instructions
        pixels = [
            augment(image, self._augmentation, top=0, left=0, mirror=False) for image in images
        ]
        return np.stack(pixels), None if encoder is None else encoder.clip_pixels(images[:1])[0]

    def _ids(self, batch: list[Triplet]) -> Int32[np.ndarray, "b n t"] | None:
        tokenizer = self._encoders.tokenizer
        if tokenizer is None:
            return None
        texts = {
            "instruction": [triplet.instruction for triplet in batch],
            "reward_text": join_rewards(
                list(map(self._reward_parts, batch)), tokenizer, self._options.reward_cut
            ),
        }
        ids = []
        for name in self._encoders.texts:
            rows, cut = tokenize_quietly(tokenizer, texts[name])
            ids.append(rows)
            self._cut[name] += cut
        self._texts += len(batch)
        return np.stack(ids, axis=1)

    def _reward_parts(self, triplet: Triplet) -> Parts:
        if triplet.scores is None:
            return ()
        return reward_parts(
            triplet.texts or ("",) * len(PERSPECTIVES),
            triplet.scores,
            none_for_top=self._options.none_for_top,
            perspectives=self._options.perspectives,
        )

    def _finish(
        self, batch: list[Triplet], arrays: dict[str, Array]
    ) -> Iterator[tuple[Triplet, Features]]:
        values = {name: np.asarray(array) for name, array in arrays.items()}
        for row, triplet in enumerate(batch):
            where = triplet.where or triplet.id
            mine = {name: array[row] for name, array in values.items()}
            features = pack(self.cache, mine, where, self._rounding)
            yield (_with_thumbnails(triplet) if self._options.drop_pictures else triplet), features


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def _with_thumbnails(triplet: Triplet) -> Triplet:
    original, edited = map(_thumbnail, triplet.images())
    return dataclasses.replace(triplet, original=original, edited=edited)


def _thumbnail(image: Image.Image) -> bytes:
    image, buffer = image.copy(), io.BytesIO()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
