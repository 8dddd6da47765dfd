"""A contact sheet: what was given, what was asked, what was made of it, and what that is worth."""

import numpy as np
from jaxtyping import Int
from PIL import Image, ImageDraw, ImageFont

from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.toyworld.edits import instructions
from mre_jax.toyworld.triplets import Triplets, to_bytes

_SIDE, _GAP, _MARGIN = 144, 8, 28
_CARD = (3 * _SIDE + 2 * _GAP, 256)
_INK, _FAINT, _PAPER = (30, 34, 42), (116, 122, 134), (250, 250, 252)
_GRADES = (
    (190, 30, 45),
    (205, 75, 35),
    (205, 120, 20),
    (165, 140, 20),
    (95, 145, 50),
    (30, 130, 70),
)


def draw_sheet(
    triplets: Triplets, scores: Int[np.ndarray, "b 3"], texts: list[list[str]], *, columns: int = 4
) -> Image.Image:
    """One card per triplet: instruction, source, ideal target, edited picture, scores, texts.

    The cards fill the sheet column by column: triplets that take turns in the seven types make
    one line of each type.
    """
    lines = -(-len(scores) // columns)
    width = columns * (_CARD[0] + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, lines * (_CARD[1] + _MARGIN) + _MARGIN), _PAPER)
    asked = instructions(triplets.scenes, triplets.edits)
    for row, sentence in enumerate(asked):
        column, line = divmod(row, lines)
        corner = (
            _MARGIN + column * (_CARD[0] + _MARGIN),
            _MARGIN + line * (_CARD[1] + _MARGIN),
        )
        images = [getattr(triplets, name)[row] for name in ("source", "target", "edited")]
        title = (EDIT_TYPES[triplets.edits.kind[row]], sentence)
        _draw_card(sheet, corner, title, images, scores[row].tolist(), texts[row])
    return sheet


def _draw_card(
    sheet: Image.Image,
    corner: tuple[int, int],
    title: tuple[str, str],
    images: list[np.ndarray],
    scores: list[int],
    texts: list[str],
) -> None:
    pen = ImageDraw.Draw(sheet)
    bold, small = ImageFont.load_default(15), ImageFont.load_default(12)
    x, y = corner
    pen.text((x, y), title[0], _FAINT, bold)
    pen.text((x + 92, y), title[1], _INK, bold)
    for number, (name, image) in enumerate(zip(("source", "ideal", "edited"), images, strict=True)):
        left = x + number * (_SIDE + _GAP)
        picture = Image.fromarray(to_bytes(image))
        method = Image.Resampling.NEAREST if picture.width < _SIDE else Image.Resampling.LANCZOS
        sheet.paste(picture.resize((_SIDE, _SIDE), method), (left, y + 24))
        pen.text((left, y + 26 + _SIDE), name, _FAINT, small)
    for number, (name, value, text) in enumerate(zip(PERSPECTIVES, scores, texts, strict=True)):
        top = y + 48 + _SIDE + 19 * number
        pen.text((x, top), str(value), _GRADES[value], bold)
        pen.text((x + 16, top + 2), name, _INK, small)
        pen.text((x + 92, top + 2), text, _FAINT, small)
