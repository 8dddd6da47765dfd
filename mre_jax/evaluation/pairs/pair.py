"""Edits that were evaluated already, and the pairs that a judge compares."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from etils import epath

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import Result, read_results, results_file


@dataclasses.dataclass(frozen=True)
class Edit:
    """One edit of a system.

    Attributes:
        row: any of its rows in the results.
        original, edited: its pictures.
    """

    row: Result
    original: Path
    edited: Path

    @property
    def side(self) -> str:
        """Whose it is: the system and its reward."""
        return self.row.side


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two edits of one item, in the order they are shown in."""

    first: Edit
    second: Edit

    @property
    def name(self) -> str:
        """What journals call it; each order has its own."""
        row = self.first.row
        return f"{row.suite} {row.item}: {self.first.side} before {self.second.side}"

    @property
    def swapped(self) -> "Pair":
        """The same in the other order."""
        return Pair(self.second, self.first)


Edits = dict[tuple[str, str], dict[str, Edit]]
"""By suite and item, then by system with its reward."""


def read_edits(paths: Sequence[epath.PathLike], suite: str | None = None) -> Edits:
    """Every edit that the rows of results tell of, in their order.

    Args:
        paths: files or folders of `mre evaluate`.
        suite: the only one that counts.

    Raises:
        DataError: as `read_results`; or if there is no edit, or a picture of one is missing, or two
            files tell of different pictures of one edit.
    """
    found: Edits = {}
    for path in paths:
        if "://" in str(path):
            raise DataError(
                f"{path}: pictures are sought beside the results; copy their folder to a local disk"
            )
        folder = Path(results_file(path)).parent
        for row in read_results(path):
            if row.edited and row.original and suite in (None, row.suite):
                edit = Edit(row, folder / row.original, folder / row.edited)
                of_item = found.setdefault((row.suite, row.item), {})
                if row.side in of_item:
                    _check_same(of_item[row.side], edit)
                else:
                    of_item[row.side] = _there(edit)
    if not found:
        of = f" of {suite}" if suite else ""
        raise DataError(f"{', '.join(map(str, paths))}: no edits{of} in it")
    return found


def _check_same(known: Edit, edit: Edit) -> None:
    if known.edited.resolve() != edit.edited.resolve():
        raise DataError(
            f"item {edit.row.item}: {edit.side} has two edits, {known.edited} and {edit.edited}; "
            "name the results of one of them"
        )


def _there(edit: Edit) -> Edit:
    for picture in (edit.original, edit.edited):
        if not picture.is_file():
            raise DataError(f"item {edit.row.item} of {edit.side}: no picture {picture}")
    return edit


def choose_systems(edits: Edits, systems: Sequence[str]) -> list[str]:
    """The systems to compare: those named, "SYSTEM" for all its rewards; by default all.

    Raises:
        ConfigError: if one is not there, or there are fewer than two.
    """
    known = {edit.side: edit.row.system for of in edits.values() for edit in of.values()}
    chosen = []
    for name in systems or known:
        found = [side for side, system in known.items() if name in (side, system)]
        if not found:
            raise ConfigError(f"--systems {name}: not in these results; there are {_list(known)}")
        chosen += found
    chosen = list(dict.fromkeys(chosen))
    if len(chosen) < 2:
        raise ConfigError(f"only {_list(chosen)} to compare; want two systems or more")
    return chosen


def choose_items(edits: Edits, count: int | None, seed: int) -> Edits:
    """So many items of each suite, drawn by their names: the same for all systems and judges."""
    if count is None:
        return edits

    def draw(key: tuple[str, str]) -> bytes:
        return hashlib.sha256(f"{seed} {key[1]}".encode()).digest()

    kept: set[tuple[str, str]] = set()
    for suite in {suite for suite, _ in edits}:
        kept |= set(sorted((key for key in edits if key[0] == suite), key=draw)[:count])
    return {key: of for key, of in edits.items() if key in kept}


def pairs_of(edits: Edits, systems: Sequence[str], baseline: str = "") -> Iterator[Pair]:
    """Every pair of edits of one item, item by item.

    Args:
        systems: whose edits are paired.
        baseline: only pairs with an edit of this system.
    """
    for of_item in edits.values():
        there = [of_item[name] for name in systems if name in of_item]
        for first, second in itertools.combinations(there, 2):
            if not baseline or baseline in (first.side, second.side):
                yield Pair(first, second)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
