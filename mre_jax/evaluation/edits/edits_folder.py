"""The pictures that some system has made for a benchmark, found by name.

A picture is called as its item, "10-1.png"; "10_1.png" and "10/1.png" do too, in any of the usual
formats. The output folder of `mre sample` is such a folder.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mre_jax.errors import DataError
from mre_jax.evaluation.case import Case
from mre_jax.io.image import SUFFIXES

Names = Mapping[str, Sequence[str]]
"""Paths without suffix, relative to the folder, that an item's picture may have."""


def find_edits(
    folder: Path | str,
    cases: Sequence[Case],
    *,
    names: Names | None = None,
    allow_missing: bool = False,
) -> dict[str, Path]:
    """The picture of each case by its id.

    Args:
        folder: searched with its subfolders.
        names: naming of benchmarks that have their own.
        allow_missing: leave out cases without a picture.

    Raises:
        DataError: if a case has no picture or two, or if none has one.
    """
    folder = Path(folder)
    files = _pictures(folder)
    found: dict[str, Path] = {}
    missing = []
    for case in cases:
        candidates = _usual_names(case.id) if names is None else names[case.id]
        paths = [path for name in dict.fromkeys(candidates) for path in files.pop(name, ())]
        if len(paths) > 1:
            raise DataError(f"item {case.id} has two pictures, {paths[0]} and {paths[1]}; keep one")
        if paths:
            found[case.id] = paths[0]
        else:
            missing.append(candidates[0])
    if missing and (not allow_missing or not found):
        others = [str(path) for paths in files.values() for path in paths]
        hint = f"; {others[0]} belongs to no item" if others else ""
        raise DataError(
            f"{folder}: {len(missing)} of {len(cases)} edited pictures are missing, the first "
            f"{missing[0]}.png{hint}; name them so"
            + ("" if not found else ", or allow missing ones with --allow-missing")
        )
    return found


def _usual_names(id_: str) -> list[str]:
    photo, _, number = id_.rpartition("-")
    return [id_, f"{photo}_{number}", f"{photo}/{number}"] if photo else [id_]


def _pictures(folder: Path) -> dict[str, list[Path]]:
    """The picture files by path without suffix."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    root = folder / "images" if (folder / "images").is_dir() else folder
    files: dict[str, list[Path]] = {}
    for path in _walk(root):
        name = path.relative_to(root).with_suffix("").as_posix()
        files.setdefault(name, []).append(path)
    if not files:
        raise DataError(f"{folder}: no pictures ({', '.join(SUFFIXES)}) in it")
    return files


def _walk(root: Path) -> Iterable[Path]:
    paths = (path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in paths if not path.name.startswith(".") and path.is_file())
