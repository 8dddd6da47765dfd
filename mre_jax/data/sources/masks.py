"""Outlines of objects as masks: polygons, and COCO's run lengths, plain or packed in a text."""

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from jaxtyping import Bool

from mre_jax.errors import DataError

Mask = Bool[np.ndarray, "H W"]
Size = tuple[int, int]
"""Width and height."""


def coco_mask(segmentation: Any, size: Size, where: str) -> Mask:
    """The mask of an annotation's `segmentation`.

    Args:
        segmentation: polygons [[x, y, x, y, ...], ...], of which it is the union, or run lengths
            {"size": [height, width], "counts": [...] or text}.
        size: of the picture.
        where: what errors call it.

    Example:
        >>> coco_mask({"size": [2, 2], "counts": [1, 3]}, (2, 2), "here").astype(int)
        array([[0, 1],
               [1, 1]])

    Raises:
        DataError: if it is of another shape, or its run lengths are for another size.
    """
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, size, where)
    if not isinstance(segmentation, list) or not segmentation:
        raise DataError(f"{where}: its segmentation is neither polygons nor run lengths")
    mask: Mask = np.zeros(size[::-1], bool)
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) % 2:
            raise DataError(f"{where}: a polygon is no list of x, y, x, y, ...")
        points = list(zip(polygon[::2], polygon[1::2], strict=True))
        mask |= polygon_mask(points, size, where)
    return mask


def polygon_mask(points: Sequence[Any], size: Size, where: str) -> Mask:
    """The pixels whose centres lie inside of a polygon, by crossings counted from the left.

    Its coordinates are of pixels' edges, as COCO's are: pixel 0 lies between 0 and 1.

    Args:
        points: pairs (x, y).

    Example:
        >>> polygon_mask([(0, 0), (2, 0), (0, 2)], (2, 2), "here").astype(int)
        array([[1, 0],
               [0, 0]])

    Raises:
        DataError: if it is not at least three points of two numbers.
    """
    try:
        corners = np.asarray(points, float)
    except (TypeError, ValueError, OverflowError):
        corners = np.empty(0)
    if corners.ndim != 2 or corners.shape[0] < 3 or corners.shape[1] != 2:
        raise DataError(f"{where}: a polygon wants at least three points of two numbers")
    if not (np.abs(corners) < _FAR).all():
        raise DataError(f"{where}: a polygon has a point far outside of any picture")
    width, height = size
    (x0, y0), (x1, y1) = corners.T[:, :, None], np.roll(corners, -1, 0).T[:, :, None]
    middle = np.arange(height) + 0.5
    edge, row = np.nonzero((y0 <= middle) != (y1 <= middle))
    run = (x1 - x0)[edge, 0] / (y1 - y0)[edge, 0]
    crossing = x0[edge, 0] + (middle[row] - y0[edge, 0]) * run
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    crossings = np.zeros((height, width + 1), np.int32)
    np.add.at(crossings, (row, column), 1)
    return np.cumsum(crossings, 1)[:, :-1] % 2 == 1


def check_size(annotated: tuple[Any, Any], size: Size, where: str) -> None:
    """Compares the width and height that an annotation is for with those of its picture.

    Args:
        annotated: None where it does not say.

    Raises:
        DataError: if they differ.
    """
    if annotated not in ((None, None), size):
        raise DataError(
            f"{where}: its outlines are for {annotated[0]}x{annotated[1]} pixels, and the picture "
            f"is {size[0]}x{size[1]}; take pictures and annotations of one release, as they are"
        )


def _from_runs(runs: dict[str, Any], size: Size, where: str) -> Mask:
    width, height = size
    if runs.get("size") != [height, width]:
        raise DataError(
            f"{where}: its run lengths are for [height, width] = {runs.get('size')!r:.40}, and the "
            f"picture is {width}x{height}; take pictures and annotations of one release"
        )
    counts = runs.get("counts")
    if isinstance(counts, str):
        counts = _unpacked(counts, width * height)
    if not _fills(counts, width * height):
        raise DataError(f"{where}: its run lengths are not those of {width}x{height} pixels")
    inside = np.arange(len(counts)) % 2 == 1
    # COCO counts down the columns.
    return np.repeat(inside, counts).reshape(width, height).T


def _fills(counts: Any, pixels: int) -> TypeGuard[list[int]]:
    good = isinstance(counts, list) and all(type(n) is int and n >= 0 for n in counts)
    return good and sum(counts) == pixels


def _unpacked(text: str, most: int) -> list[int] | None:
    """COCO's packed run lengths; None if the text is none.

    A number is stored in groups of five bits, the lowest first, each a character from "0" on whose
    sixth bit says that more follow; from the fourth number on it is the difference to the one
    before the last.
    """
    counts: list[int] = []
    number, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 40:
            return None
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        if not 0 <= counts[-1] <= most:
            return None
        number, shift = 0, 0
    return counts if shift == 0 else None


_FAR = 1e6
