"""How the original and the edited picture are sent to a judge.

as-edited        the edited file itself, and the original at its height
as-released      as the paper's released code: the original fitted to the size of the edit, then
                 both brought to height 512 and the original's shape, bicubic, JPEG of quality 75
as-original      as GEdit-Bench's script: the edit at the original's size, bicubic, both JPEG of
                 quality 75
as-is, jpeg:...  each by itself; see `judges.picture`
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from mre_jax.editing.size import fit, target_size
from mre_jax.errors import ConfigError
from mre_jax.io.image import read_image
from mre_jax.judges.picture import Encoding, at_height, parse_encoding

AS_EDITED, AS_RELEASED, AS_ORIGINAL = "as-edited", "as-released", "as-original"

_HEIGHT = 512
_QUALITY = 75  # what Pillow takes where a script names none

Pair = tuple[bytes, bytes]


def check_pictures(pictures: str) -> str:
    """The way to send pictures, if it is one.

    Raises:
        ConfigError: if it is not.
    """
    if pictures in _PAIRS:
        return pictures
    try:
        return str(parse_encoding(pictures))
    except ConfigError as error:
        raise ConfigError(f"{error}, or {', '.join(_PAIRS)}") from None


def encode_pair(original: Path, edited: Path, pictures: str) -> Pair:
    """The files of original and edited picture as they are sent.

    Args:
        pictures: one of the ways above.

    Raises:
        DataError: if one is no picture.
    """
    if pictures in _PAIRS:
        return _PAIRS[pictures](original, edited)
    encoding = parse_encoding(pictures)
    return _as_is(original, encoding), _as_is(edited, encoding)


def encode_edits(original: Path, edited: Sequence[Path], pictures: str) -> tuple[bytes, ...]:
    """The files of an original, as it is sent beside the first of its edits, and of these.

    Raises:
        DataError: if one is no picture.
    """
    pairs = [encode_pair(original, each, pictures) for each in edited]
    return pairs[0][0], *(each for _, each in pairs)


def _as_edited(original: Path, edited: Path) -> Pair:
    return at_height(original, read_image(edited).height), _as_is(edited)


def _as_released(original: Path, edited: Path) -> Pair:
    before = read_image(original)
    size = max(1, int(_HEIGHT * before.width / before.height)), _HEIGHT
    fitted = fit(before, target_size(before.size, "released_code", _HEIGHT))
    return _jpeg(fitted, size), _jpeg(read_image(edited), size)


def _as_original(original: Path, edited: Path) -> Pair:
    before = read_image(original)
    return _jpeg(before, before.size), _jpeg(read_image(edited), before.size)


def _as_is(path: Path, encoding: Encoding | None = None) -> bytes:
    return (encoding or Encoding()).encode(path.read_bytes(), str(path))


def _jpeg(image: Image.Image, size: tuple[int, int]) -> bytes:
    return _saved(image.resize(size, Image.Resampling.BICUBIC), "JPEG", quality=_QUALITY)


def _saved(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


_PAIRS: dict[str, Callable[[Path, Path], Pair]] = {
    AS_EDITED: _as_edited,
    AS_RELEASED: _as_released,
    AS_ORIGINAL: _as_original,
}
