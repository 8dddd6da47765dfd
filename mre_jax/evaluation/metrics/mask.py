"""Masks of what was to be edited, as MagicBrush ships them.

Such a mask is the picture itself with a hole: what was to be edited is transparent. It may be of
another size. A mask without transparency is white there instead.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from mre_jax.io.image import read_image, to_array

_WHITE = 250  # a little below 255, for masks that were JPEG once


def read_masks(paths: Sequence[Path], size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Where any of the masks has its hole.

    Args:
        paths: of the files.
        size: width and height in pixels that each is brought to.

    Raises:
        DataError: if one cannot be read.
    """
    width, height = size
    edited = np.zeros((height, width), bool)
    for path in paths:
        hole = Image.fromarray(_hole(path))
        edited |= np.asarray(hole.resize(size, Image.Resampling.NEAREST))
    return edited


def _hole(path: Path) -> Bool[np.ndarray, "h w"]:
    picture = read_image(path)  # which checks the file, and lays it on white
    with Image.open(path) as image:
        if image.has_transparency_data:
            alpha = to_array(image.convert("RGBA"))[..., 3]
            if alpha.min() < 255:
                return alpha < 128
    return np.all(to_array(picture) >= _WHITE, axis=2)
