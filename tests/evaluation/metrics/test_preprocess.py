import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mre_jax.errors import DataError
from mre_jax.evaluation.metrics.preprocess import Preprocess, open_picture
from mre_jax.models.clip_vision import CLIP_MEAN, CLIP_STD
from tests.evaluation.metric_pictures import pictures

CLIP = Preprocess(224, 224, CLIP_MEAN, CLIP_STD)
# Square, both orientations, smaller than the network, and margins of 1, 2 and 3 pixels.
SIZES = [(256, 256), (768, 512), (301, 640), (100, 61), (225, 224), (226, 224), (224, 227)]


@pytest.mark.parametrize("picture", pictures(SIZES), ids=lambda p: f"{p.width}x{p.height}")
def test_pictures_are_those_of_transformers_for_clip(picture):
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessorPil()
    theirs = processor(picture, return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    ours = np.asarray(CLIP.normalise(jnp.asarray(CLIP.pixels(picture)[None])))
    # The same bytes; the normalised values, up to 2.2, round differently in their last bit.
    bytes_of = [np.rint((x * CLIP_STD + CLIP_MEAN) * 255) for x in (ours, theirs)]
    np.testing.assert_array_equal(*bytes_of)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-7)


def test_a_crop_may_round_its_corner_to_even_as_torchvision_does():
    # (227 - 224) / 2 = 1.5 and (225 - 224) / 2 = 0.5, rounded to even: 2 and 0.
    rounding = Preprocess(224, 224, CLIP_MEAN, CLIP_STD, round_offset=True)
    for size, down, even in (((227, 224), 1, 2), ((225, 224), 0, 0)):
        picture = pictures([size])[0]
        whole = np.asarray(picture)
        np.testing.assert_array_equal(CLIP.pixels(picture), whole[:, down : down + 224])
        np.testing.assert_array_equal(rounding.pixels(picture), whole[:, even : even + 224])


def test_a_path_is_read_and_other_modes_become_rgb(tmp_path):
    picture = pictures([(30, 20)])[0]
    picture.save(tmp_path / "a.png")
    small = Preprocess(16, 8, CLIP_MEAN, CLIP_STD)
    np.testing.assert_array_equal(small.pixels(tmp_path / "a.png"), small.pixels(picture))
    assert small.pixels(Image.new("L", (9, 9))).shape == (8, 8, 3)
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        small.pixels(str(tmp_path / "none.png"))


def test_a_picture_in_memory_is_turned_as_its_file_is(tmp_path):
    """Both are the same photo to a metric."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((32, 16), 90).save(tmp_path / "phone.png", exif=exif)
    with Image.open(tmp_path / "phone.png") as phone:
        assert np.array_equal(open_picture(phone), open_picture(tmp_path / "phone.png"))
        assert open_picture(phone).size == (16, 32)
