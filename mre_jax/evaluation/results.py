"""Result rows: one measured value of one edit, one JSON object a line.

The file only grows. A row is written in one piece; the torn last line of a killed run is dropped
by whoever opens the file next.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.provenance import side_by_side
from mre_jax.io.growing_file import GrowingFile, read_growing
from mre_jax.judges.verdict import STATUSES

FILE = "results.jsonl"
"""The rows in an output folder."""

PAIRS = "pairs.jsonl"
"""The rows of pairs in an output folder; see `Result.against`."""

WHOLE_SET = "all"
"""The item, and the group, of a value that a whole set of edits has, as a FID."""


@dataclasses.dataclass(frozen=True)
class Result:
    """One value, or the reason why there is none.

    Attributes:
        system: the editor's name in tables, as "InsPix2Pix".
        condition: the reward that was asked for, as "5,5,5"; "" if none.
        suite: the benchmark, as "real-edit".
        item: unique within the suite, as "000-1", picture and instruction from 1.
        group: what a bootstrap clusters by, the picture.
        kind: type of the instruction; "" if the suite has none.
        metric: "following", "preserving", "quality", "l1", "clip_i", "fid_64", ...
        value: None unless `status` is "ok".
        passed: a judge's yes or no; None for metrics without.
        status: one of `judges.verdict.STATUSES`.
        measure: what made the value: the judge's snapshot, or the metric's network and
            preprocessing.
        prompt_hash: hash of the judge's prompt, or prompts by type; "" for metrics without.
        checkpoint: hash of the editor's weights; "" if unknown.
        reason: the judge's words; "" if none.
        instruction: what the editor was asked to do.
        original, edited: pictures, relative to the folder of the file the row is in; "" if none.
        provenance: what else decided the value, JSON values by name; see `provenance`.
        people: whether people gave the value, and no model or network.
        against: of a pair of edits, whose edit was shown second, as `side` has it; the value is 1
            if the first, this system's, was chosen, 0 if the second, 0.5 for neither. "" for a
            value of one edit.
        subsets: parts of the suite that have numbers of their own; see `Case.subsets`.
    """

    system: str
    condition: str
    suite: str
    item: str
    group: str
    kind: str
    metric: str
    value: float | None
    passed: bool | None = None
    status: str = "ok"
    measure: str = ""
    prompt_hash: str = ""
    checkpoint: str = ""
    reason: str = ""
    instruction: str = ""
    original: str = ""
    edited: str = ""
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    people: bool = False
    against: str = ""
    subsets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def key(self) -> tuple[str, ...]:
        """What no two rows of a file share."""
        return *self.measured, "people" if self.people else "", self.against

    @property
    def side(self) -> str:
        """The system and its reward in one: "ours@5,5,5", or "ours" if none was asked for."""
        return f"{self.system}@{self.condition}" if self.condition else self.system

    @property
    def measured(self) -> tuple[str, str, str, str, str]:
        """What was measured, whoever did it: system, condition, suite, item, metric."""
        return self.system, self.condition, self.suite, self.item, self.metric

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object; what most rows have none of stands where there is some."""
        row = dataclasses.asdict(self)
        return {k: v for k, v in row.items() if v or k not in ("against", "subsets")}

    @classmethod
    def from_json(cls, row: Any) -> "Result":
        """Reads what `to_json` gives.

        Raises:
            DataError: naming the field that is missing, unknown, or of another type.
        """
        if not isinstance(row, dict):
            raise DataError(f"want a JSON object, got {type(row).__name__}")
        if "people" not in row:  # older files know people by the measure's name
            row = {**row, "people": str(row.get("measure")).startswith("human")}
        row = {"against": "", **row}
        for name in (*_TEXTS, "value", "passed"):
            if name not in row:
                raise DataError(f"field {name!r} is missing")
        for name in row:
            if name not in _FIELDS:
                raise DataError(f"unknown field {name!r}")
        value = row["value"]
        if isinstance(value, int) and not isinstance(value, bool):
            row = {**row, "value": float(value)}
        if isinstance(row.get("subsets"), list):
            row = {**row, "subsets": tuple(row["subsets"])}
        return cls(**row)


_FIELDS = {field.name: field for field in dataclasses.fields(Result)}
_OTHERS = ("value", "passed", "provenance", "people", "subsets")
_TEXTS = tuple(name for name in _FIELDS if name not in _OTHERS)


def _check(row: Result) -> None:
    for name in _TEXTS:
        if not isinstance(getattr(row, name), str):
            raise DataError(f"field {name!r}: want a text, got {getattr(row, name)!r}")
    if row.status not in STATUSES:
        raise DataError(f"status {row.status!r} is not one of {', '.join(STATUSES)}")
    if not isinstance(row.provenance, dict):
        raise DataError(f"field 'provenance': want an object, got {row.provenance!r}")
    if row.passed is not None and not isinstance(row.passed, bool):
        raise DataError(f"field 'passed': want true, false or null, got {row.passed!r}")
    if not isinstance(row.people, bool):
        raise DataError(f"field 'people': want true or false, got {row.people!r}")
    if not isinstance(row.subsets, tuple) or not all(isinstance(s, str) for s in row.subsets):
        raise DataError(f"field 'subsets': want a list of texts, got {row.subsets!r}")
    if row.status != "ok":
        if row.value is not None or row.passed is not None:
            raise DataError(f"an item of status {row.status!r} has a value; it must have none")
    elif not isinstance(row.value, float) or not math.isfinite(row.value):
        raise DataError(f"field 'value': want a finite number, got {row.value!r}")


@dataclasses.dataclass(frozen=True)
class ResultsSpec:
    """Which results are read, and how those of different settings are held apart.

    Attributes:
        results: files or folders of `mre evaluate`, one or more.
        side_by_side: show results of different judges, prompts or settings under systems of
            different names, instead of refusing them; they are never averaged.
        calibration: file of `mre evaluate calibrate`: scores of the judge that it is of are shown
            on the other's scale, under a name that says so.
    """

    results: tuple[epath.PathLike, ...] = dataclasses.field(
        default=(), metadata={"positional": True, "nargs": "*"}
    )
    side_by_side: bool = False
    calibration: epath.PathLike | None = dataclasses.field(
        default=None, metadata={"metavar": "FILE"}
    )

    def read(self) -> list[Result]:
        """All rows of single edits; none of a folder that holds pairs alone.

        Raises:
            ConfigError: if there is no file.
            DataError: as `read_all` and `Calibration.apply`.
        """
        if not self.results:
            raise ConfigError("no results: give the results.jsonl of mre evaluate")
        paths = [
            path for path in self.results if results_file(path).exists() or not pair_files([path])
        ]
        rows = read_all(paths, apart=self.side_by_side) if paths else []
        if self.calibration is None:
            return rows
        from mre_jax.evaluation.meta.calibration import Calibration

        return Calibration.read(self.calibration).apply(rows)

    def read_pairs(self) -> list[Result]:
        """All rows of pairs, of the files named and beside those named; none if there are none.

        Raises:
            DataError: as `read_all`.
        """
        files = pair_files(self.results)
        return read_all(files, apart=self.side_by_side) if files else []


def read_results(path: epath.PathLike) -> list[Result]:
    """Reads a whole file of rows, in its order.

    Args:
        path: see `results_file`.

    Raises:
        DataError: naming the line that is damaged, or both lines of a row that stands twice; or if
            the file is missing or has no row.

    Example:
        >>> edit = ("ours", "5,5,5", "real-edit", "cat-1", "cat", "Local")
        >>> append_results("results.jsonl", [Result(*edit, "quality", 4.0)])
        >>> [row.value for row in select(read_results("results.jsonl"), metric="quality")]
        [4.0]
    """
    return read_all([path])


def read_all(paths: Sequence[epath.PathLike], *, apart: bool = False) -> list[Result]:
    """`read_results` of several files, which may share no row either.

    Args:
        apart: rows of different settings get systems of different names; see
            `provenance.side_by_side`.
    """
    found: list[tuple[str, Result]] = []
    for path in paths:
        file = results_file(path)
        rows = read_rows(file)
        if not rows:
            raise DataError(f"{file}: no results in it")
        found += rows
    if apart:
        wheres, mixed = zip(*found, strict=True)
        found = list(zip(wheres, side_by_side(mixed), strict=True))
    return without_repetition(found)


def results_file(path: epath.PathLike) -> epath.Path:
    """A file of rows, or that of an output folder of `mre evaluate`."""
    path = epath.Path(path)
    return path / FILE if path.is_dir() else path


def pair_files(paths: Sequence[epath.PathLike]) -> list[epath.Path]:
    """The files of pairs in the folders of results, each once."""
    folders = [results_file(path).parent for path in paths]
    return [file for folder in dict.fromkeys(folders) if (file := folder / PAIRS).exists()]


def select(rows: Iterable[Result], **fields: str | bool) -> list[Result]:
    """The rows whose fields have these values: `select(rows, system="reward", metric="l1")`."""
    return [
        row for row in rows if all(getattr(row, name) == value for name, value in fields.items())
    ]


def append_results(path: Path | str, rows: Iterable[Result]) -> None:
    """Appends rows in one write and flushes them to the disk. One process writes a file.

    Raises:
        DataError: if the disk is full.
    """
    data = [row.to_json() for row in rows]
    if data:
        with GrowingFile(path, lock=False) as file:
            file.append(*data)
            file.flush()


def read_rows(path: epath.Path) -> list[tuple[str, Result]]:
    """The rows of one file and where they stand; none where `read_growing` finds none.

    Raises:
        DataError: naming the line that is damaged.
    """
    rows = []
    for line in read_growing(path):
        try:
            rows.append((line.where, Result.from_json(line.row)))
        except DataError as error:
            raise DataError(f"{line.where}: {error}") from None
    return rows


def without_repetition(found: Iterable[tuple[str, Result]]) -> list[Result]:
    """The rows.

    Raises:
        DataError: naming the places of one that stands twice.
    """
    places: dict[tuple[str, ...], str] = {}
    rows = []
    for where, row in found:
        if row.key in places:
            raise DataError(
                f"{where}: item {row.item}, {row.metric} of {row.system} {row.condition} appears "
                f"twice, here and in {places[row.key]}; keep one, or if different judges have "
                "made them give --side-by-side"
            )
        places[row.key] = where
        rows.append(row)
    return rows
