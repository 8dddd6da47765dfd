import argparse
import dataclasses

import pytest

from mre_jax.commands import report as report_command
from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import append_results
from mre_jax.report.spec import read_runs
from tests.report.rows import make_row, make_world


def call(*argv):
    parser = argparse.ArgumentParser()
    report_command.add_arguments(parser)
    return report_command.run(parser.parse_args([str(part) for part in argv]))


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "run" / "results.jsonl"
    append_results(path, make_world(tmp_path / "run"))
    return path


def test_a_file_of_results_becomes_a_page(results, tmp_path, capsys):
    out = tmp_path / "report.html"
    compare = ("--compare", "reward 5,5,5", "baseline")
    assert call(results, "--out", out, "--title", "A <title>", *compare) == 0
    page = out.read_text()
    assert "<h1>A &lt;title&gt;</h1>" in page
    assert "A: reward 5,5,5. B: baseline." in page
    assert f"{out}: 6 items, 39 pictures" in capsys.readouterr().out


def test_the_folder_of_a_run_will_do(results):
    assert read_runs([results.parent]) == read_runs([results])
    with pytest.raises(ConfigError, match="named twice"):
        read_runs([results, results.parent])


def test_files_of_different_metrics_are_put_together(results, tmp_path):
    other = tmp_path / "clip" / "results.jsonl"
    append_results(other, [make_row(metric="clip_i", value=0.9, passed=None, original="a.png")])
    root, rows = read_runs([results, other])
    assert root == tmp_path
    assert {row.system for row in rows} == {"baseline", "reward"}
    assert rows[-1].original == "clip/a.png"
    assert rows[0].original == "run/photos/0.png"


def test_two_runs_of_the_same_systems_are_told_apart(results, tmp_path):
    other = tmp_path / "later" / "results.jsonl"
    rows = [dataclasses.replace(row, original="", edited="") for row in make_world(tmp_path)]
    append_results(other, rows)
    _, rows = read_runs([results, other])
    assert {row.system for row in rows} == {
        *("baseline (run)", "reward (run)"),
        *("baseline (later)", "reward (later)"),
    }
    compare = ("--compare", "reward (later) 5,5,5", "reward (run) 5,5,5")
    assert call(results, other, "--out", tmp_path / "r.html", *compare) == 0


def test_a_file_named_twice_is_refused(results):
    with pytest.raises(ConfigError, match="named twice"):
        read_runs([results, results])


def test_a_budget_of_nothing_is_refused(results, tmp_path):
    with pytest.raises(ConfigError, match="--budget is 0"):
        call(results, "--out", tmp_path / "r.html", "--budget", 0)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file"):
        call(tmp_path / "gone.jsonl", "--out", tmp_path / "r.html")


def test_a_picture_of_two_runs_stands_once(results, tmp_path):
    """A judge's run and people's name the same edits from different folders."""
    other = tmp_path / "people" / "results.jsonl"
    row = make_row(original="../run/photos/0.png", people=True, measure="study")
    append_results(other, [row])
    _, rows = read_runs([results, other])
    assert rows[-1].original == rows[0].original == "run/photos/0.png"
