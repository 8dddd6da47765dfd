"""What a set of result rows says: means with their coverage, intervals, differences, agreement.

Instructions of one photo share much of their difficulty, so rows are not independent. Intervals
come from a bootstrap that draws whole groups (photos) with replacement; two systems are compared on
the items that both have, under the same draws. Equal seeds give equal intervals. Intervals of fewer
than about twenty groups are too narrow, as those of every bootstrap are.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.provenance import check_comparable
from mre_jax.evaluation.results import Result

_CHUNK = 1 << 22  # numbers of one block of draws: 32 MB


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        draws: resampled sets of groups.
        seed: of the draws.
        confidence: share of the draws inside an interval.
    """

    draws: int = 10_000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ConfigError(f"draws is {self.draws}; it must be at least 1")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"confidence is {self.confidence}; it must be between 0 and 1")


@dataclasses.dataclass(frozen=True)
class Interval:
    """A percentile interval."""

    low: float
    high: float


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
        mean: of the values there are; None if there is none.
        interval: of `mean`; None with fewer than two groups, or if none was asked for.
        accuracy: share of yes, from 0 to 1, over the same items; None for metrics without.
        accuracy_interval: of `accuracy`.
        coverage: what `mean` is taken over.
    """

    mean: float | None
    interval: Interval | None
    accuracy: float | None
    accuracy_interval: Interval | None
    coverage: Coverage


@dataclasses.dataclass(frozen=True)
class MacroMean:
    """A mean of means.

    Attributes:
        mean: over the types; None if there is no value.
        kinds: types that have a value.
        coverage: of the items.
    """

    mean: float | None
    kinds: int
    coverage: Coverage


@dataclasses.dataclass(frozen=True)
class Difference:
    """Two systems on the items that both have.

    Attributes:
        mean: of the first's value less the second's.
        interval: of `mean`.
        p: two-sided, of the draws: twice the share on the far side of no difference; never less
            than the chance that so many coins all fall on one side, one for each group.
        items, groups: how many pairs there are, and in how many groups.
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
        wins, ties, losses: of the first, in items.
        rate: wins and half of the ties, as a share of all.
        interval: of `rate`; None with fewer than two groups.
    """

    wins: int
    ties: int
    losses: int
    rate: float
    interval: Interval | None


@dataclasses.dataclass(frozen=True)
class Correlation:
    """How two judges agree on the same edits.

    Attributes:
        pearson, spearman: from -1 to 1; None if one of the judges gives every edit the same score.
        mean_difference: of the first's score less the second's.
        same_answer: share of edits with the same yes or no; None for judges that say neither.
        items: edits that both have scored.
    """

    pearson: float | None
    spearman: float | None
    mean_difference: float
    same_answer: float | None
    items: int


@dataclasses.dataclass(frozen=True)
class Consistency:
    """What one judge says when it is asked again.

    Attributes:
        runs: times each edit was judged.
        items: edits that every run has scored.
        mean_spread: largest less smallest of the runs' mean scores.
        accuracy_spread: the same of the share of yes, from 0 to 1; None for judges without.
        item_deviation: standard deviation of an edit's scores, averaged over edits.
        same_score: share of edits with the same score in every run.
    """

    runs: int
    items: int
    mean_spread: float
    accuracy_spread: float | None
    item_deviation: float
    same_score: float


def coverage(rows: Sequence[Result]) -> Coverage:
    """Counts the rows by status."""
    counts = collections.Counter(row.status for row in rows)
    others = {status: count for status, count in sorted(counts.items()) if status != "ok"}
    return Coverage(counts["ok"], len(rows), others)


def summarize(rows: Sequence[Result], bootstrap: Bootstrap | None = None) -> Summary:
    """The mean and the accuracy of one metric of one system.

    Args:
        rows: of one system, condition, suite and metric.
        bootstrap: for intervals; None leaves them out.

    Raises:
        DataError: if the rows are of several metrics, systems, judges, prompts or networks.
    """
    check_one_series(rows)
    found = [row for row in rows if row.status == "ok"]
    cover = coverage(rows)
    if not found:
        return Summary(None, None, None, None, cover)
    groups = [row.group for row in found]
    mean, interval = _mean(_values(found), groups, bootstrap)
    answers = [row.passed for row in found]
    if None in answers:
        return Summary(mean, interval, None, None, cover)
    accuracy, accuracy_interval = _mean(np.asarray(answers, float), groups, bootstrap)
    return Summary(mean, interval, accuracy, accuracy_interval, cover)


def macro_mean(rows: Sequence[Result]) -> MacroMean:
    """The mean over the types of instruction of their means; a type counts as much as another.

    Raises:
        DataError: as `summarize`.
    """
    check_one_series(rows)
    kinds: dict[str, list[float]] = {}
    for row in rows:
        if row.value is not None:
            kinds.setdefault(row.kind, []).append(row.value)
    means = [float(np.mean(values)) for values in kinds.values()]
    return MacroMean(float(np.mean(means)) if means else None, len(kinds), coverage(rows))


def compare(
    first: Sequence[Result], second: Sequence[Result], bootstrap: Bootstrap | None = None
) -> Difference:
    """The difference between two systems, or two conditions of one, in one metric.

    Raises:
        DataError: as `summarize`, within and between the two; or if they share fewer than two
            groups of items.
    """
    bootstrap = bootstrap or Bootstrap()
    pairs, unpaired = _paired(first, second)
    groups = [a.group for a, _ in pairs]
    if len(set(groups)) < 2:
        raise DataError(
            f"{_name(first)} and {_name(second)} share items of {len(set(groups))} groups; a "
            "difference needs two or more"
        )
    values = _values([a for a, _ in pairs]) - _values([b for _, b in pairs])
    means = _resampled_means(values, groups, bootstrap)
    below, above = np.count_nonzero(means <= 0), np.count_nonzero(means >= 0)
    p = min(1.0, 2 * (min(below, above) + 1) / (len(means) + 1))
    p = max(float(p), 2.0 ** (1 - len(set(groups))))
    interval = _interval(means, bootstrap)
    return Difference(
        float(values.mean()), interval, p, len(pairs), len(set(groups)), unpaired=unpaired
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
    rate, interval = _mean(points, [a.group for a, _ in pairs], bootstrap or Bootstrap())
    ties = len(pairs) - int(wins.sum()) - int(losses.sum())
    return WinRate(int(wins.sum()), ties, int(losses.sum()), rate, interval)


def correlate(first: Sequence[Result], second: Sequence[Result]) -> Correlation:
    """How two judges agree in one metric, over all edits that both have scored.

    Args:
        first, second: rows of one judge each; systems and conditions may be mixed, as edits are
            paired by them too.

    Raises:
        DataError: if one side mixes judges or metrics, or if they share fewer than two edits.
    """
    for rows in (first, second):
        check_comparable(rows)
    metrics = {row.metric for row in [*first, *second]}
    if len(metrics) > 1:
        raise DataError(f"scores of several metrics: {', '.join(sorted(metrics))}; take one")
    theirs = {row.key: row for row in second if row.status == "ok"}
    pairs = [(row, theirs[row.key]) for row in first if row.status == "ok" and row.key in theirs]
    if len(pairs) < 2:
        raise DataError(f"the two judges share {len(pairs)} edits; a correlation needs two or more")
    x, y = _values([a for a, _ in pairs]), _values([b for _, b in pairs])
    answers = [(a.passed, b.passed) for a, b in pairs]
    same = None
    if all(None not in answer for answer in answers):
        same = float(np.mean([a == b for a, b in answers]))
    return Correlation(
        pearson=_pearson(x, y),
        spearman=_pearson(_ranks(x), _ranks(y)),
        mean_difference=float((x - y).mean()),
        same_answer=same,
        items=len(pairs),
    )


def self_consistency(runs: Sequence[Sequence[Result]]) -> Consistency:
    """How much one judge's scores of the same edits vary from run to run.

    Args:
        runs: the rows of each run, of one metric.

    Raises:
        DataError: if there are fewer than two runs, if they are of different judges or metrics, or
            if no edit is scored in all of them.
    """
    if len(runs) < 2:
        raise DataError(f"{len(runs)} run of the judge; self-consistency needs two or more")
    everything = [row for run in runs for row in run]
    check_comparable(everything, but=["seed"])
    metrics = {row.metric for row in everything}
    if len(metrics) > 1:
        raise DataError(f"scores of several metrics: {', '.join(sorted(metrics))}; take one")
    scored = [{row.key: row for row in run if row.status == "ok"} for run in runs]
    keys = [key for key in scored[0] if all(key in run for run in scored)]
    if not keys:
        raise DataError("no edit is scored in every run")
    values = np.stack([_values([run[key] for key in keys]) for run in scored])
    answers = [[run[key].passed for key in keys] for run in scored]
    accuracy_spread = None
    if not any(None in run for run in answers):
        accuracy_spread = float(np.ptp(np.mean(np.asarray(answers, float), axis=1)))
    return Consistency(
        runs=len(runs),
        items=len(keys),
        mean_spread=float(np.ptp(values.mean(axis=1))),
        accuracy_spread=accuracy_spread,
        item_deviation=float(values.std(axis=0, ddof=1).mean()),
        same_score=float(np.mean(np.ptp(values, axis=0) == 0)),
    )


def check_one_series(rows: Sequence[Result]) -> None:
    """Refuses rows that no mean may be taken over.

    Raises:
        DataError: naming what differs; or if there is no row.
    """
    if not rows:
        raise DataError("no results to take a mean of")
    for name in ("metric", "system", "condition", "suite", "checkpoint"):
        found = sorted({getattr(row, name) for row in rows})
        if len(found) > 1:
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


def _mean(
    values: Float[np.ndarray, "n"], groups: Sequence[str], bootstrap: Bootstrap | None
) -> tuple[float, Interval | None]:
    interval = None
    if bootstrap is not None and len(set(groups)) > 1:
        interval = _interval(_resampled_means(values, groups, bootstrap), bootstrap)
    return float(values.mean()), interval


def _resampled_means(
    values: Float[np.ndarray, "n"], groups: Sequence[str], bootstrap: Bootstrap
) -> Float[np.ndarray, "draws"]:
    """The mean over items of each draw of groups; a group counts with all its items."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.bincount(index, values, minlength=len(names))
    counts = np.bincount(index, minlength=len(names)).astype(np.float64)
    rng = np.random.default_rng(bootstrap.seed)
    shares = np.full(len(names), 1 / len(names))
    step = max(1, _CHUNK // len(names))
    means = []
    for start in range(0, bootstrap.draws, step):
        size = min(step, bootstrap.draws - start)
        times = rng.multinomial(len(names), shares, size=size).astype(np.float64)
        means.append((times @ sums) / (times @ counts))
    return np.concatenate(means)


def _interval(means: Float[np.ndarray, "draws"], bootstrap: Bootstrap) -> Interval:
    outside = (1 - bootstrap.confidence) / 2
    low, high = np.quantile(means, [outside, 1 - outside])
    return Interval(float(low), float(high))


def _pearson(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float | None:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def _ranks(x: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[index]
