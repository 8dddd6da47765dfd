"""Real-Edit: three perspectives by a judge (Tables 1, 3, 4, 5, 6, 8, 10 and 11).

The benchmark is a folder of photos with seven instructions each.

    images/10.jpeg ...
    instructions.json     {"10.jpeg": ["1. Local: Change ...", ..., "7. Style: Convert ..."]}
    scenes.json           only of the toy world: what its exact judge needs

The released code calls them Real-Edit/ and real_edit_instruct.json; both names of each are read.
The number of an instruction is its type. "1. Local Edit: ..." occurs too, and superfluous blanks.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mre_jax.data.triplets import safe_name
from mre_jax.errors import DataError
from mre_jax.evaluation.case import Case, check_cases, file_in
from mre_jax.evaluation.edits.bucket import fetched
from mre_jax.evaluation.judging import JudgedSuite
from mre_jax.io.json_file import read_json
from mre_jax.reward.edit_types import EDIT_TYPES

SUITE = "real-edit"
_INSTRUCTION = re.compile(r"\s*(\d+)\.\s*([A-Za-z]+)(?:\s+Edit)?\s*:\s*(.*?)\s*", re.DOTALL)
_TEXTS = "instructions.json", "real_edit_instruct.json"
_PHOTOS = "images", "Real-Edit"
_SCENES = "scenes.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RealEdit(JudgedSuite):
    """Real-Edit, or a benchmark that is laid out as it is.

    Attributes:
        data: folder of images/ and instructions.json.

    Example:
        The toy world of `mre toy`, and each of its photos as it is in place of an edit:

        >>> from mre_jax import JudgeSpec, SystemSpec
        >>> system = SystemSpec("untouched", images="edits")
        >>> suite = RealEdit(data="toy/benchmark", out="out", system=system, judge=JudgeSpec("toy"))
        >>> [line for line in suite.summary(suite.evaluate()) if "preserving" in line]
        ['real-edit untouched: preserving 5 accuracy 100.0% (7/7)']
    """

    name = SUITE

    @functools.cached_property
    def parts(self) -> Mapping[str, Sequence[Case]]:
        """See `Suite.parts`."""
        return {SUITE: read_real_edit(fetched(self.data, self.out))}


def read_real_edit(folder: Path | str) -> list[Case]:
    """Reads every instruction of every photo, in the order of the file.

    Items are called by photo and number, "10-1"; photos of one name in several formats are not
    told apart and refused.

    Raises:
        DataError: if the folder is of another layout, a photo is missing, an instruction is not of
            the form above or of an unknown type, or the set is empty.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    path, photos = _first(folder, _TEXTS), _first(folder, _PHOTOS)
    if not path.is_file() or not photos.is_dir():
        raise DataError(
            f"{folder}: not laid out as Real-Edit; want images/ and instructions.json in it, or "
            f"Real-Edit/ and real_edit_instruct.json{_toy_benchmark(folder)}"
        )
    scenes_path = folder / _SCENES
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise DataError(f"{path}: want an object of instructions by picture")
    scenes = read_json(scenes_path) if scenes_path.is_file() else {}
    cases = []
    for name, texts in entries.items():
        if not isinstance(texts, list) or Path(name).name != name:
            raise DataError(f"{path}: {name!r}: want a file name and a list of instructions")
        for index, text in enumerate(texts):
            where = f"{path}: {name}: instruction {index + 1}"
            kind, instruction = parse_instruction(text, where)
            cases.append(
                Case(
                    id=f"{safe_name(Path(name).stem)}-{index + 1}",
                    group=name,
                    kind=kind,
                    instruction=instruction,
                    original=file_in(photos, name, where),
                    extra=_extra(scenes, name, index),
                )
            )
    return check_cases(cases, path)


def _toy_benchmark(folder: Path) -> str:
    inner = folder / "benchmark"
    return f"; {inner} is" if inner.is_dir() else ""


def _first(folder: Path, names: Sequence[str]) -> Path:
    """The first that is there; the first of all if none is."""
    paths = [folder / name for name in names]
    return next((path for path in paths if path.exists()), paths[0])


def parse_instruction(text: Any, where: str) -> tuple[str, str]:
    """Type and instruction of "1. Local: Change the sail to red."

    Raises:
        DataError: if it is of another form, or its number and its word are not those of one type.
    """
    match = _INSTRUCTION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise DataError(f'{where}: {text!r:.60}: want "NUMBER. TYPE: instruction"')
    number, word, instruction = int(match[1]), match[2].capitalize(), match[3]
    if not 1 <= number <= len(EDIT_TYPES) or word not in EDIT_TYPES:
        known = ", ".join(f"{n}. {kind}" for n, kind in enumerate(EDIT_TYPES, 1))
        raise DataError(f"{where}: unknown type {match[1]}. {match[2]}; want one of {known}")
    if EDIT_TYPES[number - 1] != word:
        raise DataError(f"{where}: number {number} is {EDIT_TYPES[number - 1]}, not {word}")
    return word, instruction


def _extra(scenes: Any, name: str, index: int) -> dict[str, Any]:
    try:
        entry = scenes[name]
        return {"scene": entry["scene"], "edit": entry["edits"][index]}
    except (KeyError, IndexError, TypeError):
        return {}
