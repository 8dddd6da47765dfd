"""The files of ImgEdit-Bench: edits by key, in three parts that are told by their fields.

    basic        {"1082": {"id": "animal/000.jpg", "prompt": ..., "edit_type": ...}, ...}
    UGE          {"1": {"id": "000.jpg", "prompt": ...}, ...}                hard single edits
    multi-turn   {"1": {"id": "000.jpg", "turn1": ..., "turn2": ..., "turn3": ...}, ...}

A multi-turn session is judged by what it comes to: the photo, all instructions, the last result.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from mre_jax.data.triplets import safe_name
from mre_jax.errors import DataError
from mre_jax.evaluation.case import Case, check_cases, file_in
from mre_jax.evaluation.edits.bucket import fetched
from mre_jax.io.json_file import read_json

BASIC, UGE, MULTI = "imgedit", "imgedit-uge", "imgedit-multi"


@dataclasses.dataclass(frozen=True)
class Part:
    """What one of the files asks for.

    Attributes:
        suite: `BASIC`, `UGE` or `MULTI`.
        cases: its edits or sessions, called by their keys.
        turns: the instructions of each session by case id; empty for the other parts.
    """

    suite: str
    cases: Sequence[Case]
    turns: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)


def read_part(data: epath.PathLike, originals: epath.PathLike | None, out: epath.PathLike) -> Part:
    """Reads a file of any part.

    Args:
        data: the file.
        originals: folder of its pictures; by default `singleturn` beside the file for the basic
            part, as its archive has them, and the file's own folder for the others.
        out: where pictures go that lie in a bucket; see `bucket.fetched`.

    Raises:
        DataError: naming the entry of another form, the missing picture, or an empty set.
    """
    path = epath.Path(data)
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise DataError(f"{path}: want an object of edits by key")
    suite = _suite(next(iter(entries.values()), None))
    if originals is None:
        originals = path.parent / "singleturn" if suite == BASIC else path.parent
    asked = [
        (safe_name(key), *_entry(entry, suite, f"{path}: entry {key!r}"))
        for key, entry in entries.items()
    ]
    folder = fetched(originals, out, [name for _, name, _, _ in asked])
    cases = [
        Case(key, name, kind, _instruction(texts), file_in(folder, name, f"{path}: entry {key!r}"))
        for key, name, kind, texts in asked
    ]
    turns = {key: texts for key, _, _, texts in asked} if suite == MULTI else {}
    return Part(suite, check_cases(cases, path), turns)


def _suite(entry: Any) -> str:
    if isinstance(entry, dict) and "turn1" in entry:
        return MULTI
    return UGE if isinstance(entry, dict) and "edit_type" not in entry else BASIC


def _entry(entry: Any, suite: str, where: str) -> tuple[str, str, Sequence[str]]:
    """Picture, type, and the instructions one after the other."""
    name = _text(entry, "id", where)
    if suite == MULTI:
        return name, "", _turns(entry, where)
    kind = _text(entry, "edit_type", where) if suite == BASIC else ""
    return name, kind, [_text(entry, "prompt", where)]


def _instruction(texts: Sequence[str]) -> str:
    if len(texts) == 1:
        return texts[0]
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))


def _turns(entry: Any, where: str) -> list[str]:
    later = (f"turn{number}" for number in itertools.count(2))
    names = ["turn1", *itertools.takewhile(lambda name: name in entry, later)]
    return [_text(entry, name, where) for name in names]


def _text(entry: Any, name: str, where: str) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get(name), str):
        raise DataError(f"{where}: no text {name!r}")
    return entry[name]
