"""Public sets of pairs of edits of which people have said which is better.

EditReward-Bench of EditScore       key, instruction, input_image, output_images (the preferred one
                                    first), task_type, dimension
EditReward-Bench of TIGER-Lab       id, instruction, source_image, candidate_1, candidate_2, ranking
                                    ("A>B", "A=B"), comparison_type ("AvsB", "BvsC")
EditReward-Data of TIGER-Lab        instruction, source_img, left_output_image, right_output_image,
                                    vote_type ("leftvote", "rightvote", "tie")

Tables of any kind that `mre prepare` reads; which set it is, its columns say. Pictures are written
out once. An edit is called by the hash of its picture, so that what stands in several pairs is
judged once.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from mre_jax.data.sources.plain_table import open_rows
from mre_jax.data.sources.source import strict
from mre_jax.errors import DataError
from mre_jax.evaluation.meta.human_set import OVERALL, HumanSet, Preference, check_pairs
from mre_jax.evaluation.pairs.pair import Edit, Pair
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.suites.case_table import write_picture

_DIMENSIONS = {"prompt_following": "following", "consistency": "preserving", "overall": OVERALL}
_VOTES = {"leftvote": 1.0, "rightvote": 0.0, "tie": 0.5}
_RANKING = re.compile(r"\s*(\w+)\s*([>=])\s*(\w+)\s*")
_NAME = 16  # characters of a hash


@dataclasses.dataclass(frozen=True)
class _Row:
    """A row, whichever set it is of."""

    instruction: str
    original: bytes
    first: bytes
    second: bytes
    perspective: str
    points: float
    kind: str = ""


def read_pair_set(path: epath.PathLike, pictures: Path, *, split: str | None = None) -> HumanSet:
    """Reads one of the sets above.

    Pairs of two equal pictures are left out: nothing can be said of them.

    Args:
        path: file or folder.
        pictures: folder to write the pictures to.
        split: split of a folder that holds several.

    Raises:
        DataError: if it is none of these sets, or naming the row that is damaged.
    """
    rows = open_rows(path, split)
    columns = tuple(rows.columns or ())
    kind = next((kind for kind in _KINDS if set(kind.columns) <= set(columns)), None)
    if kind is None:
        known = "; ".join(f"{kind.name}: {', '.join(kind.columns)}" for kind in _KINDS)
        raise DataError(
            f"{path}: not a set of pairs that is known; it has the columns {', '.join(columns)}, "
            f"wanted are those of {known}"
        )
    wanted = (*kind.columns, *(name for name in kind.optional if name in columns))
    found = (
        (where, kind.read(row, where)) for where, row in strict(rows.read(range(len(rows)), wanted))
    )
    preferences = [
        _preference(row, kind.name, pictures, where)
        for where, row in found
        if row.first != row.second
    ]
    return HumanSet(kind.name, check_pairs(preferences, str(path)))


def _preference(row: _Row, name: str, pictures: Path, where: str) -> Preference:
    original = _hash(row.original)
    base = Result(
        system="",
        condition="",
        suite=name,
        item=_hash(row.original, row.instruction.encode()),
        group=original,
        kind=row.kind,
        metric="",
        value=None,
        status="missing",
        instruction=row.instruction,
    )
    place = write_picture(row.original, pictures, original, where)

    def edit(picture: bytes) -> Edit:
        hash_ = _hash(picture)
        edited = write_picture(picture, pictures, hash_, where)
        return Edit(dataclasses.replace(base, system=hash_), place, edited)

    return Preference(Pair(edit(row.first), edit(row.second)), row.perspective, row.points)


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:_NAME]


def _editscore(row: Mapping[str, Any], where: str) -> _Row:
    outputs = row["output_images"]
    if not isinstance(outputs, Sequence) or isinstance(outputs, str) or len(outputs) != 2:
        raise DataError(f"{where}: output_images: want two pictures")
    dimension = _text(row, "dimension", where)
    if dimension not in _DIMENSIONS:
        raise DataError(f"{where}: dimension {dimension!r}: want {', '.join(_DIMENSIONS)}")
    first, second = (_picture(output, where, "output_images") for output in outputs)
    return _Row(
        _text(row, "instruction", where),
        _picture(row["input_image"], where, "input_image"),
        first,
        second,
        perspective=_DIMENSIONS[dimension],
        points=1.0,
        kind=str(row.get("task_type") or ""),
    )


def _tiger_bench(row: Mapping[str, Any], where: str) -> _Row:
    text = _text(row, "ranking", where)
    match = _RANKING.fullmatch(text)
    names = (row.get("comparison_type") or "AvsB").split("vs")
    if match is None or {match[1], match[3]} != set(names) or len(names) != 2:
        raise DataError(f"{where}: ranking {text!r} is none of {' and '.join(names)}")
    points = 0.5 if match[2] == "=" else float(match[1] == names[0])
    return _Row(
        _text(row, "instruction", where),
        _picture(row["source_image"], where, "source_image"),
        _picture(row["candidate_1"], where, "candidate_1"),
        _picture(row["candidate_2"], where, "candidate_2"),
        perspective=OVERALL,
        points=points,
    )


def _tiger_data(row: Mapping[str, Any], where: str) -> _Row:
    vote = _text(row, "vote_type", where)
    if vote not in _VOTES:
        raise DataError(f"{where}: vote_type {vote!r}: want {', '.join(_VOTES)}")
    return _Row(
        _text(row, "instruction", where),
        _picture(row["source_img"], where, "source_img"),
        _picture(row["left_output_image"], where, "left_output_image"),
        _picture(row["right_output_image"], where, "right_output_image"),
        perspective=OVERALL,
        points=_VOTES[vote],
    )


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    if not isinstance(row[name], str) or not row[name].strip():
        raise DataError(f"{where}: no text in column {name!r}")
    return str(row[name])


def _picture(cell: Any, where: str, name: str) -> bytes:
    match cell:
        case bytes(data) | {"bytes": bytes(data)}:
            return data
    raise DataError(f"{where}: no picture in column {name!r}")


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A set: its name, its columns, and what makes a row of them."""

    name: str
    columns: Sequence[str]
    optional: Sequence[str]
    read: Callable[[Mapping[str, Any], str], _Row]


_KINDS = (
    _Kind(
        "EditReward-Bench (EditScore)",
        ("instruction", "input_image", "output_images", "dimension"),
        ("task_type",),
        _editscore,
    ),
    _Kind(
        "EditReward-Bench (TIGER-Lab)",
        ("instruction", "source_image", "candidate_1", "candidate_2", "ranking"),
        ("comparison_type",),
        _tiger_bench,
    ),
    _Kind(
        "EditReward-Data (TIGER-Lab)",
        ("instruction", "source_img", "left_output_image", "right_output_image", "vote_type"),
        (),
        _tiger_data,
    ),
)
