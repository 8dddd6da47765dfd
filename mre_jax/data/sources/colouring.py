"""Segmentation as edits: "colour the object" asked of a picture, and done by the object's mask.

Half of each pixel under the mask is the colour, half the picture. Words, colour and whatever else
there is to choose are functions of the example's id and a seed, so that a set is the same however
it is read; several variants of an example form a group, of which an epoch reads one.
"""

import abc
import dataclasses
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from etils import epath
from PIL import Image

from mre_jax.data.sources.masks import Mask
from mre_jax.data.sources.source import Keys, attempt, choose
from mre_jax.data.triplets import Triplet, safe_id
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.image import to_array

Colour = tuple[str, tuple[int, int, int]]
"""A name, and red, green and blue from 0 to 255."""


@dataclasses.dataclass(frozen=True)
class Region:
    """What is coloured in one picture.

    Attributes:
        picture: as its file has it.
        image: the same, decoded.
        mask: what is coloured; all False leaves the picture as it is.
        thing: what the mask shows, as an instruction calls it; None asks for no edit.
        question: stands before the instruction; may be empty.
    """

    picture: bytes = dataclasses.field(repr=False)
    image: Image.Image = dataclasses.field(repr=False)
    mask: Mask = dataclasses.field(repr=False)
    thing: str | None
    question: str = ""


class ColouredSet(abc.ABC):
    """A set whose examples are made of pictures and masks.

    Args:
        path: for messages.
        names: of its examples, each once.
        templates: a file of lines with {object} and {color}; by default this project's.
        colors: a file of lines of a name and R,G,B, with anything between; by default eight.
        seed: seed of all that is drawn.
        variants: so many draws of each example.

    Raises:
        ConfigError: if there is less than one variant.
        DataError: if there is no example, or a file of words is of another kind.
    """

    name: str

    def __init__(
        self,
        path: epath.PathLike,
        names: Sequence[str],
        *,
        templates: str,
        colors: str,
        seed: int,
        variants: int,
    ):
        if variants < 1:
            raise ConfigError(f"variants={variants}: want at least 1")
        if not names:
            raise DataError(f"{path}: no examples in it")
        self.path = str(path)
        self._names = names
        self._templates = _read_lines(templates or _WORDS / "colour_edits.txt", _template)
        self._colours = _read_lines(colors or _WORDS / "colours.txt", _colour)
        self._seed, self._variants = seed, variants

    def __len__(self) -> int:
        return len(self._names) * self._variants

    def keys(self) -> Keys:
        ids = [self._id(*self._split(position)) for position in range(len(self))]
        return Keys(range(len(ids)), len(ids), ids)

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        for position in positions:
            yield attempt(self._read, *self._split(position))

    @abc.abstractmethod
    def _region(self, number: int, draw: str) -> Region:
        """What is coloured in example `number`.

        Args:
            draw: the example's id, which `choose` takes.

        Raises:
            DataError: naming the example, if something of it is missing or wrong.
        """

    def _where(self, number: int) -> str:
        return f"{self.path}: {self._names[number]}"

    def _split(self, position: int) -> tuple[int, int]:
        return divmod(position, self._variants)

    def _id(self, number: int, variant: int) -> str:
        name = self._names[number]
        return safe_id(f"{name}_{variant}" if self._variants > 1 else name)

    def _read(self, number: int, variant: int) -> Triplet:
        draw = self._id(number, variant)
        region = self._region(number, draw)
        instruction, edited = UNCHANGED, region.picture
        if region.thing is not None:
            template = choose(self._templates, self._seed, draw, "template")
            colour, rgb = choose(self._colours, self._seed, draw, "colour")
            asked = template.replace("{color}", colour).replace("{object}", region.thing)
            instruction = f"{region.question} {asked}".strip()
            if region.mask.any():
                edited = to_png(coloured(region.image, region.mask, rgb))
        return Triplet(
            id=draw,
            original=region.picture,
            edited=edited,
            instruction=instruction,
            source=self.name,
            group=safe_id(self._names[number]) if self._variants > 1 else "",
            where=self._where(number),
        )


UNCHANGED = "Keep this picture just as it is."
"""What is asked where there is nothing to colour."""


def coloured(image: Image.Image, mask: Mask, rgb: tuple[int, int, int]) -> Image.Image:
    """The picture with half of a colour under the mask, rounded down as the official code does.

    Example:
        >>> red = Image.new("RGB", (1, 1), (255, 0, 0))
        >>> coloured(red, np.array([[True]]), (0, 0, 255)).getpixel((0, 0))
        (127, 0, 127)
    """
    pixels = to_array(image).copy()
    pixels[mask] = (pixels[mask].astype(np.uint16) + np.asarray(rgb, np.uint16)) // 2
    return Image.fromarray(pixels)


def to_png(image: Image.Image) -> bytes:
    """The bytes of a PNG file: outside of a mask both pictures stay equal."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def find_folder(option: str, given: str, usual: Sequence[epath.Path]) -> epath.Path:
    """The folder that an option names, or the first of the usual ones that is there.

    Raises:
        DataError: if there is none, with the option.
    """
    folders = [epath.Path(given)] if given else usual
    for folder in folders:
        if folder.is_dir():
            return folder
    places = " nor ".join(str(folder) for folder in folders)
    raise DataError(f"{places}: no such folder; name it by --option {option}=DIR")


_Item = TypeVar("_Item")
_WORDS = Path(__file__).parent / "words"
_RGB = re.compile(r"(\S+)\s(?:.*\s)?(\d{1,3}),(\d{1,3}),(\d{1,3})")


def _read_lines(path: epath.PathLike, parse: Callable[[str], _Item | None]) -> list[_Item]:
    """What the lines of a file are, without blank ones and those of "#"."""
    path = epath.Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    items = []
    for number, line in enumerate(text.split("\n"), 1):
        if (line := line.strip()) and not line.startswith("#"):
            if (item := parse(line)) is None:
                wanted = "{object} and {color}" if parse is _template else "a name and R,G,B"
                raise DataError(f"{path}:{number}: want {wanted} in {line[:60]!r}")
            items.append(item)
    if not items:
        raise DataError(f"{path}: no lines in it")
    return items


def _template(line: str) -> str | None:
    return line if "{object}" in line and "{color}" in line else None


def _colour(line: str) -> Colour | None:
    found = _RGB.fullmatch(line)
    if found is None:
        return None
    red, green, blue = (int(found[n]) for n in (2, 3, 4))
    return (found[1].lower(), (red, green, blue)) if max(red, green, blue) < 256 else None
