"""Every job is a few lines of Python, with the public names alone."""

import asyncio
import json
import shutil

import pytest
from PIL import Image

from mre_jax.toyworld import EDITOR
from tests.data.prepared import write_toy

EXAMPLES = 8
CHANNELS = json.loads((EDITOR / "unet" / "config.json").read_text())["in_channels"]
ITEMS = [{"id": name, "image": "photo.png", "prompt": "make it night"} for name in ("a", "b")]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A toy world, a photo of it, and a list of edits."""
    folder = tmp_path_factory.mktemp("home")
    write_toy(folder / "toy", examples=EXAMPLES, size=24)
    shutil.copy(folder / "toy" / "benchmark" / "images" / "000.png", folder / "photo.png")
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, ITEMS)))
    return folder


@pytest.fixture(autouse=True)
def at_home(home, monkeypatch):
    monkeypatch.chdir(home)


@pytest.fixture
def results(home, tmp_path):
    """Results of a system that edits nothing."""
    from mre_jax import JudgeSpec, RealEdit, SystemSpec
    from mre_jax.evaluation.suites.real_edit import read_real_edit

    (tmp_path / "edits").mkdir()
    for case in read_real_edit("toy/benchmark"):
        shutil.copy(case.original, tmp_path / "edits" / f"{case.id}.png")
    system = SystemSpec("untouched", images=tmp_path / "edits")
    RealEdit(data="toy/benchmark", out=tmp_path, system=system, judge=JudgeSpec("toy")).evaluate()
    return tmp_path / "results.jsonl"


@pytest.fixture(scope="module")
def shards(home):
    pytest.importorskip("tensorflow_datasets")
    from mre_jax import PrepareSpec, prepare

    rewards = home / "toy" / "RewardEdit.json"
    spec = PrepareSpec("instruct_pix2pix", home / "toy/triplets", out=home / "set", rewards=rewards)
    return prepare(spec).folder


def test_prepare(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    from mre_jax import PrepareSpec, prepare

    rewards = "toy/RewardEdit.json"
    spec = PrepareSpec("instruct_pix2pix", "toy/triplets", out=tmp_path, rewards=rewards)
    assert prepare(spec).manifest.count == EXAMPLES


def test_read_what_was_prepared(shards):
    from mre_jax import RecordSource

    assert [len(triplet.scores) for triplet in RecordSource(shards)] == [3] * EXAMPLES


def test_annotate(home, tmp_path):
    from mre_jax import AnnotateSpec, JudgeSpec, annotate

    spec = AnnotateSpec(home / "toy", out=tmp_path / "journal.jsonl", judge=JudgeSpec("toy"))
    assert annotate(spec).statistics.coverage("quality") == 1


@pytest.mark.slow
def test_train_and_export(shards, tmp_path):
    from mre_jax import (
        DataConfig,
        ExportSpec,
        ModelConfig,
        RewardConfig,
        TrainConfig,
        export,
        train,
    )

    reward = RewardConfig(num_attention_heads=4)
    model = ModelConfig(str(EDITOR), in_channels=CHANNELS, reward=reward, compute_dtype="float32")
    data = DataConfig((str(shards),), batch_size=8, resolution=24)
    run = train(TrainConfig("first", 2, model, data), tmp_path / "run")
    assert export(ExportSpec(run.path, tmp_path / "model")).step == 2


@pytest.mark.slow
def test_edit():
    from mre_jax import EditPipeline

    pipeline = EditPipeline.from_pretrained(EDITOR)
    photo = Image.open("photo.png")
    edits = pipeline("make it night", photo, num_inference_steps=2, size="keep", seed=[0, 1])
    assert [edit.size for edit in edits.images] == [photo.size] * 2


@pytest.mark.slow
def test_sample(tmp_path):
    from mre_jax import ModelSpec, SampleSpec, SamplingSettings, sample

    model, sampling = ModelSpec(model=EDITOR), SamplingSettings(num_inference_steps=2)
    spec = SampleSpec(
        model=model, sampling=sampling, size="keep", items="items.jsonl", out=tmp_path
    )
    assert sample(spec).made == len(ITEMS)


@pytest.mark.slow
def test_a_suite_of_a_model(tmp_path):
    from mre_jax import JudgeSpec, ModelSpec, RealEdit, SamplingSettings, SystemSpec

    model, sampling = ModelSpec(model=EDITOR), SamplingSettings(num_inference_steps=2)
    system = SystemSpec("toy editor", model=model, sampling=sampling, size="keep")
    suite = RealEdit(data="toy/benchmark", out=tmp_path, system=system, judge=JudgeSpec("toy"))
    assert {row.status for row in suite.evaluate()} == {"ok"}


def test_a_suite_of_edits(results):
    from mre_jax import read_results

    values = [row.value for row in read_results(results) if row.metric == "preserving"]
    assert len(values) == 7 and min(values) > 4.99


def test_a_judge():
    from mre_jax import JudgeSpec, Question, load_pack
    from mre_jax.evaluation.suites.real_edit import read_real_edit

    case, pack = read_real_edit("toy/benchmark")[0], load_pack("paper-evaluation")
    photo = case.original.read_bytes()
    question = Question(case.id, "following", pack, case.instruction, photo, photo, case.extra)
    assert asyncio.run(JudgeSpec("toy").make().ask(question)).score == 0


def test_a_metric():
    from mre_jax import measure_pair

    photo = Image.open("photo.png")
    assert measure_pair(photo, photo) == {"l1": 0, "l2": 0, "psnr": 100, "ssim": 1}


def test_tables(results):
    from mre_jax import TablesSpec

    (table,) = TablesSpec((results,), tables=(1,), rows=("1:InsPix2Pix=untouched",)).build()
    assert "InsPix2Pix" in str(table)


def test_statistics(results):
    from mre_jax import StatisticsSpec

    lines = StatisticsSpec((results,)).lines()
    assert any(line.startswith("real-edit untouched: preserving 5") for line in lines)


def test_report(results, tmp_path):
    pytest.importorskip("jinja2")
    from mre_jax import ReportSpec

    written = ReportSpec((results,), out=tmp_path / "report.html").write()
    assert written.items == 7
