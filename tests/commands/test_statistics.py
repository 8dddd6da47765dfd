import dataclasses

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


def test_parts_of_a_benchmark_have_numbers_of_their_own(tmp_path, capsys):
    """A mean over both languages of GEdit-Bench is no number of it."""
    path = tmp_path / "results.jsonl"
    for language, scores in (("en", (2, 4, 9)), ("cn", (8, 6, 1))):
        rows = series(scores, per_group=1, suite="gedit", metric="overall", passed=None)
        append_results(
            path,
            [
                dataclasses.replace(
                    row, item=f"{language}{n}", subsets=(language,), kind="ab"[n == 2]
                )
                for n, row in enumerate(rows)
            ],
        )
    assert run(statistics_command, path, "--draws", 50) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("en, gedit a: overall 6 [")
    assert lines[-1].startswith("cn, gedit a: overall 4 [")
    assert lines[-1].endswith("], mean of the means of 2 types (3/3)")


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


def test_one_system_against_several_is_corrected_for_all(results, capsys):
    append_results(results, series([5, 5, 4, 5], per_group=2, system="best"))
    names = ("best", "old", "new@5,5,5")
    assert run(statistics_command, results, "--compare", *names, "--draws", 50) == 0
    *lines, holm, _ = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        *["best less old, real-edit"] * 2,
        *["best less new@5,5,5, real-edit"] * 2,
    ]
    assert all("(Holm 1.0000)" in line for line in lines)
    assert holm == "Holm: p corrected for the 4 differences above."
    with pytest.raises(ConfigError, match="--compare best: with what"):
        run(statistics_command, results, "--compare", "best")


def test_systems_are_ranked_and_never_across_judges(results, capsys):
    append_results(results, series([0.1, 0.2, 0.3], per_group=1, system="old", metric="l1"))
    append_results(results, series([0.2, 0.3, 0.4], per_group=1, system="far", metric="l1"))
    assert run(statistics_command, results, "--ranking", "--draws", 50) == 0
    whole, following, distance, _ = capsys.readouterr().out.splitlines()
    order = "1. new@5,5,5 [1], 2. old [2 to 3], 3. new@0,0,0 [2 to 3]"
    assert following == f"real-edit: following: {order}"
    assert whole == f"real-edit: overall: {order}"
    assert distance == "real-edit: l1: 1. old [1], 2. far [2]"  # less is better
    append_results(results, series([1, 2], system="other", measure="another judge"))
    with pytest.raises(DataError, match="measured by different judges"):
        run(statistics_command, results, "--ranking")


def test_annotators_agree_by_what_the_results_record(results, tmp_path, capsys):
    with pytest.raises(ConfigError, match="the results hold no scores of single annotators"):
        run(statistics_command, results, "--agreement")
    append_results(results, people_s([(1, 2), (3, 3), (5, 4), (2, 2)]))
    assert run(statistics_command, results, "--agreement", "--draws", 50) == 0
    agree, _ = capsys.readouterr().out.splitlines()
    assert agree.startswith("following: Krippendorff's alpha 0.8")
    assert "2 annotators, 4 edits" in agree
    assert run(statistics_command, results, "--correlate", "--draws", 50) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "    furthest apart: item 1-1 of old, 4.5 against 3" in lines


def people_s(scores):
    """Rows of people's means, and of whose they are."""
    rows = series([sum(pair) / 2 for pair in scores], per_group=2, system="old", people=True)
    return [
        dataclasses.replace(
            row,
            measure="study",
            passed=None,
            prompt_hash="",
            provenance={"annotators": dict(zip("ab", pair, strict=True))},
        )
        for row, pair in zip(rows, scores, strict=True)
    ]


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
