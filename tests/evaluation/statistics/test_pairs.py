import pytest

from mre_jax.errors import DataError
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.statistics.pairs import all_pair_scores, matches_of, pair_lines, pair_scores
from tests.evaluation.rows import make_row

DRAWS = Bootstrap(200)


def answers(item, there, back, one="a", other="b", **fields):
    """Both rows of a pair: what the edit shown first gets, `one` first and then `other`."""
    shared = {"item": item, "group": item.split("-")[0], "passed": None, **fields}
    return [
        make_row(system=one, against=other, value=there, **shared),
        make_row(system=other, against=one, value=back, **shared),
    ]


def test_an_edit_wins_where_both_orders_choose_it_and_ties_where_they_do_not():
    rows = [*answers("0-1", 1.0, 0.0), *answers("0-2", 0.0, 1.0), *answers("1-1", 1.0, 1.0)]
    won, lost, tied = matches_of(rows)
    assert (won.points, lost.points, tied.points) == (1, 0, 0.5)
    assert (won.agreed, lost.agreed, tied.agreed) == (True, True, False)
    assert tied.first == 1  # whichever was shown first


def test_a_pair_without_an_answer_in_one_order_counts_nowhere_and_is_said():
    half = answers("1-1", 1.0, 0.0)
    rows = [*answers("0-1", 1.0, 0.0), half[0], make_row(**{**vars(half[1]), "status": "refused"})]
    found = pair_scores(rows, DRAWS)
    assert (found.matches, found.asked, found.coverage) == (1, 2, "1/2")
    assert pair_scores(rows[2:], DRAWS) is None


def test_where_neither_may_be_said_a_pair_is_won_only_if_both_orders_say_so():
    rows = [*answers("0-1", 1.0, 0.5), *answers("0-2", 0.5, 0.5)]
    first, second = matches_of(rows)
    assert (first.points, first.agreed) == (0.5, False)
    assert (second.points, second.agreed) == (0.5, True)


def test_the_matrix_of_wins_by_hand():
    rows = []
    for item in range(4):
        rows += answers(f"{item}-1", 1.0, 0.0)  # a beats b in 4 of 4
        rows += answers(f"{item}-1", 1.0, float(item > 0), other="c")  # a beats c in 1, ties 3
    found = pair_scores(rows, DRAWS)
    assert found.systems == ("a", "c", "b")
    ab, ca = found.matrix["a", "b"], found.matrix["c", "a"]
    assert (ab.wins, ab.ties, ab.losses, ab.rate) == (4, 0, 0, 1.0)
    assert (ca.wins, ca.ties, ca.losses, ca.rate) == (0, 3, 1, 0.375)
    assert ca.interval.low < 0.375 < ca.interval.high
    assert 0.2 < ab.interval.low < 1 == ab.interval.high  # all of four is not certain
    assert ("b", "c") not in found.matrix
    assert found.records["a"].rate == pytest.approx((4 + 2.5) / 8)


def test_a_judge_that_always_takes_the_first_is_told():
    rows = [row for n in range(30) for row in answers(f"{n}-1", 1.0, 1.0)]
    order = pair_scores(rows, DRAWS).order
    assert (order.agreed, order.first) == (0, 0.5)
    fair = [row for n in range(30) for row in answers(f"{n}-1", float(n % 2), float(n % 2 == 0))]
    assert (pair_scores(fair, DRAWS).order.agreed, pair_scores(fair, DRAWS).order.first) == (1, 0)
    assert "first shown chosen +50.0%" in pair_lines(rows, DRAWS)[0]


def test_answers_of_different_judges_are_refused_in_one_ranking():
    rows = [*answers("0-1", 1.0, 0.0), *answers("1-1", 1.0, 0.0, measure="other-judge")]
    with pytest.raises(DataError, match="different judges"):
        all_pair_scores(rows, DRAWS)
    apart = [*answers("0-1", 1.0, 0.0), *answers("1-1", 1.0, 0.0, metric="quality", measure="x")]
    assert [one.metric for one in all_pair_scores(apart, DRAWS)] == ["following", "quality"]
