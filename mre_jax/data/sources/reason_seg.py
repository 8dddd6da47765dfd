"""ReasonSeg as "colour the object" edits: questions whose answer is something in a photo.

a.jpg, a.json   {"text": [question, ...], "is_sentence": true, "shapes": [{"label", "points"}]}

SmartEdit's copies have a "Name" too, which is what the shapes show.
"""

from typing import Any, TypeGuard

import numpy as np
from etils import epath

from mre_jax.data.sources.colouring import ColouredSet, Region
from mre_jax.data.sources.masks import Mask, Size, check_size, polygon_mask
from mre_jax.data.sources.picture import find_picture
from mre_jax.data.sources.source import choose
from mre_jax.errors import DataError
from mre_jax.io.files import is_lfs_pointer
from mre_jax.io.image import decode_image
from mre_jax.io.json_file import parse_json


class ReasonSeg(ColouredSet):
    """Reads every photo; an example's id is its name. Pictures keep their size.

    Asked is one of the questions, and behind it to colour the answer by its name; where the file
    has no name, the phrase itself if it is one, or "what answers this".

    Args:
        path: the folder of the photos, or the one of the splits.
        split: a folder of `path`, as "train".
        templates: a file of lines with {object} and {color}; by default this project's.
        colors: a file of lines of a name and R,G,B, with anything between; by default eight.
        seed: seed of what is drawn: question, template, colour.
        variants: so many draws of each photo, of which an epoch reads one.

    Raises:
        DataError: if there is no such folder, or none of these files in it.
    """

    name = "reason_seg"

    def __init__(
        self,
        path: epath.PathLike,
        *,
        split: str = "",
        templates: str = "",
        colors: str = "",
        seed: int = 0,
        variants: int = 1,
    ):
        self._folder = epath.Path(path) / split if split else epath.Path(path)
        super().__init__(
            self._folder,
            _names(self._folder),
            templates=templates,
            colors=colors,
            seed=seed,
            variants=variants,
        )

    def _region(self, number: int, draw: str) -> Region:
        name = self._names[number]
        file, where = self._folder / f"{name}.json", f"{self._folder / name}.json"
        made = _read(file)
        picture = find_picture(self._folder / name, where)
        image = decode_image(picture, f"{where}: its picture")
        check_size((made.get("imageWidth"), made.get("imageHeight")), image.size, where)
        mask = _mask(made.get("shapes"), image.size, where)
        texts = made.get("text")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(map(_is_text, texts)):
            raise DataError(f"{where}: 'text' is {texts!r:.80}; want a list of texts")
        text = choose(texts, self._seed, draw, "question").strip()
        if _is_text(thing := made.get("Name")):
            return Region(picture, image, mask, thing.strip().lower(), text)
        if made.get("is_sentence") is False:
            return Region(picture, image, mask, text.rstrip("."))
        return Region(picture, image, mask, "what answers this", text)


def _names(folder: epath.Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(folder.iterdir())
    names = [file.stem for file in found if file.suffix == ".json"]
    if not names and (splits := [file.name for file in found if file.is_dir()]):
        raise DataError(
            f"{folder}: no JSON files in it; choose a folder of it by --option split=NAME: "
            f"{', '.join(splits)}"
        )
    return [name for name in names if not name.startswith(".")]


def _read(path: epath.Path) -> dict[str, Any]:
    """A file of the set, of which some are in Windows' characters."""
    data = path.read_bytes()
    if is_lfs_pointer(data):
        raise DataError(f"{path}: a Git LFS pointer, not the file; get that with git lfs pull")
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        data = data.decode("cp1252", errors="replace").encode()
    made = parse_json(data, path)
    if not isinstance(made, dict):
        raise DataError(f"{path}: want a JSON object, got {type(made).__name__}")
    return made


def _mask(shapes: Any, size: Size, where: str) -> Mask:
    """The target's pixels, without those of what is to be ignored; small shapes lie above large."""
    if not isinstance(shapes, list) or not all(map(_is_shape, shapes)):
        raise DataError(f"{where}: 'shapes' is no list of label and points")
    drawn = []
    for shape in shapes:
        label = shape["label"].lower()
        if "flag" not in label:  # marks of the annotators
            drawn.append((polygon_mask(shape["points"], size, where), "ignore" not in label))
    mask: Mask = np.zeros(size[::-1], bool)
    for one, target in sorted(drawn, key=lambda shape: -shape[0].sum()):
        mask[one] = target
    if not mask.any():
        raise DataError(f"{where}: no shape shows a target inside of {size[0]}x{size[1]} pixels")
    return mask


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, dict)
        and isinstance(shape.get("label"), str)
        and isinstance(shape.get("points"), list)
    )


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())
