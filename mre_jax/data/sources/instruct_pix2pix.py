"""The folders of InstructPix2Pix, and of RewardEdit, which keeps the same.

seeds.json                    [["0000123", ["2571", "80"]], ...]; RewardEdit has none
0000123/prompt.json           {"edit": ..., "input": ..., "output": ...}
0000123/2571_0.jpg, 2571_1.jpg   before and after
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from mre_jax.data.sources.picture import find_picture
from mre_jax.data.sources.source import Keys, attempt, choose, choose_text
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.image import SUFFIXES
from mre_jax.io.json_file import read_json

_INDEX = "seeds.json"

# As sums, like InstructPix2Pix: its floor at a boundary sees their rounding.
SPLITS = {"all": (0.0, 1.0), "train": (0.0, 0.9), "val": (0.9, 0.9 + 0.05), "test": (0.9 + 0.05, 1)}


class InstructPix2PixFolder:
    """Reads the original layout.

    A folder may hold several pairs of pictures. InstructPix2Pix draws one of them each time that it
    reads the folder, and so does a set with `seeds="drawn"`: its pairs form a group, of which each
    epoch reads one. The id of an example is the name of its folder, with the pair's seed behind a
    "_" where several are read. A reward may go by either; by the folder's name it is taken to judge
    the pair that `seeds="one"` takes.

    Attributes:
        notes: what becomes of folders of several pairs.

    Args:
        path: the folder that holds `seeds.json`. Without that file all its subfolders are read,
            sorted by name.
        split: "all", or "train", "val", "test": the first 90 %, the next 5 % and the last 5 % of
            the folders in the order of `seeds.json`.
        seeds: "drawn"; "one" takes one pair of each folder for good, a function of `seed` and the
            folder's name; "all" takes each pair as an example of its own, so that an epoch reads
            all.
        seed: seed of this choice, and of that of an instruction where `edit` is a list and only
            one can stand; see `Triplet.instructions`.

    Raises:
        ConfigError: for an unknown split or choice of seeds.
        DataError: if `seeds.json` is of another shape or names a folder twice.
    """

    name = "instruct_pix2pix"

    def __init__(
        self, path: epath.PathLike, *, split: str = "all", seeds: str = "drawn", seed: int = 0
    ):
        if split not in SPLITS:
            raise ConfigError(f"split {split!r}: want one of {', '.join(SPLITS)}")
        if seeds not in ("drawn", "one", "all"):
            raise ConfigError(f"seeds {seeds!r}: want 'drawn', 'one' or 'all'")
        self.path = str(path) if split == "all" else f"{path} (split {split})"
        self._folder = epath.Path(path)
        self._seed = seed
        self._indexed = (self._folder / _INDEX).exists()
        index = _read_index(self._folder) if self._indexed else _find_pairs(self._folder)
        low, high = (math.floor(part * len(index)) for part in SPLITS[split])
        self._names = list(index)
        self._range = range(low, high)
        self._index = index
        self._seeds = seeds
        # Row in seeds.json and seed of every example; no seed where no pair was found.
        self._examples: list[tuple[int, str | None]] = [
            (row, pair) for row in self._range for pair in self._pairs(self._names[row])
        ]
        self.notes = list(self._notes())

    def __len__(self) -> int:
        return len(self._examples)

    def keys(self) -> Keys:
        names, inside = self._names, self._range
        ids = [self._id(names[row], pair) for row, pair in self._examples]
        judged = {(row, self._one(names[row])) for row in inside}
        return Keys(
            rows=[row for row, _ in self._examples],
            total=len(names),
            names=ids,
            aliases={
                position: names[row] if ids[position] != names[row] else f"{names[row]}_{pair}"
                for position, (row, pair) in enumerate(self._examples)
                if pair is not None and (row, pair) in judged
            },
            elsewhere={*names[: inside.start], *names[inside.stop :]},
            ambiguous={name for name, pairs in self._index.items() if len(pairs) > 1},
        )

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        for position in positions:
            row, pair = self._examples[position]
            yield attempt(self._read, self._names[row], pair)

    def _one(self, name: str) -> str | None:
        pairs = self._index[name]
        return choose(pairs, self._seed, name, "pair") if pairs else None

    def _pairs(self, name: str) -> Sequence[str | None]:
        return [self._one(name)] if self._seeds == "one" else self._index[name] or [None]

    def _id(self, name: str, pair: str | None) -> str:
        drawn = self._seeds == "drawn" and len(self._index[name]) > 1
        return f"{name}_{pair}" if drawn or self._seeds == "all" else name

    def _notes(self) -> Iterator[str]:
        several = [len(self._index[self._names[row]]) for row in self._range]
        several = [pairs for pairs in several if pairs > 1]
        if several and self._seeds == "drawn":
            yield f"{len(several)} folders hold {sum(several)} pairs: an epoch reads one of each"
        elif several and self._seeds == "one":
            yield (
                f"{len(several)} folders hold {sum(several)} pairs: one of each is taken for good, "
                f"{sum(several) - len(several)} are left out (seeds=all reads them)"
            )

    def _read(self, name: str, pair: str | None) -> Triplet:
        folder = self._folder / name
        if pair is None:
            raise DataError(f"{folder}: want pictures *_0, *_1 and a prompt.json; it has no *_0")
        prompt_file = folder / "prompt.json" if self._indexed else _prompt_file(folder)
        original, edited = (folder / f"{pair}_{side}" for side in (0, 1))
        prompt = read_json(prompt_file)
        if not isinstance(prompt, dict):
            raise DataError(f"{prompt_file}: want an object, got {type(prompt).__name__}")
        where = f"{folder} (seed {pair})"
        instruction, several = self._instructions(prompt, name, str(prompt_file))
        return Triplet(
            id=self._id(name, pair),
            original=find_picture(original, where),
            edited=find_picture(edited, where),
            instruction=instruction,
            instructions=several,
            original_caption=prompt.get("input", prompt.get("caption")),
            edited_caption=prompt.get("output"),
            source=self.name,
            group=name if self._seeds == "drawn" and len(self._index[name]) > 1 else "",
            where=where,
        )

    def _instructions(
        self, prompt: dict[str, Any], name: str, where: str
    ) -> tuple[str, tuple[str, ...]]:
        edit, several = choose_text(prompt.get("edit"), self._seed, name)
        if not all(isinstance(text, str) for text in (edit, *several)):
            raise DataError(
                f"{where}: 'edit' is {prompt.get('edit')!r}; want a text or a list of texts"
            )
        return edit, several


def _find_pairs(folder: epath.Path) -> dict[str, list[str]]:
    """The seeds of each subfolder, by the pictures that are there."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    names = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not _is_clutter(path)
    )
    return {name: _seeds_in(folder / name) for name in names}


def _read_index(folder: epath.Path) -> dict[str, list[str]]:
    """The seeds of each subfolder."""
    path = folder / _INDEX
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DataError(f"{path}: want a list of [folder, [seed, ...]], got {type(rows).__name__}")
    index: dict[str, list[str]] = {}
    for number, row in enumerate(rows):
        match row:
            case [str(name), [_, *_] as seeds] if all(isinstance(s, str | int) for s in seeds):
                if name in index:
                    raise DataError(f"{path}: entry {number}: folder {name!r} stands there twice")
                index[name] = [str(seed) for seed in seeds]
            case _:
                raise DataError(
                    f"{path}: entry {number} is {row!r:.60}; want [folder, [seed, ...]]"
                )
    return index


def _is_clutter(path: epath.Path) -> bool:
    """Whether a system has put it there: hidden, or what macOS packs beside the files of a zip."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def _seeds_in(folder: epath.Path) -> list[str]:
    """The seeds of the pairs in a folder, in order."""
    pictures = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not _is_clutter(path)
    )
    return sorted({path.stem[:-2] for path in pictures if path.stem.endswith("_0")})


def _prompt_file(folder: epath.Path) -> epath.Path:
    """Of a folder, whatever RewardEdit calls it."""
    prompt = folder / "prompt.json"
    if prompt.exists() or not folder.is_dir():
        return prompt
    files = sorted(path.name for path in folder.iterdir() if not _is_clutter(path))
    others = [name for name in files if name.endswith(".json")]
    if len(others) != 1:
        raise DataError(f"{folder}: want pictures *_0, *_1 and a prompt.json; it has {files}")
    return folder / others[0]
