"""A grid of one edit over rewards: what each score does, at a glance."""

import dataclasses
from collections.abc import Sequence

from PIL import Image

from mre_jax.editing.request import EditRequest
from mre_jax.io.contact_sheet import FAINT, INK, Cell, Strip, contact_sheet, grade
from mre_jax.reward.scores import BEST, PERSPECTIVES

_NARROWEST = 176
"""Pixels that hold the longest caption at a scale of 1."""


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
    """Lays out the edits of `requests` with their scores, `original` at the left of the first row.

    Pictures too narrow for their captions are enlarged, each pixel to a square.
    """
    factor = -(-_NARROWEST // images[0].width)
    width, height = (side * factor for side in images[0].size)
    left = len(values)
    strips = []
    for row, name in enumerate(("all", *PERSPECTIVES)):
        cells: list[Cell | None] = [
            Cell(image, [[(name, FAINT), (f"{value:g}", grade(value))]])
            for value, image in zip(values, images[row * left : (row + 1) * left], strict=True)
        ]
        first = None if row else Cell(original, [[("original", FAINT)]])
        title = f"{name} alone" if row else request.prompt
        strips.append(Strip([(title, INK)], [first, *cells]))
    return contact_sheet(strips, (width, height), scale=max(1, width // _NARROWEST))
