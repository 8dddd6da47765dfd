"""The list of edits that `mre sample` works through: one JSON object a line.

    {"id": "dog-snow", "image": "photos/dog.jpg", "prompt": "make it snow"}

`id`, `image` and `prompt` are required; any further field of `EditRequest` may stand beside them
and replaces the command line's. `meta` is copied into the item's result row as it is.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from etils import epath
from PIL import Image

from mre_jax.editing.request import EditConditions, EditRequest
from mre_jax.editing.size import fit, target_size
from mre_jax.errors import DataError, MreError
from mre_jax.io.image import read_image, read_size
from mre_jax.io.json_file import read_rows

_REQUEST_FIELDS = {field.name for field in dataclasses.fields(EditRequest)} - {"id"}
_FIELDS = {"id", "image", "meta"} | _REQUEST_FIELDS


@dataclasses.dataclass(frozen=True)
class Item:
    """An edit that is asked for, and the picture on disk, which is not read yet.

    Attributes:
        request: what is asked for; its id is not empty.
        image: path of the picture, as results name it.
        path: place where the picture is found.
        meta: whatever the caller wants to find again in the result row.
    """

    request: EditRequest
    image: str
    path: epath.Path
    meta: Any = None

    @property
    def id(self) -> str:
        """Name of the edit, and of its files."""
        return self.request.id

    def read(self, size: tuple[int, int]) -> Image.Image:
        """The picture, scaled and cut to `size`.

        Raises:
            DataError: if it is missing or not a picture.
        """
        return fit(read_image(self.path), size)

    def size(self, preset: str | tuple[int, int], resolution: int) -> tuple[int, int]:
        """The (width, height) of the edit, from the picture's header alone.

        Raises:
            DataError: if the picture is missing or not a picture.
        """
        return target_size(read_size(self.path), preset, resolution)


def read_items(path: epath.PathLike, conditions: EditConditions) -> list[Item]:
    """Reads the whole list and checks every line before any work begins.

    Args:
        path: place of the JSONL file.
        conditions: for items that do not set their own.

    Raises:
        DataError: naming the line that is not an object of known fields, repeats an id, or asks
            for something `EditRequest` refuses; or if there is none.
    """
    path = epath.Path(path)
    items: dict[str, Item] = {}
    for where, row in read_rows(path):
        item = _item(row, where, path.parent, conditions)
        if item.id in items:
            raise DataError(f"{where}: id {item.id!r} stands on an earlier line too")
        items[item.id] = item
    if not items:
        raise DataError(f"{path}: no items in it")
    return list(items.values())


def _item(
    row: Mapping[str, Any], where: str, folder: epath.Path, conditions: EditConditions
) -> Item:
    for name in ("id", "image", "prompt"):
        if not isinstance(row.get(name), str) or not row[name]:
            raise DataError(f"{where}: {name!r} is missing or not a text")
    unknown = sorted(row.keys() - _FIELDS)
    if unknown:
        raise DataError(f"{where}: unknown field {unknown[0]!r}; put what is yours under 'meta'")
    if not _is_path(row["image"]):
        raise DataError(f"{where}: 'image' {row['image']!r} holds what no file's name can")
    own = {name: row[name] for name in row.keys() & _REQUEST_FIELDS}
    try:
        request = conditions.request(**own, id=row["id"])
    except MreError as error:
        raise DataError(f"{where}: item {row['id']}: {error}") from None
    return Item(request, row["image"], folder / row["image"], row.get("meta"))


def _is_path(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return False
