import shutil

import pytest

from mre_jax.errors import ConfigError
from mre_jax.evaluation import table7
from mre_jax.evaluation.real_edit_folder import read_real_edit
from mre_jax.evaluation.results import WHOLE_SET, read_results, select
from mre_jax.evaluation.tables import Source, build
from tests.evaluation.commands import run
from tests.evaluation.networks import FakeCLIP, FakeInception, brightness


@pytest.fixture
def edits(toy, tmp_path):
    folder = tmp_path / "edits"
    folder.mkdir()
    cases = read_real_edit(toy / "benchmark")
    for case in cases:
        shutil.copy(cases[0].original, folder / f"{case.id}.png")
    return folder


def test_clip_and_fid_fill_the_table(toy, edits, tmp_path, monkeypatch):
    monkeypatch.setattr(table7, "load_clip", lambda args: FakeCLIP())
    monkeypatch.setattr(table7, "load_inception", lambda args: FakeInception())
    out = tmp_path / "out"
    options = ("--system", "x", "--images", edits, "--clip", "c", "--out", out)
    assert run(table7, toy / "benchmark", *options) == 0
    rows = read_results(out / "results.jsonl")
    assert len(select(rows, metric="clip_following")) == 14
    first = read_real_edit(toy / "benchmark")[0]
    (row,) = select(rows, metric="clip_following", item=first.id)
    assert row.value == pytest.approx(brightness(first.original) + len(first.instruction))
    (fid,) = select(rows, metric="fid_2048")
    assert fid.item == WHOLE_SET and fid.measure == "fake Inception, n=14 and 14"
    assert select(rows, metric="kid")
    table = build(7, rows, systems={"InsPix2Pix": Source("x")})
    assert table.missing == () and table.rows[0].coverage == "14/14"


def test_a_smaller_set_measured_later_replaces_the_sets_values(toy, edits, tmp_path, monkeypatch):
    monkeypatch.setattr(table7, "load_inception", lambda args: FakeInception())
    options = ("--system", "x", "--images", edits, "--inception", "i", "--out", tmp_path / "out")
    moved = tmp_path / "000-1.png"
    (edits / "000-1.png").rename(moved)
    run(table7, toy / "benchmark", *options, "--allow-missing")
    moved.rename(edits / "000-1.png")
    run(table7, toy / "benchmark", *options)
    rows = select(read_results(tmp_path / "out" / "results.jsonl"), metric="fid_64")
    assert [row.measure for row in rows] == ["fake Inception, n=14 and 14"]


def test_something_must_measure(toy, edits, tmp_path):
    with pytest.raises(ConfigError, match="give --clip or --inception"):
        run(table7, toy / "benchmark", "--system", "x", "--images", edits, "--out", tmp_path)
