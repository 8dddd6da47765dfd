"""Rows of WebDataset archives: neighbours of one key are one example.

    00000.input.jpg   00000.edited.jpg   00000.edit_prompt.txt   00000.json   00001.input.jpg ...

Members are read from the archive as bytes; none is ever written to a disk, whatever its name.
"""

import contextlib
import functools
import itertools
import re
import tarfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from etils import epath

from mre_jax.data.sources.rows import LOOKED, FileRows, Row, existing, pick
from mre_jax.data.sources.source import attempt
from mre_jax.data.sources.table_files import table_files
from mre_jax.errors import DataError
from mre_jax.io.files import refuse_lfs_pointer
from mre_jax.io.image import MAX_BYTES, SUFFIXES
from mre_jax.io.json_file import parse_json

SUFFIX = ".tar"
KEY, FILE = "__key__", "__file__"
"""Columns that every row has: the key of its members, and the archive's name without suffix."""

_TEXTS = (".txt", ".text", ".caption", ".cls")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


class TarRows(FileRows):
    """The examples of archives, one after the other.

    A column is called as the members' suffix, "edited.jpg", or without that of its kind, "edited".
    The entries of a `json` member are columns too.

    Args:
        path: an archive, a folder of them, or a pattern such as "set-{0000..0012}.tar".
        split: split of a folder that holds several.

    Raises:
        DataError: if an archive is missing or damaged, or there are several splits to choose from.
    """

    def __init__(self, path: epath.PathLike, split: str | None = None):
        super().__init__(path, _archives(str(path), split))

    @functools.cached_property
    def columns(self) -> Sequence[str]:
        """Those of the first examples."""
        _ = self._starts  # whose errors come first: in another order there are other columns
        if not len(self):
            raise DataError(f"{self.path}: no examples in it")
        first = list(self.read(range(min(len(self), LOOKED)), ()))
        rows = [row[1] for row in first if not isinstance(row, DataError)]
        if not rows:
            raise next(row for row in first if isinstance(row, DataError))
        return list(dict.fromkeys(name for row in rows for name in row))

    def _open(self, file: epath.Path) -> AbstractContextManager[tarfile.TarFile]:
        return _opened(file)

    def _count(self, file: epath.Path, reader: tarfile.TarFile) -> int:
        keys: set[str] = set()
        for key, _ in _examples(reader):
            if key in keys:
                raise DataError(
                    f"{file}: the members of {key!r} are not side by side; pack it anew in the "
                    "order of their names, as tar --sort=name does"
                )
            keys.add(key)
        return len(keys)

    def _read(
        self,
        file: epath.Path,
        reader: tarfile.TarFile,
        wanted: Sequence[int],
        columns: Collection[str],
    ) -> Iterator[Row | DataError]:
        for key, members in pick(_examples(reader), wanted):
            yield attempt(_row, reader, file, key, members, columns)


def is_pattern(path: epath.PathLike) -> bool:
    """Whether a path stands for several archives."""
    return bool(_BRACES.search(str(path)))


def _archives(path: str, split: str | None) -> list[epath.Path]:
    if is_pattern(path):
        return [existing(name) for name in _expanded(path)]
    root = existing(path)
    if not root.is_dir():
        return [root]
    if files := table_files(root, SUFFIX, split):
        return files
    raise DataError(f"{path}: no .tar files in it")


def _expanded(pattern: str) -> Iterator[str]:
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    for number in range(int(match[1]), int(match[2]) + 1):
        middle = f"{number:0{len(match[1])}d}"
        yield from _expanded(pattern[: match.start()] + middle + pattern[match.end() :])


@contextlib.contextmanager
def _opened(file: epath.Path) -> Iterator[tarfile.TarFile]:
    refuse_lfs_pointer(file)
    with file.open("rb") as handle:
        try:
            with tarfile.open(fileobj=handle, mode="r:*") as archive:
                yield archive
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise DataError(f"{file}: damaged, or not a tar archive ({error})") from None


def _examples(archive: tarfile.TarFile) -> Iterator[tuple[str, list[tuple[str, tarfile.TarInfo]]]]:
    """The keys, and of each its members with their suffixes."""
    for key, group in itertools.groupby(_members(archive), key=lambda member: member[0]):
        yield key, [(suffix, member) for _, suffix, member in group]


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    for member in archive:
        archive.members = []  # type: ignore[attr-defined]  # or it keeps the header of every file
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        if stem and suffix and (member.isfile() or member.islnk() or member.issym()):
            yield f"{folder}/{stem}".lstrip("./"), suffix.lower(), member
    if archive.fileobj is not None:
        archive.fileobj.seek(archive.offset)
        if not archive.fileobj.read(tarfile.BLOCKSIZE):  # examples may be missing behind
            raise tarfile.ReadError("it has no end mark; fetch it again")


def _row(
    archive: tarfile.TarFile,
    file: epath.Path,
    key: str,
    members: Sequence[tuple[str, tarfile.TarInfo]],
    columns: Collection[str],
) -> Row:
    """An example; of members that are no wanted column, if any is wanted, nothing is read."""
    where = f"{file} key {key}"
    cells: dict[str, Any] = {}
    for suffix, member in members:
        names = {suffix, _without_kind(suffix)} - {""}
        if f".{suffix}".endswith(".json") or not columns or names & {*columns}:
            value = _value(archive, member, suffix, where)
            entries = value if suffix == "json" and isinstance(value, dict) else {}
            cells = entries | cells | dict.fromkeys(sorted(names), value)
    return where, cells | {KEY: key, FILE: file.name.partition(".")[0]}


def _without_kind(suffix: str) -> str:
    """A column's name without the suffix of its kind: "" for a member that has no other."""
    stem, _, kind = suffix.rpartition(".")
    return stem if f".{kind}" in (*SUFFIXES, *_TEXTS, ".json") else ""


def _value(archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, where: str) -> Any:
    if not member.isfile():
        raise DataError(
            f"{where}: {suffix} is a link; pack the file, by tar --dereference --hard-dereference"
        )
    if member.size > MAX_BYTES:
        raise DataError(
            f"{where}: {suffix} has {member.size >> 20} MiB, more than {MAX_BYTES >> 20} MiB"
        )
    stream = archive.extractfile(member)
    data = stream.read() if stream else b""
    if f".{suffix}".endswith(".json"):
        return parse_json(data, f"{where}: {suffix}")
    if f".{suffix}".endswith(_TEXTS):
        try:
            return data.decode("utf-8-sig").strip() or None
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: {suffix} is not UTF-8 text ({error.reason})") from None
    return data
