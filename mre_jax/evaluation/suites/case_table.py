"""Benchmarks that come as a table: a row an edit, the picture in it or beside it.

Any table that `mre prepare` reads, on a disk or in a bucket. Pictures are written out once, so that
editors, judges and reports find them as files.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from mre_jax.data.sources.picture import embedded, read_picture, resolve
from mre_jax.data.sources.plain_table import open_rows
from mre_jax.data.sources.source import strict
from mre_jax.data.triplets import safe_name
from mre_jax.errors import DataError
from mre_jax.evaluation.case import Case, check_cases
from mre_jax.io.files import write_atomically
from mre_jax.io.image import decode_image

Where = tuple[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where a case is read from; each a column, or several of which the first that is there.

    Attributes:
        id, instruction, picture: must be there.
        kind: type of the instruction.
        captions: by the names of `Case.captions`.
    """

    id: tuple[str, ...]
    instruction: tuple[str, ...]
    picture: tuple[str, ...]
    kind: tuple[str, ...]
    captions: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def read_rows(path: epath.PathLike, split: str | None = None) -> Iterator[Where]:
    """The rows of a table with the file and row they are of.

    Raises:
        DataError: if the file is missing, damaged, or of another kind.
    """
    rows = open_rows(path, split if epath.Path(path).is_dir() else None)
    return strict(rows.read(range(len(rows)), rows.columns or ()))


def read_cases(
    rows: Iterator[Where], path: epath.PathLike, columns: Columns, pictures: Path
) -> list[Case]:
    """A case of every row.

    Args:
        rows: rows of `read_rows`, or some of them.
        path: place of the table; pictures are sought beside it.
        pictures: folder to write pictures to that the table holds.

    Raises:
        DataError: naming the row that lacks something, or as `check_cases`.
    """
    table = epath.Path(path)
    folder = table if table.is_dir() else table.parent
    return check_cases([_case(*row, columns, folder, pictures) for row in rows], path)


def write_picture(data: bytes, folder: Path, name: str, where: str) -> Path:
    """Writes the bytes of a picture file under `name` and its format's suffix, unless it is there.

    Raises:
        DataError: if they are no picture.
    """
    path = folder / f"{name}.{_suffix(data, where)}"
    if not path.is_file() or path.stat().st_size != len(data):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    return path


def _case(
    where: str, row: Mapping[str, Any], columns: Columns, folder: epath.Path, pictures: Path
) -> Case:
    id_ = safe_name(_text(row, columns.id, where))
    return Case(
        id=id_,
        group=id_,
        kind=str(first_cell(row, columns.kind) or ""),
        instruction=_text(row, columns.instruction, where),
        original=_picture(row, columns.picture, where, folder, pictures / id_),
        captions={name: _text(row, names, where) for name, names in columns.captions.items()},
    )


def first_cell(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """What the first of these columns that is there holds; None without any."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def _text(row: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    cell = first_cell(row, names)
    if cell is None or isinstance(cell, bool) or not isinstance(cell, str | int):
        raise DataError(f"{where}: no text in column {' or '.join(map(repr, names))}")
    return str(cell)


def _picture(
    row: Mapping[str, Any], names: Sequence[str], where: str, folder: epath.Path, target: Path
) -> Path:
    match first_cell(row, names):
        case bytes(data) | {"bytes": bytes(data)}:
            return write_picture(data, target.parent, target.name, where)
        case str(text) if (found := embedded(text)) is not None:
            return write_picture(found, target.parent, target.name, where)
        case str(path) | {"path": str(path)} if path:
            file = resolve(path, folder, where)
            data = read_picture(file, where)
            if "://" in str(file) or not file.exists():  # its accents are spelt otherwise there
                return write_picture(data, target.parent, target.name, where)
            return Path(file)
    raise DataError(f"{where}: no picture in column {' or '.join(map(repr, names))}")


def _suffix(data: bytes, where: str) -> str:
    for start, suffix in _STARTS.items():
        if data.startswith(start):
            return suffix
    decode_image(data, where)  # says what it is not
    return "img"


_STARTS = {b"\x89PNG": "png", b"\xff\xd8": "jpg", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp"}
