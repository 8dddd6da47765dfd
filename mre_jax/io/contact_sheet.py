"""A contact sheet: pictures side by side, with what is said of each, as one picture to look at."""

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

Colour: TypeAlias = tuple[int, int, int]
Line: TypeAlias = Sequence[tuple[str, Colour]]
"""Texts with their colours; those of the lines of one block stand in columns."""

INK, FAINT = (30, 34, 42), (104, 110, 122)
_PAPER, _EMPTY = (250, 250, 252), (234, 234, 230)
_GRADES = (
    (190, 30, 45), (205, 75, 35), (190, 110, 20), (150, 130, 20), (85, 135, 45), (30, 120, 65),
)  # fmt: skip
_GAP, _MARGIN = 10, 24
_TITLE, _LINE = 22, 17
_SIZES = 15, 12  # of the fonts of title and lines, at a scale of 1

Font: TypeAlias = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclasses.dataclass(frozen=True)
class Cell:
    """One picture.

    Attributes:
        picture: RGB picture of any size; None leaves its place empty.
        lines: lines below it.
    """

    picture: Image.Image | None
    lines: Sequence[Line] = ()


@dataclasses.dataclass(frozen=True)
class Strip:
    """Pictures side by side.

    Attributes:
        title: line above them.
        cells: the pictures; None is a gap.
        lines: lines below them all.
    """

    title: Line
    cells: Sequence[Cell | None]
    lines: Sequence[Line] = ()


def contact_sheet(
    strips: Sequence[Strip], size: tuple[int, int], *, columns: int = 1, scale: int = 1
) -> Image.Image:
    """Lays out strips, column by column.

    Args:
        strips: one or more; places are as wide and high as the largest takes.
        size: width and height in pixels that a picture is fitted into. A smaller one is enlarged,
            each pixel to a square.
        columns: strips side by side.
        scale: size of the letters, which at 1 suit pictures of 150 pixels.

    Example:
        >>> dog = Image.new("RGB", (64, 48), "tan")
        >>> cells = [Cell(dog, [[("original", FAINT)]]), Cell(dog, [[("5", grade(5))]])]
        >>> contact_sheet([Strip([("make it snow", INK)], cells)], (96, 96)).size
        (250, 183)
    """
    count = max(len(strip.cells) for strip in strips)
    below = [max((len(c.lines) for c in strip.cells if c), default=0) for strip in strips]
    lines = max(n + len(strip.lines) for n, strip in zip(below, strips, strict=True))
    head, line = _TITLE * scale, _LINE * scale
    place = (count * (size[0] + _GAP) - _GAP, head + size[1] + lines * line)
    rows = -(-len(strips) // columns)
    sheet = Image.new(
        "RGB",
        (columns * (place[0] + _MARGIN) + _MARGIN, rows * (place[1] + _MARGIN) + _MARGIN),
        _PAPER,
    )
    for number, strip in enumerate(strips):
        column, row = divmod(number, rows)
        left, top = (_MARGIN + n * (p + _MARGIN) for n, p in zip((column, row), place, strict=True))
        _write(sheet, (left, top), [strip.title], _SIZES[0] * scale, place[0], line)
        for index, cell in enumerate(strip.cells):
            corner = left + index * (size[0] + _GAP), top + head
            if cell is not None:
                _paste(sheet, corner, cell.picture, size)
                under = corner[0], corner[1] + size[1]
                _write(sheet, under, cell.lines, _SIZES[1] * scale, size[0], line)
        bottom = top + head + size[1] + below[number] * line
        _write(sheet, (left, bottom), strip.lines, _SIZES[1] * scale, place[0], line)
    return sheet


def grade(score: float) -> Colour:
    """The colour of a score from 0 to 5, from red to green."""
    return _GRADES[min(max(round(score), 0), len(_GRADES) - 1)]


def _paste(
    sheet: Image.Image, corner: tuple[int, int], picture: Image.Image | None, size: tuple[int, int]
) -> None:
    """The picture in the middle of its place."""
    box = (*corner, corner[0] + size[0] - 1, corner[1] + size[1] - 1)
    ImageDraw.Draw(sheet).rectangle(box, _EMPTY)
    if picture is None:
        return
    scale = min(size[0] / picture.width, size[1] / picture.height)
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    width, height = (max(1, round(side * scale)) for side in picture.size)
    left, top = corner[0] + (size[0] - width) // 2, corner[1] + (size[1] - height) // 2
    sheet.paste(picture.resize((width, height), method), (left, top))


def _write(
    sheet: Image.Image,
    corner: tuple[int, int],
    lines: Sequence[Line],
    size: int,
    width: float,
    height: int,
) -> None:
    """Lines of a height, each cut to a width; the texts of one column start at one place."""
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size)
    tabs = [0.0] * max((len(line) for line in lines), default=0)
    for line in lines:
        for index, (text, _) in enumerate(line[:-1]):
            tabs[index] = max(tabs[index], pen.textlength(text, font) + size / 2)
    for number, line in enumerate(lines):
        for index, (text, colour) in enumerate(line):
            left = sum(tabs[:index])
            shown = _fit(text, pen, font, width - left)
            pen.text((corner[0] + left, corner[1] + number * height + 3), shown, colour, font)


def _fit(text: str, pen: ImageDraw.ImageDraw, font: Font, width: float) -> str:
    """The text on one line, cut where it is wider than `width` pixels."""
    text = " ".join(text.split())
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"
