import json
import shutil

import pytest
from PIL import Image

from mre_jax.errors import ConfigError
from mre_jax.evaluation.results import WHOLE_SET, read_results, select
from mre_jax.evaluation.suites.real_edit import read_real_edit
from mre_jax.evaluation.tables.fill import Source, build
from tests.evaluation.commands import evaluate
from tests.evaluation.networks import FakeCLIP, FakeInception, brightness, use


@pytest.fixture
def edits(toy, tmp_path):
    folder = tmp_path / "edits"
    folder.mkdir()
    cases = read_real_edit(toy / "benchmark")
    for case in cases:
        shutil.copy(cases[0].original, folder / f"{case.id}.png")
    return folder


def test_each_photo_is_in_the_reference_once(tmp_path, monkeypatch):
    """Seven instructions share a photo; repeated, it would bias KID."""
    use(monkeypatch, inception=FakeInception())
    data, made = tmp_path / "data", tmp_path / "made"
    for folder in (data / "images", made):
        folder.mkdir(parents=True)
    texts = ["1. Local: go", "2. Remove: it"]
    for number in range(3):
        picture = Image.new("RGB", (8, 8), (80 * number,) * 3)
        picture.save(data / "images" / f"{number}.png")
        for place in (1, 2):
            picture.save(made / f"{number}-{place}.png")
    (data / "instructions.json").write_text(json.dumps({f"{n}.png": texts for n in range(3)}))
    options = ("--system", "x", "--images", made, "--inception", "i", "--out", tmp_path / "out")
    assert evaluate("table7", data, *options) == 0
    (kid,) = select(read_results(tmp_path / "out"), metric="kid")
    assert kid.measure == "fake Inception, n=3 and 6"


few = pytest.mark.filterwarnings("ignore:no KID. it needs three pictures in each set, not 2")


@few
def test_clip_and_fid_fill_the_table(toy, edits, tmp_path, monkeypatch):
    use(monkeypatch, clip=FakeCLIP(), inception=FakeInception())
    out = tmp_path / "out"
    options = ("--system", "x", "--images", edits, "--clip", "c", "--out", out)
    assert evaluate("table7", toy / "benchmark", *options) == 0
    rows = read_results(out / "results.jsonl")
    assert len(select(rows, metric="clip_following")) == 14
    first = read_real_edit(toy / "benchmark")[0]
    (row,) = select(rows, metric="clip_following", item=first.id)
    assert row.value == pytest.approx(brightness(first.original) + len(first.instruction))
    (fid,) = select(rows, metric="fid_2048")
    assert fid.item == WHOLE_SET and fid.measure == "fake Inception, n=2 and 14"
    assert not select(rows, metric="kid")
    table = build(7, rows, systems={"InsPix2Pix": Source("x")})
    assert table.missing == () and table.rows[0].coverage == "14/14"


@few
# The tiny CLIP reads few tokens.
@pytest.mark.filterwarnings("ignore:text .* tokens, 16 fit")
def test_the_networks_themselves_know_an_untouched_picture(toy, clip, inception, tmp_path):
    cases = read_real_edit(toy / "benchmark")
    made = tmp_path / "made"
    made.mkdir()
    for case in cases:
        shutil.copy(case.original, made / f"{case.id}.png")
    other = next(case for case in cases if case.original != cases[0].original)
    shutil.copy(other.original, made / f"{cases[0].id}.png")
    options = ("--clip", clip, "--inception", inception, "--metric-batch-size", 2)
    options += ("--system", "x", "--images", made, "--out", tmp_path / "out")
    assert evaluate("table7", toy / "benchmark", *options) == 0
    rows = read_results(tmp_path / "out" / "results.jsonl")
    kept = {row.item: row.value for row in select(rows, metric="clip_preserving")}
    assert kept.pop(cases[0].id) < 1 - 1e-6
    assert list(kept.values()) == pytest.approx([1] * 13, abs=1e-9)
    following = select(rows, metric="clip_following")
    assert len(following) == 14 and all(-1 <= row.value <= 1 for row in following)
    assert {row.measure[:14] for row in following} == {"CLIP ViT-32/8 "}
    fids = [row for row in rows if row.metric.startswith("fid")]
    assert [row.metric for row in fids] == ["fid_64", "fid_192", "fid_768", "fid_2048"]
    assert all(row.value > 0 and row.measure.endswith("n=2 and 14") for row in fids)
    assert {row.measure[:18] for row in fids} == {"Inception v3 FID ("}


@few
def test_a_smaller_set_measured_later_replaces_the_sets_values(toy, edits, tmp_path, monkeypatch):
    use(monkeypatch, inception=FakeInception())
    options = ("--system", "x", "--images", edits, "--inception", "i", "--out", tmp_path / "out")
    moved = tmp_path / "000-1.png"
    (edits / "000-1.png").rename(moved)
    evaluate("table7", toy / "benchmark", *options, "--allow-missing")
    moved.rename(edits / "000-1.png")
    evaluate("table7", toy / "benchmark", *options)
    rows = select(read_results(tmp_path / "out" / "results.jsonl"), metric="fid_64")
    assert [row.measure for row in rows] == ["fake Inception, n=2 and 14"]


def test_a_kid_that_cannot_be_had_is_said(toy, edits, tmp_path, monkeypatch):
    use(monkeypatch, inception=FakeInception())
    options = ("--system", "x", "--images", edits, "--inception", "i", "--out", tmp_path / "out")
    with pytest.warns(UserWarning, match="no KID: it needs three pictures in each set, not 2"):
        evaluate("table7", toy / "benchmark", *options)


def test_something_must_measure(toy, edits, tmp_path):
    with pytest.raises(ConfigError, match="give --clip or --inception"):
        evaluate("table7", toy / "benchmark", "--system", "x", "--images", edits, "--out", tmp_path)
