"""The pairs of ReasonEdit, SmartEdit's set of edits that take reasoning.

{"0000": {"origin_img_path": ..., "target_img_path": ..., "instruction": [...]}, "0001": ...}

Its pictures lie in folders beside the file.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from mre_jax.data.sources.picture import read_picture, resolve
from mre_jax.data.sources.source import Keys, attempt, choose_text
from mre_jax.data.triplets import Triplet, safe_id
from mre_jax.errors import DataError
from mre_jax.io.json_file import read_object


class ReasonEdit:
    """Reads every pair; an example's id is its key. Of several instructions an epoch draws one.

    Args:
        path: the JSON file, or the folder of which it is the only one.
        root: folder that relative paths of pictures start from; by default the file's.
        seed: seed of the choice of an instruction where only one can stand; see
            `Triplet.instructions`.

    Raises:
        DataError: if the file is missing or of another shape.
    """

    name = "reason_edit"

    def __init__(self, path: epath.PathLike, *, root: str = "", seed: int = 0):
        file = _json_file(epath.Path(path))
        self.path = str(file)
        self._root = epath.Path(root) if root else file.parent
        self._seed = seed
        self._pairs = list(read_object(file).items())
        if not self._pairs:
            raise DataError(f"{file}: no pairs in it")

    def __len__(self) -> int:
        return len(self._pairs)

    def keys(self) -> Keys:
        return Keys(range(len(self)), len(self), [key for key, _ in self._pairs])

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        for position in positions:
            yield attempt(self._read, *self._pairs[position])

    def _read(self, key: str, pair: Any) -> Triplet:
        where = f"{self.path}: pair {key!r:.80}"
        if not isinstance(pair, dict):
            raise DataError(f"{where}: want an object of {', '.join((*_PATHS, 'instruction'))}")
        pictures = []
        for field in _PATHS:
            if not isinstance(path := pair.get(field), str) or not path:
                raise DataError(f"{where}: no text {field!r}")
            pictures.append(read_picture(resolve(path, self._root, where), where))
        instruction, several = choose_text(pair.get("instruction"), self._seed, key)
        if not all(isinstance(text, str) for text in (instruction, *several)):
            raise DataError(
                f"{where}: 'instruction' is {pair.get('instruction')!r:.80}; want a list of texts"
            )
        return Triplet(
            id=safe_id(key),
            original_id="" if safe_id(key) == key else key,
            original=pictures[0],
            edited=pictures[1],
            instruction=instruction,
            instructions=several,
            source=self.name,
            where=where,
        )


_PATHS = "origin_img_path", "target_img_path"


def _json_file(path: epath.Path) -> epath.Path:
    if not path.is_dir():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".json")
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise DataError(f"{path}: want the JSON file of the pairs; of such files it has {found}")
    return files[0]
