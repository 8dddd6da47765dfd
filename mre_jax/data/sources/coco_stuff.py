"""COCO-Stuff as "colour the object" edits: every pixel of COCO's photos has a class.

labels.txt                     "0: unlabeled", "1: person", ...
images/train2017/*.jpg         or train2017/*.jpg
annotations/train2017/*.png    or stuffthingmaps/train2017: a class less 1, 255 for none
"""

import io

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from mre_jax.data.sources.colouring import ColouredSet, Region, find_folder, to_png
from mre_jax.data.sources.picture import find_picture, read_picture
from mre_jax.data.sources.source import choose
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.image import decode_image


class CocoStuff(ColouredSet):
    """Reads every photo that has a map of classes; an example's id is the photo's name.

    One class of the picture is coloured; now and then one is asked for that is not there, and the
    picture stays as it is, as does one without any class. As the official code does it, a square is
    cut out at random and brought to 256 pixels.

    Args:
        path: the folder of all.
        split: "train2017" or "val2017".
        images: folder of the photos.
        maps: folder of the maps.
        names: the file of names; by default labels.txt in `path`.
        size: edge of the pictures, by Lanczos' filter; 0 leaves the cut square.
        absent: per cent of the examples in which a class is asked for that is not there.
        templates: a file of lines with {object} and {color}; by default this project's.
        colors: a file of lines of a name and R,G,B, with anything between; by default eight.
        seed: seed of what is drawn: square, class, template, colour.
        variants: so many draws of each photo, of which an epoch reads one.

    Raises:
        ConfigError: for a size or a share out of range.
        DataError: if a folder or the names are missing, or of another kind.
    """

    name = "coco_stuff"

    def __init__(
        self,
        path: epath.PathLike,
        *,
        split: str = "train2017",
        images: str = "",
        maps: str = "",
        names: str = "",
        size: int = 256,
        absent: int = 20,
        templates: str = "",
        colors: str = "",
        seed: int = 0,
        variants: int = 1,
    ):
        if not 0 <= absent <= 100 or size < 0:
            raise ConfigError(f"size={size}, absent={absent}: want at least 0, and 0 to 100")
        root = epath.Path(path)
        usual = [root / "images" / split, root / split]
        self._images = find_folder("images", images, usual)
        usual = [root / "annotations" / split, root / "stuffthingmaps" / split]
        self._maps = find_folder("maps", maps, usual)
        self._classes = _read_names(epath.Path(names) if names else root / "labels.txt")
        self._size, self._absent = size, absent
        super().__init__(
            f"{path} (split {split})",
            sorted(file.stem for file in self._maps.iterdir() if file.suffix == ".png"),
            templates=templates,
            colors=colors,
            seed=seed,
            variants=variants,
        )

    def _region(self, number: int, draw: str) -> Region:
        where = self._where(number)
        data = find_picture(self._images / self._names[number], where)
        image = decode_image(data, f"{where}: its photo")
        labels = self._labels(number)
        if labels.size != image.size:
            sizes = ", the picture ".join("{}x{}".format(*one.size) for one in (labels, image))
            raise DataError(
                f"{where}: its map is {sizes}; take photos and maps of one release, as they are"
            )
        image, labels = (self._square(one, draw) for one in (image, labels))
        classes = np.asarray(labels)
        value = self._drawn(classes, draw, where)
        thing = None if value is None else self._classes[value]
        mask = np.zeros_like(classes, bool) if value is None else classes == value
        return Region(to_png(image), image, mask, thing)

    def _labels(self, number: int) -> Image.Image:
        """The map of an example, in mode "L" or "P", whose pixels are classes."""
        file = self._maps / f"{self._names[number]}.png"
        where = f"{self._where(number)}: {file.name}"
        data = read_picture(file, where)
        decode_image(data, where)  # checks it
        with Image.open(io.BytesIO(data), formats=("PNG",)) as labels:
            if labels.mode not in ("L", "P"):
                raise DataError(f"{where}: {labels.mode} pixels, where 8-bit classes are wanted")
            return Image.fromarray(np.asarray(labels))

    def _square(self, image: Image.Image, draw: str) -> Image.Image:
        """Where it is cut is the same of photo and map."""
        width, height = image.size
        edge, spare = min(image.size), abs(width - height)
        corner = choose(range(spare + 1), self._seed, draw, "square")
        left, top = (corner, 0) if width > height else (0, corner)
        image = image.crop((left, top, left + edge, top + edge))
        if not self._size:
            return image
        filters = Image.Resampling
        chosen = filters.NEAREST if image.mode == "L" else filters.LANCZOS
        return image.resize((self._size, self._size), chosen)

    def _drawn(self, classes: UInt8[np.ndarray, "H W"], draw: str, where: str) -> int | None:
        """The class that is asked for; None if there is none."""
        there = [int(value) for value in np.unique(classes) if value != _NONE]
        if unknown := [value for value in there if value not in self._classes]:
            raise DataError(
                f"{where}: its map has the class {unknown[0]}, which the names lack; take those of "
                "the same release"
            )
        if not there:
            return None
        others = sorted(self._classes.keys() - there)
        if others and choose(range(100), self._seed, draw, "absent") < self._absent:
            there = others
        return choose(there, self._seed, draw, "class")


def _read_names(path: epath.Path) -> dict[int, str]:
    """Names by the value of pixels."""
    try:
        lines = path.read_bytes().decode().splitlines()
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(f"{path}: no such file; name it by --option names=FILE") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason})") from None
    names = {}
    for number, line in enumerate(lines, 1):
        value, colon, name = line.partition(":")
        if not line.strip():
            continue
        if not colon or not value.strip().isdigit() or not name.strip():
            raise DataError(f"{path}:{number}: want 'NUMBER: name', got {line[:60]!r}")
        names[int(value) - 1] = name.strip().lower()
    names.pop(-1, None)  # what has no class
    if not names:
        raise DataError(f"{path}: no names in it")
    return names


_NONE = 255
