"""Pictures of the page: within it, made small enough for a budget, or full-size in a folder."""

import base64
import concurrent.futures
import dataclasses
import io
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import quote

from etils import epath
from PIL import Image
from tqdm import tqdm

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.files import full_disk_is_an_error
from mre_jax.io.image import read_image

BUDGET = 48 * 2**20
"""Bytes of all pictures together, as they stand in the page, by default."""

PLACES = ("auto", "inside", "beside")
"""Where pictures are: in the page, in a folder beside it, or there if the budget is too small."""

_SIZES = ((512, 88), (384, 84), (256, 80), (192, 75), (128, 70), (96, 60))  # side, JPEG quality
_SMALL = 128  # up to this side a picture keeps its full chroma, or is a PNG if that is smaller
_SAMPLE = 24
_CAUTION = 1.1  # the sample may be easier to compress than the rest
_LARGEST = (2048, 90)  # of pictures beside the page
_SHOWN = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}  # what browsers show as it is
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What became of a list of files.

    Attributes:
        uris: one a file; "" where there is no picture.
        bytes: size of all pictures.
        side: pixels that no side is longer than; None if they are as they were.
        notes: sentences for the reader: what was shrunk, left out, or could not be read.
        folder: folder of the pictures, relative to the page; "" if they stand in it.
    """

    uris: Sequence[str]
    bytes: int
    side: int | None
    notes: Sequence[str]
    folder: str = ""


def place_pictures(
    page: epath.PathLike,
    root: epath.PathLike,
    names: Sequence[str],
    *,
    place: str = "auto",
    budget: int = BUDGET,
) -> Pictures:
    """`embed` or `put_beside`, whichever is asked for.

    Args:
        page: the HTML file; the folder has its name and "_files".
        place: one of `PLACES`; "auto" embeds what fits the budget at its best.

    Raises:
        ConfigError: for another `place`.
    """
    if place not in PLACES:
        raise ConfigError(f"pictures {place!r}: want {', '.join(PLACES)}")
    if place == "auto":
        sample = _read_some([epath.Path(root) / name for name in names])
        place = "beside" if _estimate(sample, len(names), _SIZES[0]) > budget else "inside"
    if place == "beside":
        return put_beside(page, root, names)
    return embed(root, names, budget=budget)


def embed(root: epath.PathLike, names: Sequence[str], *, budget: int = BUDGET) -> Pictures:
    """Reads, shrinks and encodes pictures; one that cannot be read is left out with a warning.

    All get the same largest side and quality: the best at which they fit. What does not fit at
    the smallest is left out, from the end of the list.

    Args:
        root: the folder that the names are relative to.
        names: files.
        budget: largest number of bytes of all URIs together.
    """
    files = [epath.Path(root) / name for name in names]
    sample = _read_some(files)
    sizes = (size for size in _SIZES if _estimate(sample, len(files), size) <= budget)
    size = next(sizes, _SIZES[-1])
    uris: list[str] = []
    total, left_out = 0, 0
    found, problems = _each(files, names, lambda file: _uri(read_image(file), *size))
    for uri in (one or "" for one in found):
        if total + len(uri) > budget:
            left_out += 1
            uri = ""
        total += len(uri)
        uris.append(uri)
    notes = _size_notes(len(files), size, budget, left_out)
    return Pictures(uris, total, size[0], notes + problems)


def put_beside(page: epath.PathLike, root: epath.PathLike, names: Sequence[str]) -> Pictures:
    """Puts pictures into a folder beside the page, as they are.

    What a browser would not show, as TIFF, and what is longer than 2,048 pixels becomes a JPEG. One
    that cannot be read is left out with a warning. Pictures that an earlier report has left in the
    folder are taken away.

    Args:
        page: the HTML file; the folder has its name and "_files".
        root: the folder that the names are relative to.
        names: files.

    Raises:
        DataError: if the disk is full.
    """
    page = epath.Path(page)
    folder = page.parent / f"{page.stem}_files"
    folder.mkdir(parents=True, exist_ok=True)
    files = [epath.Path(root) / name for name in names]
    places = {file: f"{place:06d}" for place, file in enumerate(files)}

    def put(file: epath.Path) -> tuple[str, int]:
        data, suffix = _full_size(file)
        name = f"{places[file]}{suffix}"
        (folder / name).write_bytes(data)
        return name, len(data)

    with full_disk_is_an_error(folder):
        found, problems = _each(files, names, put)
    kept = {one[0]: one[1] for one in found if one}
    for old in folder.iterdir():
        if old.stem.isdecimal() and old.name not in kept:
            old.unlink()
    uris = [f"{quote(folder.name)}/{one[0]}" if one else "" for one in found]
    note = f"The pictures are in the folder {folder.name}, which belongs beside this page."
    return Pictures(uris, sum(kept.values()), None, [note, *problems], folder.name)


def _each(
    files: Sequence[epath.Path], names: Sequence[str], work: Callable[[epath.Path], T]
) -> tuple[list[T | None], list[str]]:
    """What `work` gives for each file, several at a time, and a note of those it fails for."""

    def attempt(file: epath.Path) -> tuple[T | None, str]:
        try:
            return work(file), ""
        except DataError as error:
            return None, str(error).removeprefix(f"{file}: ")

    # Filters of warnings are of the process, and each reading sets and resets the same one.
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        done = pool.map(attempt, files)
        found = list(tqdm(done, total=len(files), desc="pictures", unit="picture", disable=None))
    broken = [f"{name}: {why}" for name, (_, why) in zip(names, found, strict=True) if why]
    others = f", and {len(broken) - 1:,} more" if len(broken) > 1 else ""
    notes = [f"Picture not shown: {broken[0]}{others}."] if broken else []
    return [one for one, _ in found], notes


def _read_some(files: Sequence[epath.Path]) -> list[Image.Image]:
    """Some of the pictures, from everywhere in the list."""
    found = []
    for file in files[:: max(1, len(files) // _SAMPLE)]:
        try:
            found.append(read_image(file))
        except DataError:  # warned of when its turn comes
            continue
    return found


def _estimate(sample: Sequence[Image.Image], count: int, size: tuple[int, int]) -> float:
    """Bytes that so many pictures will take within the page."""
    sizes = [len(_uri(picture, *size)) for picture in sample]
    return _CAUTION * count * sum(sizes) / max(len(sizes), 1)


def _uri(picture: Image.Image, side: int, quality: int) -> str:
    """The data: URI of a picture."""
    if max(picture.size) > side:
        picture = picture.copy()
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    small = max(picture.size) <= _SMALL
    kind, data = "jpeg", _save(picture, "JPEG", quality=quality, subsampling=0 if small else 2)
    if small:
        png = _save(picture, "PNG", optimize=True)
        kind, data = min(("png", png), (kind, data), key=lambda pair: len(pair[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _full_size(file: epath.Path) -> tuple[bytes, str]:
    """A file that browsers show, and its suffix; raises DataError if it cannot be read."""
    try:
        data = file.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
            simple = image.mode in _MODES and getattr(image, "n_frames", 1) == 1
            if simple and image.format in _SHOWN and max(image.size) <= _LARGEST[0]:
                return data, _SHOWN[image.format]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        pass  # the reading below says what is wrong
    picture = read_image(file)
    side, quality = _LARGEST
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _save(picture, "JPEG", quality=quality), ".jpg"


def _save(picture: Image.Image, form: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _size_notes(count: int, size: tuple[int, int], budget: int, left_out: int) -> list[str]:
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
    return notes
