"""Agreement of a judge with people, against numbers by hand."""

from pathlib import Path

import pytest
from scipy.stats import spearmanr

from mre_jax.evaluation.meta.human_set import HumanSet, Preference, edit_name
from mre_jax.evaluation.meta.measure import measure_choices, measure_scores
from mre_jax.evaluation.pairs.pair import Edit, Pair
from mre_jax.evaluation.statistics.intervals import Bootstrap
from tests.evaluation.rows import make_row
from tests.evaluation.statistics.test_pairs import answers

DRAWS = Bootstrap(100)


def edit(system, item):
    row = make_row(system=system, item=item, group=item.split("-")[0])
    return Edit(row, Path("o.png"), Path(f"{system}.png"))


def human(points, perspective="following", one="a", other="b"):
    """Preferences of items 0, 1, ..."""
    return [
        Preference(Pair(edit(one, f"{n}-1"), edit(other, f"{n}-1")), perspective, p)
        for n, p in enumerate(points)
    ]


def scored(scores, system, metric="following"):
    return [
        make_row(system="edits", item=f"{n}-1 {system}", group=str(n), metric=metric, value=v)
        for n, v in enumerate(scores)
    ]


def test_a_scoring_judge_prefers_the_higher_score_and_its_ties_are_halves():
    people = HumanSet("set", human([1, 0, 1, 0.5]))
    rows = scored([4.0, 1.0, 2.0, 3.0], "a") + scored([2.0, 3.0, 2.0, 3.0], "b")
    (found,) = measure_scores(people, [rows], DRAWS)
    assert (found.pairs, found.asked) == (4, 4)
    assert found.accuracy.value == 0.75  # right of the first, the second, and what is a tie
    assert found.decided.value == pytest.approx(2.5 / 3)
    assert found.ties.value == 0.5
    assert (found.order, found.same, found.whole) == (None, None, None)
    assert found.decided.interval.low < 2.5 / 3 < found.decided.interval.high


def test_scores_are_correlated_as_scipy_does_it():
    people = HumanSet("set", human([1, 0, 1, 1]), {})
    rows = scored([4.0, 1.0, 2.0, 5.0], "a") + scored([2.0, 3.0, 2.5, 3.0], "b")
    given = [5.0, 2.0, 3.0, 4.0, 1.0, 2.5, 2.0, 1.5]
    scores = {(row.item, "following"): value for row, value in zip(rows, given, strict=True)}
    (found,) = measure_scores(HumanSet("set", people.preferences, scores), [rows], DRAWS)
    wanted = spearmanr(given, [row.value for row in rows]).statistic
    assert found.correlation.value == pytest.approx(wanted)


def test_overall_is_the_mean_of_a_judge_s_perspectives():
    people = HumanSet("set", human([1, 0], "overall"))
    rows = [
        row
        for metric, scores in (("following", (5.0, 1.0)), ("quality", (1.0, 2.0)))
        for row in scored([scores[0], 0.0], "a", metric) + scored([scores[1], 1.0], "b", metric)
    ]
    (found,) = measure_scores(people, [rows], DRAWS)
    assert (found.perspective, found.decided.value) == ("overall", 1.0)


def test_a_comparing_judge_is_right_in_whichever_order_the_rows_have_the_pair():
    people = HumanSet("set", human([1, 1, 0, 1]))
    rows = [
        *answers("0-1", 1.0, 0.0),
        *answers("1-1", 0.0, 1.0, one="b", other="a"),
        *answers("2-1", 1.0, 0.0),
        *answers("3-1", 1.0, 1.0),
    ]
    (found,) = measure_choices(people, [rows], DRAWS)
    assert found.decided.value == (1 + 1 + 0 + 0.5) / 4
    assert (found.ties.value, found.order.agreed, found.order.first) == (0.25, 0.75, 0.125)


def test_overall_of_a_comparing_judge_is_what_most_of_its_perspectives_say():
    people = HumanSet("set", human([1], "overall"))
    rows = [
        *answers("0-1", 1.0, 0.0, metric="following"),
        *answers("0-1", 1.0, 0.0, metric="preserving"),
        *answers("0-1", 0.0, 1.0, metric="quality"),
    ]
    (found,) = measure_choices(people, [rows], DRAWS)
    assert found.decided.value == 1
    (found,) = measure_choices(people, [rows[:4]], DRAWS)
    assert found.pairs == 1
    (found,) = measure_choices(people, [[*rows[:2], *rows[4:]]], DRAWS)
    assert (found.decided.value, found.ties.value) == (0.5, 1)


def test_of_an_item_with_several_pairs_all_must_be_right():
    several = [
        *human([1, 1]), *human([1, 1], other="c"), *human([1, 1], one="b", other="c")
    ]  # fmt: skip
    rows = scored([3.0, 3.0], "a") + scored([2.0, 1.0], "b") + scored([1.0, 2.0], "c")
    (found,) = measure_scores(HumanSet("set", several), [rows], DRAWS)
    assert found.whole == 0.5
    assert found.decided.value == pytest.approx(5 / 6)


def test_what_is_not_answered_is_not_counted():
    people = HumanSet("set", human([1, 0]))
    rows = scored([4.0], "a") + scored([2.0], "b")
    (found,) = measure_scores(people, [rows], DRAWS)
    assert (found.pairs, found.asked, found.decided.value) == (1, 2, 1)


def test_repeats_that_differ_are_told():
    people = HumanSet("set", human([1, 0]))
    first = scored([4.0, 1.0], "a") + scored([2.0, 3.0], "b")
    again = scored([4.0, 1.0], "a") + scored([2.0, 4.0], "b")
    assert measure_scores(people, [first, again], DRAWS)[0].same == 0.75


def test_every_edit_has_one_name_in_all_its_pairs():
    people = HumanSet("set", [*human([1]), *human([1], "quality"), *human([0], other="c")])
    assert list(people.edits) == ["0-1 a", "0-1 b", "0-1 c"]
    assert len(people.pairs) == 2 and len(people.first(1).preferences) == 2
    assert edit_name(people.pairs[0].first) == "0-1 a"
