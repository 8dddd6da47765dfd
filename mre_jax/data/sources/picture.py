"""Picture files as bytes."""

from etils import epath

from mre_jax.errors import DataError
from mre_jax.files import is_lfs_pointer
from mre_jax.image import MAX_BYTES, SUFFIXES


def read_picture(path: epath.Path, where: str) -> bytes:
    """The content of a picture file, not decoded.

    Args:
        path: of the file.
        where: file and row that name it, for messages.

    Raises:
        DataError: if it is missing, empty or larger than `MAX_BYTES`.
    """
    data = _read(path, where)
    if data is None:
        raise DataError(f"{where}: no picture {path}")
    return data


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


def resolve(path: str, folder: epath.Path) -> epath.Path:
    """A path as a table has it: absolute, a URL, or relative to `folder`."""
    return epath.Path(path) if "://" in path else folder / path


def _read(path: epath.Path, where: str) -> bytes | None:
    """The file's content; None if there is no such file."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    if not data:
        raise DataError(f"{where}: {path} is empty")
    if is_lfs_pointer(data):
        raise DataError(f"{where}: {path} is a Git LFS pointer, no picture; run git lfs pull")
    if len(data) > MAX_BYTES:
        raise DataError(
            f"{where}: {path} has {len(data) >> 20} MiB, more than {MAX_BYTES >> 20} MiB"
        )
    return data
