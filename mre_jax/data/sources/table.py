"""Triplets from the rows of a table with named columns."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from etils import epath

from mre_jax.data.provenance import Provenance
from mre_jax.data.sources.picture import embedded, read_picture, resolve
from mre_jax.data.sources.rows import Row, Rows, listed
from mre_jax.data.sources.source import Keys, attempt, choose_text, nearest
from mre_jax.data.triplets import Triplet, safe_id
from mre_jax.errors import ConfigError, DataError
from mre_jax.reward.scores import PERSPECTIVES

Columns: TypeAlias = Mapping[str, str | Sequence[str]]
"""The column, or columns, that a field of `Triplet` is read from.

A picture's cell holds its bytes, a struct of bytes and path, base64, or a path. `scores` and
`texts` are one column of lists or three columns; the columns of `id` are joined by "-". Of a list
of instructions each epoch draws one. "images[1]" is the second of a column of lists, "sample.text"
the entry of a column of objects, "turns[0].text" both. `provenance` is a column of objects, which
is read where it is named.
"""


_PATH = re.compile(r"[^.\[\]]+(\.[^.\[\]]+|\[\d+\])*")
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


class Table:
    """A source whose examples are rows.

    Attributes:
        notes: which columns were taken that nobody named.

    Args:
        rows: rows they come from.
        columns: columns of fields that every row must have: `original`, `edited`, `instruction`,
            and maybe others.
        optional: columns of fields that are read where the table has their columns.
        name: name of the set. Without an `id`, an example's is this name and its row number.
        images: where relative picture paths start; by default at the table's folder.
        taken: keys of `columns` that nobody named.

    Raises:
        DataError: if a column is missing.
    """

    def __init__(
        self,
        rows: Rows,
        columns: Columns,
        *,
        optional: Columns | None = None,
        name: str,
        images: epath.PathLike | None = None,
        taken: Mapping[str, str] | None = None,
    ):
        self.name = name
        self.notes = [f"{field} is read from column {c!r}" for field, c in (taken or {}).items()]
        self.path = rows.path
        self._rows = rows
        self._images = rows.folder if images is None else epath.Path(images)
        self._required = {field: _names(value) for field, value in columns.items()}
        self._optional = {
            field: names
            for field, value in (optional or {}).items()
            if field not in columns and _any_of(names := _names(value), rows.columns)
        }
        for field, names in (self._required | self._optional).items():
            _check(field, names, rows.columns, rows.path)
        every = [name for names in (self._required | self._optional).values() for name in names]
        self._steps = {name: _steps(name, rows.columns) for name in every}

    def __len__(self) -> int:
        return len(self._rows)

    def keys(self) -> Keys:
        rows = range(len(self))
        fields = self._required | self._optional
        if "id" not in fields:
            return Keys(rows, len(rows))
        found = zip(self._rows.read(rows, self._columns(fields["id"])), rows, strict=True)
        names = [self._name(row, number) for row, number in found]
        return Keys(rows, len(rows), names)

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        columns = self._columns(self._steps)
        rows = self._rows.read(positions, columns)
        for position, row in zip(positions, rows, strict=True):
            yield row if isinstance(row, DataError) else attempt(self._triplet, *row, position)

    def _columns(self, names: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(self._steps[name][0] for name in names))

    def _name(self, row: Row | DataError, position: int) -> str:
        """What a reward may call a row; a bad one, which `read` names, has only its number."""
        name = row if isinstance(row, DataError) else attempt(self._id, row[1], row[0], position)
        return f"{self.name}-{position:07d}" if isinstance(name, DataError) else name

    def _triplet(self, where: str, row: Mapping[str, Any], position: int) -> Triplet:
        scores, name = self._scores(row, where), self._id(row, where, position)
        id_ = safe_id(name)
        instruction, several = choose_text(self._cell(row, "instruction", where), 0, name)
        return Triplet(
            id=id_,
            original_id="" if id_ == name else name,
            original=self._picture(row, "original", where),
            edited=self._picture(row, "edited", where),
            instruction=instruction,
            instructions=several,
            original_caption=self._cell(row, "original_caption", where),
            edited_caption=self._cell(row, "edited_caption", where),
            scores=scores,
            texts=self._texts(row, where, judged=scores is not None),
            source=self.name,
            provenance=self._provenance(row, where),
            where=where,
        )

    def _cells(self, row: Mapping[str, Any], field: str, where: str) -> list[Any] | None:
        """The cells of a field, none of them empty; None for an optional field without any."""
        names = self._required.get(field) or self._optional.get(field, ())
        cells = [_walk(row, name, self._steps[name]) for name in names]
        missing = [name for name, cell in zip(names, cells, strict=True) if cell is None]
        if missing and (field in self._required or len(missing) < len(names)):
            raise DataError(f"{where}: nothing in column {missing[0]!r}")
        return None if missing or not names else cells

    def _cell(self, row: Mapping[str, Any], field: str, where: str) -> Any:
        cells = self._cells(row, field, where)
        return None if cells is None else cells[0]

    def _id(self, row: Mapping[str, Any], where: str, position: int) -> str:
        cells = self._cells(row, "id", where)
        if cells is None:
            return f"{self.name}-{position:07d}"
        for cell in cells:
            if isinstance(cell, bool) or not isinstance(cell, str | int):
                raise DataError(f"{where}: id {cell!r} is neither a text nor an integer")
        return "-".join(map(str, cells))

    def _picture(self, row: Mapping[str, Any], field: str, where: str) -> bytes:
        match self._cell(row, field, where):
            case bytes(data) | {"bytes": bytes(data)}:
                return data
            case str(text) if (found := embedded(text)) is not None:
                return found
            case str(path) | {"path": str(path)} if path:
                return read_picture(resolve(path, self._images, where), where)
        (name,) = self._required[field]
        raise DataError(f"{where}: column {name!r} holds neither a picture nor a path")

    def _provenance(self, row: Mapping[str, Any], where: str) -> Provenance | None:
        cell = self._cell(row, "provenance", where)
        return None if cell is None else Provenance.from_json(cell, where)

    def _scores(self, row: Mapping[str, Any], where: str) -> Any:
        """The scores from one cell or three; checked by `Triplet`, as the texts are."""
        cells = self._cells(row, "scores", where)
        if cells is None or len(cells) == 1:
            return cells and cells[0]
        return [_number(cell) for cell in cells]

    def _texts(self, row: Mapping[str, Any], where: str, *, judged: bool) -> Any:
        """The texts from one cell or three; of a judged example, an empty cell is a text."""
        names = self._required.get("texts") or self._optional.get("texts", ())
        found = [_walk(row, name, self._steps[name]) for name in names]
        if len(names) < len(PERSPECTIVES) or not any(name in row for name in names):
            return self._cell(row, "texts", where)
        cells = ["" if cell is None else cell for cell in found]
        return cells if judged or any(cells) else None


def _names(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _any_of(names: Sequence[str], columns: Sequence[str] | None) -> bool:
    return columns is None or any(name in columns for name in names)


def _check(field: str, names: Sequence[str], columns: Sequence[str] | None, path: str) -> None:
    counts = (1, len(PERSPECTIVES)) if field in ("scores", "texts") else (1,)
    if field != "id" and len(names) not in counts:
        want = " or ".join(map(str, counts))
        raise ConfigError(f"columns: {field} is read from {want} of them, not {len(names)}")
    for name in names:
        if columns is not None and _steps(name, columns)[0] not in columns:
            near = nearest(name, columns)
            raise DataError(f"{path}: no column {name!r}{near}; it has {listed(columns)}")


def _steps(name: str, columns: Sequence[str] | None) -> tuple[Any, ...]:
    """The column, and the way into its cells, that a name such as "images[1]" means."""
    if name in (columns or ()) or not _PATH.fullmatch(name):
        return (name,)
    return tuple(int(index) if index else entry for index, entry in _STEP.findall(name))


def _walk(row: Mapping[str, Any], name: str, steps: Sequence[Any]) -> Any:
    """A cell, or what the steps behind the first lead to in it; None if there is nothing."""
    if name in row:
        return row[name]
    cell = row.get(steps[0])
    for step in steps[1:]:
        if isinstance(step, int):
            cell = cell[step] if isinstance(cell, list) and step < len(cell) else None
        else:
            cell = cell.get(step) if isinstance(cell, dict) else None
    return cell


def _number(cell: Any) -> Any:
    """A CSV cell as the number it spells; anything else as it is."""
    if not isinstance(cell, str):
        return cell
    try:
        number = float(cell)
    except ValueError:
        return cell
    return int(number) if math.isfinite(number) and number.is_integer() else number
