"""Resizing, cropping and mirroring a pair of pictures alike."""

import dataclasses
import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mre_jax.errors import ConfigError

FITS = ("stretch", "crop")
FILTERS = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How pictures become pixels.

    Attributes:
        resolution: side of the result in pixels.
        resize_to: side before a random crop to `resolution`; None is `resolution`.
        flip: probability of mirroring.
        filter: "lanczos" (InstructPix2Pix) or "bicubic" (the released reward code).
        fit: "stretch" resizes a picture to a square whatever its proportions, as InstructPix2Pix
            does; "crop" resizes its shorter side and keeps them, so that of the longer side a
            random part is seen.

    Raises:
        ConfigError: if a value is out of range.
    """

    resolution: int = 256
    resize_to: int | None = None
    flip: float = 0.5
    filter: str = "lanczos"
    fit: str = "stretch"

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
        if self.fit not in FITS:
            raise ConfigError(f"fit={self.fit!r} must be one of {', '.join(FITS)}")

    @property
    def crops(self) -> bool:
        """Whether a part of a picture is seen, by chance."""
        return self.fit == "crop" or self.side > self.resolution

    @property
    def side(self) -> int:
        """Shorter side of a picture before it is cropped."""
        return self.resize_to or self.resolution

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height to which a picture of these is resized."""
        if self.fit == "stretch":
            return self.side, self.side
        scale = self.side / min(width, height)
        return max(round(width * scale), self.side), max(round(height * scale), self.side)


def augment(
    image: Image.Image,
    augmentation: Augmentation,
    *,
    top: float,
    left: float,
    mirror: bool,
    proportions: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of an RGB picture; give both pictures of a pair the same arguments.

    Args:
        image: picture of any size.
        augmentation: sizes and filter.
        top: place of the crop in its room, in [0, 1); 0.5 is the middle.
        left: place of the crop in its room, likewise.
        mirror: whether left becomes right.
        proportions: width and height that count, if not the picture's own: where a pair is of two
            sizes, those of the original, so that both show the same.
    """
    size = augmentation.size(*(proportions or image.size))
    if image.size != size:
        image = image.resize(size, FILTERS[augmentation.filter])
    end = augmentation.resolution
    x, y = (math.floor(p * (s - end + 1)) for p, s in zip((left, top), size, strict=True))
    pixels = np.asarray(image)[y : y + end, x : x + end]
    return np.ascontiguousarray(pixels[:, ::-1] if mirror else pixels)
