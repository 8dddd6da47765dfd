"""The edits that a reader sees first: of each type of instruction the one that says most."""

import collections
import dataclasses
from collections.abc import Sequence

from mre_jax.demo.systems import BASELINE, BEST, GUIDED, REWARD, WORST
from mre_jax.evaluation.results import Result
from mre_jax.reward.edit_types import EDIT_TYPES

SHOWN: tuple[tuple[str, str, str], ...] = (
    ("no reward", BASELINE, ""),
    ("asked 0,0,0", REWARD, WORST),
    ("asked 5,5,5", REWARD, BEST),
    ("guided", GUIDED, BEST),
)
"""Name, system and condition of the edits that stand side by side."""


@dataclasses.dataclass(frozen=True)
class Telling:
    """One instruction, and what each editor made of it.

    Attributes:
        row: one of its rows.
        edits: rows by metric of each of `SHOWN`.
    """

    row: Result
    edits: Sequence[dict[str, Result]]


def telling_edits(rows: Sequence[Result]) -> list[Telling]:
    """One of each type, in the order of types, that all of `SHOWN` have edited.

    Of a type it is the edit whose scores, asked for 5,5,5, are highest and furthest above those
    asked for 0,0,0 and without rewards, each counted alike. Whoever shows them must say that they
    are chosen.
    """
    by_item: dict[str, dict[tuple[str, str], dict[str, Result]]] = collections.defaultdict(dict)
    for row in rows:
        if row.suite == "real-edit" and row.value is not None:
            by_item[row.item].setdefault((row.system, row.condition), {})[row.metric] = row
    whole = []
    for found in by_item.values():
        edits = [found.get((system, condition)) for _, system, condition in SHOWN]
        if all(edits):
            made = [edit for edit in edits if edit]
            whole.append(Telling(next(iter(made[0].values())), made))
    chosen = []
    for kind in EDIT_TYPES:
        if of_kind := [one for one in whole if one.row.kind == kind]:
            chosen.append(max(of_kind, key=_worth))
    return chosen


def _worth(one: Telling) -> float:
    without, worst, best, _ = map(_mean, one.edits)
    return 3 * best - worst - without


def _mean(edit: dict[str, Result]) -> float:
    values = [row.value for row in edit.values() if row.value is not None]
    return sum(values) / len(values)
