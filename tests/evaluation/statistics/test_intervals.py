"""Intervals of few groups, of shares of all or none, and p-values of many comparisons."""

import numpy as np
import pytest
import scipy.stats

from mre_jax.evaluation.statistics.intervals import (
    Bootstrap,
    Grouped,
    bounded_interval,
    few_groups_note,
    holm,
    mean_interval,
    p_value,
    share_interval,
)


def grouped(values, per_group):
    values = np.asarray(values, float)
    return Grouped.of(values, [f"{n // per_group}" for n in range(len(values))])


@pytest.mark.parametrize("groups", [3, 5, 8])
def test_few_groups_have_the_interval_of_student_s_t(groups):
    values = np.random.default_rng(0).normal(size=7 * groups)
    found = mean_interval(grouped(values, 7), Bootstrap())
    means = values.reshape(groups, 7).mean(1)
    theirs = scipy.stats.ttest_1samp(means, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx(theirs)
    p = scipy.stats.ttest_1samp(means, 0).pvalue
    assert p_value(grouped(values, 7), Bootstrap()) == pytest.approx(max(p, 2.0 ** (1 - groups)))


@pytest.mark.parametrize(("groups", "draws"), [(5, 1000), (8, 1000), (20, 400), (80, 400)])
def test_intervals_cover_the_truth_as_often_as_they_say(groups, draws):
    """Five photos used to cover it 82 times in 100. Three standard errors are 4 points."""
    rng = np.random.default_rng(3)
    hits = 0
    for seed in range(draws):
        values = np.repeat(rng.normal(size=groups), 7) + rng.normal(size=7 * groups)
        interval = mean_interval(grouped(values, 7), Bootstrap(300, seed))
        hits += interval.low <= 0 <= interval.high
    assert 0.91 <= hits / draws <= 0.985


def test_a_share_of_all_or_none_is_not_certain():
    for groups in (3, 20, 80):
        unseen = 1 - 0.025 ** (1 / groups)  # Clopper and Pearson's, in closed form
        all_yes = share_interval(grouped(np.ones(7 * groups), 7), Bootstrap())
        assert (all_yes.low, all_yes.high) == pytest.approx((1 - unseen, 1))
        none = share_interval(grouped(np.zeros(7 * groups), 7), Bootstrap())
        assert (none.low, none.high) == pytest.approx((0, unseen))


def test_a_share_of_answers_that_photos_do_not_share_is_exact():
    answers = np.random.default_rng(0).random(600) < 0.3
    found = share_interval(grouped(answers, 1), Bootstrap())
    exact = scipy.stats.binomtest(int(answers.sum()), 600).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=2e-3)


def test_answers_that_a_photo_shares_count_once():
    answers = np.repeat(np.random.default_rng(0).random(80) < 0.5, 7)
    found = share_interval(grouped(answers, 7), Bootstrap())
    exact = scipy.stats.binomtest(int(answers.sum() / 7), 80).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.01)


def test_scores_that_are_all_equal_may_differ_where_nobody_looked():
    same = grouped(np.full(140, 5.0), 7)
    found = mean_interval(same, Bootstrap(), (0.0, 5.0))
    assert (found.low, found.high) == (pytest.approx(5 * 0.025 ** (1 / 20)), 5)
    assert mean_interval(same, Bootstrap()) is None  # nothing is known of how far


@pytest.mark.parametrize("groups", [3, 5, 8])
def test_means_near_a_bound_cover_the_truth_too(groups):
    """Scores of 4.8 on average, most of them 5: Student's t of five photos covered it 86 times."""
    rng = np.random.default_rng(1)

    def draw(photos):
        shared, own = np.repeat(rng.normal(size=photos), 7), rng.normal(size=7 * photos)
        return np.clip(np.rint(6 + shared + own), 0, 5)

    truth, hits, shorter = draw(100_000).mean(), 0, 0
    for _ in range(500):
        data = grouped(draw(groups), 7)
        found = bounded_interval(data, Bootstrap(), (0.0, 5.0))
        hits += found.low <= truth <= found.high
        shorter += mean_interval(data, Bootstrap(), (0.0, 5.0)).low > truth
    assert hits / 500 >= 0.92
    assert shorter / 500 > 0.05 or groups == 3  # or this would need no care


def test_between_bounds_few_groups_have_the_interval_of_a_share_at_any_scale():
    scores = np.clip(np.random.default_rng(0).normal(0.8, 0.2, 56), 0, 1)
    one = bounded_interval(grouped(scores, 7), Bootstrap(), (0.0, 1.0))
    five = bounded_interval(grouped(5 * scores - 1, 7), Bootstrap(), (-1.0, 4.0))
    assert (five.low, five.high) == pytest.approx((5 * one.low - 1, 5 * one.high - 1))
    assert one.low < scores.mean() - (one.high - scores.mean())  # longer away from the bound
    alike = grouped([1, 3, 2, 2], 2)  # groups of one mean by chance tell nothing of others
    found = bounded_interval(alike, Bootstrap(), (0.0, 5.0))
    assert found.low < 1 and found.high > 4
    many = grouped(np.random.default_rng(0).random(140), 7)
    assert bounded_interval(many, Bootstrap(50), (0.0, 1.0)) == mean_interval(
        many, Bootstrap(50), (0.0, 1.0)
    )


def test_an_interval_does_not_leave_the_scale():
    high = grouped([5, 5, 5, 5, 4, 5], 2)
    assert mean_interval(high, Bootstrap(), (0.0, 5.0)).high == 5


def test_holm_s_correction():
    # By hand: 4 x .01; 3 x .015; then no less than the one before, 2 x .02 and .5.
    assert holm([0.5, 0.01, 0.02, 0.015]) == pytest.approx([0.5, 0.04, 0.045, 0.045])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


def test_few_groups_are_told_of():
    assert few_groups_note([80, 20]) is None
    assert few_groups_note([80, 5, 8]).startswith("Only 5 to 8 groups")
    assert few_groups_note([1, 80]).startswith("Only one group: ")  # which has no interval


def test_few_groups_that_are_alike_though_their_values_differ_end_no_report():
    """Two systems that differ in the same way in each of a few pictures: there is no scatter."""
    data = grouped([1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 2)
    assert p_value(data, Bootstrap()) == 0.25  # three coins on one side
    assert p_value(grouped([1.0, -1.0, 1.0, -1.0], 2), Bootstrap()) == 1
