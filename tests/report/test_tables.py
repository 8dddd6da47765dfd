import re

import pytest

from mre_jax.report.scores import Scores, Variant
from mre_jax.report.tables import (
    coverage_table,
    difference_table,
    kind_tables,
    other_table,
    score_table,
)
from tests.report.rows import make_row, make_world, spread


@pytest.fixture
def scores(tmp_path):
    return Scores("real-edit", make_world(tmp_path))


def line(table, name):
    """The texts of one line's cells."""
    (found,) = [row for row in re.findall(r"<tr>(.*?)</tr>", table) if name in row]
    return [re.sub(r"<[^>]*>", " ", cell) for cell in re.findall(r"<td.*?</td>", found)]


def test_every_mean_has_its_interval_and_coverage(scores):
    cells = line(score_table(scores), "baseline")
    # By hand: 2.125 plus (-1, -1, 0, 0, 1, 1) / 4, less the refused last item.
    assert cells[1].split()[0] == "2.05"
    assert cells[1].split()[-1] == "5/6"
    assert re.search(r"\[1\.\d\d, 2\.\d\d\]", cells[1])
    assert cells[3].split()[-1] == "6/6"


def test_accuracy_is_the_share_of_yes(scores):
    cells = line(score_table(scores), ">5,5,5<")
    assert cells[0].split()[0] == "100.0"


def test_the_best_mean_is_marked(scores):
    (found,) = [r for r in re.findall(r"<tr>(.*?)</tr>", score_table(scores)) if ">5,5,5<" in r]
    assert found.count('class="best"') == 3
    assert score_table(scores).count('class="best"') == 3


def test_of_distances_the_smallest_is_best():
    rows = [
        make_row(system=name, metric="l1", value=value, passed=None)
        for name, value in (("a", 0.2), ("b", 0.1))
    ]
    table = other_table(Scores("s", rows))
    (best,) = [row for row in re.findall(r"<tr>(.*?)</tr>", table) if 'class="best"' in row]
    assert "0.1000" in best
    assert "l1 ↓" in table


def test_a_difference_is_paired_and_clear_only_without_zero(scores):
    table = difference_table(Scores("s", spread(scores.rows)), Variant("baseline", ""))
    share, following, _, preserving, _, quality = line(table, ">5,5,5<")
    assert share.split()[0] == "+100.0"  # of no yes and all yes
    assert "▲ +2.00" in following
    assert following.split()[-1] == "5"
    assert "▲ +1.75" in preserving
    assert "▲ +1.50" in quality
    assert "▼" in line(table, ">0,0,0<")[1]
    assert "differences of this table by Holm&#39;s method" in table


def test_types_have_their_own_means(scores):
    following, *_ = kind_tables(scores)
    local, style = line(following, ">5,5,5<")
    assert local.split() == ["4.00", "3/3"]
    assert style.split() == ["4.25", "3/3"]


def test_what_is_missing_is_listed_only_if_something_is(scores):
    assert "1 refused" in line(coverage_table(scores), "baseline")[0]
    assert coverage_table(Scores("s", [make_row()])) is None


def test_metrics_without_judge_have_no_table_of_scores():
    scores = Scores("s", [make_row(metric="clip_i", value=0.8, passed=None)])
    assert score_table(scores) is None
    assert "0.8000" in other_table(scores)
