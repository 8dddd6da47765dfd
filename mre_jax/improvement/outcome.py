"""What rounds come to: held-out scores, their rises, and the lineage of what was trained on."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from mre_jax.errors import DataError
from mre_jax.evaluation.results import Result, select
from mre_jax.evaluation.statistics.compare import Difference, compare, summarize
from mre_jax.io.json_file import read_object
from mre_jax.reward.scores import PERSPECTIVES

START = "start"
OVERALL = "overall"
"""The mean of an edit's scores in all perspectives, as a metric."""


@dataclasses.dataclass(frozen=True)
class RoundResult:
    """What a round came to, as `round.json` holds it.

    Attributes:
        round: from 1.
        own_edits: own edits of this round that have a reward.
        own_share: share of all rounds' own edits among what was trained on.
        rise: of the mean held-out score over the round before.
        low, high: 95 % interval of it; None where all scores are as they were.
        usd: what the judge of the loop has cost by then, in US dollars.
    """

    round: int
    own_edits: int
    own_share: float
    rise: float
    low: float | None
    high: float | None
    usd: float

    @classmethod
    def read(cls, path: Path) -> "RoundResult":
        """Reads `round.json`.

        Raises:
            DataError: if it holds something else.
        """
        try:
            return cls(**read_object(path))
        except TypeError:
            raise DataError(f"{path}: damaged; remove it to have it made again") from None

    @classmethod
    def of(
        cls, round: int, own_edits: int, own_share: float, found: Difference, usd: float
    ) -> "RoundResult":
        """The result of a round, of its rise."""
        return cls(round, own_edits, own_share, found.mean, *_bounds(found), usd)


def system_name(round: int, *, control: bool = False) -> str:
    """What a model is called in results.

    Example:
        >>> system_name(0), system_name(2), system_name(2, control=True)
        ('start', 'round 2', 'round 2 control')
    """
    return f"round {round}{' control' if control else ''}" if round else START


def overall(rows: Sequence[Result]) -> list[Result]:
    """A row for every item that has a value in each perspective: their mean."""
    found: dict[str, list[Result]] = {}
    for row in rows:
        if row.metric in PERSPECTIVES and row.value is not None:
            found.setdefault(row.item, []).append(row)
    whole = [item for item in found.values() if len(item) == len(PERSPECTIVES)]
    return [
        dataclasses.replace(item[0], metric=OVERALL, passed=None, value=_mean(item))
        for item in whole
    ]


def rise(rows: Sequence[Result], before: Sequence[Result]) -> Difference:
    """The mean score over that of another system, on the held-out edits that both have.

    Raises:
        DataError: as `compare`.
    """
    return compare(overall(rows), overall(before))


@dataclasses.dataclass(frozen=True)
class Improvement:
    """What a loop came to; as text, a table of it and the lineage.

    Attributes:
        rounds: those that were gone through.
        best: the last round that rose; 0 is the model that the loop began with.
        model: folder of its model.
        rows: all held-out results.
        sets: sets that every training read, with their examples.
        lineage: own edits of the last training, by `Provenance`.
    """

    rounds: Sequence[RoundResult]
    best: int
    model: str
    rows: Sequence[Result] = dataclasses.field(repr=False)
    sets: Sequence[tuple[str, int]] = ()
    lineage: Counter[str] = dataclasses.field(default_factory=Counter)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{'held-out means':<18}" + "".join(f"{n:>12}" for n in (*PERSPECTIVES, OVERALL))
        yield self._means(START)
        for result in self.rounds:
            yield f"{self._means(system_name(result.round))}   {_over(result)}"
            if told := self._control(result.round):
                yield told
        yield "trained on last:"
        for name, count in self.sets:
            yield f"    {count}: {name}"
        for origin, count in sorted(self.lineage.items()):
            yield f"    {count}: {origin}"
        if self.rounds:
            last = self.rounds[-1]
            yield f"own edits: {last.own_share:.1%} of what was read; judge: {last.usd:.2f} USD"
        yield f"best: {system_name(self.best)}, {self.model}"

    def _means(self, system: str) -> str:
        rows = select(self.rows, system=system)
        series = [*(select(rows, metric=name) for name in PERSPECTIVES), overall(rows)]
        return f"{system:<18}" + "".join(f"{summarize(one).mean or 0:>12.2f}" for one in series)

    def _control(self, round: int) -> str:
        """The line of the model that was trained as long without own edits, if there is one."""
        name = system_name(round, control=True)
        rows = select(self.rows, system=name)
        if not rows:
            return ""
        gain = rise(select(self.rows, system=system_name(round)), rows)
        low, high = _bounds(gain)
        return f"{self._means(name)}   own edits gain {_shown(gain.mean, low, high)}"


def _mean(rows: Sequence[Result]) -> float:
    return sum(row.value or 0.0 for row in rows) / len(rows)


def _bounds(found: Difference) -> tuple[float | None, float | None]:
    low, high = found.interval.low, found.interval.high
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)


def _over(result: RoundResult) -> str:
    before = system_name(result.round - 1)
    return f"over {before} {_shown(result.rise, result.low, result.high)}"


def _shown(mean: float, low: float | None, high: float | None) -> str:
    interval = "" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]"
    return f"{mean:+.2f}{interval}"
