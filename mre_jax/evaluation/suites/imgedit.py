"""ImgEdit-Bench by a judge, whichever of its parts the file holds.

    basic        {"1082": {"id": "animal/000.jpg", "prompt": ..., "edit_type": ...}, ...}
    UGE          {"1": {"id": "000.jpg", "prompt": ...}, ...}                hard single edits
    multi-turn   {"1": {"id": "000.jpg", "turn1": ..., "turn2": ..., "turn3": ...}, ...}

Edits are called by the key, "1082.png". The number of the basic part is the mean of three scores
from 1 to 5, by type and over the types; that of the UGE part one score from 1 to 5.

A session of the multi-turn part is edited turn by turn, and judged by what it comes to: the photo,
all instructions, the last result; of others' edits that is "1.png", or "1-3.png" where every turn
has a picture. The benchmark's authors have people judge this part (`--judge human:FILE`), since the
models they tried could not.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epath

from mre_jax.data.triplets import safe_name
from mre_jax.errors import DataError
from mre_jax.evaluation.case import Case, check_cases, edit_in_turns, file_in
from mre_jax.evaluation.edits.bucket import fetched
from mre_jax.evaluation.edits.edits_folder import Names
from mre_jax.evaluation.judging import JudgedSuite
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.summary import macro_lines
from mre_jax.evaluation.suite import Pictures
from mre_jax.evaluation.system import Scores
from mre_jax.io.json_file import read_json
from mre_jax.judges.picture import AS_IS

if TYPE_CHECKING:
    from mre_jax.evaluation.edits.editor import Editor

BASIC, UGE, MULTI = "imgedit", "imgedit-uge", "imgedit-multi"
PROMPTS = {BASIC: "imgedit-ours", UGE: "imgedit-uge-ours", MULTI: "imgedit-ours"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImgEdit(JudgedSuite):
    """A part of ImgEdit-Bench.

    Attributes:
        data: JSON file of the basic, UGE or multi-turn edits.
        originals: folder of its pictures (beside the file: singleturn of the basic part, else its
            own).

    Example:
        >>> from mre_jax import JudgeSpec, SystemSpec
        >>> system = SystemSpec("ours", images="edits")
        >>> suite = ImgEdit(
        ...     data="basic_edit.json", judge=JudgeSpec("openai:gpt-4o"),
        ...     out="out", system=system,
        ... )
        >>> suite.system.name
        'ours'
    """

    originals: epath.PathLike | None = None
    pictures: str | None = AS_IS

    @property
    def name(self) -> str:
        """See `Suite.name`; each part has its own."""
        return self._part.suite

    @property
    def parts(self) -> Mapping[str, Sequence[Case]]:
        """See `Suite.parts`."""
        return {self._part.suite: self._part.cases}

    @functools.cached_property
    def _part(self) -> "Part":
        return read_part(self.data, self.originals, self.out)

    @property
    def default_pack(self) -> str:
        """See `JudgedSuite.default_pack`; each part has its own."""
        return PROMPTS[self.name]

    def picture_names(self, part: str) -> Names | None:
        """See `Suite.picture_names`; of a session its key, or its last turn besides."""
        if not self._part.turns:
            return None
        return {
            key: [key, *(f"{key}{mark}{len(texts)}" for mark in "-_/")]
            for key, texts in self._part.turns.items()
        }

    def make(self, editor: "Editor", folder: Path, reward: Scores | None) -> Pictures:
        """See `Suite.make`; each turn has a folder of its own."""
        if not self._part.turns:
            return super().make(editor, folder, reward)
        sessions = self._part.sessions()
        first = editor.edit([turns[0] for turns in sessions.values()], folder / "turn-1", reward)
        made = edit_in_turns(
            list(sessions.values()),
            first,
            lambda number, cases: editor.edit(cases, folder / f"turn-{number}", reward),
        )
        last = {key: turns[-1].id for key, turns in sessions.items()}
        return {MULTI: {key: made[id_] for key, id_ in last.items() if id_ in made}}

    def summary(self, rows: Sequence[Result]) -> list[str]:
        """See `Suite.summary`; of the basic part the benchmark's number too."""
        return super().summary(rows) + (macro_lines(rows) if self.name == BASIC else [])


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

    def sessions(self) -> dict[str, list[Case]]:
        """A case for every turn of every session; all but the first lack the picture before."""
        return {
            case.id: [
                dataclasses.replace(case, id=f"{case.id}-{number}", instruction=text)
                for number, text in enumerate(self.turns[case.id], 1)
            ]
            for case in self.cases
        }


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
