"""The rows of one suite in order: who was measured, in what, on which items."""

import collections
import dataclasses
from collections.abc import Sequence

from mre_jax.errors import ConfigError
from mre_jax.evaluation.provenance import check_comparable, comparable
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.compare import (
    Difference,
    Summary,
    WinRate,
    compare,
    has_answers,
    summarize,
    win_rate,
)
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.statistics.ranking import Ranked, overall, rank_systems
from mre_jax.evaluation.statistics.summary import rank
from mre_jax.evaluation.tables.fill import WHOLE_SET
from mre_jax.reward.scores import PERSPECTIVES


@dataclasses.dataclass(frozen=True, order=True)
class Variant:
    """One editor as it was asked: a column of pictures, a line of a table."""

    system: str
    condition: str

    @property
    def label(self) -> str:
        """As "reward 5,5,5"."""
        return f"{self.system} {self.condition}".strip()

    @property
    def asked(self) -> tuple[float, ...] | None:
        """The three scores that were asked for, or None."""
        parts = self.condition.split(",")
        try:
            scores = tuple(float(part) for part in parts)
        except ValueError:
            return None
        return scores if len(scores) == len(PERSPECTIVES) else None


class Scores:
    """The rows of one suite by one judge, or by people, and what they amount to.

    Args:
        bootstrap: for the intervals.
        apart: systems may have been judged in different ways; see `provenance.side_by_side`.

    Attributes:
        suite: its name.
        people: whether people scored.
        rows: all of them.
        variants: in the order they first appear; of one system by ascending reward.
        metrics: the perspectives first, then others as they appear.
        kinds: types of instruction, in the paper's order; none if the suite has none.
        items: item names in the order of the rows, without those that stand for a whole set.

    Raises:
        DataError: if rows of one metric are of different judges, prompts or networks.
    """

    def __init__(
        self,
        suite: str,
        rows: Sequence[Result],
        bootstrap: Bootstrap | None = None,
        *,
        apart: bool = False,
    ) -> None:
        check_comparable(rows, apart=apart)
        self.suite, self.rows = suite, rows
        self.people = any(row.people for row in rows)
        self._bootstrap = bootstrap or Bootstrap()
        self.variants = _variants(rows)
        names = list(dict.fromkeys(row.metric for row in rows))
        self.perspectives = [name for name in PERSPECTIVES if name in names]
        self.metrics = self.perspectives + [name for name in names if name not in PERSPECTIVES]
        # Judges answer in no order, and a reader wants always the same.
        self.kinds = sorted({row.kind for row in rows if row.kind}, key=rank)
        self.items = list(dict.fromkeys(row.item for row in rows if is_one_edit(row)))
        self._series: dict[tuple[Variant, str], list[Result]] = collections.defaultdict(list)
        for row in rows:
            self._series[Variant(row.system, row.condition), row.metric].append(row)
        self._summaries: dict[tuple[Variant, str], Summary] = {}

    @property
    def name(self) -> str:
        """The suite, and whether people scored."""
        return f"{self.suite}, by people" if self.people else self.suite

    def series(self, variant: Variant, metric: str) -> list[Result]:
        """The rows of one variant and metric; none if it was not measured."""
        return self._series.get((variant, metric), [])

    def rows_of(self, *variants: Variant) -> list[Result]:
        """All rows of some variants."""
        return [row for row in self.rows if Variant(row.system, row.condition) in variants]

    def summary(self, variant: Variant, metric: str) -> Summary | None:
        """Mean, interval and coverage; None if this was not measured."""
        rows = self.series(variant, metric)
        if rows and (variant, metric) not in self._summaries:
            self._summaries[variant, metric] = summarize(rows, self._bootstrap)
        return self._summaries.get((variant, metric))

    def difference(
        self, first: Variant, second: Variant, metric: str, *, accuracy: bool = False
    ) -> Difference | None:
        """First less second on the items both have.

        Args:
            accuracy: take the shares of yes, rather than the scores.

        Returns:
            None if the items are of fewer than two groups, were not measured in one way, or lack
            the yes or no that is asked for.
        """
        ours, theirs = self.series(first, metric), self.series(second, metric)
        if not comparable([*ours, *theirs]):
            return None
        scored = {row.item for row in theirs if row.status == "ok"}
        groups = {row.group for row in ours if row.status == "ok" and row.item in scored}
        if len(groups) < 2 or (accuracy and not has_answers([*ours, *theirs])):
            return None
        return compare(ours, theirs, self._bootstrap, accuracy=accuracy)

    def ranking(self) -> list[Ranked]:
        """The systems by the mean of the perspectives; none if these were not judged in one way."""
        judged = [row for row in self.rows if row.metric in self.perspectives]
        if not judged or not comparable(judged):
            return []
        return rank_systems(overall(judged), self._bootstrap)

    @property
    def has_answers(self) -> bool:
        """Whether every score in a perspective comes with a yes or no."""
        return has_answers([row for row in self.rows if row.metric in self.perspectives])

    @property
    def groups(self) -> int:
        """How many pictures the items are of."""
        return len({row.group for row in self.rows if is_one_edit(row)})

    def win_rate(self, first: Variant, second: Variant, metric: str) -> WinRate:
        """How often the first has the higher score.

        Raises:
            DataError: if the two share no item.
        """
        ours, theirs = self.series(first, metric), self.series(second, metric)
        return win_rate(ours, theirs, self._bootstrap)


def by_suite(
    rows: Sequence[Result], bootstrap: Bootstrap | None = None, *, apart: bool = False
) -> list[Scores]:
    """The rows of each suite, those of people after the others, in the order the suites appear."""
    suites: dict[str, dict[bool, list[Result]]] = collections.defaultdict(dict)
    for row in rows:
        suites[row.suite].setdefault(row.people, []).append(row)
    return [
        Scores(suite, judges[people], bootstrap, apart=apart)
        for suite, judges in suites.items()
        for people in sorted(judges)
    ]


def find_variant(variants: Sequence[Variant], name: str) -> Variant:
    """The variant that a user calls "reward 5,5,5", "reward:5,5,5", or by its system alone.

    Raises:
        ConfigError: if there is none, or more than one, naming those there are.
    """
    for variant in variants:
        if name in (variant.label, f"{variant.system}:{variant.condition}"):
            return variant
    found = [variant for variant in variants if variant.system == name]
    if len(found) == 1:
        return found[0]
    known = ", ".join(repr(variant.label) for variant in found or variants)
    problem = "is more than one" if found else "is not in these results"
    raise ConfigError(f"{name!r} {problem}; there are {known}")


def is_one_edit(row: Result) -> bool:
    """Whether a row is of one edit, and not of a whole set as an FID is."""
    return row.item != WHOLE_SET


def _variants(rows: Sequence[Result]) -> list[Variant]:
    found = list(dict.fromkeys(Variant(row.system, row.condition) for row in rows))
    systems = list(dict.fromkeys(variant.system for variant in found))
    return sorted(found, key=lambda one: (systems.index(one.system), *_by_reward(one)))


def _by_reward(variant: Variant) -> tuple[int, tuple[float, ...]]:
    """Sorts: no reward; the same in all perspectives, ascending; then 5,0,0 and 0,5,0."""
    if variant.asked is None:
        return 0, ()
    if len(set(variant.asked)) == 1:
        return 1, variant.asked
    return 2, tuple(-score for score in variant.asked)
