"""At which size a picture is edited: the presets of the paper and of the released code."""

import math
import re
from numbers import Integral
from typing import TypeAlias

from PIL import Image, ImageOps

from mre_jax.errors import ConfigError, DataError

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""

MULTIPLE = 8
"""Pixels per latent along each side: sizes are multiples of it."""

_COARSE = 64
"""The presets' own multiple."""

PRESETS = ("paper", "released_code", "keep")
SIZE, RESOLUTION = "paper", 512
"""The defaults of every edit."""


def target_size(size: Size, preset: str | Size, resolution: int = RESOLUTION) -> Size:
    """The (width, height) at which a picture of `size` is edited.

    Args:
        size: (width, height) of the picture.
        preset: "paper" brings the shorter side to `resolution` and both to the nearest multiple
            of 64; "released_code" is InstructPix2Pix's rule, the longer side about `resolution`,
            both a multiple of 64; "keep" takes the picture as it is, cut to multiples of 8; or an
            explicit (width, height) in multiples of 8.
        resolution: pixels, as above.

    Raises:
        ConfigError: for an unknown preset, a resolution below 64, or a size that is not a positive
            multiple of 8.
        DataError: for a picture that is too small to be kept as it is.
    """
    width, height = size
    if isinstance(preset, tuple):
        return _explicit(preset)
    if preset == "keep":
        if min(size) < MULTIPLE:
            raise DataError(
                f"a picture of {width}x{height} has a side below {MULTIPLE} pixels; name another "
                "size than keep"
            )
        return width // MULTIPLE * MULTIPLE, height // MULTIPLE * MULTIPLE
    if resolution < _COARSE:
        raise ConfigError(f"resolution {resolution} is below {_COARSE} pixels")
    if preset == "paper":
        scale = resolution / min(width, height)
        return _nearest(width * scale), _nearest(height * scale)
    if preset == "released_code":
        scale = resolution / max(width, height)
        scale = math.ceil(min(width, height) * scale / _COARSE) * _COARSE / min(width, height)
        return _below(width * scale), _below(height * scale)
    raise ConfigError(f"size {preset!r} is not one of {', '.join(PRESETS)} or WIDTHxHEIGHT")


def parse_size(text: str | Size) -> str | Size:
    """Reads a size: the name of a preset, "WIDTHxHEIGHT", or (width, height).

    Raises:
        ConfigError: if it is neither.
    """
    if isinstance(text, tuple) and len(text) == 2 and all(isinstance(s, Integral) for s in text):
        return _explicit((int(text[0]), int(text[1])))
    if text in PRESETS:
        return text
    if found := re.fullmatch(r"(\d+)x(\d+)", str(text), re.ASCII | re.IGNORECASE):
        return _explicit((int(found[1]), int(found[2])))
    raise ConfigError(f"size {text!r} is not one of {', '.join(PRESETS)} or WIDTHxHEIGHT")


def fit(image: Image.Image, size: Size) -> Image.Image:
    """Scales `image` to cover `size` and cuts the overhang evenly, so that nothing is stretched."""
    if image.size == size:
        return image
    return ImageOps.fit(image, size, method=Image.Resampling.LANCZOS)


def _nearest(length: float) -> int:
    return max(_COARSE, round(length / _COARSE) * _COARSE)


def _below(length: float) -> int:
    return max(_COARSE, int(length // _COARSE) * _COARSE)  # a multiple may be rounded below itself


def _explicit(size: Size) -> Size:
    if any(side < MULTIPLE or side % MULTIPLE for side in size):
        raise ConfigError(f"size {size[0]}x{size[1]}: both sides must be multiples of {MULTIPLE}")
    return size
