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

from mre_jax.editing.request import EditRequest
from mre_jax.editing.size import fit, target_size
from mre_jax.errors import DataError, MreError
from mre_jax.io.image import read_image, read_size
from mre_jax.io.json_file import read_rows

_REQUEST_FIELDS = {field.name for field in dataclasses.fields(EditRequest)} - {"image", "id"}
_FIELDS = {"id", "image", "meta"} | _REQUEST_FIELDS
_BLANK = Image.new("RGB", (8, 8))


@dataclasses.dataclass(frozen=True)
class Item:
    """One line of the list, whose picture is not read yet.

    Attributes:
        image: the picture's path as the line has it.
        path: where it is found: `image`, relative to the list's folder.
        fields: the fields of its `EditRequest` besides `image` and `id`, as given.
        meta: whatever the caller wants to find again in the result row.
    """

    id: str
    image: str
    path: epath.Path
    fields: Mapping[str, Any]
    meta: Any = None

    def request(self, size: tuple[int, int]) -> EditRequest:
        """Reads the picture, brings it to `size`, and makes the request."""
        return self._request(fit(read_image(self.path), size))

    def blank_request(self) -> EditRequest:
        """The request with an empty picture: all that can be checked without reading it."""
        return self._request(_BLANK)

    def size(self, preset: str | tuple[int, int], resolution: int) -> tuple[int, int]:
        """The (width, height) of the edit, from the picture's header alone.

        Raises:
            DataError: if the picture is missing or not a picture.
        """
        return target_size(read_size(self.path), preset, resolution)

    def _request(self, image: Image.Image) -> EditRequest:
        try:
            return EditRequest(image=image, id=self.id, **self.fields)
        except MreError as error:
            raise type(error)(f"item {self.id}: {error}") from None


def read_items(path: epath.PathLike, defaults: Mapping[str, Any]) -> list[Item]:
    """Reads the whole list and checks every line before any work begins.

    Args:
        path: of the JSONL file.
        defaults: fields of `EditRequest` for items that do not set them.

    Raises:
        DataError: naming the line that is not an object of known fields, repeats an id, or asks
            for something `EditRequest` refuses; or if there is none.
    """
    path = epath.Path(path)
    items: dict[str, Item] = {}
    for where, row in read_rows(path):
        item = _item(row, where, path.parent, defaults)
        if item.id in items:
            raise DataError(f"{where}: id {item.id!r} stands on an earlier line too")
        items[item.id] = item
    if not items:
        raise DataError(f"{path}: no items in it")
    return list(items.values())


def _item(
    row: Mapping[str, Any], where: str, folder: epath.Path, defaults: Mapping[str, Any]
) -> Item:
    for name in ("id", "image", "prompt"):
        if not isinstance(row.get(name), str) or not row[name]:
            raise DataError(f"{where}: {name!r} is missing or not a text")
    unknown = sorted(row.keys() - _FIELDS)
    if unknown:
        raise DataError(f"{where}: unknown field {unknown[0]!r}; put what is yours under 'meta'")
    if not _is_path(row["image"]):
        raise DataError(f"{where}: 'image' {row['image']!r} holds what no file's name can")
    fields = {**defaults, **{name: row[name] for name in row.keys() & _REQUEST_FIELDS}}
    item = Item(row["id"], row["image"], folder / row["image"], fields, row.get("meta"))
    try:
        item.blank_request()
    except MreError as error:
        raise DataError(f"{where}: {error}") from None
    return item


def _is_path(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return False
