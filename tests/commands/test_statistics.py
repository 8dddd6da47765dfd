import pytest

from mre_jax.commands import statistics as statistics_command
from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import append_results
from tests.evaluation.commands import run
from tests.evaluation.rows import make_row, series


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results.jsonl"
    append_results(path, series([1, 2, 3, 4], per_group=2, system="old"))
    append_results(path, series([2, 3, 4, 5], per_group=2, system="new", condition="5,5,5"))
    append_results(path, series([2, 2, 2, 2], per_group=2, system="new", condition="0,0,0"))
    return path


def test_means_by_type(results, capsys):
    append_results(results, [make_row(system="old", item="7-7", kind="Style", status="refused")])
    assert run(statistics_command, results, "--types", "--draws", 50) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "real-edit old: following 2.5 [0, 5] accuracy 50.0% [0.0, 100.0] (4/5, 1 refused)"
    )
    assert lines[1].startswith("    Local: 2.5")
    assert lines[2] == "    Style: no value (0/1, 1 refused)"
    assert lines[-1].startswith("Only 2 groups: intervals of fewer than 20 are Student's t")


def test_a_comparison(results, capsys):
    assert run(statistics_command, results, "--compare", "new@5,5,5", "old", "--draws", 50) == 0
    score, accuracy, holm, few = capsys.readouterr().out.splitlines()
    assert score == (
        "real-edit: following score +1.000 [-4.051, +4.368] (4 items, 2 groups, 0 unpaired), "
        "p 0.5000 (Holm 1.0000), win rate 100.0% [15.8, 100.0]: 4 better, 0 equal, 0 worse"
    )
    assert accuracy == (
        "real-edit: following accuracy +25.0 points [-100.0, +100.0] (4 items, 2 groups, "
        "0 unpaired), p 0.5000 (Holm 1.0000)"
    )
    assert holm == "Holm: p corrected for the 2 differences above." and few.startswith("Only 2")


def test_a_comparison_needs_to_know_which_reward(results):
    with pytest.raises(ConfigError, match="say which reward, as new@5,5,5"):
        run(statistics_command, results, "--compare", "new", "old")
    with pytest.raises(DataError, match="no results of 'nobody'; there are old, new@5,5,5"):
        run(statistics_command, results, "--compare", "nobody", "old")


def test_two_judges_and_one_judge_twice(results, tmp_path, capsys):
    other = tmp_path / "other.jsonl"
    append_results(other, series([1, 2, 4, 3], per_group=2, system="old", measure="gpt"))
    assert run(statistics_command, results, "--correlate", other) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "following: Spearman 0.800, Kendall 0.667, Pearson 0.800, quadratic kappa 0.800, mean "
        "difference +0.000 [0, 0], same answer 100.0%, 4 edits",
        "    old: 2.500 against 2.500, Spearman 0.800",
    ]
    again = tmp_path / "again.jsonl"
    append_results(again, series([1, 2, 3, 5], per_group=2, system="old"))
    assert run(statistics_command, results, "--repeats", again) == 0
    assert "the means of 2 runs differ by 0.250" in capsys.readouterr().out
