"""How the original and the edited picture are sent to a judge.

as-edited        the edited file itself, and the original at its height
as-edited-jpeg   the same, both as JPEG of quality 95 unless they are JPEG files; a quarter as long
as-released      as the paper's released code: the original fitted to the size of the edit, then
                 both brought to height 512 and the original's shape, bicubic, JPEG of quality 75
as-original      as GEdit-Bench's script: the edit at the original's size, bicubic, both JPEG of
                 quality 75
as-is, jpeg:...  each by itself; see `judges.picture`
"""

import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from mre_jax.editing.size import fit, target_size
from mre_jax.errors import ConfigError
from mre_jax.io.image import read_image
from mre_jax.judges.picture import Encoding, at_height, parse_encoding, state_of

AS_EDITED, AS_RELEASED, AS_ORIGINAL = "as-edited", "as-released", "as-original"
AS_EDITED_JPEG = "as-edited-jpeg"

_WAYS = (AS_EDITED, AS_RELEASED, AS_ORIGINAL, AS_EDITED_JPEG)
_SMALLER = Encoding(quality=95, keep=True)

_HEIGHT = 512
_QUALITY = 75  # what Pillow takes where a script names none

Pair = tuple[bytes, bytes]


def check_pictures(pictures: str) -> str:
    """The way to send pictures, if it is one.

    Raises:
        ConfigError: if it is not.
    """
    if pictures in _WAYS:
        return pictures
    try:
        return str(parse_encoding(pictures))
    except ConfigError as error:
        raise ConfigError(f"{error}, or {', '.join(_WAYS)}") from None


def encode_pair(original: Path, edited: Path, pictures: str) -> Pair:
    """The files of original and edited picture as they are sent.

    Many instructions share an original: the last few are not decoded and encoded again.

    Args:
        pictures: one of the ways above.

    Raises:
        DataError: if one is no picture.
    """
    if pictures == AS_EDITED:
        return at_height(original, read_image(edited).height), _as_is(edited)
    if pictures == AS_EDITED_JPEG:
        before = _small_at_height(original, read_image(edited).height, *state_of(original))
        return before, _as_is(edited, _SMALLER)
    sent = _original(original, pictures, *state_of(original))
    if sent.size is None:
        return sent.data, _as_is(edited, parse_encoding(pictures))
    return sent.data, _jpeg(read_image(edited), sent.size)


@functools.lru_cache(maxsize=8)
def _small_at_height(path: Path, height: int, modified: int, length: int) -> bytes:
    return _SMALLER.encode(at_height(path, height), f"{path} at height {height}")


def encode_edits(original: Path, edited: Sequence[Path], pictures: str) -> tuple[bytes, ...]:
    """The files of an original, as it is sent beside the first of its edits, and of these.

    Raises:
        DataError: if one is no picture.
    """
    pairs = [encode_pair(original, each, pictures) for each in edited]
    return pairs[0][0], *(each for _, each in pairs)


class _Original(NamedTuple):
    """An original as it is sent, and the size that its edits are brought to, if to one."""

    data: bytes
    size: tuple[int, int] | None


@functools.lru_cache(maxsize=8)
def _original(path: Path, pictures: str, modified: int, length: int) -> _Original:
    if pictures not in (AS_RELEASED, AS_ORIGINAL):
        return _Original(_as_is(path, parse_encoding(pictures)), None)
    image = read_image(path)
    size = image.size
    if pictures == AS_RELEASED:
        size = max(1, int(_HEIGHT * image.width / image.height)), _HEIGHT
        image = fit(image, target_size(image.size, "released_code", _HEIGHT))
    return _Original(_jpeg(image, size), size)


def _as_is(path: Path, encoding: Encoding | None = None) -> bytes:
    return (encoding or Encoding()).encode(path.read_bytes(), str(path))


def _jpeg(image: Image.Image, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
