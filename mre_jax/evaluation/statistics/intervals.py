"""Intervals of values that come in groups, as the edits of one photo do.

Groups, not values, are taken to be drawn independently. Twenty groups or more are drawn again with
replacement (a bootstrap, its percentiles expanded); of fewer, whose bootstrap is too narrow, the
interval is Student's t over the groups. Shares have the exact interval of Clopper and Pearson for
the number of independent answers that their groups are worth (Korn and Graubard, 1998), so that a
share of all is never certain. So have means of few groups between known bounds, as the share that
they are of the way from one to the other: near a bound Student's t is too short on the far side.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from mre_jax.errors import ConfigError

FEW = 20
"""Fewer groups than this have intervals of Student's t, or between bounds that of a share."""

_CHUNK = 1 << 22  # numbers of one block of draws: 32 MB
_EQUAL = 1e-9  # what sums of equal scores may differ by


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        draws: resampled sets of groups.
        seed: seed of the draws.
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

    @property
    def outside(self) -> float:
        """The share of either side."""
        return (1 - self.confidence) / 2


@dataclasses.dataclass(frozen=True)
class Interval:
    """A two-sided interval."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Grouped:
    """Values and the groups that they are of.

    Attributes:
        values: any number.
        index: number of each value's group, from 0.
        count: number of groups.
    """

    values: Float[np.ndarray, "n"]
    index: Int[np.ndarray, "n"]
    count: int

    @classmethod
    def of(cls, values: Float[np.ndarray, "n"], groups: Sequence[str]) -> "Grouped":
        """Groups by name."""
        names, index = np.unique(np.asarray(groups), return_inverse=True)
        return cls(np.asarray(values, np.float64), index, len(names))

    @property
    def sums(self) -> Float[np.ndarray, "g"]:
        """The sum of each group's values."""
        return np.bincount(self.index, self.values, self.count)

    @property
    def sizes(self) -> Float[np.ndarray, "g"]:
        """How many values each group has."""
        return np.bincount(self.index, minlength=self.count).astype(np.float64)

    @property
    def error(self) -> float:
        """The standard error of the mean of all values, from the scatter of the groups."""
        residuals = self.sums - self.values.mean() * self.sizes
        scale = self.count / (self.count - 1)
        return float(np.sqrt(scale * residuals @ residuals) / len(self.values))


def mean_interval(
    data: Grouped, bootstrap: Bootstrap, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Interval | None:
    """The interval of the mean.

    Args:
        bounds: no value can be beyond. If all values are equal, these alone say how far the mean of
            more could be away.

    Returns:
        None with fewer than two groups, or if all values are equal and have no bounds.
    """
    if data.count < 2:
        return None
    if np.ptp(data.values) < _EQUAL:
        return _all_equal(float(data.values[0]), data.count, bootstrap, bounds)
    if data.count >= FEW:
        return percentiles(resampled_means(data, bootstrap), bootstrap, data.count)
    mean, reach = data.values.mean(), _student(data.count, bootstrap) * data.error
    low, high = np.clip([mean - reach, mean + reach], *bounds)
    return Interval(float(low), float(high))


def bounded_interval(
    data: Grouped, bootstrap: Bootstrap, bounds: tuple[float, float]
) -> Interval | None:
    """The interval of the mean of values that are within bounds, which few groups may be close to.

    Returns:
        None with fewer than two groups.
    """
    differ = data.count > 1 and np.ptp(data.values) >= _EQUAL
    if data.count >= FEW or not differ or not np.all(np.isfinite(bounds)):
        return mean_interval(data, bootstrap, bounds)
    low, width = bounds[0], bounds[1] - bounds[0]
    inside = dataclasses.replace(data, values=(data.values - low) / width)
    normal = float(special.ndtri(1 - bootstrap.outside))
    found = _as_share(inside, bootstrap, normal / _student(data.count, bootstrap))
    return Interval(low + width * found.low, low + width * found.high)


def share_interval(data: Grouped, bootstrap: Bootstrap) -> Interval | None:
    """The interval of the share of ones among zeros and ones; None with fewer than two groups."""
    if data.count < 2:
        return None
    share = float(data.values.mean())
    if not 0 < share < 1:
        return _clopper_pearson(share * data.count, data.count, bootstrap)
    items = len(data.values)
    few = _student(items, bootstrap) / _student(data.count, bootstrap)
    return _as_share(data, bootstrap, few, most=items)


def p_value(data: Grouped, bootstrap: Bootstrap) -> float:
    """Two-sided, of a mean of zero: from the draws, or of few groups from Student's t.

    It is never less than the chance that so many coins all fall on one side, one for each group.
    """
    least = 2.0 ** (1 - data.count)
    mean = float(data.values.mean())
    if data.count >= FEW:
        means = resampled_means(data, bootstrap)
        below, above = np.count_nonzero(means <= 0), np.count_nonzero(means >= 0)
        p = float(2 * (min(below, above) + 1) / (len(means) + 1))
    elif data.error < _EQUAL:  # all groups alike, whatever their values
        p = float(abs(mean) < _EQUAL)
    else:
        p = 2 * float(special.stdtr(data.count - 1, -abs(mean) / data.error))
    return min(1.0, max(p, least))


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of several comparisons, corrected for their number (Holm, 1979)."""
    corrected = [0.0] * len(p)
    least = 0.0
    for place, index in enumerate(np.argsort(p, kind="stable")):
        least = max(least, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = least
    return corrected


def jackknife_interval(
    statistic: Callable[[Int[np.ndarray, "m"]], float | None],
    index: Int[np.ndarray, "n"],
    bootstrap: Bootstrap,
) -> Interval | None:
    """The interval of a coefficient between -1 and 1, by leaving out one group after the other.

    It is Student's t over the groups, on the scale of Fisher's z.

    Args:
        statistic: coefficient of the values at these places.
        index: number of each value's group, from 0.

    Returns:
        None where that is undefined: with fewer than three groups, or in perfect agreement.
    """
    places, count = np.arange(len(index)), int(index.max()) + 1
    if count < 3:
        return None
    found = [statistic(places)]
    found += [statistic(places[index != group]) for group in range(count)]
    if any(value is None or abs(value) >= 1 for value in found):
        return None
    whole, *left = np.arctanh(np.asarray(found, np.float64))
    error = np.sqrt((count - 1) * np.var(left))
    if error < _EQUAL:
        return None
    reach = _student(count, bootstrap) * error
    return Interval(float(np.tanh(whole - reach)), float(np.tanh(whole + reach)))


def few_groups_note(counts: Iterable[int]) -> str | None:
    """What a reader of intervals must know if some are of few groups."""
    few = sorted({count for count in counts if count < FEW})
    if not few:
        return None
    if few[-1] < 2:
        return "Only one group: nothing is known of how another would differ."
    said = f"{few[0]}" if len(few) == 1 else f"{few[0]} to {few[-1]}"
    return (
        f"Only {said} groups: intervals of fewer than {FEW} are Student's t over the groups, or "
        "that of a share, and say little."
    )


def resampled_means(data: Grouped, bootstrap: Bootstrap) -> Float[np.ndarray, "draws"]:
    """The mean over values of each draw of groups; a group counts with all its values."""
    sums, sizes = data.sums, data.sizes
    blocks = draw_groups(data.count, bootstrap)
    return np.concatenate([(times @ sums) / (times @ sizes) for times in blocks])


def draw_groups(count: int, bootstrap: Bootstrap) -> Iterator[Float[np.ndarray, "draws g"]]:
    """How often each group is in each draw, in blocks; equal settings give equal draws."""
    step = max(1, _CHUNK // count)
    if bootstrap.draws <= step:
        yield _all_draws(count, bootstrap.draws, bootstrap.seed)
        return
    rng = np.random.default_rng(bootstrap.seed)
    for start in range(0, bootstrap.draws, step):
        yield _draw(rng, count, min(step, bootstrap.draws - start))


def percentiles(
    draws: Float[np.ndarray, "draws"], bootstrap: Bootstrap, groups: int | None = None
) -> Interval:
    """The interval that leaves out equal shares of the draws on both sides.

    Args:
        groups: number of groups that were drawn from; the interval is then as much wider as
            Student's t of them is (Hesterberg, What Teachers Should Know about the Bootstrap, 2015,
            section 3.3).
    """
    outside = bootstrap.outside
    if groups is not None:
        outside = special.ndtr(-np.sqrt(groups / (groups - 1)) * _student(groups, bootstrap))
    low, high = np.nanquantile(draws, [outside, 1 - outside])
    return Interval(float(low), float(high))


@functools.lru_cache(maxsize=2)
def _all_draws(count: int, draws: int, seed: int) -> Float[np.ndarray, "draws g"]:
    """A report asks for the same draws hundreds of times."""
    return _draw(np.random.default_rng(seed), count, draws)


def _draw(rng: np.random.Generator, count: int, draws: int) -> Float[np.ndarray, "draws g"]:
    shares = np.full(count, 1 / count)
    return rng.multinomial(count, shares, size=draws).astype(np.float64)


def _student(count: int, bootstrap: Bootstrap) -> float:
    """The quantile of Student's t of so many groups."""
    return float(special.stdtrit(count - 1, 1 - bootstrap.outside))


def _as_share(data: Grouped, bootstrap: Bootstrap, few: float, most: float = np.inf) -> Interval:
    """The interval of a mean from 0 to 1, as if it were a share of independent answers.

    Args:
        few: what makes the interval wider where the groups' scatter is known of few; below 1.
        most: as many answers as all values can be worth.
    """
    share = float(data.values.mean())
    alike = data.error < _EQUAL  # the groups' means, by chance
    worth = float(len(data.values)) if alike else share * (1 - share) / data.error**2
    worth = min(most, worth * few**2)
    return _clopper_pearson(share * worth, worth, bootstrap)


def _clopper_pearson(hits: float, trials: float, bootstrap: Bootstrap) -> Interval:
    low = special.betaincinv(hits, trials - hits + 1, bootstrap.outside) if hits > 0 else 0.0
    high = 1.0
    if hits < trials:
        high = special.betaincinv(hits + 1, trials - hits, 1 - bootstrap.outside)
    return Interval(float(low), float(high))


def _all_equal(
    value: float, groups: int, bootstrap: Bootstrap, bounds: tuple[float, float]
) -> Interval | None:
    """As many groups may be different, unseen, as of a share of which all are alike."""
    if not np.all(np.isfinite(bounds)):
        return None
    unseen = _clopper_pearson(0, groups, bootstrap).high
    low, high = bounds
    return Interval(value - unseen * (value - low), value + unseen * (high - value))
