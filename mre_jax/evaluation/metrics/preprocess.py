"""From the pictures people have to the pixels that a metric's network was trained on."""

import dataclasses
import os
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, UInt8
from PIL import Image

from mre_jax.io.image import read_image, to_array, to_rgb

Picture: TypeAlias = Image.Image | str | os.PathLike[str]
"""A picture, or the path of one, which is read only when its batch is made."""


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Shorter side to `resize` by PIL's bicubic filter, the middle `crop`, mean and deviation.

    Attributes:
        resize, crop: pixels; `crop` is not above `resize`.
        mean, std: statistics of each channel in [0, 1].
        round_offset: rounds half a pixel of the crop's corner to even, as torchvision does;
            otherwise down, as transformers does.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    round_offset: bool = False

    def pixels(self, picture: Picture) -> UInt8[np.ndarray, "crop crop 3"]:
        """The resized and cropped picture, on the host.

        Raises:
            DataError: if it cannot be read.
        """
        image = open_picture(picture)
        short = min(image.size)
        width, height = (int(self.resize * side / short) for side in image.size)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = self._offset(width), self._offset(height)
        return to_array(image)[top : top + self.crop, left : left + self.crop]

    def normalise(self, pixels: UInt8[Array, "b H W 3"]) -> Float32[Array, "b H W 3"]:
        """What the network sees, on the device."""
        mean, std = (jnp.asarray(x, jnp.float32) for x in (self.mean, self.std))
        return (pixels.astype(jnp.float32) / 255 - mean) / std

    def _offset(self, side: int) -> int:
        margin = side - self.crop
        return round(margin / 2) if self.round_offset else margin // 2

    def __str__(self) -> str:
        return f"shorter side {self.resize} bicubic, crop {self.crop}"


def open_picture(picture: Picture) -> Image.Image:
    """8-bit RGB, upright.

    Raises:
        DataError: if it cannot be read.
    """
    return to_rgb(picture) if isinstance(picture, Image.Image) else read_image(picture)
