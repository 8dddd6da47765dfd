"""A grid of one edit over rewards: what each score does, at a glance."""

import dataclasses
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from mre_jax.editing.request import EditRequest
from mre_jax.reward.scores import BEST

ROWS = ("all three", "following", "preserving", "quality")
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
_MARGIN = 8
_FONT_SIZE = 20
_NARROWEST = 176
"""Pixels that hold the longest caption."""


def requests(request: EditRequest, values: Sequence[float]) -> list[EditRequest]:
    """The edits of the grid, row by row: all scores at each value, then one score at each value.

    In the rows of one score the other two stay as `request` has them, by default at 5.
    """
    scores = request.reward_scores or BEST
    cells = [(value,) * len(scores) for value in values]
    for perspective in range(len(scores)):
        cells += [(*scores[:perspective], value, *scores[perspective + 1 :]) for value in values]
    return [dataclasses.replace(request, reward_scores=cell) for cell in cells]


def draw(
    request: EditRequest,
    original: Image.Image,
    values: Sequence[float],
    images: Sequence[Image.Image],
) -> Image.Image:
    """Lays out the edits of `requests` with their scores, `original` at the left.

    Pictures too narrow for their captions are enlarged, each pixel to a square.
    """
    factor = -(-_NARROWEST // images[0].width)
    original, *images = (
        ImageOps.scale(i, factor, Image.Resampling.NEAREST) for i in (original, *images)
    )
    width, height = images[0].size
    font = ImageFont.load_default(_FONT_SIZE)
    header = _FONT_SIZE + 2 * _MARGIN
    cell_width, cell_height = width + _MARGIN, height + header
    sheet = Image.new("RGB", (cell_width * (1 + len(values)), cell_height * len(ROWS)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(ROWS):
        top = row * cell_height
        if row == 0:
            sheet.paste(original, (0, header))
            pen.text((0, _MARGIN), _clip(request.prompt, pen, font, width), "black", font)
        else:
            pen.text((_MARGIN, top + header), f"{name} alone", "black", font)
        for column, value in enumerate(values, 1):
            label = f"{name} {value:g}"
            pen.text((column * cell_width, top + _MARGIN), label, "black", font)
            image = images[row * len(values) + column - 1]
            sheet.paste(image, (column * cell_width, top + header))
    return sheet


def _clip(text: str, pen: ImageDraw.ImageDraw, font: Font, width: int) -> str:
    while text and pen.textlength(text, font) > width:
        text = text[:-2] + "…" if text.endswith("…") else text[:-1] + "…"
    return text
