"""SmartEdit's reward stage: its UNet is trained on what `mre data cache` made of the rest."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("sentencepiece")
pytest.importorskip("tensorflow_datasets")

from mre_jax.data.batches.batch import Cached
from mre_jax.data.cache.description import DTYPES
from mre_jax.data.records.record_source import RecordSource
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.growing_file import rows_so_far
from mre_jax.smartedit.instruction_encoder import TEMPLATES_FILE, InstructionEncoder
from mre_jax.training import train as train_module
from mre_jax.training.config import load_config
from mre_jax.training.data import open_data
from mre_jax.training.export import ExportSpec, export
from mre_jax.training.inputs import make_inputs
from mre_jax.training.parallel import Layout, make_mesh
from mre_jax.training.start import load_start
from mre_jax.training.step import make_loss
from mre_jax.training.train import train
from mre_jax.weights.digest import weights_hash
from mre_jax.weights.files.folder import SMARTEDIT
from mre_jax.weights.load import load_model, load_unet
from mre_jax.weights.opening import model_at
from tests.data.cached import cache_toy
from tests.data.prepared import prepare_toy, write_toy
from tests.tiny_smartedit import make_tiny_smartedit, tiny_smartedit
from tests.training.states import same_bits
from tests.training.test_train import make_cheap_step
from tests.training.train_files import saved_state, write_config

SIDE = 16
ROUNDING = {"float16": 2e-4, "bfloat16": 2e-3}
"""Of the loss of a batch, relative, by the cache's dtype."""


@pytest.fixture(scope="module")
def cached(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cached")
    return cache_toy(shards, tiny_smartedit(), folder / "out", "--text", "--resolution", str(SIDE))


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held")
    shards = prepare_toy(write_toy(folder / "toy", 8), folder / "shards")
    return cache_toy(shards, tiny_smartedit(), folder / "out", "--text", "--resolution", str(SIDE))


def configured(folder, cached, *settings, model=None, **changes):
    changes["data"] = {"flip": 0, "cache": "required"} | changes.get("data", {})
    path = write_config(folder / "config.yaml", model or tiny_smartedit(), cached, **changes)
    return load_config(path, ["guard.watchdog_seconds=0", *settings])


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    monkeypatch.setattr(train_module, "make_mesh", lambda mesh: make_mesh(mesh, jax.devices()[:1]))


@pytest.fixture(scope="module")
def config(cached, tmp_path_factory):
    return configured(tmp_path_factory.mktemp("config"), cached)


@pytest.fixture(scope="module")
def layout(config):
    return Layout.of(config.mesh, make_mesh(config.mesh, jax.devices()[:1]))


@pytest.fixture(scope="module")
def start(config, layout):
    return load_start(config, layout, open_data(config).required)


@pytest.fixture(scope="module")
def batch(config, start):
    return open_data(config).fitted(start).training.batch(0)


def test_a_start_reads_the_language_model_for_its_hash_alone(start, cached):
    cache = RecordSource(cached).cache
    assert start.weights == weights_hash(tiny_smartedit())
    assert start.hashes.smartedit == cache.smartedit.encoder
    assert start.hashes.prompts == cache.smartedit.prompts
    assert jax.tree.leaves(start.frozen) == [start.frozen.null_text]
    assert start.kept.components.keys() == {"vae", "text_encoder"}
    assert json.loads(start.kept.files["start.json"])["hashes"] == start.hashes._asdict()


def test_before_the_first_step_it_is_smartedit_to_the_bit(start, config, batch):
    """One operation at a time: compiled, two programs may round their sums apart."""
    inputs = make_inputs(
        batch, start.frozen, start.encoders, start.schedule, config.loss, with_reward=True
    )
    read = inputs.sample, inputs.timesteps, inputs.text
    fresh = start.unet.module(start.params)
    assert fresh.reward is not None
    got = fresh(*read, inputs.reward, inputs.image_features)
    plain = load_unet(tiny_smartedit())
    assert jnp.array_equal(got, plain(*read, None, inputs.image_features))
    assert not jnp.array_equal(got, plain(*read))


def test_the_loss_is_that_of_features_that_were_not_cached(start, config, layout, batch):
    model = load_model(tiny_smartedit())
    encoder = InstructionEncoder(model.instruction_encoder, model.files)
    data = open_data(config).fitted(start).training
    triplets = [source[number] for source, number in data.find(np.arange(8))]
    text, image = encoder(
        [triplet.images()[0] for triplet in triplets], [t.instruction for t in triplets]
    )
    wide = jax.tree.map(lambda x: x.astype(np.float32), batch.cached)
    exact = wide._replace(instruction_states=np.asarray(text), image_features=np.asarray(image))
    loss = make_loss(config, start.networks, start.encoders, start.schedule, layout)

    def mean(cached):
        with jax.set_mesh(layout.mesh):
            sums, _ = loss(start.params, start.frozen, batch._replace(cached=cached), 8)
        return float(np.sum(sums)) / 8

    want = mean(exact)
    bare = exact._replace(image_features=np.zeros_like(exact.image_features))
    assert abs(mean(bare) / want - 1) > 1e-2
    for name, allowed in ROUNDING.items():
        dtype = DTYPES[name]
        # Rounded, and float32 again: the program is the same.
        kept = Cached(*(np.asarray(x.astype(dtype), np.float32) for x in exact))
        assert 0 < abs(mean(kept) / want - 1) < allowed, name
    assert abs(mean(wide) / want - 1) < ROUNDING["float16"]


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_in_the_bits_of_one_that_was_not(cached, held_out, tmp_path):
    """Its model gone meanwhile."""
    model = Path(shutil.copytree(tiny_smartedit(), tmp_path / "model"))
    validation = {"data": [str(held_out)], "loss_every": 2, "examples": 8}
    config = configured(tmp_path, cached, "steps=4", model=model, validation=validation)
    train(config, tmp_path / "whole")
    train(dataclasses.replace(config, steps=2), tmp_path / "run")
    shutil.rmtree(model)
    train(config, tmp_path / "run")
    assert same_bits(saved_state(tmp_path / "run", 4), saved_state(tmp_path / "whole", 4))
    rows = {row["step"]: row for row in rows_so_far(tmp_path / "run" / "metrics.jsonl")}
    assert 0.5 < rows[4]["held_out_loss"] < 2


def test_a_run_keeps_no_language_model_and_its_export_is_a_whole_smartedit(
    cached, tmp_path, monkeypatch
):
    monkeypatch.setattr(train_module, "make_step", make_cheap_step)
    model = Path(shutil.copytree(tiny_smartedit(), tmp_path / "model"))
    config = configured(tmp_path, cached, "steps=2", model=model)
    run = train(config, tmp_path / "run")
    whole = export(ExportSpec(run.path, tmp_path / "whole"))
    model.rename(tmp_path / "away")
    train(dataclasses.replace(config, steps=4), run.path)
    assert not {path.name for path in run.model.iterdir()} & set(SMARTEDIT)

    with pytest.raises(DataError, match=r"keeps no language model: name the SmartEdit .* --base"):
        export(ExportSpec(run.path, tmp_path / "edit"))
    made = export(ExportSpec(run.path, tmp_path / "edit", base=tmp_path / "away"))
    assert (whole.step, made.step) == (2, 4)
    assert whole.files.keys() == made.files.keys()
    with model_at(tmp_path / "edit") as ours, model_at(tmp_path / "away") as theirs:
        assert ours.kind == "smartedit"
        assert ours.components.keys() == theirs.components.keys()
        for name in ("vae", "text_encoder", *SMARTEDIT):
            one, two = ours.components[name].source, theirs.components[name].source
            assert one.tensors == two.tensors
            assert all(one.read(key).tobytes() == two.read(key).tobytes() for key in one.tensors)
        assert ours.components["unet"].reward is not None
        assert ours.files[TEMPLATES_FILE] == theirs.files[TEMPLATES_FILE]
    average = saved_state(run.path, 4)["ema"]
    kernel = load_model(tmp_path / "edit").unet.conv_in.kernel[...]
    np.testing.assert_array_equal(kernel, average["conv_in.kernel"])

    for name in SMARTEDIT:
        shutil.rmtree(tmp_path / "away" / name)
    with pytest.raises(DataError, match="lacks llm/"):
        export(ExportSpec(run.path, tmp_path / "none", base=tmp_path / "away"))


def test_templates_of_the_configuration_are_those_of_the_cache(cached, tmp_path):
    other = tmp_path / "templates.txt"
    text = (tiny_smartedit() / "llm_tokenizer" / "templates.txt").read_text()
    other.write_text(text.replace("Please change", "Change"))
    config = configured(tmp_path, cached, data={"templates": str(other)})
    with pytest.raises(ConfigError, match="another set of templates"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"cache": "never"}}, "data.paths: the UNet of a SmartEdit is trained on cached"),
        ({"data": {"flip": 0.5}}, "set data.flip=0"),
        ({"validation": {"every": 2}}, "validation.every: an edit asks SmartEdit's language model"),
    ],
)
def test_what_would_ask_the_language_model_is_refused(cached, tmp_path, changes, words):
    if "validation" in changes:
        (tmp_path / "items.jsonl").write_text("")
        changes["validation"]["items"] = str(tmp_path / "items.jsonl")
    with pytest.raises(ConfigError, match=words):
        train(configured(tmp_path, cached, **changes), tmp_path / "run")


def test_features_of_another_smartedit_are_refused(cached, tmp_path):
    other = make_tiny_smartedit(tmp_path / "other", seed=1)
    for name in ("vae", "text_encoder"):
        shutil.rmtree(other / name)
        shutil.copytree(tiny_smartedit() / name, other / name)
    with pytest.raises(ConfigError, match=r"another SmartEdit .* with 'mre data cache --text'"):
        train(configured(tmp_path, cached, model=other), tmp_path / "run")


def test_a_first_editors_record_says_what_it_said(shards, editor, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "make_step", make_cheap_step)
    config = load_config(
        write_config(tmp_path / "config.yaml", editor, shards),
        ["guard.watchdog_seconds=0", "steps=2"],
    )
    run = train(config, tmp_path / "run")
    record = json.loads((run.model / "start.json").read_text())
    assert record["hashes"].keys() == {"vae", "text_encoder", "tokenizer"}
