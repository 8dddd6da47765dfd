"""What a set of result rows says: means with their coverage, intervals, and differences.

Instructions of one photo share much of their difficulty, so rows are not independent: intervals are
over groups (photos), see `evaluation.intervals`. Two systems are compared on the items that both
have. Equal seeds give equal intervals.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mre_jax.errors import DataError
from mre_jax.evaluation.provenance import check_comparable
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.intervals import (
    Bootstrap,
    Grouped,
    Interval,
    bounded_interval,
    mean_interval,
    p_value,
    share_interval,
)
from mre_jax.reward.scores import MAX_SCORE, PERSPECTIVES


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How many of the items have a value, and what became of the others.

    Attributes:
        ok: items with a value.
        total: all items.
        others: number of items by status, of the statuses other than "ok" that occur.
    """

    ok: int
    total: int
    others: Mapping[str, int]

    def __str__(self) -> str:
        parts = [f"{self.ok}/{self.total}"]
        parts += [f"{count} {status}" for status, count in self.others.items()]
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True)
class Summary:
    """One metric of one system.

    Attributes:
        mean: mean of the values there are; None if there is none.
        interval: confidence interval of `mean`; None with fewer than two groups, or if none was
            asked for.
        accuracy: share of yes, from 0 to 1, over the same items; None for metrics without.
        accuracy_interval: confidence interval of `accuracy`.
        coverage: what `mean` is taken over.
        groups: number of groups that its items are of.
    """

    mean: float | None
    interval: Interval | None
    accuracy: float | None
    accuracy_interval: Interval | None
    coverage: Coverage
    groups: int = 0


@dataclasses.dataclass(frozen=True)
class MacroMean:
    """A mean of means.

    Attributes:
        mean: over the types; None if there is no value.
        kinds: types that have a value.
        coverage: what the means are taken over.
        interval: confidence interval of `mean`; None with fewer than two groups, or if none was
            asked for.
        groups: number of groups that the items are of.
    """

    mean: float | None
    kinds: int
    coverage: Coverage
    interval: Interval | None = None
    groups: int = 0


@dataclasses.dataclass(frozen=True)
class Difference:
    """Two systems on the items that both have.

    Attributes:
        mean: mean of the first's value less the second's; of shares of yes, from -1 to 1.
        interval: confidence interval of `mean`.
        p: two-sided, not corrected for other comparisons; see `intervals.p_value`.
        items, groups: number of pairs, and of groups that they are of.
        unpaired: items of which one system has no value.
    """

    mean: float
    interval: Interval
    p: float
    items: int
    groups: int
    unpaired: int


@dataclasses.dataclass(frozen=True)
class WinRate:
    """How often the first of two systems has the higher value.

    Attributes:
        wins, ties, losses: number of items where the first is higher, equal, lower.
        rate: wins and half of the ties, as a share of all.
        interval: confidence interval of `rate`; None with fewer than two groups.
    """

    wins: int
    ties: int
    losses: int
    rate: float
    interval: Interval | None


def coverage(rows: Sequence[Result]) -> Coverage:
    """Counts the rows by status."""
    counts = collections.Counter(row.status for row in rows)
    others = {status: count for status, count in sorted(counts.items()) if status != "ok"}
    return Coverage(counts["ok"], len(rows), others)


def summarize(rows: Sequence[Result], bootstrap: Bootstrap | None = None) -> Summary:
    """The mean and the accuracy of one metric of one system.

    Args:
        rows: results of one system, condition, suite and metric.
        bootstrap: settings of intervals; None leaves them out.

    Raises:
        DataError: if the rows are of several metrics, systems, judges, prompts or networks.

    Example:
        >>> edits = [("1", 3.0), ("2", 4.0)]
        >>> rows = [Result("a", "", "toy", i, i, "", "quality", score) for i, score in edits]
        >>> summarize(rows).mean, str(summarize(rows).coverage)
        (3.5, '2/2')
    """
    check_one_series(rows)
    found = [row for row in rows if row.status == "ok"]
    cover = coverage(rows)
    if not found:
        return Summary(None, None, None, None, cover)
    values = _grouped(_values(found), found)
    interval = None if bootstrap is None else bounded_interval(values, bootstrap, _bounds(rows))
    summary = Summary(float(values.values.mean()), interval, None, None, cover, values.count)
    if any(row.passed is None for row in found):
        return summary
    answers = _grouped(_answers(found), found)
    return dataclasses.replace(
        summary,
        accuracy=float(answers.values.mean()),
        accuracy_interval=None if bootstrap is None else share_interval(answers, bootstrap),
    )


def macro_mean(rows: Sequence[Result], bootstrap: Bootstrap | None = None) -> MacroMean:
    """The mean over the types of instruction of their means; a type counts as much as another.

    Args:
        bootstrap: settings of the interval; None leaves it out.

    Raises:
        DataError: as `summarize`.
    """
    check_one_series(rows)
    found = [row for row in rows if row.value is not None]
    if not found:
        return MacroMean(None, 0, coverage(rows))
    names, index, counts = np.unique(
        [row.kind for row in found], return_inverse=True, return_counts=True
    )
    values = _values(found)
    means = np.bincount(index, values) / counts
    mean = float(means.mean())
    # What an item moves the mean by, on the scale of a plain mean of all.
    share = len(found) / (len(names) * counts[index])
    moved = _grouped(mean + share * (values - means[index]), found)
    interval = None if bootstrap is None else mean_interval(moved, bootstrap, _bounds(rows))
    return MacroMean(mean, len(names), coverage(rows), interval, moved.count)


def compare(
    first: Sequence[Result],
    second: Sequence[Result],
    bootstrap: Bootstrap | None = None,
    *,
    accuracy: bool = False,
) -> Difference:
    """The difference between two systems, or two conditions of one, in one metric.

    Args:
        accuracy: whether of the shares of yes, rather than of the scores.

    Raises:
        DataError: as `summarize`, within and between the two; if they share fewer than two groups
            of items; or if the judge says neither yes nor no of one.

    Example:
        >>> def series(system, *scores):
        ...     items = enumerate(scores)
        ...     return [Result(system, "", "toy", f"{n}", f"{n}", "", "l1", s) for n, s in items]
        >>> found = compare(series("a", 0.5, 0.25), series("b", 0.0, 0.25))
        >>> found.mean, found.items
        (0.25, 2)
    """
    bootstrap = bootstrap or Bootstrap()
    pairs, unpaired = _paired(first, second)
    groups = len({a.group for a, _ in pairs})
    if groups < 2:
        raise DataError(
            f"{_name(first)} and {_name(second)} share items of {groups} groups; a difference "
            "needs two or more"
        )
    of = _answers if accuracy else _values
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    difference = _grouped(of(ours) - of(theirs), ours)
    low, high = (0.0, 1.0) if accuracy else _bounds(first)
    interval = mean_interval(difference, bootstrap, (low - high, high - low))
    return Difference(
        float(difference.values.mean()),
        interval or Interval(-np.inf, np.inf),  # all equal, and no bounds known
        p_value(difference, bootstrap),
        items=len(pairs),
        groups=groups,
        unpaired=unpaired,
    )


def win_rate(
    first: Sequence[Result],
    second: Sequence[Result],
    bootstrap: Bootstrap | None = None,
    *,
    margin: float = 0.0,
) -> WinRate:
    """How often `first` beats `second`, item by item.

    Args:
        margin: a difference of at most this much is a tie.

    Raises:
        DataError: as `compare`; or if the two share no item.
    """
    pairs, _ = _paired(first, second)
    if not pairs:
        raise DataError(f"{_name(first)} and {_name(second)} share no item")
    difference = _values([a for a, _ in pairs]) - _values([b for _, b in pairs])
    wins, losses = difference > margin, difference < -margin
    points = (1.0 + wins - losses) / 2
    rates = _grouped(points, [a for a, _ in pairs])
    interval = bounded_interval(rates, bootstrap or Bootstrap(), (0.0, 1.0))
    ties = len(pairs) - int(wins.sum()) - int(losses.sum())
    return WinRate(int(wins.sum()), ties, int(losses.sum()), float(points.mean()), interval)


def has_answers(rows: Sequence[Result]) -> bool:
    """Whether a judge says yes or no of every edit that has a score."""
    return all(row.passed is not None for row in rows if row.status == "ok")


def check_one_series(rows: Sequence[Result]) -> None:
    """Refuses rows that no mean may be taken over.

    Raises:
        DataError: naming what differs; or if there is no row.
    """
    if not rows:
        raise DataError("no results to take a mean of")
    for name in ("metric", "system", "condition", "suite", "checkpoint", "people"):
        found = sorted({getattr(row, name) for row in rows})
        if len(found) > 1:
            if name == "people":
                raise DataError("results of people and of a judge in one mean; keep them apart")
            raise DataError(
                f"results of different {name}s in one mean: {found[0]!r} and {found[1]!r}"
            )
    check_comparable(rows)


def _paired(
    first: Sequence[Result], second: Sequence[Result]
) -> tuple[list[tuple[Result, Result]], int]:
    """The rows with values of the items that both have, and how many other items there are."""
    for rows in (first, second):
        check_one_series(rows)
    check_comparable([*first, *second])
    for name in ("metric", "suite"):
        one, other = getattr(first[0], name), getattr(second[0], name)
        if one != other:
            raise DataError(f"results of different {name}s are compared: {one!r} and {other!r}")
    theirs = {row.item: row for row in second if row.status == "ok"}
    pairs = [(row, theirs[row.item]) for row in first if row.status == "ok" and row.item in theirs]
    for one_row, other_row in pairs:
        if one_row.group != other_row.group:
            raise DataError(
                f"item {one_row.item} is of group {one_row.group!r} in {_name(first)} and of "
                f"{other_row.group!r} in {_name(second)}"
            )
    items = {row.item for row in [*first, *second]}
    return pairs, len(items) - len(pairs)


def _name(rows: Sequence[Result]) -> str:
    return f"{rows[0].system} {rows[0].condition}".strip()


def _values(rows: Sequence[Result]) -> Float[np.ndarray, "n"]:
    return np.asarray([row.value for row in rows], np.float64)


def _answers(rows: Sequence[Result]) -> Float[np.ndarray, "n"]:
    """Yes as 1, no as 0."""
    if any(row.passed is None for row in rows):
        raise DataError(f"{_name(rows)}: neither yes nor no in {rows[0].metric}; there is no share")
    return np.asarray([row.passed for row in rows], np.float64)


def _grouped(values: Float[np.ndarray, "n"], rows: Sequence[Result]) -> Grouped:
    return Grouped.of(values, [row.group for row in rows])


def _bounds(rows: Sequence[Result]) -> tuple[float, float]:
    """What no score can be beyond, as far as is known."""
    return (0.0, float(MAX_SCORE)) if rows[0].metric in PERSPECTIVES else (-np.inf, np.inf)
