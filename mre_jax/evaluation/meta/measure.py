"""How a judge does on a set of people's judgements."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mre_jax.evaluation.meta.human_set import (
    OVERALL,
    HumanSet,
    Preference,
    edit_name,
    pair_name,
)
from mre_jax.evaluation.results import Result, select
from mre_jax.evaluation.statistics.coefficients import Coefficient, coefficient, spearman
from mre_jax.evaluation.statistics.intervals import (
    Bootstrap,
    Grouped,
    Interval,
    mean_interval,
    share_interval,
)
from mre_jax.evaluation.statistics.pairs import OrderBias, matches_of, order_bias

Points = Callable[[Preference], float | None]
"""What a judge gives the first edit of a pair: 1, 0.5 or 0; None where it has no answer."""

_EQUAL = 1e-9


@dataclasses.dataclass(frozen=True)
class Share:
    """A share from 0 to 1 with its interval over pictures; None for a single one."""

    value: float
    interval: Interval | None


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How a judge agrees with people in one perspective.

    Attributes:
        perspective: of the set.
        pairs: number of pairs that the judge has answered.
        asked: number of pairs.
        accuracy: share of pairs where judge and people say the same, one of three: the first, the
            second, or neither. None without an answer, as all below.
        decided: share of the pairs of which people prefer one where the judge prefers it too, its
            ties counted as halves.
        ties: share of pairs that the judge leaves open: equal scores, or orders that disagree.
        whole: share of items of two pairs or more in which it is right of all of them.
        correlation: Spearman's, of the judge's scores and people's; None if either only compares.
        order: bias for either place; None for a judge that scores.
        same: share of questions that it answers alike each time it is asked; None if it was once.
    """

    perspective: str
    pairs: int
    asked: int
    accuracy: Share | None
    decided: Share | None
    ties: Share | None
    whole: float | None
    correlation: Coefficient | None
    order: OrderBias | None
    same: float | None


def measure_scores(
    human: HumanSet, runs: Sequence[Sequence[Result]], bootstrap: Bootstrap | None = None
) -> list[Agreement]:
    """Of a judge that scores edits: of two, it prefers the one with the higher score.

    "overall" is the mean of its perspectives, unless it has one of that name.

    Args:
        runs: rows of each time it was asked, an item an edit by `edit_name`.
    """
    scores = _by_perspective(human, runs[0])

    def points(one: Preference) -> float | None:
        of = scores.get(one.perspective, {})
        first, second = (of.get(edit_name(e)) for e in (one.pair.first, one.pair.second))
        if first is None or second is None:
            return None
        return 0.5 if abs(first - second) < _EQUAL else float(first > second)

    found = []
    for name in scores:
        correlation = _correlation(human, scores[name], name, bootstrap or Bootstrap())
        same = _same(runs, name)
        found.append(_agreement(human, name, points, correlation, None, same, bootstrap))
    return found


def measure_choices(
    human: HumanSet, runs: Sequence[Sequence[Result]], bootstrap: Bootstrap | None = None
) -> list[Agreement]:
    """Of a judge that compares edits, in both orders.

    "overall" is what most of its perspectives say, unless it has one of that name.

    Args:
        runs: rows of each time it was asked; see `Result.against`.
    """
    metrics = list(dict.fromkeys(row.metric for row in runs[0]))
    matches = {metric: matches_of(select(runs[0], metric=metric)) for metric in metrics}
    known = {
        (metric, match.item, match.one, match.other): match.points
        for metric, found in matches.items()
        for match in found
    }

    def in_metric(one: Preference, metric: str) -> float | None:
        item, first, second = one.pair.first.row.item, one.pair.first.side, one.pair.second.side
        there = known.get((metric, item, first, second))
        back = known.get((metric, item, second, first))
        return there if there is not None else None if back is None else 1 - back

    def points(one: Preference) -> float | None:
        if one.perspective in metrics:
            return in_metric(one, one.perspective)
        given = [in_metric(one, metric) for metric in metrics]
        answered = [value for value in given if value is not None]
        if len(answered) < len(metrics):
            return None
        return (1 + float(np.sign(round(np.mean(answered) - 0.5, 9)))) / 2

    found = []
    for name in human.perspectives:
        taken = [name] if name in metrics else metrics if name == OVERALL else []
        answered = [match for metric in taken for match in matches[metric]]
        if answered:
            bias = order_bias(answered, bootstrap)
            same = _same(runs, *taken)
            found.append(_agreement(human, name, points, None, bias, same, bootstrap))
    return found


def _agreement(
    human: HumanSet,
    perspective: str,
    points: Points,
    correlation: Coefficient | None,
    order: OrderBias | None,
    same: float | None,
    bootstrap: Bootstrap | None,
) -> Agreement:
    bootstrap = bootstrap or Bootstrap()
    asked = [one for one in human.preferences if one.perspective == perspective]
    answered = [(one, given) for one in asked if (given := points(one)) is not None]
    right = {pair_name(one.pair): given == one.points for one, given in answered}
    decided = [(one, 1 - abs(given - one.points)) for one, given in answered if one.points != 0.5]
    return Agreement(
        perspective=perspective,
        pairs=len(answered),
        asked=len(asked),
        accuracy=_share([(one, float(given == one.points)) for one, given in answered], bootstrap),
        decided=_share(decided, bootstrap),
        ties=_share([(one, float(given == 0.5)) for one, given in answered], bootstrap),
        whole=_whole(right),
        correlation=correlation,
        order=order,
        same=same,
    )


def _share(found: Sequence[tuple[Preference, float]], bootstrap: Bootstrap) -> Share | None:
    if not found:
        return None
    data = Grouped.of(np.asarray([value for _, value in found]), [one.group for one, _ in found])
    if set(data.values.tolist()) <= {0.0, 1.0}:
        return Share(float(data.values.mean()), share_interval(data, bootstrap))
    return Share(float(data.values.mean()), mean_interval(data, bootstrap, (0.0, 1.0)))


def _whole(right: Mapping[tuple[str, frozenset[str]], bool]) -> float | None:
    items: dict[str, list[bool]] = {}
    for (item, _), is_right in right.items():
        items.setdefault(item, []).append(is_right)
    several = [all(of) for of in items.values() if len(of) > 1]
    return float(np.mean(several)) if several else None


def _by_perspective(human: HumanSet, rows: Sequence[Result]) -> dict[str, dict[str, float]]:
    """The judge's score of each edit, in each perspective of the people's that it has."""
    given: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.value is not None:
            given.setdefault(row.metric, {})[row.item] = row.value
    metrics = dict.fromkeys(row.metric for row in rows)
    found = {name: given.get(name, {}) for name in human.perspectives if name in metrics}
    if OVERALL in human.perspectives and OVERALL not in found and metrics:
        whole = set.intersection(*(set(given.get(metric, {})) for metric in metrics))
        found[OVERALL] = {
            item: float(np.mean([given[metric][item] for metric in metrics]))
            for item in sorted(whole)
        }
    return found


def _correlation(
    human: HumanSet, scores: Mapping[str, float], perspective: str, bootstrap: Bootstrap
) -> Coefficient | None:
    groups = {name: edit.row.group for name, edit in human.edits.items()}
    both = [
        (score, scores[item], groups[item])
        for (item, name), score in human.scores.items()
        if name == perspective and item in scores and item in groups
    ]
    if len(both) < 2:
        return None
    people, judge = (np.asarray([one[side] for one in both], np.float64) for side in (0, 1))
    index = Grouped.of(people, [group for _, _, group in both]).index
    return coefficient(spearman, people, judge, index, bootstrap)


def _same(runs: Sequence[Sequence[Result]], *metrics: str) -> float | None:
    """The share of answers that are the same in every run; of `OVERALL` all of them."""
    if len(runs) < 2:
        return None
    there = {row.metric for row in runs[0]}
    wanted = set(metrics) & there or there
    answers = [
        {row.key: row.value for row in run if row.status == "ok" and row.metric in wanted}
        for run in runs
    ]
    keys = set.intersection(*map(set, answers))
    return float(np.mean([len({of[key] for of in answers}) == 1 for key in keys])) if keys else None
