"""Folders of pictures that lie in a bucket, copied beside the results.

Judges, metrics and reports look at the same pictures again and again, and a row of results names
them relative to its own folder.
"""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from etils import epath
from tqdm import tqdm

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.files import open_atomically

_NO_NAMES = ("", ".", "..")  # a bucket may have them


def fetched(
    folder: epath.PathLike, out: epath.PathLike, names: Iterable[str] | None = None
) -> Path:
    """A local folder for one that may be in a bucket.

    That is copied to `OUT/fetched/BUCKET/...`. A file that is there already, as long and no older,
    is not copied again, so that a stopped copy goes on.

    Args:
        folder: place of the pictures, subfolders included.
        out: folder of the results.
        names: files that are wanted, relative to the folder; None takes all.

    Raises:
        DataError: if a bucket has no such folder, or the disk is full.
    """
    if "://" not in str(folder):
        return Path(folder)
    remote = epath.Path(folder)
    if not remote.is_dir():
        raise DataError(f"{folder}: no such folder, or these credentials cannot see it")
    target = Path(out, "fetched", *_parts(str(folder).partition("://")[2]))
    if names is None:
        files = list(_files(remote, target))
    else:
        wanted = dict.fromkeys("/".join(_parts(name)) for name in names)
        files = [(remote / n, target / n) for n in wanted if (remote / n).exists()]
    for file, copy in tqdm(files, desc=f"copy {folder}", unit="file", disable=None):
        if not _is_copy(copy, file):
            copy.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as source, open_atomically(copy) as sink:
                shutil.copyfileobj(source, sink)
    return target


def check_local(path: epath.PathLike) -> None:
    """Refuses a bucket as the place of results.

    Raises:
        ConfigError: if it is one.
    """
    if "://" in str(path):
        raise ConfigError(
            f"--out {path}: results grow line by line, which a bucket's files cannot; give a "
            "folder on a local disk, and copy it when it is done"
        )


def _parts(path: str) -> list[str]:
    """The names in a path, without those that would lead out of a folder on a disk."""
    return [part for part in path.split("/") if part not in _NO_NAMES]


def _files(remote: epath.Path, target: Path) -> Iterator[tuple[epath.Path, Path]]:
    """The files below a folder, and where their copies go."""
    for child in sorted(remote.iterdir(), key=str):
        if child.name in _NO_NAMES:
            continue
        if child.is_dir():
            yield from _files(child, target / child.name)
        else:
            yield child, target / child.name


def _is_copy(copy: Path, file: epath.Path) -> bool:
    if not copy.is_file():
        return False
    here, there = copy.stat(), file.stat()
    return here.st_size == there.length and here.st_mtime >= there.mtime
