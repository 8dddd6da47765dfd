"""Reading and writing the pictures people bring: checked before they are decoded.

A file is opened by an allow-list of formats, measured before its pixels are touched, turned
upright, and brought to 8-bit RGB where nothing is lost that an editor could use. What cannot be
converted safely is refused by name.
"""

import io
import warnings

import numpy as np
from etils import epath
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from mre_jax.errors import DataError
from mre_jax.files import write_atomically

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 64_000_000
"""Largest picture that is decoded: a 64-megapixel photo takes 200 MB as RGB."""

MAX_BYTES = 256 * 2**20


def read_image(path: epath.PathLike) -> Image.Image:
    """Reads a still picture as upright 8-bit RGB.

    Grey, palette, CMYK and 16-bit pictures are converted; transparency is laid on white.

    Raises:
        DataError: if the file is missing, not a picture, animated, of more than `MAX_PIXELS`, or
            damaged.
    """
    path = epath.Path(path)
    try:
        size = path.stat().length
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size / 2**20:.0f} MiB, more than {MAX_BYTES // 2**20} MiB")
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, where a picture is wanted") from None
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> Image.Image:
    """`read_image` for bytes at hand; `name` is what errors call them."""
    with warnings.catch_warnings():
        # The limit below is ours; Pillow's own only warns.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_header(image, name)
                image.load()
                return to_rgb(ImageOps.exif_transpose(image), name)
        except UnidentifiedImageError:
            raise DataError(f"{name}: not a picture in {', '.join(FORMATS)}") from None
        except Image.DecompressionBombError:
            raise DataError(f"{name}: more than {MAX_PIXELS / 1e6:.0f} million pixels") from None
        except (OSError, SyntaxError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{name}: damaged picture ({error})") from None


def to_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """Converts any still picture to 8-bit RGB; see `read_image`.

    Raises:
        DataError: for a mode with no safe conversion (32-bit or floating-point pixels).
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint16)
        return Image.fromarray((grey // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise DataError(f"{name}: {image.mode}-mode pixels have no known range; save it as 8-bit")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def to_array(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of an RGB picture."""
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


def _check_header(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name}: {width}x{height} is more than {MAX_PIXELS / 1e6:.0f} million pixels"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise DataError(f"{name}: animated ({frames} frames); save the frame you mean")
