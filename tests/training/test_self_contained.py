"""A run's directory holds all that the run goes on from: the pretrained model may be gone."""

import collections
import shutil
from pathlib import Path

import jax
import pytest

from mre_jax.errors import DataError
from mre_jax.training import train as train_module
from mre_jax.training.config import load_config
from mre_jax.training.export import ExportSpec, export
from mre_jax.training.parallel import make_mesh
from mre_jax.training.train import train
from mre_jax.weights.files.source import SafetensorsFile
from mre_jax.weights.load import load_text_encoder, load_vae
from mre_jax.weights.names.rule import parameters
from tests.data.cached import cache_toy
from tests.training.states import same_bits
from tests.training.test_train import make_cheap_step
from tests.training.train_files import saved_state, write_config


@pytest.fixture
def one_device(monkeypatch):
    monkeypatch.setattr(train_module, "make_mesh", lambda mesh: make_mesh(mesh, jax.devices()[:1]))


@pytest.fixture
def model(editor, tmp_path):
    """A copy of the editor that may be deleted."""
    return Path(shutil.copytree(editor, tmp_path / "model"))


@pytest.fixture
def reads(monkeypatch):
    """How often each tensor of each weight file is read, by component and name."""
    found = collections.Counter()
    read = SafetensorsFile.read

    def counted(self, name):
        found[Path(self.origin).parent.name, name] += 1
        return read(self, name)

    monkeypatch.setattr(SafetensorsFile, "read", counted)
    return found


def configured(tmp_path, model, shards, **changes):
    path = write_config(tmp_path / "config.yaml", model, shards, **changes)
    return lambda *settings: load_config(path, ["guard.watchdog_seconds=0", *settings])


def with_edits(tmp_path, count=1):
    """Settings of a run that makes edits of its own."""
    from PIL import Image

    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.png")
    items = tmp_path / "items.jsonl"
    items.write_text('{"id": "a", "image": "a.png", "prompt": "make it snow"}\n' * count)
    return {"every": 2, "items": str(items), "steps": 1}


def test_each_tensor_is_read_once_and_a_resume_reads_what_it_lacks(
    model, shards, tmp_path, reads, monkeypatch, one_device
):
    """With edits of its own, for which the encoders used to be loaded again."""
    monkeypatch.setattr(train_module, "make_step", make_cheap_step)
    config = configured(tmp_path, model, shards, validation=with_edits(tmp_path))
    train(config("steps=2"), tmp_path / "run")
    assert {component for component, _ in reads} == {"unet", "vae", "text_encoder"}
    assert set(reads.values()) == {1}
    reads.clear()
    shutil.rmtree(model)
    run = train(config("steps=4"), tmp_path / "run")
    assert {component for component, _ in reads} == {"vae", "text_encoder"}
    assert set(reads.values()) == {1}
    assert len(list(run.validation.iterdir())) == 2


def test_cached_examples_need_no_encoder_of_pictures(
    model, shards, tmp_path, reads, monkeypatch, one_device
):
    monkeypatch.setattr(train_module, "make_step", make_cheap_step)
    cached = cache_toy(shards, model, tmp_path / "cached", "--text", "--resolution", "16")
    reads.clear()
    config = configured(tmp_path, model, cached)
    train(config("steps=2"), tmp_path / "run")
    assert set(reads.values()) == {1}
    reads.clear()
    shutil.rmtree(model)
    train(config("steps=4"), tmp_path / "run")
    assert {component for component, _ in reads} == {"text_encoder"}  # for the empty prompt


def test_what_is_gone_before_there_is_a_checkpoint_is_missed(
    model, shards, tmp_path, monkeypatch, one_device
):
    def make_step(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "make_step", make_step)
    config = configured(tmp_path, model, shards)
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "run")
    shutil.rmtree(model)
    with pytest.raises(DataError, match="model"):
        train(config(), tmp_path / "run")


def test_it_is_exported_with_what_it_has_kept(
    model, editor, shards, tmp_path, monkeypatch, one_device
):
    monkeypatch.setattr(train_module, "make_step", make_cheap_step)
    run = train(configured(tmp_path, model, shards)("steps=2"), tmp_path / "run")
    whole = export(ExportSpec(run.path, tmp_path / "whole"))
    assert whole.notes == ()
    shutil.rmtree(model)
    kept = export(ExportSpec(run.path, tmp_path / "kept"))
    assert "cannot be read: all but the UNet is what the run kept" in kept.notes[0]
    assert kept.files["unet/config.json"] == whole.files["unet/config.json"]
    for load in (load_vae, load_text_encoder):
        pairs = zip(
            parameters(load(tmp_path / "kept")).values(),
            parameters(load(editor)).values(),
            strict=True,
        )
        assert all(same_bits(found[1][...], wanted[1][...]) for found, wanted in pairs)


@pytest.mark.slow
def test_a_resume_without_the_model_ends_in_the_same_bits(model, shards, tmp_path, one_device):
    config = configured(tmp_path, model, shards)
    train(config("steps=4"), tmp_path / "whole")
    train(config("steps=2"), tmp_path / "run")
    shutil.rmtree(model)
    train(config("steps=4"), tmp_path / "run")
    assert same_bits(saved_state(tmp_path / "run", 4), saved_state(tmp_path / "whole", 4))


@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on_and_keeps_the_model_from_then(
    model, shards, tmp_path, monkeypatch, one_device
):
    """Such a directory has no model/."""
    monkeypatch.setattr(train_module, "make_step", make_cheap_step)
    config = configured(tmp_path, model, shards)
    run = train(config("steps=2"), tmp_path / "run")
    shutil.rmtree(run.model)
    train(config("steps=4"), tmp_path / "run")
    shutil.rmtree(model)
    assert train(config(), tmp_path / "run").checkpoints.joinpath("6").exists()
