"""RefCOCO and gRefCOCO as "colour the object" edits: phrases that refer to things in COCO's photos.

refs(unc).p           a pickle of refs, each {ref_id, image_id, ann_id, split, sentences}; of which
                      no code is run
grefs(unc).json       gRefCOCO: the same with a list of ann_id, [-1] for a phrase that nothing fits
instances.json        {"images": [...], "annotations": [...]} as COCO has them
"""

import io
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from etils import epath

from mre_jax.data.sources.colouring import ColouredSet, Region, find_folder
from mre_jax.data.sources.masks import Mask, check_size, coco_mask
from mre_jax.data.sources.picture import read_picture
from mre_jax.data.sources.source import choose
from mre_jax.errors import DataError
from mre_jax.io.files import refuse_lfs_pointer
from mre_jax.io.image import decode_image
from mre_jax.io.json_file import read_json, read_object
from mre_jax.weights.files.unpickle import unpickle


class RefCoco(ColouredSet):
    """Reads every ref of a split; an example's id is its ref_id.

    What is coloured is all that the ref's phrase means. Where gRefCOCO has a phrase that nothing
    fits, the picture stays as it is. Pictures keep their size.

    Attributes:
        name: "grefcoco" for a file of that name, or else "refcoco".

    Args:
        path: the folder of refs and instances, or the file of refs.
        refs: name of the file of refs, where the folder has several.
        split: one of those in the file, or "all".
        instances: COCO's instances; by default `instances.json` beside the refs.
        images: folder of the photos; by default train2014, or images/train2014, beside the refs or
            one folder above.
        templates: a file of lines with {object} and {color}; by default this project's.
        colors: a file of lines of a name and R,G,B, with anything between; by default eight.
        seed: seed of what is drawn: phrase, template, colour.
        variants: so many draws of each ref, of which an epoch reads one.

    Raises:
        DataError: if a file is missing or of another shape, or there are several to choose from.
    """

    def __init__(
        self,
        path: epath.PathLike,
        *,
        refs: str = "",
        split: str = "train",
        instances: str = "",
        images: str = "",
        templates: str = "",
        colors: str = "",
        seed: int = 0,
        variants: int = 1,
    ):
        file = _refs_file(epath.Path(path), refs)
        self.name = "grefcoco" if file.name.startswith("grefs") else "refcoco"
        self._refs = _of_split(_read_refs(file), split, file)
        super().__init__(
            file,
            [str(ref["ref_id"]) for ref in self._refs],
            templates=templates,
            colors=colors,
            seed=seed,
            variants=variants,
        )
        beside = file.parent
        self._images = find_folder(
            "images",
            images,
            [
                folder / name
                for folder in (beside, beside.parent)
                for name in ("images/train2014", "train2014", "images/mscoco/images/train2014")
            ],
        )
        coco = epath.Path(instances) if instances else beside / "instances.json"
        wanted = {one for ref in self._refs for one in _annotations(ref)}
        self._photos, self._segmentations = _read_instances(coco, wanted)

    def _where(self, number: int) -> str:
        return f"{self.path}: ref {self._names[number]}"

    def _region(self, number: int, draw: str) -> Region:
        ref, where = self._refs[number], self._where(number)
        if ref["image_id"] not in self._photos:
            raise DataError(f"{where}: no image {ref['image_id']} among the instances")
        file, size = self._photos[ref["image_id"]]
        picture = read_picture(self._images / file, where)
        image = decode_image(picture, f"{where}: {file}")
        check_size(size, image.size, where)
        mask: Mask = np.zeros((image.height, image.width), bool)
        for annotation in _annotations(ref):
            if annotation not in self._segmentations:
                raise DataError(f"{where}: no annotation {annotation} among the instances")
            one = f"{where}, annotation {annotation}"
            found = coco_mask(self._segmentations[annotation], image.size, one)
            if not found.any():
                raise DataError(f"{one}: its mask has no pixel")
            mask |= found
        phrases = [_phrase(sentence, where) for sentence in ref["sentences"]]
        return Region(picture, image, mask, choose(phrases, self._seed, draw, "phrase"))


def _refs_file(path: epath.Path, name: str) -> epath.Path:
    if not path.is_dir():
        return path
    if name:
        return path / name
    files = [file for pattern in _REFS for file in sorted(path.glob(pattern))]
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise DataError(f"{path}: of files of refs it has {found}; name one by --option refs=FILE")
    return files[0]


def _read_refs(path: epath.Path) -> Any:
    if path.suffix.lower() == ".json":
        return read_json(path)
    refuse_lfs_pointer(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    remedy = "Take the refs from a source that you trust, or as JSON"
    return unpickle(io.BytesIO(data), str(path), remedy=remedy, opcodes=_OPCODES)


def _of_split(refs: Any, split: str, path: epath.Path) -> list[dict[str, Any]]:
    if not isinstance(refs, list):
        raise DataError(f"{path}: it holds no list of refs")
    for number, ref in enumerate(refs):
        if not _is_ref(ref):
            raise DataError(
                f"{path}: entry {number} is no ref: want numbers ref_id, image_id and ann_id, "
                "a text split, and a list of sentences"
            )
    chosen = [ref for ref in refs if split in ("all", ref["split"])]
    if not chosen:
        there = sorted({ref["split"] for ref in refs})
        raise DataError(f"{path}: no refs of split {split!r}; there are {', '.join(there)}")
    return chosen


def _is_ref(ref: Any) -> bool:
    if not isinstance(ref, dict):
        return False
    found = ref.get("ann_id")
    numbers = [ref.get("ref_id"), ref.get("image_id"), *(found if type(found) is list else [found])]
    return (
        all(type(number) is int for number in numbers)
        and isinstance(ref.get("split"), str)
        and isinstance(ref.get("sentences"), list)
        and bool(ref["sentences"])
    )


def _annotations(ref: Mapping[str, Any]) -> list[int]:
    """Those that a ref means, none where nothing fits."""
    found = ref["ann_id"]
    return [one for one in (found if isinstance(found, list) else [found]) if one != _NOTHING]


def _phrase(sentence: Any, where: str) -> str:
    phrase = sentence.get("sent", sentence.get("raw")) if isinstance(sentence, dict) else None
    if not isinstance(phrase, str) or not phrase.strip():
        raise DataError(f"{where}: a sentence without a text 'sent'")
    return phrase.strip().lower()


def _read_instances(
    path: epath.Path, wanted: Collection[int]
) -> tuple[dict[int, tuple[str, Any]], dict[int, Any]]:
    """File and size by image, and the wanted outlines by annotation."""
    coco = read_object(path)
    try:
        photos = {
            image["id"]: (str(image["file_name"]), (image.get("width"), image.get("height")))
            for image in coco["images"]
        }
        outlines = {
            one["id"]: one["segmentation"] for one in coco["annotations"] if one["id"] in wanted
        }
    except (AttributeError, KeyError, TypeError):
        raise DataError(
            f"{path}: want COCO's instances: images of id and file_name, annotations of id and "
            "segmentation"
        ) from None
    return photos, outlines


_REFS = "refs(*).p", "refs(*).json", "grefs(*).json"
_NOTHING = -1
_OPCODES = 1 << 25
"""RefCOCO's 50,000 refs take some millions."""
