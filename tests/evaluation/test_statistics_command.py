import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation import statistics_command
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
    assert lines[0].startswith("real-edit old: following 2.5 [1.5, 3.5] accuracy 50.0% (4/5, 1 ref")
    assert lines[1].startswith("Local: 2.5") and lines[2] == "Style: no value (0/1, 1 refused)"


def test_a_comparison(results, capsys):
    assert run(statistics_command, results, "--compare", "new@5,5,5", "old", "--draws", 50) == 0
    assert capsys.readouterr().out == (
        "real-edit: following +1.000 [1, 1], p 0.5000, 4 better, 0 equal, 0 worse of 4 "
        "(2 groups, 0 unpaired)\n"
    )


def test_a_comparison_needs_to_know_which_reward(results):
    with pytest.raises(ConfigError, match="say which reward, as new@5,5,5"):
        run(statistics_command, results, "--compare", "new", "old")
    with pytest.raises(DataError, match="no results of 'nobody'; there are old, new@5,5,5"):
        run(statistics_command, results, "--compare", "nobody", "old")


def test_two_judges_and_one_judge_twice(results, tmp_path, capsys):
    other = tmp_path / "other.jsonl"
    append_results(other, series([1, 2, 4, 3], per_group=2, system="old", measure="gpt"))
    assert run(statistics_command, results, "--correlate", other) == 0
    assert "following: Spearman 0.800, Pearson 0.800, mean difference +0.000" in (
        capsys.readouterr().out
    )
    again = tmp_path / "again.jsonl"
    append_results(again, series([1, 2, 3, 5], per_group=2, system="old"))
    assert run(statistics_command, results, "--repeats", again) == 0
    assert "the means of 2 runs differ by 0.250" in capsys.readouterr().out
