"""One edit that a benchmark asks for, and who made it."""

import dataclasses
import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from etils import epath

from mre_jax.data.triplets import safe_name
from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import Result


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
        masks: files that show what was to be edited; see `metrics.mask`.
        captions: what pictures show, by "original", "edited" and "edited_local".
        extra: what an exact judge needs; see `judges.question.Question`.
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


@dataclasses.dataclass(frozen=True)
class Run:
    """Whose edits are evaluated, and where the results go.

    Attributes:
        suite, system, condition, checkpoint: see `Result`.
        folder: of the results file.

    Raises:
        ConfigError: if the system has no name.
    """

    suite: str
    system: str
    condition: str
    checkpoint: str
    folder: Path

    def __post_init__(self) -> None:
        if not self.system.strip():
            raise ConfigError("--system is empty; give the name that tables shall have")

    @property
    def name(self) -> str:
        """For file names: the system and its condition."""
        return safe_name(f"{self.system} {self.condition}".strip())

    def result(
        self,
        case: Case,
        edited: Path | None,
        metric: str,
        *,
        value: float | None = None,
        passed: bool | None = None,
        status: str = "ok",
        measure: str = "",
        prompt_hash: str = "",
        reason: str = "",
        provenance: Mapping[str, Any] | None = None,
        people: bool = False,
    ) -> Result:
        """The row of one value of one edit."""
        return Result(
            system=self.system,
            condition=self.condition,
            suite=self.suite,
            item=case.id,
            group=case.group,
            kind=case.kind,
            metric=metric,
            value=value,
            passed=passed,
            status=status,
            measure=measure,
            prompt_hash=prompt_hash,
            checkpoint=self.checkpoint,
            reason=reason,
            instruction=case.instruction,
            original=self._relative(case.original),
            edited=self._relative(edited) if edited else "",
            provenance=dict(provenance or {}),
            people=people,
        )

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()


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
