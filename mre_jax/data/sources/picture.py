"""Picture files as bytes."""

import base64
import binascii
import errno
import re
import unicodedata

from etils import epath

from mre_jax.errors import DataError
from mre_jax.io.files import is_lfs_pointer
from mre_jax.io.image import MAX_BYTES, SUFFIXES


def read_picture(path: epath.Path, where: str) -> bytes:
    """The content of a picture file, not decoded.

    Args:
        path: path of the file.
        where: file and row that name it, for messages.

    Raises:
        DataError: if it is missing, empty or larger than `MAX_BYTES`.
    """
    for spelling in _spellings(path):
        if (data := _read(spelling, where)) is not None:
            return data
    raise DataError(f"{where}: no picture {str(path)[:_SHOWN]}")


def find_picture(stem: epath.Path, where: str) -> bytes:
    """The content of the picture file of this name, whichever of `SUFFIXES` it has, in any case.

    Raises:
        DataError: as `read_picture`.
    """
    # Tried one by one: in a bucket, asking whether a file is there costs as much as reading it.
    for suffix in SUFFIXES:
        data = _read(stem.parent / (stem.name + suffix), where)
        if data is not None:
            return data
    for path in _in_any_case(stem):
        data = _read(path, where)
        if data is not None:
            return data
    raise DataError(f"{where}: no picture {stem} with a suffix of {', '.join(SUFFIXES)}")


def _in_any_case(stem: epath.Path) -> list[epath.Path]:
    """The files beside that differ from the wanted ones in the case of their suffix."""
    try:
        files = sorted(stem.parent.iterdir(), key=str)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [file for file in files if file.stem == stem.name and file.suffix.lower() in SUFFIXES]


def _spellings(path: epath.Path) -> list[epath.Path]:
    """The path, and as other systems spell its letters: macOS takes an accent from its letter."""
    forms = (unicodedata.normalize(form, str(path)) for form in ("NFC", "NFD"))
    return [path, *(epath.Path(form) for form in dict.fromkeys(forms) if form != str(path))]


def embedded(text: str) -> bytes | None:
    """The picture that a text is itself, in base64 or as a data URI; None for a path.

    Base64 has no dot, and no path is so long without one.
    """
    found = _BASE64.fullmatch(text)
    if found is None or (found[1] is None and len(text) < _LONGEST_NAME):
        return None
    try:
        return base64.b64decode(found[2])
    except binascii.Error:
        return None


_BASE64 = re.compile(r"(data:[^,.]*;base64,)?([A-Za-z0-9+/\s]+={0,2}\s*)")
_LONGEST_NAME = 256
_SHOWN = 200


def resolve(path: str, folder: epath.Path, where: str) -> epath.Path:
    """A path as a table has it: absolute, in a bucket, or relative to `folder`.

    Raises:
        DataError: if it is on the web, or nowhere that is known; `where` names it.
    """
    if "://" not in path:
        return folder / path
    try:
        return epath.Path(path)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except KeyError:
        raise DataError(
            f"{where}: nothing is read from {path[:_SHOWN]}; give a path, or one of a bucket"
        ) from None


def _read(path: epath.Path, where: str) -> bytes | None:
    """The file's content; None if there is no such file."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
        return None  # a text with a NUL, a ValueError, is no path of a file
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return None
        if isinstance(error, PermissionError):
            raise DataError(f"{where}: {path} may not be read") from None
        raise
    if not data:
        raise DataError(f"{where}: {path} is empty")
    if is_lfs_pointer(data):
        raise DataError(f"{where}: {path} is a Git LFS pointer, no picture; run git lfs pull")
    if len(data) > MAX_BYTES:
        raise DataError(
            f"{where}: {path} has {len(data) >> 20} MiB, more than {MAX_BYTES >> 20} MiB"
        )
    return data
