"""What people say of edits: which of two is better, and scores."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from etils import epath

from mre_jax.errors import DataError
from mre_jax.evaluation.case import Case
from mre_jax.evaluation.pairs.pair import Edit, Pair, read_edits
from mre_jax.judges.others.ratings import read_ratings

OVERALL = "overall"
"""The perspective of what people say of an edit as a whole."""


@dataclasses.dataclass(frozen=True)
class Preference:
    """Which of two edits people prefer.

    Attributes:
        pair: the edits.
        perspective: in what: "following", "preserving", "quality" or `OVERALL`.
        points: 1 for the first, 0 for the second, 0.5 for neither.
    """

    pair: Pair
    perspective: str
    points: float

    @property
    def group(self) -> str:
        """The picture, which intervals are over."""
        return self.pair.first.row.group


@dataclasses.dataclass(frozen=True)
class HumanSet:
    """A set of people's judgements.

    Attributes:
        name: what tables call it.
        preferences: about pairs of edits.
        scores: people's mean score of edits, by the edit's name (`edit_name`) and perspective; none
            if people have only said which is better.
    """

    name: str
    preferences: Sequence[Preference]
    scores: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=dict)

    @property
    def perspectives(self) -> list[str]:
        """Those that people were asked for."""
        named = [one.perspective for one in self.preferences]
        return list(dict.fromkeys([*named, *(perspective for _, perspective in self.scores)]))

    @property
    def pairs(self) -> list[Pair]:
        """Every pair once, whatever perspectives it is compared in."""
        found: dict[tuple[str, frozenset[str]], Pair] = {}
        for one in self.preferences:
            found.setdefault(pair_name(one.pair), one.pair)
        return list(found.values())

    @property
    def edits(self) -> dict[str, Edit]:
        """Every edit once, by its name."""
        both = [edit for one in self.preferences for edit in (one.pair.first, one.pair.second)]
        return {edit_name(edit): edit for edit in both}

    def first(self, count: int | None) -> "HumanSet":
        """The set of the first so many pairs of it."""
        if count is None:
            return self
        names = {pair_name(pair) for pair in self.pairs[:count]}
        kept = [one for one in self.preferences if pair_name(one.pair) in names]
        return dataclasses.replace(self, preferences=kept)


def edit_name(edit: Edit) -> str:
    """What an edit is called as the item of a judge."""
    return f"{edit.row.item} {edit.side}"


def pair_name(pair: Pair) -> tuple[str, frozenset[str]]:
    """What a pair is called, in whichever order its edits are shown."""
    return pair.first.row.item, frozenset((pair.first.side, pair.second.side))


def cases_of(edits: Mapping[str, Edit]) -> list[Case]:
    """The edits as cases of a benchmark of their own, each an item."""
    return [
        Case(
            id=name,
            group=edit.row.group,
            kind=edit.row.kind,
            instruction=edit.row.instruction,
            original=edit.original,
        )
        for name, edit in edits.items()
    ]


def read_people(
    path: epath.PathLike, results: Sequence[epath.PathLike], suite: str | None = None
) -> HumanSet:
    """People's scores of edits that were evaluated: of two, the one with the higher mean is better.

    Args:
        path: a table that `read_ratings` reads, with a column `system`.
        results: files or folders of `mre evaluate`, which say where the edits are.
        suite: the one that people scored, if the results have several.

    Raises:
        DataError: as `read_ratings` and `read_edits`; or if no two scored edits are of one item.
    """
    given: dict[tuple[str, str, str], list[float]] = collections.defaultdict(list)
    for rating in read_ratings(path):
        given[rating.item, rating.system, rating.perspective].append(float(rating.score))
    edits = {
        (item, side): edit
        for (_, item), of_item in read_edits(results, suite).items()
        for side, edit in of_item.items()
    }
    means = {
        (edits[item, side], perspective): float(np.mean(scores))
        for (item, side, perspective), scores in given.items()
        if (item, side) in edits
    }
    preferences = _preferences(means)
    if not preferences:
        raise DataError(
            f"{path}: no two systems of these results have scores of one item; its columns item "
            "and system must be as in the results"
        )
    scores = {(edit_name(edit), name): score for (edit, name), score in means.items()}
    return HumanSet(epath.Path(path).name, preferences, scores)


def _preferences(means: Mapping[tuple[Edit, str], float]) -> list[Preference]:
    series: dict[tuple[str, str], list[Edit]] = collections.defaultdict(list)
    for edit, perspective in means:
        series[edit.row.item, perspective].append(edit)
    return [
        Preference(Pair(a, b), perspective, _points(means[a, perspective], means[b, perspective]))
        for (_, perspective), edits in series.items()
        for a, b in itertools.combinations(edits, 2)
    ]


def _points(one: float, other: float) -> float:
    return 0.5 if abs(one - other) < 1e-9 else float(one > other)


def check_pairs(preferences: Iterable[Preference], where: str) -> list[Preference]:
    """The preferences.

    Raises:
        DataError: if there is none.
    """
    found = list(preferences)
    if not found:
        raise DataError(f"{where}: no pair in it")
    return found
