"""Benchmarks, edits and tables may lie in a bucket; what grows may not."""

import json
import shutil

import pytest

from mre_jax.commands import annotate as annotate_command
from mre_jax.commands import evaluate as evaluate_command
from mre_jax.commands import report as report_command
from mre_jax.commands import statistics as statistics_command
from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.edits.bucket import fetched
from mre_jax.evaluation.results import read_results
from mre_jax.evaluation.suites import emu_edit, gedit
from mre_jax.evaluation.suites.case_table import read_cases, read_rows
from mre_jax.evaluation.suites.real_edit import read_real_edit
from tests.evaluation.buckets import mount
from tests.evaluation.commands import evaluate, run
from tests.evaluation.suites.test_case_table import human, png, write_arrow, write_parquet

URL = "gs://bucket"


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    folder = tmp_path / "far away"
    folder.mkdir()
    mount(monkeypatch, URL, folder)
    monkeypatch.chdir(tmp_path)
    yield folder
    assert not (tmp_path / "gs:").exists()  # what a path that lost a slash would make


def test_a_benchmark_and_its_edits_are_judged_from_copies(bucket, toy, tmp_path, capsys):
    shutil.copytree(toy / "benchmark", bucket / "toy" / "benchmark")
    (bucket / "made").mkdir()
    for case in read_real_edit(toy / "benchmark"):
        shutil.copy(case.original, bucket / "made" / f"{case.id}.png")
    out = tmp_path / "out"
    options = (f"{URL}/toy/benchmark", "--system", "copy", "--images", f"{URL}/made",
               "--judge", "toy", "--out", out)  # fmt: skip
    for _ in range(2):
        assert run(evaluate_command, "real-edit", *options) == 0
    rows = read_results(out / "results.jsonl")
    assert len(rows) == 14 * 3 and {row.status for row in rows} == {"ok"}
    assert rows[0].original.startswith("fetched/bucket/toy/benchmark/images/")
    assert all((out / row.original).is_file() and (out / row.edited).is_file() for row in rows)
    # Results that were copied to a bucket are read there, but not reported on.
    shutil.copy(out / "results.jsonl", bucket)
    capsys.readouterr()
    assert run(statistics_command, f"{URL}/results.jsonl") == 0
    assert "following" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"gs://bucket/results\.jsonl: .* to a local disk"):
        run(report_command, f"{URL}/results.jsonl", "--out", tmp_path / "page.html")


def test_a_copy_is_made_once_and_follows_its_source(bucket, tmp_path):
    (bucket / "set" / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        (bucket / "set" / name).write_bytes(b"one")
    copy = fetched(f"{URL}/set", tmp_path)
    assert copy == tmp_path / "fetched" / "bucket" / "set"
    assert sorted(p.name for p in copy.rglob("*.png")) == ["a.png", "b.png"]
    kept = (copy / "a.png").stat().st_ino
    (bucket / "set" / "deep" / "b.png").write_bytes(b"longer")
    assert fetched(f"{URL}/set", tmp_path) == copy
    assert (copy / "a.png").stat().st_ino == kept
    assert (copy / "deep" / "b.png").read_bytes() == b"longer"
    (bucket / "secret").write_bytes(b"other")
    some = fetched(f"{URL}/set", tmp_path / "some", ["a.png", "gone.png", "../secret"])
    assert [p.name for p in some.parent.rglob("*") if p.is_file()] == ["a.png"]
    assert fetched(tmp_path, "nowhere") == tmp_path
    with pytest.raises(DataError, match="gs://bucket/none: no such folder"):
        fetched(f"{URL}/none", tmp_path)


def test_tables_are_read_where_they_are(bucket, tmp_path):
    (bucket / "cat.png").write_bytes(png(1))
    emu = {"hash": "h", "instruction": "go", "task": "add", "input_caption": "x",
           "output_caption": "y"}  # fmt: skip
    (bucket / "emu.jsonl").write_text(json.dumps({**emu, "image": "cat.png"}) + "\n")
    (bucket / "emu").mkdir()
    write_parquet(bucket / "emu" / "test-00000-of-00001.parquet", [{**emu, "image": png(1)}])
    row = {"key": "k", "instruction": "go", "input_image": png(1), "task_type": "t"}
    write_arrow(bucket / "gedit" / "data-00000-of-00001.arrow", [row])
    for name, columns in (("emu.jsonl", emu_edit.COLUMNS), ("emu", emu_edit.COLUMNS),
                          ("gedit", gedit.COLUMNS)):  # fmt: skip
        path, pictures = f"{URL}/{name}", tmp_path / name
        (case,) = read_cases(read_rows(path), path, columns, pictures)
        assert case.original.parent == pictures and case.original.read_bytes() == png(1)


def test_imgedit_takes_the_pictures_beside_its_file(bucket, tmp_path):
    (bucket / "edits.json").write_text(json.dumps({"1": {"id": "cat.png", "prompt": "go"}}))
    for name in ("cat.png", "made/1.png"):
        (bucket / name).parent.mkdir(exist_ok=True)
        (bucket / name).write_bytes(png(1))
    human(bucket / "s.jsonl", [{"item": "1", "perspective": "overall", "score": 2}])
    options = ("--system", "x", "--images", f"{URL}/made", "--judge", f"human:{URL}/s.jsonl")
    assert evaluate("imgedit", f"{URL}/edits.json", *options, "--out", tmp_path / "out") == 0
    (row,) = read_results(tmp_path / "out" / "results.jsonl")
    assert (row.value, row.original) == (2.0, "fetched/bucket/cat.png")
    assert not (tmp_path / "out" / "fetched" / "bucket" / "edits.json").exists()


def test_low_training_examples_are_read_where_they_are(bucket, toy, tmp_path):
    shutil.copytree(toy / "triplets", bucket / "triplets")
    shutil.copy(toy / "RewardEdit.json", bucket)
    (bucket / "made").mkdir()
    for folder in (toy / "triplets").iterdir():
        if folder.is_dir():
            picture = next(folder.glob("*_1.png"))
            shutil.copy(picture, bucket / "made" / f"{folder.name}.png")
    options = ("--reward-edit", f"{URL}/RewardEdit.json", "--rule", "any", "--count", 2,
               "--images", f"{URL}/made", "--judge", "toy", "--out", tmp_path / "out")  # fmt: skip
    assert evaluate("challenging", f"{URL}/triplets", "--system", "x", *options) == 0
    rows = read_results(tmp_path / "out" / "results.jsonl")
    assert len(rows) == 2 * 2 * 3 and {row.status for row in rows} == {"ok"}


def test_what_grows_must_be_on_a_disk(bucket, toy):
    options = ("--system", "x", "--judge", "toy", "--out", f"{URL}/out")
    with pytest.raises(ConfigError, match=r"--out gs://bucket/out: .* on a local disk"):
        run(evaluate_command, "real-edit", toy / "benchmark", *options)
    with pytest.raises(ConfigError, match=r"gs://bucket/j\.jsonl: .* a path on a local disk"):
        run(annotate_command, toy, "--judge", "toy", "--out", f"{URL}/j.jsonl")
