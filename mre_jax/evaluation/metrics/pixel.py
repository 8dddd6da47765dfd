"""Distances between pictures pixel by pixel: L1, L2, PSNR and SSIM, in float64.

Every function takes two batches of one shape and gives one value per picture. With a mask of what
was edited (True is edited) it measures the rest, where a good editor changes nothing. A further
metric is a function here and an entry of `METRICS`; `measure_pair` takes pictures.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8
from PIL import Image

from mre_jax.errors import DataError
from mre_jax.io.image import read_image, to_array

Pixels = UInt8[np.ndarray, "b H W c"] | Float[np.ndarray, "b H W c"]
Mask = Bool[np.ndarray, "b H W"]

MEASURE = "RGB in [0, 1], bicubic (PIL) to the target's size"
MEASURE_OUTSIDE = "RGB in [0, 1] outside the masks, bicubic (PIL) to the original's size"

HIGHEST_PSNR = 100.0
"""In dB: what equal pictures have, so that a set with some of them has a mean."""

# Wang et al. 2004: a Gaussian window of 11x11, and constants that keep the ratio finite.
_SIGMA = 1.5
_RADIUS = 5
_C1 = 0.01**2
_C2 = 0.03**2

_WHITE = 250  # a little below 255, for masks that were JPEG once


def l1(generated: Pixels, target: Pixels, edited: Mask | None = None) -> Float64[np.ndarray, " b"]:
    """Mean absolute difference, in [0, 1].

    Args:
        generated, target: 0..255 in uint8, or [0, 1] in floating point.
        edited: what to leave out, at the pictures' size.

    Raises:
        DataError: for pictures of different sizes, values outside [0, 1], or a mask of another
            size or that leaves nothing to measure.

    Example:
        >>> black, grey = np.zeros((1, 8, 8, 3)), np.full((1, 8, 8, 3), 0.25)
        >>> l1(grey, black)
        array([0.25])
    """
    a, b = _pair(generated, target)
    return _mean(np.abs(a - b), edited)


def l2(generated: Pixels, target: Pixels, edited: Mask | None = None) -> Float64[np.ndarray, " b"]:
    """Mean squared difference, in [0, 1]; arguments are those of `l1`.

    Raises:
        DataError: as `l1`.
    """
    a, b = _pair(generated, target)
    return _mean((a - b) ** 2, edited)


def psnr(
    generated: Pixels, target: Pixels, edited: Mask | None = None
) -> Float64[np.ndarray, " b"]:
    """Peak signal-to-noise ratio in dB, at most `HIGHEST_PSNR`; arguments are those of `l1`.

    Raises:
        DataError: as `l1`.
    """
    with np.errstate(divide="ignore"):
        return np.minimum(-10 * np.log10(l2(generated, target, edited)), HIGHEST_PSNR)


def ssim(
    generated: Pixels, target: Pixels, edited: Mask | None = None
) -> Float64[np.ndarray, " b"]:
    """Structural similarity (Wang et al. 2004) per channel, averaged, at most 1.

    The windows are those that lie inside the picture, and with a mask those that hold no edited
    pixel. Arguments are those of `l1`.

    Raises:
        DataError: as `l1`, and for a side below 11 pixels.
    """
    a, b = _pair(generated, target)
    if min(a.shape[1:3]) <= 2 * _RADIUS:
        raise DataError(
            f"SSIM needs sides of {2 * _RADIUS + 1} pixels or more, not {_size(a)}; resize them"
        )
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a = _blurred(a * a) - mean_a**2
    var_b = _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (var_a + var_b + _C2)
    if edited is not None:
        edited = _windows_touching(_checked(edited, a))
    return _mean(luminance * structure, edited)


def measure_pair(
    generated: Image.Image,
    target: Image.Image,
    edited: Bool[np.ndarray, "H W"] | None = None,
    *,
    metrics: Sequence[str] = ("l1", "l2", "psnr", "ssim"),
) -> dict[str, float]:
    """Metrics of one picture by name, as MagicBrush takes them.

    Args:
        generated: resized to the size of `target` if it has another.
        target: the ground truth, or the original.
        edited: what to leave out, at the size of `target`.
        metrics: names of `METRICS`.

    Raises:
        DataError: as `l1` and `ssim`.

    Example:
        >>> tan, white = (Image.new("RGB", (16, 16), colour) for colour in ("tan", "white"))
        >>> {name: round(value, 3) for name, value in measure_pair(tan, white).items()}
        {'l1': 0.307, 'l2': 0.107, 'psnr': 9.706, 'ssim': 0.922}
    """
    pair = to_array(match_size(generated, target))[None], to_array(target)[None]
    mask = None if edited is None else edited[None]
    return {name: float(METRICS[name](*pair, mask)[0]) for name in metrics}


def match_size(generated: Image.Image, target: Image.Image) -> Image.Image:
    """`generated` at the size of `target`, by PIL's bicubic filter."""
    if generated.size == target.size:
        return generated
    return generated.resize(target.size, Image.Resampling.BICUBIC)


def outside_masks(
    edited: Path, original: Path, masks: Sequence[Path], metrics: Sequence[str] = ("l1", "l2")
) -> dict[str, float]:
    """Metrics of an edit beside its original, outside of what was to be edited.

    Returns:
        nothing where there are no masks, or they leave nothing outside.

    Raises:
        DataError: if a picture or mask cannot be read.
    """
    picture = read_image(original)
    mask = read_masks(masks, picture.size)
    if not masks or mask.all():
        return {}
    return measure_pair(read_image(edited), picture, mask, metrics=metrics)


def read_masks(paths: Sequence[Path], size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Where any of the masks has its hole, as MagicBrush ships them.

    Such a mask is the picture itself with what was to be edited transparent. It may be of another
    size. A mask without transparency is white there instead.

    Args:
        paths: files of the masks.
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


def _hole(path: Path) -> Bool[np.ndarray, "H W"]:
    picture = read_image(path)  # which checks the file, and lays it on white
    with Image.open(path) as image:
        if image.has_transparency_data:
            alpha = to_array(image.convert("RGBA"))[..., 3]
            if alpha.min() < 255:
                return alpha < 128
    return np.all(to_array(picture) >= _WHITE, axis=2)


def _pair(generated: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if generated.shape != target.shape:
        raise DataError(
            f"the generated picture is {_size(generated)} and its target {_size(target)}; "
            "bring them to one size with match_size"
        )
    return _unit(generated), _unit(target)


def _unit(pixels: np.ndarray) -> Float64[np.ndarray, "b H W c"]:
    """Pixels in [0, 1]."""
    if pixels.dtype == np.uint8:
        return pixels / 255.0
    # Written so that NaN fails it.
    if not (np.issubdtype(pixels.dtype, np.floating) and np.all((pixels >= 0) & (pixels <= 1))):
        raise DataError("pixels must be uint8, or floating point in [0, 1]; divide by 255")
    return pixels.astype(np.float64)


def _mean(values: np.ndarray, left_out: Mask | None) -> np.ndarray:
    """The mean of each picture's values [b H W c], over what is not left out."""
    if left_out is None:
        return values.mean(axis=(1, 2, 3))
    kept = ~_checked(left_out, values)
    count = kept.sum(axis=(1, 2))
    if not count.all():
        raise DataError(
            f"the mask of picture {int(np.argmin(count))} of the batch leaves nothing to measure"
        )
    return np.einsum("bhwc,bhw->b", values, kept) / (count * values.shape[3])


def _checked(mask: np.ndarray, pixels: np.ndarray) -> Mask:
    if mask.dtype != bool or mask.shape != pixels.shape[:3]:
        raise DataError(
            f"the mask must be boolean and of the pictures' size {list(pixels.shape[:3])}, "
            f"not {mask.dtype} {list(mask.shape)}"
        )
    return mask


def _blurred(x: np.ndarray) -> np.ndarray:
    """The Gaussian mean of every window that lies inside [b H W c]: [b H-10 W-10 c]."""
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        views = np.lib.stride_tricks.sliding_window_view(x, len(weights), axis)
        x = views @ weights
    return x


def _windows_touching(mask: Mask) -> Bool[np.ndarray, "b h2 w2"]:
    """Which windows hold a pixel of the mask."""
    side = 2 * _RADIUS + 1
    windows = np.lib.stride_tricks.sliding_window_view(mask, (side, side), (1, 2))
    return np.any(windows, axis=(3, 4), keepdims=False)


def _size(pixels: np.ndarray) -> str:
    return "x".join(map(str, pixels.shape[1:]))


METRICS: dict[str, Callable[..., np.ndarray]] = {"l1": l1, "l2": l2, "psnr": psnr, "ssim": ssim}
