"""An edit beside its original outside a mask, and cut out within it, as Reason-Edit takes both.

Pictures come to 256x256 by PIL's bicubic filter, the mask by its nearest pixel. Outside is what is
left of both pictures times 1 - mask/255: a grey pixel of the mask (JPEG makes many) counts in part,
and the mean is over the whole picture, zeros included. A large mask so raises PSNR and SSIM.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from mre_jax.errors import DataError
from mre_jax.evaluation.metrics.pixel import METRICS
from mre_jax.io.image import read_image, to_array

SIDE = 256
MEASURE = f"RGB in [0, 1] times 1 - mask/255, {SIDE}x{SIDE} bicubic (PIL), mask nearest"
MEASURE_CROP = f"{SIDE}x{SIDE}, crop to the mask's box"

PIXEL_METRICS = {"psnr_masked": "psnr", "ssim_masked": "ssim", "mse_masked": "l2"}
"""Names in results, and the metrics of `pixel.METRICS` that they are of the masked pictures."""

_PROPORTION = 0.02
"""By which share width / height of mask and picture may differ, as rounding makes them."""

Triple = tuple[Path, Path, Path]
"""Edited picture, original, mask."""


def masked_pair(edited: Path, original: Path, mask: Path) -> Float64[np.ndarray, "2 256 256 3"]:
    """Both pictures in [0, 1], black where the mask is white.

    Raises:
        DataError: if one cannot be read.
    """
    kept = 1 - read_mask(mask) / 255
    pictures = [to_array(_picture(path)) / 255 for path in (edited, original)]
    return np.stack(pictures) * kept[..., None]


def masked_pairs(triples: Iterable[Triple]) -> Iterator[np.ndarray]:
    """`masked_pair` of each, one at a time."""
    return (masked_pair(*triple) for triple in triples)


def masked_values(triples: Iterable[Triple]) -> list[dict[str, float]]:
    """The metrics of `PIXEL_METRICS` of each, by name.

    They are those of torchmetrics for values in [0, 1], but that PSNR is 100 dB at most, and SSIM
    is the mean over the windows inside the picture, which it was up to torchmetrics 1.4; later
    versions take those over the reflected border too.

    Raises:
        DataError: as `masked_pair`.
    """
    return [
        {
            name: float(METRICS[metric](pair[:1], pair[1:])[0])
            for name, metric in PIXEL_METRICS.items()
        }
        for pair in masked_pairs(triples)
    ]


def crop_to_mask(edited: Path, mask: Path) -> Image.Image:
    """What the edited picture shows in the box of the mask.

    Raises:
        DataError: if one cannot be read, or as `mask_box`.
    """
    return _picture(edited).crop(mask_box(mask))


def mask_box(mask: Path) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels that are not 0, at 256x256.

    Right and bottom are the last such column and row, and as PIL crops without them. Every pixel
    counts that is not black, so that traces of JPEG's may widen the box.

    Raises:
        DataError: if it cannot be read, or the box has no area.
    """
    rows, columns = np.nonzero(read_mask(mask))
    if not len(rows) or rows.min() == rows.max() or columns.min() == columns.max():
        raise DataError(
            f"{mask}: less than two rows and columns are not black at {SIDE}x{SIDE}; paint what is "
            "to be edited white"
        )
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def read_mask(path: Path) -> UInt8[np.ndarray, "256 256"]:
    """0 for what is to stay, 255 for what is to be edited, and greys between.

    Raises:
        DataError: if it cannot be read.
    """
    grey = read_image(path).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.NEAREST))


def check_mask(mask: Path, original: Path) -> None:
    """Refuses a mask that does not lie over its picture. One of another scale does.

    Raises:
        DataError: if it is of other proportions, or as `mask_box`.
    """
    sizes = read_image(mask).size, read_image(original).size
    shape, wanted = (width / height for width, height in sizes)
    if abs(shape / wanted - 1) > _PROPORTION:
        shown, given = ("x".join(map(str, size)) for size in sizes)
        raise DataError(f"{mask}: {shown}, but {original.name} is {given}; make it of that size")
    mask_box(mask)


def _picture(path: Path) -> Image.Image:
    return read_image(path).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
