"""The folders of InstructPix2Pix, and of RewardEdit, which keeps the same.

seeds.json                    [["0000123", ["2571", "80"]], ...]; RewardEdit has none
0000123/prompt.json           {"edit": ..., "input": ..., "output": ...}
0000123/2571_0.jpg, 2571_1.jpg   before and after
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from mre_jax.data.attempt import attempt
from mre_jax.data.rewards import read_json
from mre_jax.data.sources.choice import choose, choose_text
from mre_jax.data.sources.picture import SUFFIXES, find_picture
from mre_jax.data.sources.source import Keys
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError

# As sums, like InstructPix2Pix: its floor at a boundary sees their rounding.
SPLITS = {"all": (0.0, 1.0), "train": (0.0, 0.9), "val": (0.9, 0.9 + 0.05), "test": (0.9 + 0.05, 1)}


class InstructPix2PixFolder:
    """Reads the original layout.

    The id of an example, and the key of its reward, is the name of its folder; with
    `seeds="all"` the id is the folder's name and the pair's seed, joined by "_".

    Args:
        path: the folder that holds `seeds.json`. Without that file all its subfolders are read,
            sorted by name.
        split: "all", or "train", "val", "test": the first 90 %, the next 5 % and the last 5 % of
            the folders in the order of `seeds.json`.
        seeds: a folder may hold several pairs. "one" takes one of them, a function of `seed` and
            the folder's name; "all" takes each.
        seed: of this choice, and of the choice of an instruction where `edit` is a list.

    Raises:
        ConfigError: for an unknown split or choice of seeds.
        DataError: if `seeds.json` is of another shape or names a folder twice.
    """

    name = "instruct_pix2pix"

    def __init__(
        self, path: epath.PathLike, *, split: str = "all", seeds: str = "one", seed: int = 0
    ):
        if split not in SPLITS:
            raise ConfigError(f"split {split!r}: want one of {', '.join(SPLITS)}")
        if seeds not in ("one", "all"):
            raise ConfigError(f"seeds {seeds!r}: want 'one' or 'all'")
        self.path = str(path) if split == "all" else f"{path} (split {split})"
        self._folder = epath.Path(path)
        self._seed = seed
        index = _read_index(self._folder)
        if seeds == "all" and not all(index.values()):
            raise ConfigError(f"{path}: it has no seeds.json, which seeds='all' needs")
        low, high = (math.floor(part * len(index)) for part in SPLITS[split])
        self._names = list(index)
        self._range = range(low, high)
        self._ambiguous = {name for name, pairs in index.items() if len(pairs) > 1}
        self._all = seeds == "all"
        # Row in seeds.json and seed of every example; no seed where the folder has to tell.
        self._examples: list[tuple[int, str | None]] = [
            (row, pair) for row in self._range for pair in self._pairs(index[self._names[row]], row)
        ]

    def __len__(self) -> int:
        return len(self._examples)

    def keys(self) -> Keys:
        names, inside = self._names, self._range
        return Keys(
            rows=[row for row, _ in self._examples],
            total=len(names),
            names=[names[row] for row, _ in self._examples],
            elsewhere={*names[: inside.start], *names[inside.stop :]},
            ambiguous=self._ambiguous,
        )

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        for position in positions:
            row, pair = self._examples[position]
            yield attempt(self._read, self._names[row], pair)

    def _pairs(self, pairs: Sequence[str], row: int) -> Sequence[str | None]:
        if not pairs:
            return [None]
        return pairs if self._all else [choose(pairs, self._seed, self._names[row], "pair")]

    def _read(self, name: str, pair: str | None) -> Triplet:
        folder = self._folder / name
        if pair is None:
            prompt_file, original, edited = _list(folder, self._seed)
        else:
            prompt_file = folder / "prompt.json"
            original, edited = (folder / f"{pair}_{side}" for side in (0, 1))
        prompt = read_json(prompt_file)
        if not isinstance(prompt, dict):
            raise DataError(f"{prompt_file}: want an object, got {type(prompt).__name__}")
        where = f"{folder} (seed {pair})" if pair else str(folder)
        return Triplet(
            id=f"{name}_{pair}" if self._all else name,
            original=find_picture(original, where),
            edited=find_picture(edited, where),
            instruction=self._instruction(prompt, name, str(prompt_file)),
            original_caption=prompt.get("input", prompt.get("caption")),
            edited_caption=prompt.get("output"),
            source=self.name,
            where=where,
        )

    def _instruction(self, prompt: dict[str, Any], name: str, where: str) -> str:
        edit = choose_text(prompt.get("edit"), self._seed, name)
        if not isinstance(edit, str):
            raise DataError(f"{where}: 'edit' is {edit!r}; want a text or a list of texts")
        return edit


def _read_index(folder: epath.Path) -> dict[str, list[str]]:
    """The seeds of each subfolder; empty lists if there is no seeds.json."""
    path = folder / "seeds.json"
    if not path.exists():
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        subfolders = (p.name for p in folder.iterdir() if p.is_dir())
        return {name: [] for name in sorted(subfolders) if not name.startswith(".")}
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


def _list(folder: epath.Path, seed: int) -> tuple[epath.Path, epath.Path, epath.Path]:
    """The prompt file and a pair, its suffix left off, of a folder that has to be looked into."""
    try:
        files = sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{folder}: no such folder") from None
    stems = [name.rpartition(".")[0] for name in files if name.lower().endswith(SUFFIXES)]
    pairs = [stem[:-2] for stem in stems if stem.endswith("_0")]
    prompts = [name for name in files if name.endswith(".json")]
    if "prompt.json" in prompts:
        prompts = ["prompt.json"]
    if not pairs or len(prompts) != 1:
        raise DataError(f"{folder}: want pictures *_0, *_1 and a prompt.json; it has {files}")
    pair = choose(pairs, seed, folder.name, "pair")
    return folder / prompts[0], folder / f"{pair}_0", folder / f"{pair}_1"
