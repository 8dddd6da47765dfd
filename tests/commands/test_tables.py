import pytest

from mre_jax.commands import tables as tables_command
from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import append_results
from mre_jax.evaluation.tables.fill import Source
from mre_jax.evaluation.tables.spec import parse_rows
from tests.evaluation.commands import run
from tests.evaluation.rows import make_row, series


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results.jsonl"
    for metric in ("following", "preserving", "quality"):
        for system, condition in (("baseline", ""), ("reward", "0,0,0"), ("reward", "5,5,5")):
            rows = series([2, 4, 5], system=system, condition=condition, metric=metric)
            append_results(path, rows)
    return path


def test_prints_what_there_are_results_for(results, capsys):
    assert run(tables_command, results) == 0
    out = capsys.readouterr().out
    assert "Table 1: " in out and "Table 6: " in out
    assert "No results for Tables 2, 3, 4, 5, 7, 8, 9, 10, 11." in out


def test_rows_are_filled_as_told(results, capsys):
    rows = ("--row", "4:none=baseline", "--row", "4:score+text=reward@5,5,5")
    assert run(tables_command, results, "--table", 4, "--paper", "--intervals", *rows) == 0
    out = capsys.readouterr().out
    assert out.count("3.67 [3.67, 3.67]") == 0  # one photo alone has no interval
    assert "3.67 (2.77)" in out and "3.67 (3.39)" in out


def test_writes_a_file(results, tmp_path):
    out = tmp_path / "table.tex"
    assert run(tables_command, results, "--table", 1, "--format", "latex", "--out", out) == 0
    assert out.read_text().startswith("\\begin{table}")


def test_labels_need_no_results(capsys):
    assert run(tables_command, "--labels", "--table", 5) == 0
    assert capsys.readouterr().out == "5: none; attention; addition; attention+addition\n"


def test_a_system_may_hold_an_at_sign_only_before_its_reward():
    assert parse_rows(["8:Ours=me@home@5,5,5"]) == {8: {"Ours": Source("me@home", "5,5,5")}}


@pytest.mark.parametrize("text", ["4", "4:none", "4:=a", "x:none=a", "4:none="])
def test_a_row_of_another_form_is_named(text):
    with pytest.raises(ConfigError, match="want N:LABEL=SYSTEM"):
        parse_rows([text])


def test_a_row_named_twice_is_an_error():
    with pytest.raises(ConfigError, match="named twice"):
        parse_rows(["4:none=a", "4:none=b"])


def test_no_results_and_results_for_no_table_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="no results"):
        run(tables_command)
    append_results(tmp_path / "r.jsonl", series([1], suite="mine"))
    with pytest.raises(DataError, match="nothing for any table; the suites in it are mine"):
        run(tables_command, tmp_path / "r.jsonl")


def test_a_row_of_a_system_that_is_not_there_names_those_that_are(tmp_path):
    rows = [make_row(system="reward", condition="5,5,5"), make_row(system="copy")]
    append_results(tmp_path / "r.jsonl", rows)
    for row, name in (("Nope", "Nope"), ("reward@0,0,0", "reward@0,0,0")):
        message = (
            rf"--row 4:score\+text={name}: no results of '{name}'; there are reward@5,5,5, copy"
        )
        with pytest.raises(DataError, match=message):
            run(tables_command, tmp_path / "r.jsonl", "--row", f"4:score+text={row}")
    assert run(tables_command, tmp_path / "r.jsonl", "--row", "4:score+text=reward") == 0


def test_people_and_a_judge_stand_side_by_side(results, tmp_path, capsys):
    """Table 3 is the people's, Table 1 the judge's, and Figure 13 has both."""
    people = tmp_path / "people.jsonl"
    for system, condition in (("baseline", ""), ("reward", "5,5,5")):
        scores = [1, 3, 4] if system == "baseline" else [2, 4, 3]
        rows = series(
            scores, system=system, condition=condition, measure="study", people=True, passed=None
        )
        append_results(people, rows)
    assert run(tables_command, results, people) == 0
    out = capsys.readouterr().out
    first, third, figure = (
        next(part for part in out.split("\n\n") if part.startswith(name))
        for name in ("Table 1:", "Table 3:", "Figure 13: People against the judge")
    )
    assert "reward 5,5,5" in first and "67%   3.67" in first and "by toy-1." in first
    assert "3.00" in third and "Measured by study." in third
    lines = [line.split() for line in figure.splitlines()]
    assert ["baseline", "2.67", "3.67", "1.00", "3"] in lines
    assert ["reward", "5,5,5", "3.00", "3.67", "0.50", "3"] in lines
    assert "People: study. Judge: toy-1." in figure
    assert "Table 3" not in out.splitlines()[-1] and "Tables 2, 4" in out.splitlines()[-1]
