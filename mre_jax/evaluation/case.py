"""One edit that a benchmark asks for."""

import dataclasses
import glob
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from etils import epath

from mre_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class Case:
    """What is to be edited, and what is known about a good answer.

    Attributes:
        id: unique in its benchmark; with the seed it decides the editor's noise.
        group: the picture, which a bootstrap clusters by.
        kind: type of the instruction; "" if the benchmark has none.
        instruction: what to do.
        original: file of the picture.
        target: file of the ground truth, if there is one.
        masks: files that show what was to be edited; see `metrics.pixel.read_masks`.
        captions: what pictures show, by "original", "edited" and "edited_local".
        extra: what an exact judge needs; see `judges.question.Question`.
        subsets: parts of the benchmark that have numbers of their own, as "en intersection".
    """

    id: str
    group: str
    kind: str
    instruction: str
    original: Path
    target: Path | None = None
    masks: tuple[Path, ...] = ()
    captions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    subsets: tuple[str, ...] = ()


def check_cases(cases: Sequence[Case], path: epath.PathLike) -> list[Case]:
    """The cases of a benchmark, complete and without repetition.

    Raises:
        DataError: if there is none, if two have one id, or if a picture is missing.
    """
    if not cases:
        raise DataError(f"{path}: the set is empty")
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise DataError(f"{path}: two items are called {case.id!r}; rename a picture")
        seen.add(case.id)
        if not case.instruction.strip():
            raise DataError(f"{path}: item {case.id} has no instruction")
    pictures = dict.fromkeys(case.original for case in cases)
    missing = [str(picture) for picture in pictures if not picture.is_file()]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(pictures)} pictures are missing, the first "
            f"{missing[0]}"
        )
    return list(cases)


def edit_in_turns(
    sessions: Sequence[Sequence[Case]],
    first: Mapping[str, Path],
    edit: Callable[[int, Sequence[Case]], Mapping[str, Path]],
) -> dict[str, Path]:
    """Edits what each turn before came to, from the second on.

    Args:
        sessions: the turns of each, which have ids of their own.
        first: results of the first turns by case id.
        edit: makes the edits of some cases; gets the number of the turn first.

    Returns:
        the results of all turns by case id. A session ends with a turn that cannot be made.
    """
    made = {turns[0].id: first[turns[0].id] for turns in sessions if turns[0].id in first}
    for number in range(2, max(map(len, sessions)) + 1):
        pairs = [turns[number - 2 : number] for turns in sessions if len(turns) >= number]
        cases = [
            dataclasses.replace(turn, original=made[before.id])
            for before, turn in pairs
            if before.id in made
        ]
        made |= edit(number, cases)
    return made


def file_in(folder: Path, name: str, where: str) -> Path:
    """The file that a benchmark names, in its folder or below, however its suffix is spelled.

    Raises:
        DataError: if the name leads out of it: pictures are sent to a judge.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{where}: {name!r} leads out of {folder}")
    return _as_spelled(folder / path)


def _as_spelled(path: Path) -> Path:
    """The file of this name, whose suffix may be in other letters: "1.JPG" for "1.jpg"."""
    if path.exists():
        return path
    named = path.parent.glob(f"{glob.escape(path.stem)}.*")
    twins = [twin for twin in named if twin.suffix.lower() == path.suffix.lower()]
    return twins[0] if len(twins) == 1 else path
