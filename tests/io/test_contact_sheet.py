"""The contact sheet: pictures fitted into their places, texts that stay in theirs."""

import numpy as np
from PIL import Image

from mre_jax.io.contact_sheet import INK, Cell, Strip, contact_sheet, grade

RED = (255, 0, 0)
PAPER, EMPTY = (250, 250, 252), (234, 234, 230)


def sheet(columns=1, title="title", count=1):
    wide = Image.new("RGB", (10, 5), RED)
    strip = Strip([(title, INK)], [Cell(wide, [[("5", grade(5))]]), None, Cell(None)])
    return contact_sheet([strip] * count, (40, 40), columns=columns)


def test_a_picture_keeps_its_proportions_in_the_middle_of_its_place():
    pixels = np.asarray(sheet())
    red = np.argwhere((pixels == RED).all(axis=-1))
    assert (np.ptp(red, axis=0) + 1).tolist() == [20, 40]
    top, left = red.min(axis=0)
    assert tuple(pixels[top - 1, left]) == EMPTY  # above it, in its place
    assert tuple(pixels[top, left + 70]) == PAPER  # a gap
    assert tuple(pixels[top, left + 120]) == EMPTY  # no picture


def test_strips_fill_columns():
    one, two, stacked = sheet(), sheet(columns=2, count=2), sheet(count=2)
    assert two.height == one.height and two.width > one.width
    assert stacked.width == one.width and stacked.height > one.height


def test_a_text_too_wide_is_cut_within_the_sheet():
    pixels = np.asarray(sheet(title="many words " * 40))
    assert (pixels[:, -24:] == PAPER).all() and (pixels[:, :24] == PAPER).all()
    assert not (pixels[24:44] == PAPER).all()


def test_a_grade_for_every_score():
    assert [grade(n) for n in (-1, 0, 4.6, 9)] == [grade(n) for n in (0, 0.4, 5, 5)]
