"""How judges agree: two of them, people among each other, one that is asked again.

Coefficients have intervals that respect groups (photos), by leaving out one after the other, but
for Krippendorff's alpha, whose groups are drawn again where there are enough.
"""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from mre_jax.errors import DataError
from mre_jax.evaluation.provenance import check_comparable
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.coefficients import (
    Coefficient,
    coefficient,
    kappa,
    kendall,
    krippendorff_alpha,
    pearson,
    spearman,
)
from mre_jax.evaluation.statistics.intervals import (
    Bootstrap,
    Grouped,
    Interval,
    mean_interval,
)
from mre_jax.judges.others.ratings import Rating


@dataclasses.dataclass(frozen=True)
class Correlation:
    """How two judges agree on the same edits.

    Attributes:
        pearson, spearman: coefficients of correlation, of values and of ranks.
        kendall: tau-b, which allows for ties.
        kappa: Cohen's, with quadratic weights; of scores that are no categories, Lin's
            concordance, which is the same.
        mean_difference: mean of the first's score less the second's.
        difference_interval: confidence interval of `mean_difference`.
        same_answer: share of edits with the same yes or no; None for judges that say neither.
        items: edits that both have scored.
        groups: number of photos that these are of.
    """

    pearson: Coefficient
    spearman: Coefficient
    kendall: Coefficient
    kappa: Coefficient
    mean_difference: float
    difference_interval: Interval | None
    same_answer: float | None
    items: int
    groups: int


@dataclasses.dataclass(frozen=True)
class SystemAgreement:
    """One system before two judges, on the edits that both have scored.

    Attributes:
        system, condition: editor and its reward, as in the results.
        first, second: the judges' mean scores.
        correlation: over its edits; None for a single one.
    """

    system: str
    condition: str
    first: float
    second: float
    correlation: Correlation | None


@dataclasses.dataclass(frozen=True)
class Reliability:
    """How several people agree on the same edits.

    Attributes:
        ordinal, interval: Krippendorff's alpha on either scale.
        kappa: Cohen's with quadratic weights, of two people; of more, the mean over all pairs of
            them that share two edits or more, without interval.
        annotators: number of people.
        edits: number of edits that two or more of them have scored.
    """

    ordinal: Coefficient
    interval: Coefficient
    kappa: Coefficient
    annotators: int
    edits: int


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


def correlate(
    first: Sequence[Result], second: Sequence[Result], bootstrap: Bootstrap | None = None
) -> Correlation:
    """How two judges agree in one metric, over all edits that both have scored.

    Args:
        first, second: rows of one judge each; systems and conditions may be mixed, as edits are
            paired by them too.

    Raises:
        DataError: if one side mixes judges or metrics, or if they share fewer than two edits.
    """
    bootstrap = bootstrap or Bootstrap()
    pairs = pair_edits(first, second)
    if len(pairs) < 2:
        raise DataError(f"the two judges share {len(pairs)} edits; a correlation needs two or more")
    x, y = (np.asarray([row.value for row in side]) for side in zip(*pairs, strict=True))
    difference = Grouped.of(x - y, [a.group for a, _ in pairs])

    answers = [(a.passed, b.passed) for a, b in pairs]
    same = None
    if all(None not in answer for answer in answers):
        same = float(np.mean([a == b for a, b in answers]))
    return Correlation(
        pearson=coefficient(pearson, x, y, difference.index, bootstrap),
        spearman=coefficient(spearman, x, y, difference.index, bootstrap),
        kendall=coefficient(kendall, x, y, difference.index, bootstrap),
        kappa=coefficient(kappa, x, y, difference.index, bootstrap),
        mean_difference=float((x - y).mean()),
        difference_interval=mean_interval(difference, bootstrap),
        same_answer=same,
        items=len(pairs),
        groups=difference.count,
    )


def correlate_systems(
    first: Sequence[Result], second: Sequence[Result], bootstrap: Bootstrap | None = None
) -> list[SystemAgreement]:
    """`correlate` for every system, and every reward it was asked for, that both judges scored.

    Raises:
        DataError: as `correlate`.
    """
    by_system = collections.defaultdict(list)
    for pair in pair_edits(first, second):
        by_system[pair[0].system, pair[0].condition].append(pair)
    found = []
    for (system, condition), pairs in by_system.items():
        ours, theirs = (list(side) for side in zip(*pairs, strict=True))
        found.append(
            SystemAgreement(
                system,
                condition,
                float(np.mean([row.value for row in ours])),
                float(np.mean([row.value for row in theirs])),
                correlate(ours, theirs, bootstrap) if len(pairs) > 1 else None,
            )
        )
    return found


def pair_edits(first: Sequence[Result], second: Sequence[Result]) -> list[tuple[Result, Result]]:
    """The rows of two judges about the same edits, of those that both have scored.

    Raises:
        DataError: if one side mixes judges or metrics.
    """
    for rows in (first, second):
        check_comparable(rows)
    _check_one_metric([*first, *second])
    theirs = {row.measured: row for row in second if row.status == "ok"}
    return [
        (row, theirs[row.measured])
        for row in first
        if row.status == "ok" and row.measured in theirs
    ]


def reliability(
    ratings: Sequence[Rating],
    groups: Mapping[str, str] | None = None,
    bootstrap: Bootstrap | None = None,
) -> Reliability:
    """How people agree in one perspective.

    Args:
        ratings: scores in one perspective, by two people or more.
        groups: the photo of each item, which intervals are over; by default the item itself.

    Raises:
        DataError: if no edit is scored by two people.
    """
    bootstrap = bootstrap or Bootstrap()
    by_edit: dict[tuple[str, ...], dict[str, float]] = collections.defaultdict(dict)
    for one in ratings:
        by_edit[one.edit][one.annotator] = float(one.score)
    shared = {edit: scores for edit, scores in by_edit.items() if len(scores) > 1}
    if not shared:
        raise DataError("no edit is scored by two people; a column 'annotator' tells them apart")
    names = [(groups or {}).get(item, item) for _, item, _ in shared]
    scores = [list(of.values()) for of in shared.values()]
    return Reliability(
        ordinal=krippendorff_alpha(scores, names, "ordinal", bootstrap),
        interval=krippendorff_alpha(scores, names, "interval", bootstrap),
        kappa=_pairwise_kappa(list(shared.values()), names, bootstrap),
        annotators=len({one.annotator for one in ratings}),
        edits=len(shared),
    )


def ratings_in(rows: Sequence[Result]) -> list[Rating]:
    """What each annotator said, as far as rows of people's scores record it."""
    return [
        Rating(
            row.item,
            row.metric,
            score,
            system=f"{row.system}@{row.condition}" if row.condition else row.system,
            annotator=name,
        )
        for row in rows
        if row.people and row.status == "ok"
        for name, score in row.provenance.get("annotators", {}).items()
    ]


def reliability_in(
    rows: Sequence[Result], bootstrap: Bootstrap | None = None
) -> dict[str, Reliability]:
    """`reliability` by metric, of those in which rows of people have several annotators.

    Args:
        rows: of one suite; a judge's are passed over.
    """
    groups = {row.item: row.group for row in rows}
    by_metric: dict[str, list[Rating]] = collections.defaultdict(list)
    for one in ratings_in(rows):
        by_metric[one.perspective].append(one)
    return {
        metric: reliability(ratings, groups, bootstrap)
        for metric, ratings in by_metric.items()
        if max(collections.Counter(one.edit for one in ratings).values()) > 1
    }


def largest_differences(
    first: Sequence[Result], second: Sequence[Result], count: int
) -> list[tuple[Result, Result]]:
    """The rows of two judges about the edits of which they differ most, of one metric.

    Raises:
        DataError: as `pair_edits`.
    """
    pairs = [pair for pair in pair_edits(first, second) if pair[0].value != pair[1].value]
    return sorted(pairs, key=lambda pair: -abs(_difference(*pair)))[:count]


def _difference(one: Result, other: Result) -> float:
    return (one.value or 0.0) - (other.value or 0.0)


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
    _check_one_metric(everything)
    scored = [{row.key: row for row in run if row.status == "ok"} for run in runs]
    keys = [key for key in scored[0] if all(key in run for run in scored)]
    if not keys:
        raise DataError("no edit is scored in every run")
    values = np.asarray([[run[key].value for key in keys] for run in scored], np.float64)
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


def _pairwise_kappa(
    edits: Sequence[Mapping[str, float]], groups: Sequence[str], bootstrap: Bootstrap
) -> Coefficient:
    people = list(dict.fromkeys(name for scores in edits for name in scores))
    found = []
    for one, other in itertools.combinations(people, 2):
        both = [place for place, scores in enumerate(edits) if one in scores and other in scores]
        if len(both) < 2:
            continue
        x, y = (np.asarray([edits[place][name] for place in both]) for name in (one, other))
        index = Grouped.of(x, [groups[place] for place in both]).index
        found.append(coefficient(kappa, x, y, index, bootstrap))
    if len(found) == 1:
        return found[0]
    known = [one.value for one in found if one.value is not None]
    return Coefficient(float(np.mean(known)) if known else None, None)


def _check_one_metric(rows: Sequence[Result]) -> None:
    metrics = {row.metric for row in rows}
    if len(metrics) > 1:
        raise DataError(f"scores of several metrics: {', '.join(sorted(metrics))}; take one")
