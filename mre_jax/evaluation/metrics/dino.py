"""DINO's similarity of two pictures, as MagicBrush and Emu Edit report it."""

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float32, Float64

from mre_jax.evaluation.metrics.cosine import cosine, unit
from mre_jax.evaluation.metrics.dino_names import released_names
from mre_jax.evaluation.metrics.preprocess import Picture, Preprocess
from mre_jax.evaluation.metrics.pretrained import (
    Loaded,
    PretrainedNetwork,
    fingerprint,
    open_weights,
    read_network,
)
from mre_jax.evaluation.metrics.vit import VisionTransformer, ViTConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DINOScores(PretrainedNetwork[VisionTransformer]):
    """Cosines of the class token's state of DINO v1, one per pair, in [-1, 1].

    Its file is the backbone's: the authors' .pth, timm's model.safetensors, or a folder of
    transformers' ViT. The authors' "full checkpoint" holds other networks as well and is not read.
    """

    @classmethod
    def read(cls, path: Path) -> Loaded[VisionTransformer]:
        """See `PretrainedNetwork`."""
        source = released_names(open_weights(path))
        config = ViTConfig.of(source)
        model = read_network(functools.partial(VisionTransformer, config), source)
        letter = _LETTERS.get(config.hidden_size, str(config.hidden_size))
        name = f"DINO ViT-{letter}/{config.patch_size} ({fingerprint(source)})"
        return Loaded(model, name, preprocess_of(config))

    @staticmethod
    def forward(
        model: VisionTransformer, pixels: Float32[Array, "b H W 3"]
    ) -> Float32[Array, "b d"]:
        """See `PretrainedNetwork`."""
        return model(pixels)[:, 0]

    def features(self, pictures: Iterable[Picture]) -> Float64[np.ndarray, "n d"]:
        """Features of unit length.

        Raises:
            DataError: if there are none, or one cannot be read.
        """
        return unit(self._images(pictures))

    def similarity(
        self, generated: Iterable[Picture], targets: Iterable[Picture]
    ) -> Float64[np.ndarray, " n"]:
        """The cosine between each generated picture and its target.

        Raises:
            DataError: as `features`, or for different numbers of both.
        """
        return cosine(self.features(generated), self.features(targets))


def preprocess_of(config: ViTConfig) -> Preprocess:
    """ImageNet's evaluation: 256 and 224 pixels, or in that proportion."""
    crop = config.image_size
    return Preprocess(crop * 256 // 224, crop, IMAGENET_MEAN, IMAGENET_STD, round_offset=True)


_LETTERS = {192: "Ti", 384: "S", 768: "B"}
