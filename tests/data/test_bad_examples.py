"""Bad rows of a set: all told in one run, left out on request, and never without a word."""

import json
import pickle
import shutil

import pytest

from mre_jax import cli
from mre_jax.data.bad_examples import BadExample, BadExamplesError, allowed_bad, parse_skip_bad
from mre_jax.data.batches.loader import Loader
from mre_jax.data.records.manifest import check_manifest
from mre_jax.data.records.record_source import RecordSource
from mre_jax.errors import ConfigError
from tests.data.pictures import AFTER, BEFORE, picture
from tests.data.prepared import content

pytest.importorskip("tensorflow_datasets")

COUNT = 12
GOOD = {"original": "a.png", "edited": "b.png", "instruction": "go"}
SCORES = {"following": 5, "preserving": 4, "quality": 3}
BAD = {
    1: ({"edited": "cut.png"}, "set.jsonl:2: edited picture: damaged picture"),
    3: ({"edited": "none.png"}, "set.jsonl:4: no picture"),
    4: ({"instruction": 7}, "set.jsonl:5: the instruction 7 is not a text"),
    5: ({"instruction": "  "}, "set.jsonl:6: the instruction is empty"),
    7: (SCORES | {"quality": 6}, "set.jsonl:8: quality: score 6 is not in 0 to 5"),
    8: ("{", "set.jsonl:9: not JSON"),
    10: ({"edited": "small.png"}, "set.jsonl:11: original and edited picture differ in size"),
}


def write_rows(folder, bad=BAD):
    folder.mkdir(exist_ok=True)
    for name, data in (
        *(("a.png", BEFORE), ("b.png", AFTER), ("cut.png", AFTER[:-30])),
        ("small.png", picture("blue", (12, 7))),
    ):
        (folder / name).write_bytes(data)
    lines = []
    for number in range(COUNT):
        change, _ = bad.get(number, ({}, ""))
        row = GOOD | SCORES | {"id": f"e{number}"}
        lines.append(change if isinstance(change, str) else json.dumps(row | change))
    path = folder / "set.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def prepare(path, out, *options):
    argv = ["prepare", "table", path, "--out", out, "--name", "bad", "--min-shards", "3", *options]
    return cli.main([str(arg) for arg in argv])


def ids(folder):
    source = RecordSource(folder)
    return [source[number].id for number in range(len(source))]


GOOD_IDS = [f"e{number}" for number in range(COUNT) if number not in BAD]


@pytest.mark.parametrize("sample", [1, 64], ids=["good-sample", "bad-sample"])
def test_all_bad_rows_are_listed_and_no_set_is_made(tmp_path, capsys, monkeypatch, sample):
    monkeypatch.setattr("mre_jax.data.records.shards._SAMPLE", sample)
    out = tmp_path / "out"
    assert prepare(write_rows(tmp_path / "in"), out) == 65
    said = capsys.readouterr().err
    for _, reason in BAD.values():
        assert said.count(f"\n{reason}") == 1 or said.startswith(reason)
    assert (
        "set.jsonl: 7 of 12 examples are bad; mend them, or leave them out with --skip-bad 7"
        in (said.splitlines()[-1])
    )
    assert not (out / "manifest.json").exists()
    assert out.exists() == (sample == 1)  # a sample that is mended is that of another set


def test_bad_rows_are_left_out_and_the_manifest_tells_them(tmp_path, capsys):
    out = tmp_path / "out"
    assert prepare(write_rows(tmp_path / "in"), out, "--skip-bad", "7") == 0
    said = capsys.readouterr().out
    assert "5 examples in 3 shards" in said
    assert "left out 7 bad examples:" in said
    assert ids(out) == GOOD_IDS
    skipped = check_manifest(out).measured["skipped"]
    assert [one["example"] for one in skipped] == list(BAD)
    # A line that is not JSON has no id but its number.
    assert [one["id"] for one in skipped] == ["e1", "e3", "e4", "e5", "e7", "table-0000008", "e10"]
    for one, (_, reason) in zip(skipped, BAD.values(), strict=True):
        assert one["reason"].startswith(reason) and reason in said
    assert str(tmp_path) not in json.dumps(skipped)


def test_what_is_left_out_does_not_depend_on_workers_place_or_stops(tmp_path, monkeypatch):
    wanted = tmp_path / "wanted"
    assert prepare(write_rows(tmp_path / "in"), wanted, "--skip-bad", "60%") == 0
    shutil.copytree(tmp_path / "in", tmp_path / "elsewhere")
    copy = tmp_path / "elsewhere" / "set.jsonl"
    assert prepare(copy, tmp_path / "two", "--skip-bad", "7", "--workers", "2") == 0
    assert content(tmp_path / "two") == content(wanted)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mre_jax.data.records.manifest.write_manifest", stop)
        assert prepare(copy, tmp_path / "stopped", "--skip-bad", "7") == 130
    assert prepare(copy, tmp_path / "stopped", "--skip-bad", "7") == 0
    assert content(tmp_path / "stopped") == content(wanted)


def test_a_run_goes_on_after_the_rows_are_mended(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mre_jax.data.records.shards._SAMPLE", 1)
    out = tmp_path / "out"
    path = write_rows(tmp_path / "in", {5: BAD[5], 9: BAD[8]})
    assert prepare(path, out) == 65
    kept = out / "bad-train.tfrecord-00000-of-00003"
    written = kept.stat().st_mtime_ns
    # One is mended; the other is left out: nothing of the first attempt may be taken for whole.
    write_rows(tmp_path / "in", {5: BAD[5]})
    assert prepare(path, out, "--skip-bad", "1") == 0
    assert ids(out) == [f"e{number}" for number in range(COUNT) if number != 5]
    assert kept.stat().st_mtime_ns == written
    assert len(check_manifest(out).measured["skipped"]) == 1


def test_more_than_may_be_left_out_is_refused(tmp_path, capsys):
    path = write_rows(tmp_path / "in")
    for number, limit in enumerate(("6", "0.5")):
        assert prepare(path, tmp_path / f"out{number}", "--skip-bad", limit) == 65
        line = capsys.readouterr().err.splitlines()[-1]
        assert "7 of 12 examples are bad, and 6 may be left out" in line
    assert prepare(write_rows(tmp_path / "all", dict.fromkeys(range(COUNT), BAD[5])), "x") == 65
    assert "12 of 12 examples are bad; are layout and columns those of the set?" in (
        capsys.readouterr().err
    )


def test_a_set_that_is_wrong_as_a_whole_is_not_listed_row_by_row(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mre_jax.data.records.shards._SAMPLE", 4)
    path = write_rows(tmp_path / "in", dict.fromkeys(range(COUNT), BAD[5]))
    assert prepare(path, tmp_path / "out") == 65
    (line,) = capsys.readouterr().err.splitlines()
    assert "set.jsonl:1: the instruction is empty; and so with all 4 examples that" in line


def test_a_shard_without_a_good_row_is_refused(tmp_path, capsys):
    path = write_rows(tmp_path / "in", dict.fromkeys(range(4), BAD[5]))
    assert prepare(path, tmp_path / "out", "--skip-bad", "4") == 65
    assert "all examples of a shard are bad; take fewer shards" in capsys.readouterr().err


def test_many_are_listed_in_a_file_beside_the_output(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mre_jax.data.bad_examples.SHOWN", 2)
    assert prepare(write_rows(tmp_path / "in"), tmp_path / "out") == 65
    lines = capsys.readouterr().err.splitlines()
    assert f"... and 5 more; all are in {tmp_path / 'out'}.bad.txt" in lines
    listed = (tmp_path / "out.bad.txt").read_text().splitlines()
    assert [line.partition(": ")[0] for line in listed] == [f"set.jsonl:{n + 1}" for n in BAD]


def test_pictures_of_two_sizes_may_be_allowed_and_are_read_alike(tmp_path, capsys):
    path = write_rows(tmp_path / "in", {10: BAD[10]})
    out = tmp_path / "out"
    assert prepare(path, out, "--sizes", "any") == 0
    batch = Loader([RecordSource(out)], batch_size=COUNT, seed=0).batch(0)
    assert batch.edited.shape == (COUNT, 256, 256, 3)
    assert cli.main(["data", "verify", str(out)]) == 0
    assert prepare(path, out) == 65
    capsys.readouterr()
    assert prepare(path, out, "--no-validate") == 78
    assert "sizes was 'any' and is None" in capsys.readouterr().err


def test_limits_are_numbers_or_shares():
    assert [allowed_bad(parse_skip_bad(text), 250) for text in ("0", "3", "0.1", "2%", "1")] == [
        *(0, 3, 25, 5, 1)
    ]
    for text in ("-1", "1.5", "200%", "x", "nan"):
        with pytest.raises(ConfigError, match=f"--skip-bad '{text}': want a number of examples"):
            parse_skip_bad(text)


def test_the_error_crosses_processes():
    error = BadExamplesError("set", [BadExample(3, "row 3")], 0, 5)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(again), again.bad) == (str(error), error.bad)


def test_a_set_of_bad_rows_alone_is_none(tmp_path, capsys):
    table = write_rows(tmp_path, {number: ({"instruction": ""}, "") for number in range(COUNT)})
    assert prepare(table, tmp_path / "out", "--skip-bad", "100") == 65
    assert "12 of 12 examples are bad; are layout and columns" in capsys.readouterr().err
