"""What `mre statistics` is asked for, and its answer as lines of text."""

import dataclasses
from collections.abc import Sequence

from etils import epath

from mre_jax.errors import ConfigError
from mre_jax.evaluation.results import Result, ResultsSpec, read_results, select
from mre_jax.evaluation.statistics.agreement import ratings_in
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.statistics.pairs import pair_lines
from mre_jax.evaluation.statistics.summary import (
    compare_lines,
    consistency_lines,
    correlation_lines,
    ranking_lines,
    reliability_lines,
    subset_lines,
    summary_lines,
)
from mre_jax.judges.others.ratings import Rating, read_ratings

_PEOPLE = ""
"""`correlate` and `agreement` of the people in the results themselves."""


@dataclasses.dataclass(frozen=True)
class StatisticsSpec(ResultsSpec):
    """Means with intervals, differences, and how judges agree.

    Attributes:
        types: also by type of instruction.
        compare: the first less each of the others, on the items both have: scores, accuracy, win
            rate; p is given as it is and corrected for all of these by Holm's method.
        ranking: systems in the order of their means, with the ranks that draws of the photos give.
        correlate: another judge's results of the same edits; without FILE, people's in the results.
        repeats: the same judge's results, asked again.
        agreement: a table of several people's scores, as --judge human: takes it; without FILE,
            people's scores in the results.
        draws: resampled sets of groups.
        seed: seed of the draws.

    Example:
        >>> from mre_jax.evaluation.results import Result, append_results
        >>> for item, score in (("1", 3.0), ("2", 4.0)):
        ...     edit = ("ours", "5,5,5", "real-edit", item, f"{item}.png", "Local")
        ...     append_results("results.jsonl", [Result(*edit, "quality", score)])
        >>> for line in StatisticsSpec(("results.jsonl",), draws=100).lines():
        ...     print(line)
        real-edit ours 5,5,5: quality 3.5 [0, 5] (2/2)
        Only 2 groups: intervals of fewer than 20 are Student's t over the groups, or that ...
    """

    types: bool = False
    compare: tuple[str, ...] = dataclasses.field(
        default=(), metadata={"nargs": "+", "metavar": "SYSTEM[@REWARD]"}
    )
    ranking: bool = False
    correlate: epath.PathLike | None = dataclasses.field(
        default=None, metadata={"nargs": "?", "const": _PEOPLE, "metavar": "FILE"}
    )
    repeats: tuple[epath.PathLike, ...] = dataclasses.field(
        default=(), metadata={"nargs": "+", "metavar": "FILE"}
    )
    agreement: epath.PathLike | None = dataclasses.field(
        default=None, metadata={"nargs": "?", "const": _PEOPLE, "metavar": "FILE"}
    )
    draws: int = Bootstrap.draws
    seed: int = 0

    def lines(self) -> list[str]:
        """All that is asked for, by default the means of everything.

        Raises:
            MreError: if there are no results, or they do not have what is asked for.
        """
        rows = self.read() if self.results or not self.agreement else []
        bootstrap = Bootstrap(self.draws, self.seed)
        lines: list[str] = []
        if self.compare:
            lines += compare_lines(rows, *self.compare, bootstrap=bootstrap)
        if self.ranking:
            lines += ranking_lines(rows, bootstrap)
        if self.correlate is not None:
            lines += correlation_lines(*self._judges(rows), bootstrap)
        if self.repeats:
            lines += consistency_lines([rows, *(read_results(path) for path in self.repeats)])
        if self.agreement is not None:
            ratings = read_ratings(self.agreement) if self.agreement else self._ratings(rows)
            lines += reliability_lines(ratings, rows, bootstrap)
        if lines:
            return lines
        return [
            *summary_lines(rows, bootstrap, types=self.types),
            *subset_lines(rows, bootstrap),
            *pair_lines(self.read_pairs(), bootstrap),
        ]

    def _ratings(self, rows: Sequence[Result]) -> list[Rating]:
        """What the annotators in the results said."""
        if found := ratings_in(rows):
            return found
        raise ConfigError(
            "--agreement without FILE: the results hold no scores of single annotators; give the "
            "table, or judge by it again"
        )

    def _judges(self, rows: Sequence[Result]) -> tuple[Sequence[Result], Sequence[Result]]:
        """The two sides of `correlate`."""
        if self.correlate and self.correlate != _PEOPLE:
            return rows, read_results(self.correlate)
        people, others = select(rows, people=True), select(rows, people=False)
        if not people or not others:
            raise ConfigError(
                "--correlate without FILE: the results want both people's scores and a judge's"
            )
        return people, others
