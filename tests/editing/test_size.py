"""The size of an edit: what the paper and the released code take, and what is refused."""

import pytest
from PIL import Image

from mre_jax.editing.size import fit, parse_size, target_size
from mre_jax.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("size", "paper", "released_code"),
    [
        ((6000, 4000), (768, 512), (576, 384)),
        ((4000, 6000), (512, 768), (384, 576)),
        ((4032, 3024), (704, 512), (512, 384)),
        ((1920, 1080), (896, 512), (512, 256 + 64)),
        ((512, 512), (512, 512), (512, 512)),
        ((49, 600), (512, 6272), (64, 768)),  # 49 * (64 / 49) is less than 64
    ],
)
def test_presets(size, paper, released_code):
    assert target_size(size, "paper") == paper
    assert target_size(size, "released_code") == released_code


def test_keep_cuts_to_multiples_of_eight():
    assert target_size((517, 390), "keep") == (512, 384)
    with pytest.raises(DataError, match="7x100 has a side below 8 pixels; name another size"):
        target_size((7, 100), "keep")


@pytest.mark.parametrize("preset", ["paper", "released_code"])
@pytest.mark.parametrize("resolution", [0, -512, 63])
def test_a_resolution_that_no_size_can_have_is_refused(preset, resolution):
    """It gave 64 pixels without a word."""
    with pytest.raises(ConfigError, match=f"resolution {resolution} is below 64"):
        target_size((640, 480), preset, resolution)
    assert target_size((640, 480), "keep", resolution) == (640, 480)


def test_explicit_size():
    assert parse_size("640x360") == (640, 360)
    assert target_size((10, 10), (640, 360)) == (640, 360)


@pytest.mark.parametrize(
    "text",
    [
        *("640x361", "0x64", "big", "64", "64x64x64", "-8x8", "²x64", "\uff16x64"),
        *(None, 64, (64,), (64.0, 64.0), [64, 64]),
    ],
)
def test_bad_sizes_are_refused(text):
    with pytest.raises(ConfigError, match="size"):
        parse_size(text)


def test_fit_does_not_stretch():
    wide = Image.new("RGB", (300, 100), "white")
    wide.paste("black", (100, 0, 200, 100))
    square = fit(wide, (64, 64))
    assert square.size == (64, 64)
    assert square.getpixel((32, 32)) == (0, 0, 0)
