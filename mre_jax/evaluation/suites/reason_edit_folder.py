"""Reason-Edit's folders as they are published.

    1-Left-Right/          0001.png ..., 0001_mask.jpg ..., Left_Right_text.txt
    2-Relative-Size/       the same, and so on to
    6-Reasoning/

Each line of the text is "INSTRUCTION CLIP: what the box of the mask shall show". Lines and pictures
go together in the sorted order of the pictures' names.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mre_jax.data.triplets import safe_name
from mre_jax.errors import DataError
from mre_jax.evaluation.case import Case, check_cases
from mre_jax.evaluation.metrics.masked import check_mask

UNDERSTANDING = {
    "1-Left-Right": "LeftRight_metrics_1",
    "2-Relative-Size": "RelativeSize_metrics_2",
    "3-Mirror": "Mirror_metrics_3",
    "4-Color": "Color_metrics_4",
    "5-Multiple-Objects": "MultipleObjects_metrics_5",
}
REASONING = {"6-Reasoning": "Reasoning_metrics_1"}
"""Folders of the benchmark, and those that the authors' script puts the edits of each in."""

_MASK = "_mask.jpg"
_MARK = "CLIP:"


@dataclasses.dataclass(frozen=True)
class Folder:
    """One class of instructions.

    Attributes:
        cases: its edits, in the order of the pictures' names; the target phrase is the caption
            "edited_local".
        note: what is odd about its names; "" for nothing.
    """

    cases: Sequence[Case]
    note: str = ""


def read_folder(folder: Path) -> Folder:
    """Reads a class of instructions.

    Raises:
        DataError: naming what is missing, what does not pair, the line without "CLIP:", or the mask
            that does not lie over its picture.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; give the folder of "
            f"{', '.join({**UNDERSTANDING, **REASONING})}, or --group for a part of them"
        )
    pictures = sorted(folder.glob("*.png"))
    masks, note = _masks(folder, pictures)
    kind = folder.name.partition("-")[2]
    cases = [
        Case(
            id=safe_name(f"{kind}-{picture.stem}"),
            group=f"{folder.name}/{picture.name}",
            kind=kind,
            instruction=instruction,
            original=picture,
            masks=(mask,),
            captions={"edited_local": phrase},
        )
        for picture, mask, (instruction, phrase) in zip(
            pictures, masks, _lines(folder, len(pictures)), strict=True
        )
    ]
    for case in check_cases(cases, folder):
        check_mask(case.masks[0], case.original)
    return Folder(cases, note)


def _masks(folder: Path, pictures: Sequence[Path]) -> tuple[list[Path], str]:
    """The mask of each picture: that of its name, or of its place where names do not match.

    The sorted orders of "1.png", "10.png" and of "10_mask.jpg", "1_mask.jpg" differ. The authors'
    script goes by the orders, and there has each other's masks.
    """
    masks = sorted(folder.glob(f"*{_MASK}"))
    named = {mask.name.removesuffix(_MASK): mask for mask in masks}
    alone = [picture for picture in pictures if picture.stem not in named]
    stems = {picture.stem for picture in pictures}
    left = [mask for stem, mask in named.items() if stem not in stems]
    if len(masks) != len(pictures):
        what = f"{folder}: {len(masks)} masks (*{_MASK}) of {len(pictures)} pictures"
        if alone:
            raise DataError(f"{what}; {alone[0].name} has none: add {alone[0].stem}{_MASK}")
        raise DataError(f"{what}; {left[0].name} belongs to none: take it away")
    if alone:
        return masks, (
            f"{folder.name}: {alone[0].name} has no mask of its name, and {left[0].name} no "
            "picture: masks are paired in sorted order, as by the authors' script"
        )
    ours = [named[picture.stem] for picture in pictures]
    if ours == masks:
        return ours, ""
    first = next(i for i, (one, other) in enumerate(zip(ours, masks, strict=True)) if one != other)
    return ours, (
        f"{folder.name}: masks are paired by name; the authors' script, which goes by sorted "
        f"order, gives {pictures[first].name} the mask {masks[first].name}"
    )


def _lines(folder: Path, count: int) -> list[tuple[str, str]]:
    """Instruction and target phrase of each line."""
    texts = sorted(folder.glob("*.txt"))
    if len(texts) != 1:
        found = ", ".join(text.name for text in texts) or "none"
        raise DataError(f"{folder}: want one .txt of instructions in it, found {found}")
    try:
        lines = texts[0].read_text("utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{texts[0]}: cannot be read ({error}); save it as UTF-8") from None
    if len(lines) != count:
        raise DataError(
            f"{texts[0]}: {len(lines)} lines for {count} pictures (*.png); want one each, in the "
            "sorted order of the pictures' names"
        )
    return [_line(line, f"{texts[0]}:{number}") for number, line in enumerate(lines, 1)]


def _line(line: str, where: str) -> tuple[str, str]:
    instruction, mark, phrase = (part.strip() for part in line.partition(_MARK))
    if not (instruction and mark and phrase):
        raise DataError(f"{where}: {line!r:.60}: want INSTRUCTION {_MARK} WHAT THE MASK SHALL SHOW")
    return instruction, phrase
