"""Pictures as data: URIs, made small enough that the page stays within a budget."""

import base64
import dataclasses
import io
from collections.abc import Sequence

from etils import epath
from PIL import Image
from tqdm import tqdm

from mre_jax.errors import DataError
from mre_jax.image import read_image

BUDGET = 48 * 2**20
"""Bytes of all pictures together, as they stand in the page, by default."""

_SIZES = ((512, 88), (384, 84), (256, 80), (192, 75), (128, 70), (96, 60))  # side, JPEG quality
_SMALL = 128  # up to this side a picture keeps its full chroma, or is a PNG if that is smaller
_SAMPLE = 24
_CAUTION = 1.1  # the sample may be easier to compress than the rest


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What became of a list of files.

    Attributes:
        uris: one a file; "" where there is no picture.
        bytes: of all of them.
        side: pixels that no side is longer than.
        notes: sentences for the reader: what was shrunk, left out, or could not be read.
    """

    uris: Sequence[str]
    bytes: int
    side: int
    notes: Sequence[str]


def embed(root: epath.PathLike, names: Sequence[str], *, budget: int = BUDGET) -> Pictures:
    """Reads, shrinks and encodes pictures; one that cannot be read is left out and told of.

    All get the same largest side and quality: the best at which they fit. What does not fit at
    the smallest is left out, from the end of the list.

    Args:
        root: the folder that the names are relative to.
        names: files.
        budget: largest number of bytes of all URIs together.
    """
    files = [epath.Path(root) / name for name in names]
    size = next((size for size in _SIZES if _estimate(files, *size) <= budget), _SIZES[-1])
    uris: list[str] = []
    total, broken, left_out = 0, [], 0
    for name, file in tqdm(
        list(zip(names, files, strict=True)), desc="pictures", unit="picture", disable=None
    ):
        try:
            uri = _encode(file, *size)
        except DataError as error:
            broken.append(f"{name}: {str(error).removeprefix(f'{file}: ')}")
            uri = ""
        if total + len(uri) > budget:
            left_out += 1
            uri = ""
        total += len(uri)
        uris.append(uri)
    return Pictures(uris, total, size[0], _notes(len(files), size, budget, broken, left_out))


def _estimate(files: Sequence[epath.Path], side: int, quality: int) -> float:
    """Bytes that all files will take, from some of them."""
    sizes = []
    for file in files[:: max(1, len(files) // _SAMPLE)]:
        try:
            sizes.append(len(_encode(file, side, quality)))
        except DataError:  # told of when its turn comes
            continue
    return _CAUTION * len(files) * sum(sizes) / max(len(sizes), 1)


def _encode(file: epath.Path, side: int, quality: int) -> str:
    """The data: URI of a picture; raises DataError if it cannot be read."""
    picture = read_image(file)
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    small = max(picture.size) <= _SMALL
    kind, data = "jpeg", _save(picture, "JPEG", quality=quality, subsampling=0 if small else 2)
    if small:
        png = _save(picture, "PNG", optimize=True)
        kind, data = min(("png", png), (kind, data), key=lambda pair: len(pair[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _save(picture: Image.Image, form: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _notes(
    count: int, size: tuple[int, int], budget: int, broken: Sequence[str], left_out: int
) -> Sequence[str]:
    notes = []
    room = f"{budget / 2**20:g} MiB"
    if size != _SIZES[0]:
        side, quality = size
        notes.append(
            f"To keep {count:,} pictures in {room} they are JPEG of quality {quality}, at most "
            f"{side} pixels wide or high."
        )
    if left_out:
        notes.append(f"{left_out:,} of {count:,} pictures are left out: {room} is full.")
    if broken:
        others = f", and {len(broken) - 1:,} more" if len(broken) > 1 else ""
        notes.append(f"Picture not shown: {broken[0]}{others}.")
    return notes
