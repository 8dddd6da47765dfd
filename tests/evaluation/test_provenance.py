"""Scores of different settings never end up in one mean, and old files can still be read."""

import dataclasses
import json

import pytest

from mre_jax.commands import report as report_command
from mre_jax.commands import statistics as statistics_command
from mre_jax.commands import tables as tables_command
from mre_jax.errors import DataError
from mre_jax.evaluation.provenance import check_comparable, describe, side_by_side
from mre_jax.evaluation.results import append_results, read_all, read_results
from mre_jax.evaluation.results_file import ResultsFile
from tests.evaluation.commands import run
from tests.evaluation.rows import make_row, series

SETTINGS = {
    "pack": "paper-evaluation",
    "pictures": "as-edited",
    "model": "gpt-4o",
    "base_url": "http://a/v1",
    "temperature": 0.0,
    "form": "schema",
    "max_tokens": 300,
    "seed": None,
    "detail": None,
}


def with_settings(row, **changes):
    return dataclasses.replace(row, provenance={**SETTINGS, **changes})


def judged(value=3.0, system="a", metrics=("following", "preserving", "quality"), **changes):
    """Two photos' scores in three perspectives, with these settings."""
    return [
        with_settings(row, **changes)
        for metric in metrics
        for row in series([value] * 4, per_group=2, system=system, metric=metric)
    ]


def test_rows_of_one_judge_and_prompt_go_together():
    check_comparable([make_row(), make_row(metric="l1", measure="pixels", prompt_hash="")])
    check_comparable([make_row(), make_row(item="0-2", status="http_error", measure="")])
    check_comparable(judged() + judged(system="b"))
    with pytest.raises(DataError, match=r"judges or networks, 'toy-1' .* and 'gpt'"):
        check_comparable([make_row(), make_row(item="0-2", measure="gpt")])
    with pytest.raises(DataError, match=r"prompts, 'p' .* and 'q'"):
        check_comparable([make_row(), make_row(item="0-2", prompt_hash="q")])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 1.7),
        ("temperature", None),
        ("detail", "low"),
        ("form", "text"),
        ("max_tokens", 50),
        ("seed", 1),
        ("base_url", "http://b/v1"),
        ("model", "gpt-4o-mini"),
        ("pictures", "jpeg:10:64"),
        ("api", "responses"),
    ],
)
def test_any_setting_that_differs_is_named_with_both_values(field, value):
    mixed = judged() + judged(system="b", **{field: value})
    one = SETTINGS.get(field, "not recorded")
    with pytest.raises(DataError) as error:
        check_comparable(mixed)
    text = str(error.value)
    assert f"following: measured by different settings, {field} {one!r} (item 0-1 of a)" in text
    assert f"{value!r} (item 0-1 of b)" in text and "--side-by-side" in text


def test_a_pack_is_its_prompts_whatever_it_is_called():
    check_comparable(judged() + judged(system="b", pack="a copy of it.toml"))


def test_what_an_old_file_does_not_say_is_not_known():
    check_comparable([make_row(), make_row(item="0-2")])
    with pytest.raises(DataError, match=r"pictures 'not recorded' .* and 'as-edited'"):
        check_comparable([make_row(), with_settings(make_row(item="0-2"))])


def test_a_row_keeps_its_settings_in_plain(tmp_path):
    append_results(tmp_path / "r.jsonl", judged())
    row = json.loads((tmp_path / "r.jsonl").read_text().partition("\n")[0])
    assert row["provenance"] == SETTINGS
    assert read_results(tmp_path / "r.jsonl") == judged()
    assert describe(judged()[0]).startswith("toy-1 (pack paper-evaluation, pictures as-edited, ")
    assert "seed" not in describe(judged()[0])
    # What is as usual would make the note under every table three lines long.
    usual = {"api": "chat", "system": "system", "max_tokens_field": "max_completion_tokens"}
    row = judged(base_url="https://api.openai.com/v1", **usual)[0]
    told = "pack paper-evaluation, pictures as-edited, model gpt-4o, temperature 0.0, form schema"
    assert describe(row) == f"toy-1 ({told}, max_tokens 300)"
    told = describe(judged(api="responses")[0])
    assert "api responses" in told and "base_url http://a/v1" in told


def test_files_from_before_are_read(tmp_path):
    old = {name: value for name, value in make_row().to_json().items() if name != "provenance"}
    (tmp_path / "r.jsonl").write_text(json.dumps(old) + "\n")
    assert read_results(tmp_path / "r.jsonl") == [make_row()]
    with pytest.raises(DataError, match="'provenance': want an object"):
        dataclasses.replace(make_row(), provenance="all")


def test_side_by_side_tells_them_apart_by_what_differs():
    failed = with_settings(make_row(item="9-9", status="http_error", measure=""), temperature=1.7)
    rows = [*judged(), *judged(temperature=1.7), failed, make_row(metric="l1", prompt_hash="")]
    names = [row.system for row in side_by_side(rows)]
    assert names == ["a [temperature 0.0]"] * 12 + ["a [temperature 1.7]"] * 13 + ["a"]
    assert side_by_side(judged()) == judged()


def test_side_by_side_tells_what_is_unknown_from_what_is_not_set():
    later = [with_settings(row, api=None) for row in judged()]
    names = {row.system for row in side_by_side([*judged(), *later])}
    assert names == {"a [api not recorded]", "a [api None]"}


def test_side_by_side_keeps_the_perspectives_of_a_system_together():
    other = judged(pack="ours", metrics=("following", "preserving"))
    other += [dataclasses.replace(r, prompt_hash="q") for r in judged(pack="ours")[-4:]]
    names = {row.system for row in side_by_side([*judged(), *other])}
    assert names == {"a [pack paper-evaluation]", "a [pack ours]"}
    # Without a name that tells them apart it is the hash that does.
    rows = [make_row(), make_row(item="0-2", prompt_hash="q")]
    assert {row.system for row in side_by_side(rows)} == {"a [prompt_hash p]", "a [prompt_hash q]"}


@pytest.fixture
def two_files(tmp_path):
    """One system's scores at two temperatures, and another's."""
    append_results(tmp_path / "one.jsonl", judged(3) + judged(2, system="b"))
    append_results(tmp_path / "two.jsonl", judged(5, temperature=1.7))
    return [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]


def test_statistics_refuse_and_show_side_by_side(two_files, capsys):
    rows = judged(3) + judged(5, system="b", temperature=1.7)
    append_results(two_files[0].parent / "mixed.jsonl", rows)
    with pytest.raises(DataError, match=r"temperature 0.0 .* and 1.7"):
        run(statistics_command, two_files[0].parent / "mixed.jsonl", "--compare", "a", "b")
    with pytest.raises(DataError, match=r"appears twice.*--side-by-side"):
        run(statistics_command, *two_files)
    assert run(statistics_command, *two_files, "--side-by-side") == 0
    printed = capsys.readouterr().out
    assert "a [temperature 0.0]: following 3 " in printed
    assert "a [temperature 1.7]: following 5 " in printed


def test_tables_refuse_and_show_side_by_side(two_files, capsys):
    mixed = two_files[0].parent / "mixed.jsonl"
    append_results(mixed, judged(3) + judged(5, system="b", temperature=1.7))
    with pytest.raises(DataError, match=r"temperature 0.0 .* and 1.7"):
        run(tables_command, mixed, "--table", 1)
    assert run(tables_command, *two_files, "--table", 1, "--side-by-side") == 0
    printed = capsys.readouterr().out
    assert "a [temperature 0.0]" in printed and "a [temperature 1.7]" in printed
    assert "toy-1 (pack paper-evaluation, pictures as-edited, model gpt-4o" in printed


def test_a_report_refuses_and_shows_side_by_side(two_files, tmp_path):
    page = tmp_path / "page.html"
    with pytest.raises(DataError, match=r"temperature 0.0 .* and 1.7"):
        run(report_command, *two_files, "--out", page)
    assert run(report_command, *two_files, "--side-by-side", "--out", page, "--draws", 10) == 0
    text = page.read_text()
    assert "a [temperature 0.0]" in text and "a [temperature 1.7]" in text


def test_other_settings_do_not_replace_values(tmp_path):
    path = tmp_path / "results.jsonl"
    with ResultsFile(path) as results:
        results.add(judged())
    with ResultsFile(path) as results:
        message = "is there with temperature 0.0, not 1.7; .*another --out"
        with pytest.raises(DataError, match=message):
            results.check_settings([with_settings(make_row(status="missing"), temperature=1.7)])
        with pytest.raises(DataError, match=message):
            results.add(judged(5, temperature=1.7))
        results.check_settings([with_settings(make_row(status="missing", measure=""))])
        results.check_settings([with_settings(make_row(system="b"), temperature=1.7)])
    assert read_results(path) == judged()


def test_an_old_row_takes_over_the_settings_that_confirm_its_value(tmp_path):
    path = tmp_path / "results.jsonl"
    old, new = make_row(), with_settings(make_row())
    append_results(path, [old])
    with ResultsFile(path) as results:
        results.check_settings(
            [dataclasses.replace(new, status="missing", value=None, passed=None)]
        )
        with pytest.raises(DataError, match=r"no settings recorded and value 3.0, not 4.0"):
            results.add([dataclasses.replace(new, value=4.0)])
        results.add([new])
    assert read_results(path) == [new]


def test_files_are_joined_only_if_no_row_stands_twice(two_files):
    assert len(read_all(two_files, apart=True)) == 36
    with pytest.raises(DataError, match=r"two\.jsonl:1: .* twice, here and in .*one\.jsonl:1"):
        read_all(two_files)


def test_a_report_compares_only_what_was_judged_in_one_way(two_files, tmp_path):
    """Of three systems the two of one temperature have a difference, the third has none."""
    page = tmp_path / "page.html"
    options = ("--side-by-side", "--out", page, "--draws", 10)
    names = [f"{name} [temperature 0.0]" for name in "ab"]
    assert run(report_command, *two_files, *options, "--compare", *names) == 0
    with pytest.raises(DataError, match=r"temperature 0.0 .* and 1.7"):
        run(report_command, *two_files, *options, "--compare", names[0], "a [temperature 1.7]")


def test_people_s_scores_of_two_systems_are_of_one_kind_and_never_a_judge_s():
    """One study may be told in a table a system, and stands beside the judge, not in its means."""
    people = [
        make_row(
            system=name,
            people=True,
            measure="study",
            provenance={"human": name, "judged": name, "pack": "p"},
        )
        for name in ("a", "b")
    ]
    check_comparable(people)
    judge = make_row(measure="gpt", provenance={"temperature": 0.0, "pack": "p"})
    assert [row.system for row in side_by_side([*people, judge])] == ["a", "b", "a"]
    with pytest.raises(DataError, match="measured by different judges"):
        check_comparable([people[0], judge])
