import dataclasses
import json

import pytest

from mre_jax.errors import DataError
from mre_jax.evaluation.results import (
    Result,
    append_results,
    read_all,
    read_results,
    select,
)
from mre_jax.evaluation.results_file import ResultsFile
from tests.evaluation.rows import make_row


def test_rows_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    rows = [make_row(), make_row(metric="l1", passed=None), make_row(item="0-2", status="refused")]
    append_results(path, rows[:1])
    append_results(path, rows[1:])
    assert read_results(path) == rows


def test_any_text_comes_back(tmp_path):
    """A judge's words and people's instructions hold what JSON can hold."""
    texts = ["a\u2028b\u2029c\u0085d", "\ud800", "\u202e\u0000\r\n", "\U0001f431 \ufeff"]
    rows = [make_row(item=f"0-{n}", reason=text, system=text) for n, text in enumerate(texts)]
    path = tmp_path / "results.jsonl"
    append_results(path, rows)
    assert read_results(path) == rows
    with ResultsFile(path) as results:
        results.add([dataclasses.replace(rows[0], value=4.0)])
    assert len(read_results(path)) == len(rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_results(path)) == len(rows)


def test_the_folder_of_a_run_stands_for_its_file(tmp_path):
    append_results(tmp_path / "results.jsonl", [make_row()])
    assert read_results(tmp_path) == [make_row()]
    with pytest.raises(DataError, match=r"out/results\.jsonl: no such file"):
        (tmp_path / "out").mkdir()
        read_results(tmp_path / "out")


def test_what_a_killed_run_left_is_dropped_and_overwritten(tmp_path):
    path = tmp_path / "results.jsonl"
    append_results(path, [make_row()])
    with path.open("ab") as file:
        file.write(b'{"system": "a", "cond')
    assert read_results(path) == [make_row()]
    append_results(path, [make_row(item="0-2")])
    assert [row.item for row in read_results(path)] == ["0-1", "0-2"]


def test_a_file_of_nothing_but_a_torn_line_starts_anew(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"system"')
    append_results(path, [make_row()])
    assert read_results(path) == [make_row()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": None}, "want a finite number"),
        ({"value": float("nan")}, "want a finite number"),
        ({"value": True}, "want a finite number"),
        ({"passed": "yes"}, "'passed'"),
        ({"status": "fine"}, "status 'fine'"),
        ({"status": "refused"}, "has a value"),
        ({"system": 3}, "'system'"),
    ],
)
def test_a_row_that_says_two_things_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        Result.from_json({**make_row().to_json(), **change})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}\n", ":1: field 'system' is missing"),
        ("[1]\n", ":1: want a JSON object"),
        ("nonsense\n", ":1: not JSON"),
        ("\n", "no results in it"),
        (json.dumps({**make_row().to_json(), "extra": 1}) + "\n", "unknown field 'extra'"),
        ((json.dumps(make_row().to_json()) + "\n") * 2, ":2: item 0-1, following .* twice.*:1"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_results(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_results(tmp_path / "none.jsonl")


def test_two_files_may_not_hold_the_same_row(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        append_results(tmp_path / name, [make_row(measure=name)])
    with pytest.raises(DataError, match=r"b\.jsonl:1: .* twice, here and in .*a\.jsonl:1"):
        read_all([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])


def test_select_takes_rows_by_field():
    rows = [make_row(), make_row(metric="l1"), make_row(system="b")]
    assert select(rows, system="a", metric="following") == rows[:1]


def test_a_filled_file_is_not_touched_again(tmp_path):
    path = tmp_path / "results.jsonl"
    with ResultsFile(path) as results:
        results.add([make_row()])
    before = path.stat().st_mtime_ns
    with ResultsFile(path) as results:
        results.add([make_row()])
    assert path.stat().st_mtime_ns == before


def test_an_item_without_a_value_gets_one_in_the_next_run(tmp_path):
    path = tmp_path / "results.jsonl"
    with ResultsFile(path) as results:
        results.add([make_row(status="http_error", measure=""), make_row(item="0-2")])
    with ResultsFile(path) as results:
        results.add([make_row()])
    assert read_results(path) == [make_row(), make_row(item="0-2")]


@pytest.mark.parametrize("field", ["measure", "prompt_hash", "checkpoint"])
def test_another_judge_or_checkpoint_does_not_replace_values(tmp_path, field):
    with ResultsFile(tmp_path / "results.jsonl") as results:
        results.add([make_row()])
        with pytest.raises(DataError, match=f"{field}.*take another"):
            results.add([dataclasses.replace(make_row(), **{field: "other"})])
    assert read_results(tmp_path / "results.jsonl") == [make_row()]


def test_people_and_a_judge_may_score_the_same_edit_in_one_file(tmp_path):
    path = tmp_path / "results.jsonl"
    with ResultsFile(path) as results:
        results.add([make_row(value=4.0, measure="gpt")])
        results.add([make_row(value=2.0, measure="study", people=True)])
    assert [(row.value, row.people) for row in read_results(path)] == [(4.0, False), (2.0, True)]


def test_rows_of_older_files_know_people_by_the_measure(tmp_path):
    path = tmp_path / "results.jsonl"
    for measure in ("human", "gpt"):
        old = make_row(measure=measure).to_json()
        del old["people"]
        with path.open("a") as file:
            file.write(json.dumps(old | {"system": measure}) + "\n")
    assert [row.people for row in read_results(path)] == [True, False]
