"""DINO's similarity of two pictures, as MagicBrush and Emu Edit report it."""

from collections.abc import Iterable, Sequence

import jax
import numpy as np
from etils import epath
from flax import nnx
from jaxtyping import Array, Float32, Float64, UInt8

from mre_jax.evaluation.metrics.batched import Batched
from mre_jax.evaluation.metrics.cosine import cosine, unit
from mre_jax.evaluation.metrics.dino_names import released_names
from mre_jax.evaluation.metrics.preprocess import Picture, Preprocess
from mre_jax.evaluation.metrics.vit import VisionTransformer, ViTConfig
from mre_jax.evaluation.metrics.weight_file import fingerprint, open_weights
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.weights.locate import local_path
from mre_jax.weights.names.rule import load

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DINOScores:
    """Cosines of the class token's state, one per pair, in [-1, 1].

    Args:
        model: the backbone.
        name: what tells these weights from others in `measure`.
        batch_size: pictures at a time on each device.
        devices: None takes all of this process.

    Attributes:
        measure: network, weights and preprocessing, for the rows of results.
    """

    def __init__(
        self,
        model: VisionTransformer,
        name: str,
        *,
        batch_size: int = 16,
        devices: Sequence[jax.Device] | None = None,
    ):
        preprocess = preprocess_of(model.config)
        self.measure = f"{name}, {preprocess}"

        def features(
            model: VisionTransformer, pixels: UInt8[Array, "b H W 3"]
        ) -> Float32[Array, "b d"]:
            return model(preprocess.normalise(pixels))[:, 0]

        self._images: Batched[Picture] = Batched(
            model, features, preprocess.pixels, batch_size=batch_size, devices=devices
        )

    @classmethod
    def from_pretrained(
        cls,
        path: epath.PathLike,
        *,
        batch_size: int = 16,
        devices: Sequence[jax.Device] | None = None,
    ) -> "DINOScores":
        """DINO v1 from the backbone's file.

        Args:
            path: the authors' .pth, timm's model.safetensors, or a folder of transformers' ViT;
                local or gs://. The authors' "full checkpoint" holds other networks as well and
                is not read.
            batch_size, devices: see the class.

        Raises:
            DataError: when the file is missing, damaged, or that of another network.
        """
        with local_path(path) as local:
            source = released_names(open_weights(local))
            config = ViTConfig.of(source)
            abstract = nnx.eval_shape(
                lambda: VisionTransformer(config, compute=Compute(), rngs=make_rngs(0))
            )
            model = load(abstract, source)
            letter = _LETTERS.get(config.hidden_size, str(config.hidden_size))
            name = f"DINO ViT-{letter}/{config.patch_size} ({fingerprint(source)})"
        return cls(model, name, batch_size=batch_size, devices=devices)

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
