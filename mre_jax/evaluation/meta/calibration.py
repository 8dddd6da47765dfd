"""A new judge's scores on the scale of an old one, learnt from edits that both have scored.

The map is monotone: of two scores of the new judge the higher never becomes the lower. It is the
isotonic regression of the old judge's scores on the new one's (Barlow et al., Statistical Inference
under Order Restrictions, 1972), straight between the scores that were seen and level beyond them.
It moves means and keeps ranks, so it makes no judge agree better. A table or statistic uses it only
where its file is given, and rows that it changed say so: `measure` names both judges, and rows of
neither go into one mean with them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import Result, read_results, select
from mre_jax.evaluation.statistics.agreement import pair_edits
from mre_jax.evaluation.statistics.intervals import (
    Bootstrap,
    Grouped,
    draw_groups,
    percentiles,
)
from mre_jax.io.files import write_atomically
from mre_jax.io.json_file import read_json, to_line

_FOLDS = 5


@dataclasses.dataclass(frozen=True)
class MonotoneMap:
    """The map of one metric.

    Attributes:
        prompt_hash: of the new judge's prompt.
        scores: scores of the new judge, ascending.
        values: what each becomes.
        low, high: 95 % interval of each value, by a bootstrap of groups; equal to it for one group.
        before: mean distance of the two judges' scores of an edit.
        after: the same with the map, on pictures that it was not learnt from; None for fewer than
            five groups.
        items, groups: number of edits and of pictures that it is learnt from.
    """

    prompt_hash: str
    scores: tuple[float, ...]
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    before: float
    after: float | None
    items: int
    groups: int

    def __call__(self, score: float) -> float:
        """The score on the old judge's scale."""
        return float(np.interp(score, self.scores, self.values))


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The maps of a judge, by metric.

    Attributes:
        new, old: `Result.measure` of the judges.
        maps: by metric.
    """

    new: str
    old: str
    maps: Mapping[str, MonotoneMap]

    @property
    def name(self) -> str:
        """What `Result.measure` becomes."""
        return f"{self.new} calibrated to {self.old}"

    def apply(self, rows: Sequence[Result]) -> list[Result]:
        """The rows, those of the new judge mapped. Their yes or no is not, and is left out.

        Raises:
            DataError: if no row is the new judge's under the prompts that the map was learnt from.
        """
        found = [self._mapped(row) for row in rows]
        if all(one is row for one, row in zip(found, rows, strict=True)):
            raise DataError(
                f"the calibration is of {self.new}, and no result is by it and its prompts; leave "
                "--calibration out"
            )
        return found

    def lines(self) -> list[str]:
        """The maps for the terminal."""
        lines = [f"{self.name}:"]
        for metric, one in self.maps.items():
            after = "" if one.after is None else f", {one.after:.3f} with the map (cross-validated)"
            lines.append(
                f"    {metric}: {one.items} edits of {one.groups} pictures; the judges are "
                f"{one.before:.3f} apart{after}"
            )
            points = zip(one.scores, one.values, one.low, one.high, strict=True)
            lines += [f"        {x:g} -> {y:.2f} [{a:.2f}, {b:.2f}]" for x, y, a, b in points]
        return lines

    def write(self, path: epath.PathLike) -> None:
        """Keeps the maps in a JSON file."""
        write_atomically(path, to_line(dataclasses.asdict(self)))

    @classmethod
    def read(cls, path: epath.PathLike) -> "Calibration":
        """Reads what `write` has written.

        Raises:
            DataError: if it is something else.
        """
        values = read_json(epath.Path(path))
        try:
            maps = {metric: _read_map(one) for metric, one in values["maps"].items()}
            return cls(values["new"], values["old"], maps)
        except (AttributeError, KeyError, TypeError):
            raise DataError(f"{path}: no calibration of mre evaluate calibrate") from None

    def _mapped(self, row: Result) -> Result:
        found = self.maps.get(row.metric)
        if found is None or row.value is None:
            return row
        if (row.measure, row.prompt_hash) != (self.new, found.prompt_hash):
            return row
        return dataclasses.replace(row, value=found(row.value), passed=None, measure=self.name)


def _read_map(values: Mapping[str, Any]) -> MonotoneMap:
    lists = {name: tuple(map(float, values[name])) for name in ("scores", "values", "low", "high")}
    return MonotoneMap(**{**values, **lists})


def calibrate(
    new: Sequence[Result], old: Sequence[Result], bootstrap: Bootstrap | None = None
) -> Calibration:
    """Learns the map of every metric in which both judges have scored the same edits.

    Raises:
        DataError: if a side mixes judges or settings, or there is no such metric.
    """
    bootstrap = bootstrap or Bootstrap(1000)
    maps, names = {}, set()
    for metric in dict.fromkeys(row.metric for row in new):
        pairs = pair_edits(select(new, metric=metric), select(old, metric=metric))
        if len(pairs) < 2:
            continue
        names.add((pairs[0][0].measure, pairs[0][1].measure))
        maps[metric] = _fit(pairs, bootstrap)
    if not maps:
        raise DataError("the two judges share no metric with two edits or more")
    if len(names) > 1:
        raise DataError(f"judges differ by metric: {sorted(names)}; calibrate each by itself")
    ((one, other),) = names
    if one == other:
        raise DataError(f"both results are by {one}; give those of two judges")
    return Calibration(one, other, maps)


def _fit(pairs: Sequence[tuple[Result, Result]], bootstrap: Bootstrap) -> MonotoneMap:
    x, y = (np.asarray([row.value for row in of], np.float64) for of in zip(*pairs, strict=True))
    data = Grouped.of(x, [row.group for row, _ in pairs])
    scores, place = np.unique(x, return_inverse=True)
    sums, counts = np.zeros((2, data.count, len(scores)))
    np.add.at(sums, (data.index, place), y)
    np.add.at(counts, (data.index, place), 1)
    values = isotonic(scores, sums.sum(0), counts.sum(0))
    low = high = values
    if data.count > 1:
        drawn = np.stack(
            [
                isotonic(scores, times @ sums, times @ counts)
                for block in draw_groups(data.count, bootstrap)
                for times in block
            ]
        )
        bounds = [percentiles(of, bootstrap, data.count) for of in drawn.T]
        low, high = (np.asarray([getattr(one, end) for one in bounds]) for end in ("low", "high"))
    return MonotoneMap(
        prompt_hash=pairs[0][0].prompt_hash,
        scores=tuple(map(float, scores)),
        values=tuple(map(float, values)),
        low=tuple(map(float, low)),
        high=tuple(map(float, high)),
        before=float(np.abs(x - y).mean()),
        after=_held_out(scores, place, y, data, sums, counts),
        items=len(pairs),
        groups=data.count,
    )


def isotonic(
    scores: Float[np.ndarray, "k"], sums: Float[np.ndarray, "k"], counts: Float[np.ndarray, "k"]
) -> Float[np.ndarray, "k"]:
    """The monotone map at each score; straight over those that nothing is known of.

    Args:
        scores: ascending.
        sums, counts: of the old judge's scores of the edits with each of them.
    """
    from scipy.optimize import isotonic_regression  # takes a while to import

    seen = counts > 0
    fitted = isotonic_regression(sums[seen] / counts[seen], weights=counts[seen]).x
    return np.asarray(np.interp(scores, scores[seen], fitted))


def _held_out(
    scores: Float[np.ndarray, "k"],
    place: np.ndarray,
    y: Float[np.ndarray, "n"],
    data: Grouped,
    sums: Float[np.ndarray, "g k"],
    counts: Float[np.ndarray, "g k"],
) -> float | None:
    """The mean distance on each fifth of the groups, with the map of the others."""
    if data.count < _FOLDS:
        return None
    fold = np.arange(data.count) % _FOLDS
    distances = np.zeros(len(y))
    for number in range(_FOLDS):
        kept = fold != number
        values = isotonic(scores, sums[kept].sum(0), counts[kept].sum(0))
        out = ~kept[data.index]
        distances[out] = np.abs(values[place[out]] - y[out])
    return float(distances.mean())


@dataclasses.dataclass(frozen=True)
class CalibrationSpec:
    """Which judge is brought onto whose scale.

    Attributes:
        new: results of the new judge: a file or folder of `mre evaluate`.
        old: results of the old judge, of the same edits.
        out: file to write, for --calibration of `mre tables` and `mre statistics`.
        suite: take edits of this suite alone.
        draws: draws of the bootstrap.

    Raises:
        ConfigError: if both are the same.
    """

    new: epath.PathLike
    old: epath.PathLike
    out: epath.PathLike
    suite: str | None = None
    draws: int = 1000

    def __post_init__(self) -> None:
        if str(self.new) == str(self.old):
            raise ConfigError(f"--new and --old are both {self.new}; name two judges' results")

    def calibrate(self) -> Calibration:
        """Learns the maps and writes them.

        Raises:
            DataError: as `calibrate`.
        """
        new, old = read_results(self.new), read_results(self.old)
        if self.suite is not None:
            new, old = select(new, suite=self.suite), select(old, suite=self.suite)
        found = calibrate(new, old, Bootstrap(self.draws))
        found.write(self.out)
        return found
