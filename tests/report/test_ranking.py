import dataclasses
import re

from mre_jax.report.ranking import ranking
from mre_jax.report.scores import Scores
from tests.report.rows import make_row, make_world


def test_systems_stand_by_their_mean_with_the_ranks_they_may_have(tmp_path):
    (chart,) = ranking(Scores("real-edit", make_world(tmp_path)))
    lines = re.findall(r"<tr>(.*?)</tr>", chart)[1:]
    texts = [re.sub(r"<[^>]*>", " ", line).split() for line in lines]
    assert [text[:5] for text in texts[:2]] == [
        ["1", "[1,", "1]", "reward", "5,5,5"],
        ["2", "[2,", "2]", "baseline", "2.55"],
    ]
    names = re.findall(r'<text[^>]*text-anchor="end"[^>]*>(?:<title>.*?</title>)?([^<]*)', chart)
    assert names[0] == "reward 5,5,5"
    assert "Only 3 groups" in chart


def test_a_system_without_a_score_comes_last_and_is_not_drawn():
    rows = [make_row(), make_row(system="lost", value=None, passed=None, status="refused")]
    (chart,) = ranking(Scores("s", rows))
    assert chart.count("<circle") == 2  # the other's score, and its mean of all
    (lost,) = [row for row in re.findall(r"<tr>(.*?)</tr>", chart) if "lost" in row]
    assert re.sub(r"<[^>]*>", " ", lost).split()[-2:] == ["0/1", "\u2013"]


def test_long_names_are_cut_in_the_chart_only():
    name = "a system of a rather long name, as runs have"
    chart, *_ = ranking(Scores("s", [dataclasses.replace(make_row(), system=name)]))
    assert "a system of a rather long nam…" in chart and f"<title>{name} 5,5,5</title>" in chart


def test_a_name_is_cut_by_what_is_seen_of_it():
    """A mark that is shown by its number takes eight letters' room, and the name lost its start."""
    name = "\u202e" * 6
    chart, *_ = ranking(Scores("s", [dataclasses.replace(make_row(), system=name, condition="")]))
    assert f"{'[U+202E]' * 3}[U+20\u2026</text>" in chart


def test_metrics_without_a_judge_are_not_ranked():
    assert ranking(Scores("s", [make_row(metric="clip_i", passed=None)])) == []
