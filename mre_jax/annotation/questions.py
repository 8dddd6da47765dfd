"""What is asked about triplets."""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from mre_jax.annotation.items import Items
from mre_jax.data.bad_examples import BadExample
from mre_jax.data.sources.source import attempt
from mre_jax.data.triplets import Triplet
from mre_jax.errors import DataError
from mre_jax.io.image import decode_image
from mre_jax.judges.packs.pack import PromptPack
from mre_jax.judges.picture import Encoding, PictureIndex
from mre_jax.judges.question import Question


def ask_about(
    items: Items,
    pack: PromptPack,
    encoding: Encoding,
    *,
    index: PictureIndex | None = None,
    toy: bool = False,
    twice: int = 0,
    bad: list[BadExample] | None = None,
    allowed: int = 0,
    scenes: epath.PathLike | None = None,
) -> Iterator[Question]:
    """Yields the questions about all triplets, those about one triplet in a row.

    Args:
        items: what `open_items` gives.
        pack: all its perspectives are asked.
        encoding: encoding of the pictures.
        index: what knows them by their hash before they are encoded.
        toy: add what the toy judge needs, from the set's metadata.jsonl files.
        twice: so many of the triplets are asked about a second time, evenly spread over the set.
        bad: filled with the triplets that nothing can be asked about; None makes the first of them
            an error.
        allowed: when there are more than these in `bad`, the rest is looked at and not asked about.
        scenes: folder of the metadata.jsonl files, if that is not the set's.

    Raises:
        DataError: naming the triplet whose metadata, or without `bad` whose pictures, cannot be
            read.
    """
    index = PictureIndex() if index is None else index
    for number, (name, item) in enumerate(items.read()):
        about = attempt(_about, name, item, pack, encoding, index)
        if isinstance(about, DataError):
            if bad is None:
                raise about
            bad.append(BadExample.of(items.path, items.first + number, about, name))
        elif bad is None or len(bad) <= allowed:
            again = (number + 1) * twice // items.count > number * twice // items.count
            extra = (
                toy_extra(scenes or items.path, item) if toy and isinstance(item, Triplet) else {}
            )
            for repeat in range(1 + again):
                for question in about:
                    yield dataclasses.replace(question, extra=extra, repeat=repeat)


def _about(
    name: str,
    item: Triplet | DataError,
    pack: PromptPack,
    encoding: Encoding,
    index: PictureIndex,
) -> list[Question]:
    """One question of each perspective about a triplet whose pictures can be sent."""
    if isinstance(item, DataError):
        raise item
    files = item.original, item.edited
    encode = functools.partial(_encode, encoding, files, item.where or name)
    original, edited = index.pictures(files, str(encoding), encode)
    _ = original.sha256  # encodes them now, unless that was done before
    return [
        Question(
            item=name,
            perspective=perspective,
            pack=pack,
            instruction=item.instruction,
            original=original,
            edited=edited,
            encoding=str(encoding),
        )
        for perspective in pack.perspectives
    ]


def _encode(encoding: Encoding, files: Sequence[bytes], where: str) -> list[bytes]:
    sent = []
    for file, name in zip(files, ("original", "edited"), strict=True):
        made = encoding.encode(file, f"{where}: {name} picture")
        if made is file:  # as it is: nobody is to be paid for half a picture
            decode_image(file, f"{where}: {name} picture")
        sent.append(made)
    return sent


def toy_extra(path: epath.PathLike, triplet: Triplet) -> Mapping[str, Any]:
    """Scene, edit and texts of a triplet that `mre toy` made.

    Of an edit that a model made of its picture, scene and edit are the same, and no text is known.

    Raises:
        DataError: if there are none.
    """
    origin = triplet.provenance
    file = epath.Path(path) / (origin.example if origin else triplet.id) / "metadata.jsonl"
    names = ("scene", "edit") if origin else ("scene", "edit", "texts")
    try:
        row = json.loads(file.read_text())
        return {name: row[name] for name in names}
    except (OSError, ValueError, LookupError, TypeError):
        raise DataError(
            f"{file}: no scene in it; the toy judge judges the triplets of `mre toy` only"
        ) from None
