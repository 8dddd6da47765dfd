"""The MagicBrush test set, a folder that its users fetch themselves.

edit_sessions.json            {"123456": [{"input", "mask", "output", "instruction"}, ...]}
global_descriptions.json      {"123456": {"123456-output1.png": caption}}; local_ likewise, and
                              either may be called "captions"
images/123456/123456-input.png, 123456-output1.png, ...
"""

from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from mre_jax.data.sources.picture import read_picture
from mre_jax.data.sources.source import Keys, attempt
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.json_file import read_json


class MagicBrushFolder:
    """Reads every turn of every session; ids are as in `magicbrush`.

    Attributes:
        notes: says if there are no captions.

    Args:
        path: the folder, or the one that holds it as `test`.
        captions: "global" captions describe the picture, "local" ones what the edit changed.
            Captions are left out if their file is not there.

    Raises:
        ConfigError: for another kind of captions.
        DataError: if a file is missing or of another shape.
    """

    name = "magicbrush"

    def __init__(self, path: epath.PathLike, *, captions: str = "global"):
        if captions not in ("global", "local"):
            raise ConfigError(f"captions {captions!r}: want 'global' or 'local'")
        folder = epath.Path(path)
        if not (folder / _SESSIONS).exists() and (folder / "test" / _SESSIONS).exists():
            folder = folder / "test"
        self.path = str(folder)
        self._folder = folder
        self._turns = list(_read_turns(folder / _SESSIONS))
        self._captions = _read_captions(folder, captions)
        self.notes = [] if self._captions else [f"{folder}: no file of {captions} captions"]

    def __len__(self) -> int:
        return len(self._turns)

    def keys(self) -> Keys:
        names = [f"{image}-{turn}" for image, turn, _ in self._turns]
        return Keys(range(len(names)), len(names), names)

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        for position in positions:
            yield attempt(self._read, *self._turns[position])

    def _read(self, image: str, turn: int, entry: dict[str, str]) -> Triplet:
        where = f"{self._folder / _SESSIONS}: session {image}, turn {turn}"
        captions = self._captions.get(image, {})
        return Triplet(
            id=f"{image}-{turn}",
            original=read_picture(self._folder / "images" / image / entry["input"], where),
            edited=read_picture(self._folder / "images" / image / entry["output"], where),
            instruction=entry["instruction"],
            original_caption=captions.get(entry["input"]),
            edited_caption=captions.get(entry["output"]),
            source=self.name,
            where=where,
        )


_SESSIONS = "edit_sessions.json"


def _read_turns(path: epath.Path) -> Iterator[tuple[str, int, dict[str, str]]]:
    """The session, the number from 1, and the entry of every turn, in the file's order."""
    sessions = read_json(path)
    if not isinstance(sessions, dict):
        raise DataError(f"{path}: want an object of sessions, got {type(sessions).__name__}")
    for image, entries in sessions.items():
        if not isinstance(entries, list):
            raise DataError(f"{path}: session {image}: want a list of turns")
        for turn, entry in enumerate(entries, 1):
            for field in ("input", "output", "instruction"):
                if not isinstance(entry, dict) or not isinstance(entry.get(field), str):
                    raise DataError(f"{path}: session {image}, turn {turn}: no text {field!r}")
            yield image, turn, entry


def _read_captions(folder: epath.Path, kind: str) -> dict[str, dict[str, Any]]:
    paths = [folder / f"{kind}_{name}.json" for name in ("descriptions", "captions")]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return {}
    captions = read_json(path)
    if not isinstance(captions, dict) or not all(isinstance(c, dict) for c in captions.values()):
        raise DataError(f"{path}: want an object of captions by session and picture")
    return captions
