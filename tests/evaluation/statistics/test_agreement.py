"""Agreement of judges, against published examples and other implementations."""

import numpy as np
import pytest
import scipy.stats

from mre_jax.errors import DataError
from mre_jax.evaluation.statistics.agreement import (
    correlate,
    correlate_systems,
    reliability,
    self_consistency,
)
from mre_jax.evaluation.statistics.coefficients import Coefficient, kappa, krippendorff_alpha
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.judges.others.ratings import Rating
from tests.evaluation.rows import series


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, 50)  # with many ties
    y = np.clip(x + rng.integers(-1, 2, 50), 0, 5)
    found = correlate(series(x), series(y, measure="gpt"))
    assert found.spearman.value == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert found.kendall.value == pytest.approx(scipy.stats.kendalltau(x, y).statistic)
    assert found.pearson.value == pytest.approx(scipy.stats.pearsonr(x, y).statistic)
    assert found.mean_difference == pytest.approx((x - y).mean())
    assert found.same_answer == pytest.approx(np.mean((x >= 3) == (y >= 3)))


def test_a_judge_that_always_says_the_same_correlates_with_none():
    found = correlate(series([0.1] * 5), series([1, 2, 3, 4, 5], measure="gpt"))
    for coefficient in (found.pearson, found.spearman, found.kendall):
        assert coefficient == Coefficient(None, None)


def test_correlation_needs_common_edits_of_one_metric():
    with pytest.raises(DataError, match="share 0 edits"):
        correlate(series([1, 2]), series([1, 2], system="b"))
    with pytest.raises(DataError, match="several metrics"):
        correlate(series([1, 2]), series([1, 2], metric="quality"))


def test_self_consistency_of_three_runs():
    found = self_consistency([series([1, 3, 5]), series([1, 3, 4]), series([1, 3, 3])])
    assert found.mean_spread == pytest.approx(2 / 3)
    assert found.accuracy_spread == 0
    assert found.item_deviation == pytest.approx(1 / 3)
    assert found.same_score == pytest.approx(2 / 3)
    assert (found.runs, found.items) == (3, 3)
    with pytest.raises(DataError, match="two or more"):
        self_consistency([series([1])])
    with pytest.raises(DataError, match="judges"):
        self_consistency([series([1]), series([1], measure="gpt")])


def test_intervals_of_a_correlation_are_those_of_fisher():
    """One edit a photo: the closed form is 1 / sqrt(n - 3) on the scale of z."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    y = 0.6 * x + 0.8 * rng.normal(size=400)
    found = correlate(series(x, per_group=1), series(y, per_group=1, measure="gpt")).pearson
    low, high = np.arctanh([found.interval.low, found.interval.high])
    assert (high - low) / 2 == pytest.approx(1.966 / np.sqrt(397), rel=0.1)
    assert np.tanh((low + high) / 2) == pytest.approx(found.value)


def test_photos_that_share_much_widen_the_interval_of_a_correlation():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 40)).repeat(7, axis=1) + 0.1 * rng.normal(size=(2, 280))
    one, seven = (
        correlate(series(x, per_group=n), series(y, per_group=n, measure="gpt")).spearman.interval
        for n in (1, 7)
    )
    assert seven.high - seven.low > 2 * (one.high - one.low)


def test_kappa_is_cohen_s_with_quadratic_weights():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, 200)
    y = np.clip(x + rng.integers(-2, 3, 200), 0, 5)
    table = np.zeros((6, 6))
    np.add.at(table, (x, y), 1 / 200)
    weights = (np.arange(6)[:, None] - np.arange(6)) ** 2
    expected = 1 - (weights * table).sum() / (weights * np.outer(table.sum(1), table.sum(0))).sum()
    assert kappa(x.astype(float), y.astype(float)) == pytest.approx(expected)


def test_each_system_has_its_own_correlation():
    rows = [*series([1, 2, 3]), *series([4, 4, 1], system="b")]
    judge = [*series([2, 3, 4], measure="gpt"), *series([5, 5, 1], system="b", measure="gpt")]
    one, other = correlate_systems(rows, judge)
    assert (one.system, one.first, one.second, one.correlation.spearman.value) == ("a", 2, 3, 1)
    assert (other.first, other.correlation.mean_difference) == (3, pytest.approx(-2 / 3))


KRIPPENDORFF = [
    [1, 1, None, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
    [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [None, 5, 5, 5], [None, None, 1, 1],
    [None, 3, None, None],
]  # fmt: skip
"""Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), example C."""


@pytest.mark.parametrize(("scale", "value"), [("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(scale, value):
    units = [[score for score in unit if score is not None] for unit in KRIPPENDORFF]
    groups = [str(place) for place in range(len(units))]
    found = krippendorff_alpha(units, groups, scale)
    assert found.value == pytest.approx(value, abs=5e-4)
    assert found.interval.low < found.value < found.interval.high


def test_alpha_of_many_photos_is_drawn_again():
    rng, few = np.random.default_rng(0), Bootstrap(500)
    truth = rng.integers(0, 6, 400)
    units = np.clip(truth[:, None] + rng.integers(-1, 2, (400, 3)), 0, 5)
    alone = krippendorff_alpha(units.tolist(), [f"{n}" for n in range(400)], bootstrap=few)
    photos = krippendorff_alpha(units.tolist(), [f"{n // 5}" for n in range(400)], bootstrap=few)
    assert alone.value == photos.value
    for found in (alone, photos):
        assert 0.01 < found.interval.high - found.interval.low < 0.1


def test_agreement_that_is_perfect_or_undefined_has_no_interval():
    groups = ["0", "1", "2", "3"]
    assert krippendorff_alpha([[1, 1], [2, 2], [3, 3], [4, 4]], groups) == Coefficient(1, None)
    assert krippendorff_alpha([[4, 4]] * 4, groups) == Coefficient(None, None)


def rating(item, annotator, score):
    return Rating(item, "following", score, system="A", annotator=annotator)


def test_reliability_of_two_people_and_of_three():
    scores = {"1": (1, 2, 1), "2": (3, 3, 4), "3": (5, 4, 5), "4": (2, 2, 3)}
    ratings = [
        rating(item, name, score)
        for item, given in scores.items()
        for name, score in zip("abc", given, strict=True)
    ]
    two = reliability([one for one in ratings if one.annotator != "c"])
    x, y = (np.asarray([given[n] for given in scores.values()], float) for n in (0, 1))
    assert two.kappa.value == pytest.approx(kappa(x, y)) and two.kappa.interval is not None
    three = reliability([*ratings, rating("5", "a", 3)])
    assert (three.annotators, three.edits, three.kappa.interval) == (3, 4, None)
    with pytest.raises(DataError, match="no edit is scored by two people"):
        reliability(ratings[:1])
