"""A contact sheet: some edits of every system side by side, with their scores, as one picture."""

import collections
from collections.abc import Sequence

from etils import epath
from PIL import Image, ImageDraw, ImageFont

from mre_jax.errors import DataError
from mre_jax.evaluation.results import Result
from mre_jax.io.image import read_image
from mre_jax.report.scores import Scores, Variant, by_suite

_SIDE, _GAP, _MARGIN, _LINE = 152, 10, 24, 17
_INK, _FAINT, _PAPER, _EMPTY = (30, 34, 42), (104, 110, 122), (250, 250, 252), (234, 234, 230)
_GRADES = (
    (190, 30, 45),
    (205, 75, 35),
    (190, 110, 20),
    (150, 130, 20),
    (85, 135, 45),
    (30, 120, 65),
)
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def contact_sheet(rows: Sequence[Result], root: epath.PathLike, *, items: int = 14) -> Image.Image:
    """One line an item: the original, then each variant's edit with its three scores.

    The types of instruction take turns, and pictures are not shown twice as long as there are
    others. Only the first suite is shown.

    Args:
        rows: results with pictures.
        root: the folder that the rows' pictures are relative to.
        items: lines of the sheet, at most.

    Raises:
        DataError: if no row is of an edit.
    """
    if not rows or not (scores := by_suite(rows)[0]).items:
        raise DataError("no edits to draw a contact sheet of")
    chosen = _choose(scores, items)
    edits: dict[tuple[Variant, str], list[Result]] = collections.defaultdict(list)
    for row in scores.rows:
        edits[Variant(row.system, row.condition), row.item].append(row)
    cell = (_SIDE + _GAP, _SIDE + _LINE * (2 + len(scores.perspectives)) + _MARGIN)
    size = (2 * _MARGIN + cell[0] * (1 + len(scores.variants)), _MARGIN + cell[1] * len(chosen))
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    bold, small = ImageFont.load_default(15), ImageFont.load_default(12)
    for line, row in enumerate(chosen):
        top = _MARGIN + line * cell[1]
        kind = f"{row.kind}:  " if row.kind else ""
        left = _MARGIN + pen.textlength(kind, bold)
        title = _fit(row.instruction or row.item, pen, bold, size[0] - _MARGIN - left)
        pen.text((_MARGIN, top), kind, _FAINT, bold)
        pen.text((left, top), title, _INK, bold)
        _paste(sheet, (_MARGIN, top + 22), root, row.original)
        pen.text((_MARGIN, top + 25 + _SIDE), "original", _FAINT, small)
        for place, variant in enumerate(scores.variants, 1):
            found = {one.metric: one for one in edits[variant, row.item]}
            corner = (_MARGIN + place * cell[0], top + 22)
            _paste(
                sheet, corner, root, next((one.edited for one in found.values() if one.edited), "")
            )
            below = (corner[0], corner[1] + _SIDE + 3)
            pen.text(below, _fit(variant.label, pen, small, _SIDE), _FAINT, small)
            judged = [found[name] for name in scores.perspectives if name in found]
            _write_scores(pen, below, judged, small)
    return sheet


def _choose(scores: Scores, count: int) -> list[Result]:
    """A row each of the items to show."""
    rows = {row.item: row for row in reversed(scores.rows)}
    waiting = [rows[item] for item in scores.items]
    kinds = scores.kinds or [""]
    chosen: list[Result] = []
    while waiting and len(chosen) < count:
        kind = kinds[len(chosen) % len(kinds)]
        seen = {row.group for row in chosen}
        # False sorts before True: the wanted kind first, then a picture not shown yet.
        best = min(waiting, key=lambda row: (row.kind != kind, row.group in seen))
        chosen.append(best)
        waiting.remove(best)
    return chosen


def _paste(sheet: Image.Image, corner: tuple[int, int], root: epath.PathLike, name: str) -> None:
    """The picture in the middle of its square, or an empty square where there is none."""
    box = (*corner, corner[0] + _SIDE - 1, corner[1] + _SIDE - 1)
    ImageDraw.Draw(sheet).rectangle(box, _EMPTY)
    if not name:
        return
    try:
        picture = read_image(epath.Path(root) / name)
    except DataError:  # a sheet with a gap still shows the others
        return
    scale = _SIDE / max(picture.size)
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    width, height = (max(1, round(side * scale)) for side in picture.size)
    left, top = corner[0] + (_SIDE - width) // 2, corner[1] + (_SIDE - height) // 2
    sheet.paste(picture.resize((width, height), method), (left, top))


def _write_scores(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], rows: Sequence[Result], font: Font
) -> None:
    for number, row in enumerate(rows, 1):
        y = corner[1] + number * _LINE
        if row.value is None:
            pen.text((corner[0], y), f"{row.metric} {row.status}", _GRADES[0], font)
        else:
            grade = _GRADES[min(max(round(row.value), 0), len(_GRADES) - 1)]
            pen.text((corner[0], y), f"{row.value:.1f}", grade, font)
            pen.text((corner[0] + 26, y), row.metric, _INK, font)


def _fit(text: str, pen: ImageDraw.ImageDraw, font: Font, width: float) -> str:
    """The text, cut where it is wider than `width` pixels, and on one line."""
    text = " ".join(text.split())
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"
