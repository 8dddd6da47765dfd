import re

import pytest

from mre_jax.report.response import contrast_matrix, contrasts, response_chart
from mre_jax.report.scores import Scores, Variant
from tests.report.rows import make_row, make_world, spread


@pytest.fixture
def scores(tmp_path):
    return Scores("real-edit", make_world(tmp_path))


def texts(chart):
    return re.findall(r"<text[^>]*>([^<]*)</text>", chart)


def test_the_curve_tells_the_rise_with_its_interval(scores):
    figure = response_chart(Scores("s", spread(scores.rows)), "reward")
    assert "from 0,0,0 to 5,5,5: following +3.00 [+2.98, +3.02]" in figure
    assert "4.12" in figure  # the mean of following, in the numbers below the curve


def test_one_reward_is_no_curve(scores):
    assert response_chart(scores, "baseline") is None


def test_the_matrix_is_what_one_perspective_alone_changes(scores):
    (contrast,) = contrasts(scores, "reward")
    assert contrast.reference == Variant("reward", "0,0,0")
    figure = contrast_matrix(scores, contrast)
    changes = [text for text in texts(figure) if re.fullmatch(r"[+\u2212]\d\.\d\d", text)]
    assert changes == [
        *("+2.00", "+0.00", "+0.25"),
        *("+0.50", "+2.50", "+0.00"),
        *("+0.00", "+0.50", "+3.00"),
    ]


def test_without_a_reference_the_matrix_has_the_scores_and_their_coverage(scores):
    rows = [row for row in scores.rows if row.condition != "0,0,0"]
    (contrast,) = contrasts(Scores("s", rows), "reward")
    assert contrast.reference is None
    figure = contrast_matrix(Scores("s", rows), contrast)
    assert "3.12" in texts(figure)
    assert texts(figure).count("6/6") == 9


def test_an_incomplete_set_of_conditions_gives_no_matrix(scores):
    rows = [row for row in scores.rows if row.condition != "0,5,0"]
    assert contrasts(Scores("s", rows), "reward") == []


def test_conditions_that_are_no_rewards_are_passed_over():
    rows = [make_row(condition=text) for text in ("strong", "1,2", "1,2,3")]
    scores = Scores("s", rows)
    assert contrasts(scores, "reward") == []
    assert response_chart(scores, "reward") is None
