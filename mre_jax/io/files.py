"""Files on a disk or in a bucket: written so that they are never seen half-written, refused by name
where they are something else.
"""

import contextlib
import errno
import io
import os
import uuid
from collections.abc import Iterator
from typing import IO, Self

import filelock
from etils import epath

from mre_jax.errors import BusyError, DataError, MreError

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@epath.register_path_cls(("http://", "https://", "hf://"))
class _OnTheWeb:
    """What `epath.Path` makes of an address: its error, wherever a path is wanted."""

    def __new__(cls, path: str) -> Self:
        on_hub = path.startswith(("hf://", "https://huggingface.co/"))
        hint = " (models are read from the hub as org/name@REVISION, with /FILE for one file)"
        raise DataError(
            f"{path[:200]} is on the web, where no file is read or written; fetch it"
            f"{hint if on_hub else ''}"
        )


@contextlib.contextmanager
def reached(place: epath.PathLike) -> Iterator[epath.Path]:
    """A place in a bucket, for a block in which whatever its transport raises is one line.

    Raises:
        DataError: when the place is of no kind that is known, or cannot be reached.
    """
    try:
        yield epath.Path(place)
    except MreError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{place} cannot be reached ({reason}); check its name, the network, and these "
            "credentials"
        ) from error


def write_atomically(path: epath.PathLike, data: bytes | str) -> None:
    """Writes `data` under a temporary name beside `path`, flushes it, and renames it into place.

    Raises:
        DataError: if the disk is full; nothing is left behind.
    """
    with open_atomically(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def open_atomically(path: epath.PathLike) -> Iterator[IO[bytes]]:
    """`write_atomically` for what is too large to be held at once: yields the file to write.

    It appears under its name when the block is left, unless by an exception.
    """
    path = epath.Path(path)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    with full_disk_is_an_error(path):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                _sync(file)
            temporary.replace(path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename == str(temporary):
                error.filename = str(path)  # the name that the user knows
            raise


def refuse_lfs_pointer(path: epath.PathLike) -> None:
    """Refuses a file that Git LFS left in place of a large one; any other passes.

    Raises:
        DataError: that says how to get the file itself.
    """
    try:
        with epath.Path(path).open("rb") as file:
            pointer = is_lfs_pointer(file.read(len(_LFS_POINTER)))
    except OSError:  # whoever reads it says what is wrong with it
        return
    if pointer:
        raise DataError(f"{path}: a Git LFS pointer, not the file; get that with git lfs pull")


def is_lfs_pointer(data: bytes) -> bool:
    """Whether a file that begins so only stands for a large one, in a clone without Git LFS."""
    return data.startswith(_LFS_POINTER)


def _sync(file: IO[bytes]) -> None:
    try:
        descriptor = file.fileno()
    except (AttributeError, io.UnsupportedOperation):  # a bucket's file has none
        return
    os.fsync(descriptor)


@contextlib.contextmanager
def locked(
    folder: epath.PathLike,
    name: str,
    *,
    filling: epath.PathLike | None = None,
    keep: bool = True,
    wait: bool = False,
) -> Iterator[None]:
    """Holds the lock `name` of a folder; a bucket has no locks.

    Args:
        filling: what the lock stands for, if not the folder.
        keep: leave its file, empty, for the next time.
        wait: for another process that holds it.

    Raises:
        BusyError: if another process holds it, unless this one waits.
    """
    if "://" in str(folder):
        yield
        return
    path = epath.Path(folder) / name
    lock = filelock.FileLock(str(path))
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        raise BusyError(f"{filling or folder}: another process is filling it") from None
    try:
        yield
    finally:
        if not keep:
            with contextlib.suppress(PermissionError):  # Windows removes it on release
                path.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def full_disk_is_an_error(path: epath.PathLike) -> Iterator[None]:
    """Turns the operating system's "no space left" into a `DataError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(f"{path}: no space left to write it; free some and run it again") from None
