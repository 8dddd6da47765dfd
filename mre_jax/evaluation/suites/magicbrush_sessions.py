"""MagicBrush's test set as sessions of turns, and the names that its official script gives edits.

    OUT/123/123_1.png        turn 1
    OUT/123/123_inde_2.png   turn 2 of the true result of turn 1
    OUT/123/123_iter_2.png   turn 2 of the system's own result of turn 1

Single-turn evaluation takes `_1` and every `_inde_`, multi-turn the last `_iter_` of a session, or
`_1` where there is one turn. The data's layout is that of `data.sources.magicbrush_folder`.
"""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

from mre_jax.errors import DataError
from mre_jax.evaluation.case import Case, check_cases, file_in
from mre_jax.io.json_file import read_json

SINGLE, MULTI = "magicbrush-single", "magicbrush-multi"
_SESSIONS = "edit_sessions.json"
_CAPTIONS = {"edited": "global", "edited_local": "local"}
_CAPTION_FILES = ("{}_descriptions.json", "{}_captions.json")
"""As the set is given out, and as its repository's README calls them."""


@dataclasses.dataclass(frozen=True)
class Session:
    """The turns of one picture; each is a `Case` whose original is the true result before it."""

    name: str
    turns: tuple[Case, ...]

    @property
    def last(self) -> Case:
        """What a multi-turn edit comes to: the first picture, the last target, all masks.

        Without masks if a turn has none: what that one was to change is not known.
        """
        masks = [mask for turn in self.turns for mask in turn.masks]
        return dataclasses.replace(
            self.turns[-1],
            original=self.turns[0].original,
            masks=tuple(masks) if len(masks) == len(self.turns) else (),
        )


def read_sessions(path: Path | str) -> list[Session]:
    """Reads the folder, or the one that holds it as `test`; warns of captions that are not there.

    Raises:
        DataError: if a file or picture is missing or of another shape, or the set is empty.
    """
    folder = Path(path)
    if not (folder / _SESSIONS).exists() and (folder / "test" / _SESSIONS).exists():
        folder = folder / "test"
    sessions = read_json(folder / _SESSIONS)
    if not isinstance(sessions, dict):
        raise DataError(f"{folder / _SESSIONS}: want an object of sessions")
    captions = {
        which: read_json(file)
        for which, kind in _CAPTIONS.items()
        if (file := _captions_file(folder, kind)) is not None
    }
    found = [_session(name, turns, folder, captions) for name, turns in sessions.items()]
    cases = [case for session in found for case in session.turns]
    check_cases(cases, folder)
    for case in cases:
        if case.target is None or not case.target.is_file():
            raise DataError(f"{folder}: {case.target} is missing")
    return found


def _captions_file(folder: Path, kind: str) -> Path | None:
    """The file of "global" or "local" captions, under either of its names.

    Raises:
        DataError: if there are two that differ.
    """
    paths = [folder / name.format(kind) for name in _CAPTION_FILES]
    found = [path for path in paths if path.exists()]
    if not found:
        names = " or ".join(path.name for path in paths)
        warnings.warn(f"{folder}: no {names}: no CLIP-T of {kind} captions", stacklevel=2)
        return None
    if len(found) > 1 and read_json(found[0]) != read_json(found[1]):
        raise DataError(f"{folder}: {found[0].name} and {found[1].name} differ; keep one")
    return found[0]


def single_name(case_id: str) -> str:
    """The official name of a single-turn edit, without suffix."""
    name, _, turn = case_id.rpartition("-")
    return f"{name}/{name}_1" if turn == "1" else f"{name}/{name}_inde_{turn}"


def multi_name(case_id: str) -> str:
    """The official name of an edit of the system's own last result, without suffix."""
    return single_name(case_id).replace("_inde_", "_iter_")


def _session(name: str, turns: Any, folder: Path, captions: dict[str, Any]) -> Session:
    where = f"{folder / _SESSIONS}: session {name}"
    if not isinstance(turns, list) or not turns or Path(name).name != name:
        raise DataError(f"{where}: want a list of turns")
    cases = [
        _turn(name, number, turn, folder, captions, f"{where}, turn {number}")
        for number, turn in enumerate(turns, 1)
    ]
    return Session(name, tuple(cases))


def _turn(
    name: str, number: int, turn: Any, folder: Path, captions: dict[str, Any], where: str
) -> Case:
    for field in ("input", "output", "instruction"):
        if not isinstance(turn, dict) or not isinstance(turn.get(field), str):
            raise DataError(f"{where}: no text {field!r}")
    pictures = folder / "images" / name
    original, target = (file_in(pictures, turn[which], where) for which in ("input", "output"))
    mask = file_in(pictures, str(turn.get("mask") or ""), where)
    found = {}
    for which, file in captions.items():
        try:
            found[which] = str(file[name][turn["output"]])
        except (KeyError, TypeError):
            raise DataError(f"{where}: no caption in the {_CAPTIONS[which]} ones") from None
    return Case(
        id=f"{name}-{number}",
        group=name,
        kind="",
        instruction=turn["instruction"],
        original=original,
        target=target,
        masks=(mask,) if mask.is_file() else (),
        captions=found,
    )
