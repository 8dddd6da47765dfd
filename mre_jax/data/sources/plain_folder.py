"""The simplest layout: three folders whose files bear the same names.

original/dog.jpg    edited/dog.png    instruction/dog.txt
"""

import unicodedata
from collections.abc import Iterator, Sequence

from etils import epath

from mre_jax.data.sources.picture import read_picture
from mre_jax.data.sources.source import Keys, attempt
from mre_jax.data.triplets import Triplet, safe_id
from mre_jax.errors import DataError
from mre_jax.io.image import SUFFIXES

_KINDS = "original", "edited", "instruction"


class PlainFolder:
    """Reads such folders; an example's id is made of its files' name without suffix.

    Args:
        path: the folder that holds the three.
        name: name of the set.

    Raises:
        DataError: if a folder is missing, or a name stands in one twice.
    """

    def __init__(self, path: epath.PathLike, *, name: str = "folder"):
        self.name = name
        self.path = str(path)
        self._folder = epath.Path(path)
        original, edited = (self._list(kind, SUFFIXES) for kind in _KINDS[:2])
        instruction = self._list(_KINDS[2], (".txt",))
        self._files = original, edited, instruction
        self._examples = sorted({*original, *edited, *instruction})

    def __len__(self) -> int:
        return len(self._examples)

    def keys(self) -> Keys:
        names = [self._name(key) for key in self._examples]
        return Keys(range(len(names)), len(names), names)

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        for position in positions:
            yield attempt(self._read, self._examples[position])

    def _name(self, key: str) -> str:
        """What the first of its files is called, without suffix."""
        return next(files[key] for files in self._files if key in files).rpartition(".")[0]

    def _read(self, key: str) -> Triplet:
        name = self._name(key)
        where, id_ = f"{self.path}: {name}", safe_id(name)
        for kind, files in zip(_KINDS, self._files, strict=True):
            if key not in files:
                raise DataError(f"{where}: nothing of this name in {kind}")
        original, edited, instruction = (files[key] for files in self._files)
        return Triplet(
            id=id_,
            original_id="" if id_ == name else name,
            original=read_picture(self._folder / "original" / original, where),
            edited=read_picture(self._folder / "edited" / edited, where),
            instruction=_read_line(self._folder / "instruction" / instruction),
            source=self.name,
            where=where,
        )

    def _list(self, kind: str, suffixes: Sequence[str]) -> dict[str, str]:
        """The files of one folder by their names without suffix, in one spelling of accents."""
        folder = self._folder / kind
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder; a plain set has original, edited and instruction"
            )
        files: dict[str, str] = {}
        for path in folder.iterdir():
            stem, dot, suffix = path.name.rpartition(".")
            if not stem.startswith(".") and dot + suffix.lower() in suffixes:
                key = unicodedata.normalize("NFC", stem)
                if key in files:
                    raise DataError(f"{folder}: both {files[key]} and {path.name}; keep one")
                files[key] = path.name
        return files


def _read_line(path: epath.Path) -> str:
    try:
        lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    if not (text := lines.replace("\r", "\n").strip()):
        raise DataError(f"{path}: no instruction in it")
    return text
