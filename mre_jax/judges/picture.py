"""Making pictures ready to be sent to a judge, in a way that can be written down.

as-is               the file itself; converted to PNG if no judge would read it
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
from mre_jax.io.growing_file import GrowingFile, Line
from mre_jax.io.image import decode_image

AS_IS = "as-is"
_ENDING = ".pictures.jsonl"
_MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How pictures are encoded.

    Attributes:
        quality: quality of the JPEG, from 1 to 100; None sends the files as they are.
        height: pixels to resize to, keeping the shape; None keeps the size.
    """

    quality: int | None = None
    height: int | None = None

    def __str__(self) -> str:
        if self.quality is None:
            return AS_IS
        return f"jpeg:{self.quality}" + (f":{self.height}" if self.height else "")

    def encode(self, data: bytes, name: str) -> bytes:
        """The file to send; `name` is what errors call it.

        Raises:
            DataError: if it is no picture; see `mre_jax.io.image.decode_image`.
        """
        if self.quality is None:
            if picture_format(data, name) in _MIME:
                return data
            return _save(decode_image(data, name), "PNG")
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
    stat = path.stat()
    return _at_height(path, height, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=8)
def _at_height(path: Path, height: int, modified: int, size: int) -> bytes:
    data = path.read_bytes()
    image = decode_image(data, str(path))
    if image.height == height:
        return Encoding().encode(data, str(path))
    width = max(1, round(image.width * height / image.height))
    return _save(image.resize((width, height), Image.Resampling.LANCZOS), "PNG")


def parse_encoding(text: str) -> Encoding:
    """Reads "as-is", "jpeg:75" or "jpeg:75:512".

    Raises:
        ConfigError: if it is something else.
    """
    if text == AS_IS:
        return Encoding()
    match = re.fullmatch(r"jpeg:(\d{1,3})(?::(\d{1,4}))?", text)
    if not match or not 1 <= int(match[1]) <= 100 or (match[2] and int(match[2]) < 16):
        raise ConfigError(f"picture {text!r}: want as-is, jpeg:QUALITY or jpeg:QUALITY:HEIGHT")
    return Encoding(int(match[1]), int(match[2]) if match[2] else None)


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


def _save(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
