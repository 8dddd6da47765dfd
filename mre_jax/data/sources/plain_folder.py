"""The simplest layout: three folders whose files bear the same names.

original/dog.jpg    edited/dog.png    instruction/dog.txt
"""

from collections.abc import Iterator, Sequence

from etils import epath

from mre_jax.data.attempt import attempt
from mre_jax.data.names import safe_id
from mre_jax.data.sources.picture import read_picture
from mre_jax.data.sources.source import Keys
from mre_jax.data.triplets import Triplet
from mre_jax.errors import DataError
from mre_jax.image import SUFFIXES


class PlainFolder:
    """Reads such folders; an example's id is made of its files' name without suffix.

    Args:
        path: the folder that holds the three.
        name: of the set.

    Raises:
        DataError: if a folder is missing, a name is in one but not in another, or stands twice.
    """

    def __init__(self, path: epath.PathLike, *, name: str = "folder"):
        self.name = name
        self.path = str(path)
        self._folder = epath.Path(path)
        original, edited = (self._list(kind, SUFFIXES) for kind in ("original", "edited"))
        instruction = self._list("instruction", (".txt",))
        for kind, files in (("edited", edited), ("instruction", instruction)):
            if differing := sorted(original.keys() ^ files.keys()):
                raise DataError(f"{path}: {differing[0]!r} is not both in original and in {kind}")
        self._instructions = instruction
        self._examples = [(id_, original[id_], edited[id_]) for id_ in sorted(original)]

    def __len__(self) -> int:
        return len(self._examples)

    def keys(self) -> Keys:
        names = [id_ for id_, _, _ in self._examples]
        return Keys(range(len(names)), len(names), names)

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        for position in positions:
            yield attempt(self._read, *self._examples[position])

    def _read(self, name: str, original: str, edited: str) -> Triplet:
        where, id_ = f"{self.path}: {name}", safe_id(name)
        return Triplet(
            id=id_,
            original_id="" if id_ == name else name,
            original=read_picture(self._folder / "original" / original, where),
            edited=read_picture(self._folder / "edited" / edited, where),
            instruction=_read_line(self._folder / "instruction" / self._instructions[name]),
            source=self.name,
            where=where,
        )

    def _list(self, kind: str, suffixes: Sequence[str]) -> dict[str, str]:
        """The files of one folder by their names without suffix."""
        folder = self._folder / kind
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder; a plain set has original, edited and instruction"
            )
        files: dict[str, str] = {}
        for path in folder.iterdir():
            stem, dot, suffix = path.name.rpartition(".")
            if not stem.startswith(".") and dot + suffix.lower() in suffixes:
                if stem in files:
                    raise DataError(f"{folder}: both {files[stem]} and {path.name}; keep one")
                files[stem] = path.name
        return files


def _read_line(path: epath.Path) -> str:
    try:
        text = path.read_text().strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason})") from None
    if not text:
        raise DataError(f"{path}: no instruction in it")
    return text
