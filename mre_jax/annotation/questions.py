"""What is asked about triplets."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from mre_jax.annotation.items import Items
from mre_jax.data.triplets import Triplet
from mre_jax.errors import DataError
from mre_jax.judges.picture import Encoding
from mre_jax.judges.picture_index import Picture, PictureIndex
from mre_jax.judges.prompt_pack import PromptPack
from mre_jax.judges.question import Question


def ask_about(
    items: Items,
    pack: PromptPack,
    encoding: Encoding,
    *,
    index: PictureIndex | None = None,
    toy: bool = False,
    twice: int = 0,
) -> Iterator[Question]:
    """Yields the questions about all triplets, those about one triplet in a row.

    Args:
        items: of `open_items`.
        pack: all its perspectives are asked.
        encoding: of the pictures.
        index: what knows them by their hash before they are encoded.
        toy: add what the toy judge needs, from the set's metadata.jsonl files.
        twice: so many of the triplets are asked about a second time, evenly spread over the set.

    Raises:
        DataError: naming the triplet whose pictures or metadata cannot be read.
    """
    index = PictureIndex() if index is None else index
    for position, (name, triplet) in enumerate(items.read()):
        extra = toy_extra(items.path, triplet) if toy else {}
        where = triplet.where or name
        files = triplet.original, triplet.edited
        encode = functools.partial(_encode, encoding, files, where)
        original: bytes | Picture
        edited: bytes | Picture
        if encoding == Encoding():  # as they are, which takes no time
            original, edited = encode()
        else:
            original, edited = index.pictures(files, str(encoding), encode)
        again = (position + 1) * twice // items.count > position * twice // items.count
        for repeat in range(1 + again):
            for perspective in pack.perspectives:
                yield Question(
                    item=name,
                    perspective=perspective,
                    pack=pack,
                    instruction=triplet.instruction,
                    original=original,
                    edited=edited,
                    extra=extra,
                    encoding=str(encoding),
                    repeat=repeat,
                )


def _encode(encoding: Encoding, files: Sequence[bytes], where: str) -> list[bytes]:
    names = "original", "edited"
    return [
        encoding.encode(file, f"{where}: {name} picture")
        for file, name in zip(files, names, strict=True)
    ]


def toy_extra(path: str, triplet: Triplet) -> Mapping[str, Any]:
    """Scene, edit and texts of a triplet that `mre toy` made.

    Raises:
        DataError: if there are none.
    """
    file = epath.Path(path) / triplet.id / "metadata.jsonl"
    try:
        row = json.loads(file.read_text())
        return {"scene": row["scene"], "edit": row["edit"], "texts": row["texts"]}
    except (OSError, ValueError, LookupError, TypeError):
        raise DataError(
            f"{file}: no scene in it; the toy judge judges the triplets of `mre toy` only"
        ) from None
