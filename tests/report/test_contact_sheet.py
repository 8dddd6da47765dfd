import numpy as np
import pytest

from mre_jax.errors import DataError
from mre_jax.report.contact_sheet import contact_sheet
from tests.report.rows import ASKED, make_row, make_world


def test_a_sheet_has_a_line_an_item_and_a_column_a_variant(tmp_path):
    rows = make_world(tmp_path)
    one, two = (contact_sheet(rows, tmp_path, items=count) for count in (1, 2))
    fewer = [row for row in rows if row.condition != "0,0,5"]
    assert two.height > 1.8 * one.height
    step = one.width - contact_sheet(fewer, tmp_path, items=1).width
    assert one.width == pytest.approx((1 + len(ASKED)) * step, abs=step)


def test_types_take_turns_and_photos_too(tmp_path):
    rows = make_world(tmp_path)
    pixels = np.asarray(contact_sheet(rows, tmp_path, items=2))
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3)}
    # Photo 0 with the first type, then photo 1 with the second.
    assert {(0, 80, 120), (60, 80, 120)} <= colours
    assert (120, 80, 120) not in colours
    assert {(80, 100, 50), (80, 200, 50)} <= colours


def test_some_come_first(tmp_path):
    rows = make_world(tmp_path)
    pixels = np.asarray(contact_sheet(rows, tmp_path, items=1, first=["2-1", "gone"]))
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3)}
    assert (120, 80, 120) in colours
    assert (0, 80, 120) not in colours


def test_lines_stand_side_by_side(tmp_path):
    rows = make_world(tmp_path)
    one, two = (contact_sheet(rows, tmp_path, items=4, columns=count) for count in (1, 2))
    assert two.width > 1.9 * one.width
    assert two.height < 0.6 * one.height


def test_a_missing_picture_leaves_a_gap(tmp_path):
    sheet = contact_sheet([make_row(original="gone.png")], tmp_path)
    assert sheet.height > 100


def test_there_must_be_an_edit(tmp_path):
    with pytest.raises(DataError, match="no edits"):
        contact_sheet([make_row(item="all", metric="fid_64", passed=None)], tmp_path)
