import numpy as np
import pytest
from PIL import Image

from mre_jax.errors import DataError
from mre_jax.evaluation.metrics.pixel import read_masks


@pytest.fixture
def write(tmp_path):
    def write(pixels, name="mask.png"):
        Image.fromarray(np.asarray(pixels, np.uint8)).save(tmp_path / name)
        return tmp_path / name

    return write


def test_the_hole_of_a_picture_is_what_was_to_be_edited(write):
    white, clear = (255, 255, 255, 255), (255, 255, 255, 0)
    mask = write([[white, clear], [white, white]])
    assert read_masks([mask], (2, 2)).tolist() == [[False, True], [False, False]]
    assert read_masks([mask], (4, 2)).tolist() == [[False, False, True, True], [False] * 4]


def test_without_transparency_it_is_what_is_white(write):
    grey = write([[0, 255], [249, 250]])
    assert read_masks([grey], (2, 2)).tolist() == [[False, True], [False, True]]
    opaque = write([[(9, 9, 9, 255), (255, 255, 255, 255)]])
    assert read_masks([opaque], (2, 1)).tolist() == [[False, True]]


def test_several_masks_add_up_and_none_hides_nothing(write):
    one, other = write([[0, 255]], "one.png"), write([[255, 0]], "other.png")
    assert read_masks([one, other], (2, 1)).all()
    assert not read_masks([], (2, 1)).any()


def test_what_is_no_mask_is_named(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"mask\.png: not a picture"):
        read_masks([tmp_path / "mask.png"], (2, 2))
