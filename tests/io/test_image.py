"""Pictures people bring: every readable one becomes upright RGB, every other is named."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mre_jax.errors import DataError
from mre_jax.io import image as images


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


@pytest.mark.parametrize(("bits", "photometric"), [(12, 1), (16, 1), (16, 0)])
def test_a_scanners_deep_grey_keeps_its_range(bits, photometric):
    """12 bits are no 16 bits with zeros on top: they would come out nearly black."""
    ramp = np.linspace(0, 2**bits - 1, 64).astype(np.uint16).reshape(8, 8)
    if bits == 12:
        pairs = ramp.reshape(-1, 2)
        first, second = pairs[:, 0], pairs[:, 1]
        packed = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
        strip = np.stack(packed, axis=1).astype(np.uint8).tobytes()
    else:
        strip = ramp.astype("<u2").tobytes()
    tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 8}
    tags[279] = len(strip)
    entries = (struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", 0)
    data = b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + directory
    grey = np.asarray(images.decode_image(data, "scan.tif"))[..., 0].astype(int)
    expected = ramp / (2**bits - 1) * 255
    np.testing.assert_allclose(grey, expected if photometric else 255 - expected, atol=1)


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    pixels = np.asarray(images.decode_image(encode(clear, "PNG"), "clear"))
    assert (pixels == 255).all()


def sideways() -> Image.Exif:
    """Says: turn by 90 degrees. New each time, since Pillow's AVIF writer takes the entry out."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


WIDE = Image.effect_noise((32, 16), 90).convert("RGB")
"""Of a photo taken sideways, whose pixels lie."""


def tiff(*pages: tuple[Image.Image, dict[int, int]], **options) -> bytes:
    """A TIFF of pages, each with tags of its own."""
    pages = tuple((page.copy(), tags) for page, tags in pages)
    for page, tags in pages:
        page.encoderinfo = {"tiffinfo": tags}
    first, *others = (page for page, _ in pages)
    tags = pages[0][1]
    return encode(first, "TIFF", save_all=True, append_images=others, tiffinfo=tags, **options)


def equal(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def written(tmp_path, data: bytes):
    path = tmp_path / "picture"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_photo_taken_sideways_is_turned_upright_once_by_every_entry(kind, tmp_path):
    """A file, its bytes, its size from the header, and a picture that Pillow has opened."""
    if kind not in images.FORMATS:
        pytest.skip(f"this Pillow does not read {kind}")
    options = {"tiffinfo": {0x0112: 6}} if kind == "TIFF" else {"exif": sideways()}
    path = written(tmp_path, encode(WIDE, kind, **options))
    upright = images.read_image(path)
    assert upright.size == (16, 32) == images.read_size(path)
    if kind in ("PNG", "TIFF"):
        assert equal(upright, WIDE.transpose(Image.Transpose.ROTATE_270))
    with Image.open(path) as opened:
        for picture in (
            images.decode_image(path.read_bytes(), "photo"),
            images.to_rgb(opened),
            images.to_rgb(images.to_rgb(opened)),
            images.to_rgb(ImageOps.exif_transpose(opened)),
            images.to_rgb(opened.convert("RGB")),
        ):
            assert equal(picture, upright)


def test_a_damaged_exif_block_turns_nothing(tmp_path):
    exif = sideways().tobytes()
    for damaged in (exif[:12], exif[:6] + b"\xff" * 20, b"Exif\0\0" + b"MM\0*" + b"\xff" * 8):
        path = written(tmp_path, encode(WIDE, "JPEG", exif=damaged))
        assert images.read_image(path).size == (32, 16) == images.read_size(path)


def test_a_cameras_jpeg_with_a_preview_is_the_photo(tmp_path):
    """Multi-Picture Format, of which every viewer shows the first picture."""
    preview = WIDE.resize((8, 4))
    camera = encode(WIDE, "MPO", save_all=True, append_images=[preview, preview])
    plain = images.decode_image(encode(WIDE, "JPEG"), "plain.jpg")
    assert equal(images.decode_image(camera, "camera.jpg"), plain)
    assert images.read_size(written(tmp_path, camera)) == (32, 16)


PREVIEW, MASK, PAGE, OLD_PREVIEW = {254: 1}, {254: 4}, {254: 2}, {255: 2}


@pytest.mark.parametrize(
    "tags",
    [
        [{}, PREVIEW],
        [PREVIEW, {}],
        [PREVIEW, PAGE, {254: 5}],
        [MASK, {254: 0}],
        [OLD_PREVIEW, {255: 1}],
        [PREVIEW],
    ],
)
def test_of_a_tiff_with_previews_or_masks_the_full_picture_is_read(tags, tmp_path):
    small = WIDE.resize((8, 4))
    full = next((t for t in tags if t not in (PREVIEW, MASK, OLD_PREVIEW, {254: 5})), tags[0])
    path = written(tmp_path, tiff(*((WIDE if t is full else small, t) for t in tags)))
    assert equal(images.read_image(path), WIDE)
    assert images.read_size(path) == WIDE.size


def test_a_turned_page_behind_a_preview_is_turned(tmp_path):
    path = written(tmp_path, tiff((WIDE.resize((8, 4)), PREVIEW), (WIDE, {254: 0, 0x0112: 6})))
    assert images.read_image(path).size == (16, 32) == images.read_size(path)


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        ([PAGE, PAGE], "2 pages; save the one you mean"),
        ([{}, {}, PREVIEW], "2 pages"),
        ([PREVIEW, PREVIEW], "previews of a raw picture only"),
    ],
)
def test_a_tiff_without_one_full_picture_is_refused(pages, message):
    with pytest.raises(DataError, match=rf"scan\.tif: {message}"):
        images.decode_image(tiff(*((WIDE, dict(tags)) for tags in pages)), "scan.tif")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_animation_is_refused_and_a_single_frame_is_a_picture(kind):
    if kind not in images.FORMATS:
        pytest.skip(f"this Pillow does not read {kind}")
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"cat: animated \(2 frames\)"):
        images.decode_image(data, "cat")
    assert images.decode_image(encode(frames[0], kind, save_all=True), "cat").size == (16, 16)


def test_jpeg_2000_is_read_where_pillow_can():
    if "JPEG2000" not in images.FORMATS:
        pytest.skip("this Pillow does not read JPEG 2000")
    assert equal(images.decode_image(encode(WIDE, "JPEG2000"), "scan.jp2"), WIDE)


def test_picture_over_the_pixel_limit_is_refused_before_it_is_decoded():
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(DataError, match=r"huge: .*million pixels"):
        images.decode_image(png, "huge")


HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + b"\0" * 40


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (b"not a picture", "not a picture in PNG, JPEG"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, "not a picture|damaged"),
        (b"\n<!DOCTYPE html><html>404</html>", "a web page, not a picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL; save it as JPEG or PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL; save it as JPEG or PNG"),
        (b"\0\0\1\0\1\0", "an icon .ICO."),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "a drawing .SVG."),
        (b"%PDF-1.7", "a PDF"),
    ],
)
def test_what_is_no_picture_is_named(data, message, tmp_path):
    path = written(tmp_path, data)
    for read in (images.read_image, images.read_size):
        with pytest.raises(DataError, match=rf"{path}: ({message})"):
            read(path)


def test_heic_names_the_package_that_reads_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    images._has_heif.cache_clear()
    with pytest.raises(DataError, match=r"photo\.heic: HEIC, which takes pillow-heif"):
        images.decode_image(HEIC, "photo.heic")
    images._has_heif.cache_clear()


def test_heic_is_read_where_the_package_is_installed():
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    pixels = images.decode_image(encode(Image.new("RGB", (64, 48), "red"), "HEIF"), "photo.heic")
    assert pixels.size == (64, 48)
    assert np.abs(np.asarray(pixels).astype(int) - [255, 0, 0]).max() < 12


@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "MPO"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.floats(0.1, 1),
)
@settings(max_examples=300)
def test_whatever_the_damage_a_picture_comes_out_or_one_error(kind, changes, kept):
    data = bytearray(encode(WIDE, kind, exif=sideways()))
    for place, value in changes:
        data[int(place * len(data))] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "MAX_PIXELS", 1_000_000)
        try:
            picture = images.decode_image(bytes(data[: int(kept * len(data))]), "photo")
        except DataError as error:
            assert str(error).startswith("photo: ") and "\n" not in str(error)
        else:
            assert picture.mode == "RGB"


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
