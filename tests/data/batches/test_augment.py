"""Both pictures of a pair are cut and mirrored alike, and nothing else is done to them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mre_jax.data.batches.augment import Augmentation, augment
from mre_jax.errors import ConfigError

UNIT = st.floats(0, 1, exclude_max=True)


def coordinates(side: int) -> Image.Image:
    """A picture whose pixels say where they are: red is x, green is y."""
    y, x = np.mgrid[:side, :side]
    return Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))


@given(room=st.integers(0, 20), top=UNIT, left=UNIT, mirror=st.booleans())
def test_both_pictures_show_the_same_window(room, top, left, mirror):
    augmentation = Augmentation(resolution=16, resize_to=16 + room)
    crop = {"top": top, "left": left, "mirror": mirror}
    image = coordinates(16 + room)
    other = Image.fromarray(255 - np.asarray(image))
    pixels = augment(image, augmentation, **crop)
    np.testing.assert_array_equal(augment(other, augmentation, **crop), 255 - pixels)
    columns = pixels[0, :, 0].astype(int)
    x, y = columns.min(), int(pixels[0, 0, 1])
    assert 0 <= x <= room and 0 <= y <= room
    np.testing.assert_array_equal(np.diff(columns), -1 if mirror else 1)
    np.testing.assert_array_equal(pixels[:, 0, 1], np.arange(y, y + 16))


def test_crops_reach_every_place():
    augmentation = Augmentation(resolution=8, resize_to=11)
    tops = np.linspace(0, 1, 100, endpoint=False)
    found = {int(augment(coordinates(11), augmentation, top=t, left=0, mirror=False)[0, 0, 1])
             for t in tops}  # fmt: skip
    assert found == {0, 1, 2, 3}


def wide(width: int, height: int) -> Image.Image:
    """A picture that is as red as it is far to the right, and as green as it is far down."""
    y, x = np.mgrid[:height, :width]
    ramp = [255 * x / (width - 1), 255 * y / (height - 1), 0 * x]
    return Image.fromarray(np.stack(ramp, axis=-1).round().astype(np.uint8))


@pytest.mark.parametrize(("width", "height"), [(80, 40), (40, 80), (40, 40), (333, 100)])
@pytest.mark.parametrize("resize_to", [None, 24])
def test_a_crop_keeps_the_proportions_and_reaches_both_ends(width, height, resize_to):
    augmentation = Augmentation(16, resize_to=resize_to, fit="crop")
    image, resized = wide(width, height), augmentation.size(width, height)
    assert min(resized) == (resize_to or 16)
    assert resized[0] / resized[1] == pytest.approx(width / height, rel=0.05)
    corners = {}
    for place in (0.0, 0.5, 0.999):
        pixels = augment(image, augmentation, top=place, left=place, mirror=False)
        assert pixels.shape == (16, 16, 3)
        corners[place] = pixels.astype(int)
    first, middle, last = corners.values()
    assert first[0, 0, :2].max() < 20 and last[-1, -1, :2].min() > 235
    np.testing.assert_allclose(middle.mean((0, 1))[:2], 127.5, atol=12)
    # A pixel spans as much of the picture to the right as downwards.
    steps = np.diff(middle[8, :, 0]).mean() * width, np.diff(middle[:, 8, 1]).mean() * height
    assert steps[0] == pytest.approx(steps[1], rel=0.1)


def test_of_a_pair_of_two_sizes_both_show_the_same():
    augmentation = Augmentation(16, fit="crop")
    crop = {"top": 0.3, "left": 0.8, "mirror": False, "proportions": (96, 64)}
    original = augment(wide(96, 64), augmentation, **crop)
    edited = augment(wide(96, 60), augmentation, **crop)
    assert abs(original.astype(int) - edited).max() <= 4


@pytest.mark.parametrize("name", ["lanczos", "bicubic"])
def test_any_picture_is_resized_by_the_named_filter(name):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 33, 3), np.uint8))
    pixels = augment(image, Augmentation(12, filter=name), top=0.9, left=0.9, mirror=False)
    want = image.resize((12, 12), getattr(Image.Resampling, name.upper()))
    np.testing.assert_array_equal(pixels, np.asarray(want))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 0}, "resolution=0 must be at least 1"),
        ({"resize_to": 200}, "resize_to=200 must be at least resolution=256"),
        ({"flip": 1.5}, "flip=1.5 must be a probability"),
        ({"fit": "pad"}, "fit='pad' must be one of stretch, crop"),
        ({"filter": "nearest"}, "filter='nearest' must be one of lanczos, bicubic"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Augmentation(**settings)
