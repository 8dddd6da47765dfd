"""Making pictures ready to be sent to a judge, in a way that can be written down.

as-is               the file itself; converted to PNG if no judge would read it
to-jpeg:95          the file itself if it is an upright JPEG; all else as a JPEG of this quality
jpeg:95             JPEG of this quality
jpeg:75:512         the same, resized to this height, as the released evaluation does

    JOURNAL.pictures.jsonl    {"made_from": ..., "sent": [sha256, sha256]}

A journal finds an answer by the bytes that were sent. To decode and encode all pictures of a set
again, only to see that every question is answered, would take minutes: their hashes are kept beside
the journal. A version of Pillow that encodes otherwise makes no other question of them.
"""

import dataclasses
import functools
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from PIL import Image

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.growing_file import GrowingFile, Line, read_growing
from mre_jax.io.image import decode_image

AS_IS = "as-is"
_ENDING = ".pictures.jsonl"
_ORIENTATION = 0x0112  # of EXIF
_MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How pictures are encoded.

    Attributes:
        quality: quality of the JPEG, from 1 to 100; None sends the files as they are.
        height: pixels to resize to, keeping the shape; None keeps the size.
        keep: send a JPEG that stands upright as it is.
    """

    quality: int | None = None
    height: int | None = None
    keep: bool = False

    def __str__(self) -> str:
        if self.quality is None:
            return AS_IS
        height = f":{self.height}" if self.height else ""
        return f"{'to-' * self.keep}jpeg:{self.quality}{height}"

    def encode(self, data: bytes, name: str) -> bytes:
        """The file to send; `name` is what errors call it.

        Raises:
            DataError: if it is no picture; see `mre_jax.io.image.decode_image`.
        """
        if self.quality is None:
            if picture_format(data, name) in _MIME:
                return data
            return _save(decode_image(data, name), "PNG")
        if self.keep and _upright_jpeg(data, name):
            return data
        image = decode_image(data, name)
        if self.height is not None:
            width = max(1, round(image.width * self.height / image.height))
            image = image.resize((width, self.height), Image.Resampling.LANCZOS)
        return _save(image, "JPEG", quality=self.quality)


def at_height(path: Path, height: int) -> bytes:
    """The picture of a file with this height: the file, or a PNG of its shape.

    Seven instructions share an original: the last few are not decoded again.

    Raises:
        DataError: if it is no picture.
    """
    return _at_height(path, height, *state_of(path))


@functools.lru_cache(maxsize=8)
def _at_height(path: Path, height: int, modified: int, size: int) -> bytes:
    data = path.read_bytes()
    image = decode_image(data, str(path))
    if image.height == height:
        return Encoding().encode(data, str(path))
    width = max(1, round(image.width * height / image.height))
    return _save(image.resize((width, height), Image.Resampling.LANCZOS), "PNG")


def state_of(path: Path) -> tuple[int, int]:
    """When a file was written and how long it is: another picture under its name has another."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def parse_encoding(text: str) -> Encoding:
    """Reads "as-is", "to-jpeg:95", "jpeg:75" or "jpeg:75:512".

    Raises:
        ConfigError: if it is something else.
    """
    if text == AS_IS:
        return Encoding()
    match = re.fullmatch(r"(?:(to-)jpeg:(\d{1,3})|jpeg:(\d{1,3})(?::(\d{1,4}))?)", text)
    keep, quality, height = (match[1], match[2] or match[3], match[4]) if match else ("", "0", "")
    if not 1 <= int(quality) <= 100 or (height and int(height) < 16):
        want = "as-is, to-jpeg:QUALITY, jpeg:QUALITY or jpeg:QUALITY:HEIGHT"
        raise ConfigError(f"picture {text!r}: want {want}")
    return Encoding(int(quality), int(height) if height else None, bool(keep))


def picture_format(data: bytes, name: str) -> str:
    """The file format, from the header.

    Raises:
        DataError: if it is no picture.
    """
    return _header(data, name)[0]


def picture_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height in pixels, from the header.

    Raises:
        DataError: if it is no picture.
    """
    return _header(data, name)[1]


def mime_type(data: bytes) -> str:
    """What the file is called in a message; only for files that `Encoding.encode` made."""
    return _MIME[picture_format(data, "picture")]


class Picture:
    """A file that is made when it is first wanted.

    Args:
        make: gives its bytes.
        sha256: hash of the bytes, if it is known.
    """

    def __init__(self, make: Callable[[], bytes], sha256: str | None = None):
        self._make = make
        self._sha256 = sha256

    @functools.cached_property
    def data(self) -> bytes:
        return self._make()

    @property
    def sha256(self) -> str:
        if self._sha256 is None:
            self._sha256 = hashlib.sha256(self.data).hexdigest()
        return self._sha256


class PictureIndex:
    """Remembers what pictures came to, as a context manager, beside a journal that is open.

    Args:
        journal: path of the journal; without one nothing is kept.

    Raises:
        BusyError, DataError: as `GrowingFile`.
    """

    def __init__(self, journal: str | os.PathLike[str] | None = None):
        self._log = None if journal is None else GrowingFile(f"{journal}{_ENDING}", self._read)
        self._known: dict[bytes, list[str]] = {}

    @classmethod
    def read(cls, journal: str | os.PathLike[str]) -> Self:
        """What is known beside a journal, for a reader of it; nothing is written.

        Raises:
            DataError: if the file is damaged.
        """
        index, path = cls(), Path(f"{journal}{_ENDING}")
        if path.exists():
            for line in read_growing(path):
                index._read(line)
        return index

    def __enter__(self) -> Self:
        if self._log is not None:
            self._log.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._log is not None:
            self._log.__exit__()

    def pictures(
        self, files: Sequence[bytes], encoding: str, make: Callable[[], Sequence[bytes]]
    ) -> tuple[Picture, ...]:
        """Pictures that are made together, as soon as one of them is wanted.

        Args:
            files: all that they are made from.
            encoding: how.
            make: gives them, as many as there are files.
        """
        parts = [encoding, *(hashlib.sha256(file).hexdigest() for file in files)]
        key = hashlib.sha256(json.dumps(parts).encode())
        known = self._known.get(key.digest())

        @functools.cache
        def made() -> Sequence[bytes]:
            data = make()
            if known is None:
                self._note(key.hexdigest(), [hashlib.sha256(each).hexdigest() for each in data])
            return data

        def picture(index: int) -> Picture:
            return Picture(lambda: made()[index], known[index] if known else None)

        return tuple(map(picture, range(len(files))))

    def _note(self, key: str, sent: list[str]) -> None:
        if self._log is not None:
            self._log.append({"made_from": key, "sent": sent})
        self._known[bytes.fromhex(key)] = sent

    def _read(self, line: Line) -> None:
        match line.row:
            case {"made_from": str(key), "sent": [*sent]}:
                self._known[bytes.fromhex(key)] = [str(each) for each in sent]
            case _:
                raise DataError(f"{line.where}: no index of pictures; remove the file")


def _header(data: bytes, name: str) -> tuple[str, tuple[int, int]]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return str(image.format), image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise DataError(f"{name}: not a picture") from None


def _upright_jpeg(data: bytes, name: str) -> bool:
    """Whether a file is a JPEG in grey or RGB that shows the same with and without its EXIF."""
    if picture_format(data, name) != "JPEG":
        return False
    with Image.open(io.BytesIO(data)) as image:
        return image.mode in ("L", "RGB") and image.getexif().get(_ORIENTATION, 1) == 1


def _save(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
