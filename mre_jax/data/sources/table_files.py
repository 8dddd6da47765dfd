"""The files of a table that lies in a folder, by split and in order."""

import re
from collections.abc import Sequence

from etils import epath

from mre_jax.errors import DataError

_LEVELS = 4
_PART = re.compile(r"(.+)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?")
_NUMBERED = re.compile(r"(.*?)[-_.]?\d+")
_SPLITS = frozenset({"train", "training", "validation", "valid", "val", "dev", "test"})


def table_files(
    root: epath.Path, suffix: str, split: str | None = None, *, whole: bool = False
) -> list[epath.Path]:
    """The files of one split, in the order of their names.

    A file's split is that of its name, as in `train-00000-of-00262.parquet`, `train-000012.tar`,
    `set-train.arrow`, or else by its folder. In a folder of the Hub's cache one revision is read.

    Args:
        root: folder, with files up to four levels below.
        suffix: suffix of the files, as ".parquet".
        split: None takes all files, if they are of one split.
        whole: refuse the first files of a set without the others.

    Returns:
        None at all if there is no file of this suffix.

    Raises:
        DataError: if there are several splits or sets to choose from, none of that name, or a gap
            among numbered files: every later row would get another number.
    """
    root = _revision(root)
    files = all_files(root, suffix)
    splits = {_split(file, root) for file in files}
    if split is None and len(splits) > 1:
        raise DataError(
            f"{root}: files of several splits, {sorted(splits)}; choose one by split=NAME"
        )
    chosen = [file for file in files if split in (None, _split(file, root))]
    if splits == {""} and not chosen:
        raise DataError(f"{root}: its {suffix[1:]} files are of no split; leave {split!r} out")
    if files and not chosen:
        raise DataError(
            f"{root}: no {suffix[1:]} files of split {split!r}; there are of the splits "
            f"{sorted(splits)}"
        )
    _check_one_set(root, chosen)
    _check_complete(chosen, whole)
    return chosen


def all_files(root: epath.Path, suffix: str) -> list[epath.Path]:
    """The files of this suffix in any case; no hidden ones, and no results that `map` has kept."""
    pattern = "*" + "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in suffix)
    levels = ("*/" * level + pattern for level in range(_LEVELS + 1))
    found = sorted((file for level in levels for file in root.glob(level)), key=str)
    return [file for file in found if not file.name.startswith((".", "cache-"))]


def _revision(root: epath.Path) -> epath.Path:
    """The one revision of a folder such as `datasets--org--name`; another folder as it is."""
    snapshots = root / "snapshots"
    if not snapshots.is_dir():
        return root
    there = sorted(path.name for path in snapshots.iterdir())
    reference = root / "refs" / "main"
    names = [reference.read_text().strip()] if reference.exists() else there
    if len(names) != 1 or names[0] not in there:
        raise DataError(f"{snapshots}: want one revision of {there}; give its folder")
    return snapshots / names[0]


def _split(file: epath.Path, root: epath.Path) -> str:
    stem, folder = file.stem, "" if file.parent == root else file.parent.name
    if part := _PART.fullmatch(stem):
        stem = part[1]
    elif file.suffix.lower() == ".tar" and (number := _NUMBERED.fullmatch(stem)):
        stem = number[1]
    elif stem not in _SPLITS and stem.rpartition("-")[2] not in _SPLITS:
        return folder
    if (last := stem.rpartition("-")[2]) in _SPLITS:
        return last
    return stem if stem not in ("", "data") and (part or not folder) else folder


def _check_one_set(root: epath.Path, files: Sequence[epath.Path]) -> None:
    """Refuses files of one name, which are of two sets: two configurations, or two versions."""
    first: dict[str, epath.Path] = {}
    for file in files:
        if (other := first.setdefault(file.name, file)) is not file:
            raise DataError(
                f"{root}: {file.name} is both in {other.parent} and in {file.parent}; give the "
                "folder of one of them"
            )


def _check_complete(files: Sequence[epath.Path], whole: bool) -> None:
    numbered = [match for file in files if (match := _PART.fullmatch(file.stem))]
    for expected, match in enumerate(numbered):
        if int(match[2]) != expected:
            raise DataError(
                f"{files[expected].parent}: file {expected} of {int(match[3])} is missing before "
                f"{match[0]}; the first files of a set may be read alone, but without gaps"
            )
    if whole and numbered and len(numbered) < int(numbered[0][3]):
        raise DataError(
            f"{files[0].parent / numbered[0][1]}-*{files[0].suffix}: {len(numbered)} of "
            f"{int(numbered[0][3])} files are there; fetch the others"
        )
