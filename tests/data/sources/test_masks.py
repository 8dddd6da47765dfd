"""Outlines as masks, as COCO's own tools make them."""

import numpy as np
import pytest

from mre_jax.data.sources.masks import coco_mask, polygon_mask
from mre_jax.errors import DataError


def square(size, left, top, right, bottom):
    mask = np.zeros(size[::-1], bool)
    mask[top:bottom, left:right] = True
    return mask


def test_run_lengths_go_down_the_columns():
    mask = square((4, 5), 1, 1, 4, 3)
    mask[4, 0] = True
    plain = {"size": [5, 4], "counts": [4, 1, 1, 2, 3, 2, 3, 2, 2]}
    np.testing.assert_array_equal(coco_mask(plain, (4, 5), "x"), mask)
    # What pycocotools 2.0.11 packs the same mask into.
    np.testing.assert_array_equal(
        coco_mask({"size": [5, 4], "counts": "41112000O"}, (4, 5), "x"), mask
    )


def test_packed_run_lengths_of_several_characters_and_below_zero():
    mask = square((40, 40), 2, 3, 39, 30)
    mask[35] = True
    # Of pycocotools 2.0.11.
    packed = "S11W10POj0NVO2" + "j0NVO2" * 35 + "j0NVOR10mN"
    np.testing.assert_array_equal(
        coco_mask({"size": [40, 40], "counts": packed}, (40, 40), "x"), mask
    )


def test_polygons_cover_the_pixels_whose_centres_they_hold():
    corners = [2, 1, 6, 1, 6, 4, 2, 4]
    np.testing.assert_array_equal(coco_mask([corners], (9, 7), "x"), square((9, 7), 2, 1, 6, 4))
    other = [0, 5, 3, 5, 3, 7, 0, 7]
    both = square((9, 7), 2, 1, 6, 4) | square((9, 7), 0, 5, 3, 7)
    np.testing.assert_array_equal(coco_mask([corners, other], (9, 7), "x"), both)
    # Where they overlap they are still one, and what lies outside is cut.
    far = [-50, -50, 50, -50, 50, 50, -50, 50]
    assert coco_mask([corners, far], (9, 7), "x").all()


def test_a_round_polygon_has_its_area():
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    points = np.stack([50 + 30 * np.cos(angle), 40 + 30 * np.sin(angle)], 1).tolist()
    assert polygon_mask(points, (100, 80), "x").sum() == pytest.approx(np.pi * 900, rel=2e-3)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (
            {"size": [5, 4], "counts": [20]},
            r"run lengths are for .* \[5, 4\], and the picture is 5x",
        ),
        ({"size": [4, 5], "counts": [19]}, "not those of 5x4 pixels"),
        ({"size": [4, 5], "counts": [-1, 21]}, "not those of 5x4 pixels"),
        ({"size": [4, 5], "counts": 3}, "not those of 5x4 pixels"),
        ({"size": [4, 5], "counts": "4é"}, "not those of 5x4 pixels"),
        ({"size": [4, 5], "counts": "o" * 99}, "not those of 5x4 pixels"),
        ({"size": [4, 5], "counts": "T"}, "not those of 5x4 pixels"),
        ([], "neither polygons nor run lengths"),
        (None, "neither polygons nor run lengths"),
        ([[0, 0, 1]], "no list of x, y"),
        ([[0, 0, 1, 1]], "at least three points"),
        ([[0, 0, 1, 1, "a", 2]], "at least three points"),
        ([[0, 0, 1, 1, None, 2]], "far outside"),
        ([[0, 0, 1, 1e9, 2, 2]], "far outside"),
    ],
)
def test_what_is_no_mask_of_the_picture_is_refused(segmentation, message):
    with pytest.raises(DataError, match=f"^row 3: .*{message}"):
        coco_mask(segmentation, (5, 4), "row 3")
