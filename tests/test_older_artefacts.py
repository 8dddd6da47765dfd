"""What an earlier version wrote is still read: sets, journals, runs, edits and results.

`artefacts/9fb51b2.tar.xz` holds a small one of each, written by the commands of that commit on one
device; `continued.jsonl` in it are the metrics with which that commit went on with its run.
"""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from mre_jax import cli

ARCHIVE = Path(__file__).with_name("artefacts") / "9fb51b2.tar.xz"


@pytest.fixture
def older(tmp_path, monkeypatch):
    """A folder with everything in it, as the working directory."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mre(*words):
    """Runs a command, which must succeed."""
    assert cli.main([str(word) for word in words]) == 0


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_journal_gives_the_same_rewards(older):
    mre("annotate", "--out", "journal.jsonl", "--rewards", "again.json")
    assert (older / "again.json").read_bytes() == (older / "rewards.json").read_bytes()


def test_a_journal_is_not_asked_again(older, capsys):
    before = (older / "journal.jsonl").read_bytes()
    mre("annotate", "toy/triplets", "--judge", "toy", "--out", "journal.jsonl")
    assert (older / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["shards", "cached"])
def test_prepared_sets_are_whole(older, name):
    pytest.importorskip("tensorflow_datasets")
    mre("data", "verify", name)


def test_preparing_again_changes_nothing(older):
    pytest.importorskip("tensorflow_datasets")
    before = contents(older / "shards")
    words = ("instruct_pix2pix", "toy/triplets", "--rewards", "rewards.json", "--min-shards", "2")
    mre("prepare", *words, "--out", "shards")
    assert contents(older / "shards") == before


def test_sampling_again_makes_no_edit(older, capsys):
    before = contents(older / "sampled" / "images")
    words = ("--model", "model", "--steps", "2", "--guidance-scale", "3", "--size", "keep")
    mre("sample", "items.jsonl", "--out", "sampled", *words)
    assert contents(older / "sampled" / "images") == before
    assert "0 edits made" in capsys.readouterr().out


def test_evaluating_again_adds_no_row(older):
    before = (older / "results" / "results.jsonl").read_bytes()
    words = ("--system", "Tiny", "--model", "model", "--steps", "2", "--size", "keep")
    mre("evaluate", "real-edit", "toy/benchmark", *words, "--out", "results", "--judge", "toy")
    assert (older / "results" / "results.jsonl").read_bytes() == before


def test_results_make_tables_statistics_and_a_page(older, capsys):
    mre("tables", "results/results.jsonl")
    assert "4.64" in capsys.readouterr().out
    mre("statistics", "results/results.jsonl")
    mre("report", "results/results.jsonl", "--out", "page.html")
    assert "turn the green circle into a triangle" in (older / "page.html").read_text()


@pytest.mark.slow
def test_a_run_goes_on_as_it_would_have(older):
    """In a process of its own, with the one device that it had."""
    pytest.importorskip("tensorflow_datasets")
    import os

    root = Path(__file__).parents[1]
    keep = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    words = [sys.executable, "-m", "mre_jax", "train", "config.yaml", "--run", "run", "--alone"]
    subprocess.run(words, check=True, env={**keep, "PYTHONPATH": str(root)})
    told = ("loss", "grad_norm", "param_norm")
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    wanted = [json.loads(line) for line in Path("continued.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row, want in zip(rows[2:], wanted, strict=True):
        assert {k: row[k] for k in told} == pytest.approx({k: want[k] for k in told}, rel=1e-5)
    mre("export", "run", "--out", "exported")
