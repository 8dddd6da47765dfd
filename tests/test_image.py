"""Pictures people bring: every readable one becomes upright RGB, every other is named."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mre_jax import image as images
from mre_jax.errors import DataError


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey_ramp(mode: str) -> Image.Image:
    return Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).convert(mode)


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGB", "RGBA"])
def test_png_of_every_mode_becomes_rgb(mode):
    image = images.decode_image(encode(grey_ramp(mode), "PNG"), "ramp")
    assert (image.mode, image.size) == ("RGB", (8, 8))


def test_cmyk_jpeg_keeps_its_colours():
    red = Image.new("RGB", (16, 16), (200, 30, 30)).convert("CMYK")
    pixels = np.asarray(images.decode_image(encode(red, "JPEG", quality=95), "cmyk"))
    assert np.abs(pixels.astype(int) - [200, 30, 30]).max() < 12


def test_16_bit_grey_keeps_its_range():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    pixels = np.asarray(images.decode_image(encode(Image.fromarray(ramp), "PNG"), "deep"))
    np.testing.assert_allclose(pixels[..., 0], ramp / 257, atol=1)


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    pixels = np.asarray(images.decode_image(encode(clear, "PNG"), "clear"))
    assert (pixels == 255).all()


def test_a_photo_taken_sideways_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    photo = encode(Image.new("RGB", (32, 16)), "JPEG", exif=exif)
    assert images.decode_image(photo, "photo").size == (16, 32)


def test_animation_is_refused():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"cat\.gif: animated \(2 frames\)"):
        images.decode_image(data, "cat.gif")


def test_picture_over_the_pixel_limit_is_refused_before_it_is_decoded():
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(DataError, match=r"huge: .*million pixels"):
        images.decode_image(png, "huge")


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 20])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(DataError, match=r"^junk: "):
        images.decode_image(data, "junk")


def test_truncated_picture_is_refused():
    data = encode(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")
    with pytest.raises(DataError, match="half: damaged picture"):
        images.decode_image(data[: len(data) // 2], "half")


def test_floating_point_pixels_are_refused():
    data = encode(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF")
    with pytest.raises(DataError, match="F-mode pixels"):
        images.decode_image(data, "float")


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        images.read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="a folder"):
        images.read_image(tmp_path)


def test_png_round_trip_through_a_file(tmp_path):
    pixels = np.random.default_rng(0).random((8, 8, 3)).astype(np.float32)
    picture = images.to_pil(pixels)
    images.write_png(picture, tmp_path / "a.png")
    assert np.array_equal(images.to_array(images.read_image(tmp_path / "a.png")), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
