"""Training triplets in memory: source picture, instruction, badly or well edited picture."""

import dataclasses
import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.toyworld.corruption import corrupt, draw_kinds, draw_severities
from mre_jax.toyworld.edits import Edits, apply, draw_edits
from mre_jax.toyworld.scene import Scenes, draw_scenes, render, streams

ImageFormat = Literal["jpg", "png"]
TRAINING, HELD_OUT = 0, 1  # the splits' random streams


@dataclasses.dataclass(frozen=True)
class Triplets:
    """A batch of training examples; pictures are float32 in [0, 1].

    Attributes:
        target: the ideal result, which a data set does not show.
        edited: what it shows instead.
        severities, kinds: the damage from target to edited, see `corruption`.
    """

    scenes: Scenes
    edits: Edits
    severities: Int[np.ndarray, "b 3"]
    kinds: Int[np.ndarray, "b 3"]
    source: Float[np.ndarray, "b H W 3"]
    target: Float[np.ndarray, "b H W 3"]
    edited: Float[np.ndarray, "b H W 3"]


def draw_triplets(
    seed: int,
    indices: Sequence[int],
    size: int,
    *,
    variant: int = 0,
    clean_share: float | None = None,
) -> Triplets:
    """The training examples of these indices, each a function of the arguments and its index alone.

    The types of instruction take turns: example i has type i mod 7.

    Args:
        variant: scenes and edits of all variants are the same; their damage is independent.
        clean_share: of `draw_severities`.
    """
    rngs = streams(seed, TRAINING, indices)
    scenes = draw_scenes(rngs)
    edits = draw_edits(scenes, np.array(indices) % len(EDIT_TYPES), rngs)
    if variant:
        rngs = [np.random.default_rng((seed, TRAINING, index, variant)) for index in indices]
    severities = draw_severities(rngs, clean_share)
    kinds = draw_kinds(scenes, edits, severities, rngs)
    source, target = render(scenes, size), render(apply(scenes, edits), size)
    edited = corrupt(scenes, edits, source, target, severities, kinds, rngs)
    return Triplets(scenes, edits, severities, kinds, source, target, edited)


def to_bytes(images: Float[np.ndarray, "*b H W 3"]) -> UInt8[np.ndarray, "*b H W 3"]:
    """[0, 1] to 0..255, rounded; of a picture or of several."""
    return np.rint(images * 255).astype(np.uint8)


def encode(image: Float[np.ndarray, "H W 3"], image_format: ImageFormat) -> bytes:
    """An image file: PNG, or JPEG of quality 95 with full chroma resolution."""
    file = io.BytesIO()
    picture = Image.fromarray(to_bytes(image))
    if image_format == "png":
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def decode(file: bytes) -> Float[np.ndarray, "H W 3"]:
    """The inverse of `encode`, up to what the file format loses."""
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)
