"""Resizing, cropping and mirroring a pair of pictures alike."""

import dataclasses
import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mre_jax.errors import ConfigError

FILTERS = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How pictures become pixels.

    As in InstructPix2Pix a picture is resized to a square whatever its proportions.

    Attributes:
        resolution: side of the result in pixels.
        resize_to: side before a random crop to `resolution`; None is no crop.
        flip: probability of mirroring.
        filter: "lanczos" (InstructPix2Pix) or "bicubic" (the released reward code).

    Raises:
        ConfigError: if a value is out of range.
    """

    resolution: int = 256
    resize_to: int | None = None
    flip: float = 0.5
    filter: str = "lanczos"

    def __post_init__(self) -> None:
        if self.resolution < 1:
            raise ConfigError(f"resolution={self.resolution} must be at least 1")
        if self.resize_to is not None and self.resize_to < self.resolution:
            raise ConfigError(
                f"resize_to={self.resize_to} must be at least resolution={self.resolution}"
            )
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"flip={self.flip} must be a probability, 0 .. 1")
        if self.filter not in FILTERS:
            raise ConfigError(f"filter={self.filter!r} must be one of {', '.join(FILTERS)}")

    @property
    def room(self) -> int:
        """Pixels by which a crop may be moved in each direction."""
        return (self.resize_to or self.resolution) - self.resolution


def augment(
    image: Image.Image, augmentation: Augmentation, *, top: float, left: float, mirror: bool
) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of an RGB picture; give both pictures of a pair the same arguments.

    Args:
        image: of any size.
        augmentation: sizes and filter.
        top: place of the crop in its room, in [0, 1).
        left: likewise.
        mirror: whether left becomes right.
    """
    side = augmentation.resize_to or augmentation.resolution
    if image.size != (side, side):
        image = image.resize((side, side), FILTERS[augmentation.filter])
    y, x = (math.floor(place * (augmentation.room + 1)) for place in (top, left))
    end = augmentation.resolution
    pixels = np.asarray(image)[y : y + end, x : x + end]
    return np.ascontiguousarray(pixels[:, ::-1] if mirror else pixels)
