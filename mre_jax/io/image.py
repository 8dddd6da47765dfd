"""Reading and writing the pictures people bring: checked before they are decoded.

A file is opened by an allow-list of formats, measured before its pixels are touched, turned
upright, and brought to 8-bit RGB where nothing is lost that an editor could use. What cannot be
converted safely is refused by name.
"""

import codecs
import contextlib
import functools
import io
import warnings
from collections.abc import Iterator
from typing import IO

import numpy as np
from etils import epath
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError, features
from PIL.TiffImagePlugin import TiffImageFile

from mre_jax.errors import DataError
from mre_jax.io.files import is_lfs_pointer, write_atomically

FORMATS = (
    *("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"),
    *(("AVIF",) if features.check("avif") else ()),
    *(("JPEG2000",) if features.check("jpg_2000") else ()),
)
"""Pillow's names; HEIF is read too where pillow-heif is installed."""

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".avif", ".jp2", ".heic", ".heif"),
)
"""Of picture files, in lower case; what a file is its content decides."""

MAX_PIXELS = 64_000_000
"""Largest picture that is decoded: a 64-megapixel photo takes 200 MB as RGB."""

MAX_BYTES = 256 * 2**20


def read_image(path: epath.PathLike) -> Image.Image:
    """Reads a still picture as upright 8-bit RGB.

    Of a camera's JPEG with previews behind the photo (MPO) the photo is read, of a TIFF with
    reduced copies or masks the full picture. Grey, palette, CMYK and 16-bit pictures are converted;
    transparency is laid on white. A colour profile is left aside, as diffusers and the readers of
    public sets do: the numbers are taken for sRGB.

    Raises:
        DataError: if the file is missing, not a picture, animated, of several pages, of more than
            `MAX_PIXELS`, or damaged.
    """
    path = epath.Path(path)
    with _readable(path):
        size = path.stat().length
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size / 2**20:.0f} MiB, more than {MAX_BYTES // 2**20} MiB")
        data = path.read_bytes()
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> Image.Image:
    """`read_image` for bytes at hand; `name` is what errors call them."""
    with _opened(io.BytesIO(data), name) as image:
        return to_rgb(image, name).copy()  # of the pixels, without the file


def read_size(path: epath.PathLike) -> tuple[int, int]:
    """The (width, height) of what `read_image` gives, from the header where that suffices.

    Raises:
        DataError: as `read_image`, except for damage behind the header.
    """
    path = epath.Path(path)
    with _readable(path), path.open("rb") as file, _opened(file, str(path)) as image:
        width, height = image.size
        # A TIFF says its size as it is after turning.
        sideways = image.format != "TIFF" and _orientation(image) in _SIDEWAYS
    return (height, width) if sideways else (width, height)


def to_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """Converts any still picture to upright 8-bit RGB; see `read_image`.

    It is turned by the orientation in its EXIF block, which the result does not have any more.

    Raises:
        DataError: for a mode with no safe conversion (32-bit or floating-point pixels), or if the
            picture turns out to be damaged.
    """
    image = _upright(image, name)
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        return _from_16_bit(image)
    if image.mode in ("I", "F"):
        raise DataError(f"{name}: {image.mode}-mode pixels have no known range; save it as 8-bit")
    try:
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, layer).convert("RGB")
        return image.convert("RGB")
    except ValueError:
        raise DataError(f"{name}: no way from {image.mode} to RGB; save it as RGB") from None


def to_array(image: Image.Image) -> UInt8[np.ndarray, "H W c"]:
    """The pixels of an RGB or RGBA picture."""
    return np.asarray(image)


def to_pil(pixels: Float[np.ndarray, "H W 3"]) -> Image.Image:
    """A picture from pixels in [0, 1], rounded to 8 bits as diffusers does.

    Raises:
        DataError: for a pixel that is not finite, which 8 bits would turn into black.
    """
    if not np.isfinite(pixels).all():
        raise DataError("a picture with pixels that are not finite cannot be shown")
    return Image.fromarray(np.round(pixels * 255).astype(np.uint8))


def write_png(image: Image.Image, path: epath.PathLike) -> None:
    """Writes a PNG that appears under its name only when it is whole."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


@contextlib.contextmanager
def _readable(path: epath.Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, where a picture is wanted") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


@contextlib.contextmanager
def _opened(file: IO[bytes], name: str) -> Iterator[Image.Image]:
    """The picture that a file means, measured and not decoded; errors in the block are its own."""
    with warnings.catch_warnings():
        # Pillow warns of large pictures, whose limit here is ours, and of odd metadata.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        start = file.read(_START)
        file.seek(0)
        try:
            with Image.open(file, formats=_formats(start)) as image:
                _seek_picture(image, name)
                _check_size(image, name)
                yield image
        except DataError:
            raise
        except UnidentifiedImageError:
            raise DataError(f"{name}: {_what_else(start)}") from None
        except Image.DecompressionBombError:
            raise DataError(f"{name}: more than {MAX_PIXELS / 1e6:.0f} million pixels") from None
        except Exception as error:  # decoders raise whatever they stumble over
            raise DataError(f"{name}: damaged picture ({error})") from None


def _seek_picture(image: Image.Image, name: str) -> None:
    """Goes to the full picture among those of the file.

    Raises:
        DataError: if there are several, or none.
    """
    if isinstance(image, TiffImageFile):
        return _seek_page(image, name)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _LED_BY_FIRST:
        raise DataError(f"{name}: animated ({frames} frames); save the frame you mean")


def _seek_page(image: TiffImageFile, name: str) -> None:
    pages = [page for page in range(image.n_frames) if not _is_reduced(image, page)]
    if len(pages) > 1:
        raise DataError(f"{name}: {len(pages)} pages; save the one you mean")
    if not pages and (image.n_frames > 1 or _SUB_IFDS in image.tag_v2):
        raise DataError(f"{name}: previews of a raw picture only; export it as JPEG or PNG")
    image.seek(pages[0] if pages else 0)


def _is_reduced(image: TiffImageFile, page: int) -> bool:
    """Whether a page is a smaller copy or the mask of another."""
    image.seek(page)
    kind = image.tag_v2.get(_NEW_SUBFILE_TYPE)
    if kind is None:
        return image.tag_v2.get(_SUBFILE_TYPE) == 2
    return bool(kind & 0b101)


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name}: {width}x{height} is more than {MAX_PIXELS / 1e6:.0f} million pixels"
        )


def _upright(image: Image.Image, name: str) -> Image.Image:
    try:
        image.load()  # which turns a TIFF
    except Exception as error:  # decoders raise whatever they stumble over
        raise DataError(f"{name}: damaged picture ({error})") from None
    turn = _TURNS.get(_orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    for key in _METADATA:  # would ask for the turn again
        turned.info.pop(key, None)
    return turned


def _orientation(image: Image.Image) -> int:
    """As EXIF counts it; 1 is upright, as is a picture whose block cannot be read."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # of a damaged block
        return 1


def _from_16_bit(image: Image.Image) -> Image.Image:
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]  # a scanner's 12 lie in 16
    grey = np.asarray(image).astype(np.uint32) * 255 // (2**bits - 1)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _formats(start: bytes) -> tuple[str, ...]:
    return (*FORMATS, "HEIF") if _is_heic(start) and _has_heif() else FORMATS


def _is_heic(start: bytes) -> bool:
    return start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS


@functools.cache
def _has_heif() -> bool:
    try:
        import pillow_heif  # an extra
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _what_else(start: bytes) -> str:
    """What a file that begins so is, if it is none of `FORMATS`."""
    if not start:
        return "an empty file"
    if is_lfs_pointer(start):
        return "a Git LFS pointer, not the file; get that with git lfs pull"
    if _is_heic(start):
        return "HEIC, which takes pillow-heif (pip install pillow-heif); or save it as JPEG"
    start = start.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for beginning, kind in _OTHER_KINDS.items():
        if start.startswith(beginning):
            return f"{kind}; save it as JPEG or PNG"
    if b"<html" in start or b"<!doctype html" in start:
        return "a web page, not a picture; fetch the picture itself"
    return f"not a picture in {', '.join(FORMATS)}"


_LED_BY_FIRST = ("MPO", "HEIF")
"""Formats whose further pictures belong to the one that is opened."""

_START = 1024
"""Bytes that tell what a file is."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_METADATA = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")

# Tags of a TIFF.
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _SUB_IFDS = 254, 255, 330
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_OTHER_KINDS = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjxl ": "JPEG XL",
    b"\0\0\1\0": "an icon (ICO)",
    b"8bps": "a Photoshop document",
    b"%pdf": "a PDF",
    b"<svg": "a drawing (SVG)",
}
