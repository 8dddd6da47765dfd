"""The results file of an output folder, which runs fill and go on filling."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from etils import epath

from mre_jax.errors import DataError
from mre_jax.evaluation.provenance import ORIGIN, difference, shown
from mre_jax.evaluation.results import (
    FILE,
    WHOLE_SET,
    Result,
    append_results,
    read_rows,
    without_repetition,
)
from mre_jax.io.files import locked, write_atomically
from mre_jax.io.json_file import to_line
from mre_jax.judges.settings import Difference


class ResultsFile:
    """A file of rows that runs fill and fill up, as a context manager; one process writes it.

    A row that is there already is not written again. One that has changed since, because the item
    had no value then or another picture, replaces the old one when the block is left.

    Args:
        path: place of the file; made if it is not there.

    Attributes:
        rows: all rows, by key.

    Raises:
        DataError: as `read_results`.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        found = without_repetition(read_rows(epath.Path(path)) if self.path.exists() else [])
        self.rows = {row.key: row for row in found}
        self._changed = False

    def add(self, rows: Sequence[Result]) -> None:
        """Takes rows in; new ones are on the disk when it returns.

        Raises:
            DataError: if a value is there that another judge, prompt, network or checkpoint made.
        """
        new = []
        for row in rows:
            old = self.rows.get(row.key)
            if old == row:
                continue
            if old is None:
                new.append(row)
            else:
                self._check_same_origin(old, row)
                self._changed = True
            self.rows[row.key] = row
        append_results(self.path, new)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._changed:
            write_atomically(
                self.path, "".join(to_line(row.to_json()) for row in self.rows.values())
            )

    def check_settings(self, planned: Sequence[Result]) -> None:
        """Refuses what `add` would refuse of another measurement, before it is made.

        Args:
            planned: a row a metric, without a value; whoever measures it may not be known yet.

        Raises:
            DataError: as `add`.
        """
        plans = {_without_item(row): row for row in planned}
        for old in self.rows.values():
            plan = plans.get(_without_item(old))
            if plan is not None and old.status == "ok":
                unplanned = old.provenance.keys() - plan.provenance
                self._refuse(old, plan, _origin_changed(old, plan, ["measure", *unplanned]))

    def _check_same_origin(self, old: Result, new: Result) -> None:
        if old.status == "ok" and new.status == "ok":
            but = ["measure"] * (old.item == WHOLE_SET)
            found = _origin_changed(old, new, but)
            if found is None and new.provenance and not old.provenance:
                found = _value_changed(old, new)
            self._refuse(old, new, found)

    def _refuse(self, old: Result, new: Result, found: Difference | None) -> None:
        if found:
            there, here = shown(found)
            raise DataError(
                f"{self.path}: item {old.item}, {new.metric} of {new.system} is there with "
                f"{found.field} {there}, not {here}; measure it with the same, "
                "or take another --out, or another --system name"
            )


@contextlib.contextmanager
def opened(out: epath.PathLike, name: str = FILE) -> Iterator[ResultsFile]:
    """The results file of an output folder, for one process at a time.

    Args:
        name: which, as `PAIRS`.

    Raises:
        BusyError: if another process is at it.
        DataError: if the file is damaged.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, ".lock-evaluate"), ResultsFile(folder / name) as results:
        yield results


def _without_item(row: Result) -> tuple[str, ...]:
    """What the rows of one series share."""
    return *row.key[:3], *row.key[4:]


def _origin_changed(old: Result, new: Result, but: Sequence[str]) -> Difference | None:
    if old.checkpoint != new.checkpoint:
        return Difference("checkpoint", old.checkpoint, new.checkpoint)
    for field in ORIGIN:
        one, other = old.provenance.get(field), new.provenance.get(field)
        if one != other:
            return Difference(field, one, other)
    if old.provenance:
        return difference(old, new, but)
    unknown = [*but, *new.provenance]  # an old file's row, which its value may confirm
    return difference(old, new, unknown)


def _value_changed(old: Result, new: Result) -> Difference | None:
    """What shows that a row without provenance is not of the same settings."""
    if (old.value, old.passed) == (new.value, new.passed):
        return None
    return Difference("no settings recorded and value", old.value, new.value)
