import argparse
import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image
from safetensors.numpy import save_file

from mre_jax.commands import export as export_command
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.editing.pipeline import EditPipeline
from mre_jax.errors import ConfigError, DataError
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.unet import UNet, UNetConfig
from mre_jax.reward.config import RewardConfig
from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.config import DataConfig, LossConfig, ModelConfig, TrainConfig
from mre_jax.training.export import ExportSpec, export
from mre_jax.training.run import directory as run_directory
from mre_jax.training.run.directory import RunDirectory
from mre_jax.training.run.identity import Identity
from mre_jax.training.state import Network, parameters_of
from mre_jax.weights.load import load_unet
from mre_jax.weights.model import REWARD_CLASS
from mre_jax.weights.opening import open_model

pytest.importorskip("torch")
from tests.tiny_editor import make_tiny_editor

PAPER = RewardConfig(score_width=8, num_attention_heads=2)
RELEASED = dataclasses.replace(PAPER, form="released")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The plain editor that the runs start from."""
    folder = tmp_path_factory.mktemp("base") / "model"
    make_tiny_editor(folder)
    return folder


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """A run by reward condition: checkpoints 2 and 4, with an average of half the weights."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {}

    def make(reward, **changes):
        key = (reward, tuple(changes.items()))
        if key not in runs:
            runs[key] = make_run(folder / str(len(runs)), base, reward, **changes)
        return runs[key]

    return make


def make_run(path, base, reward, *, ema=True, prediction_type=None):
    config = TrainConfig(
        name="small",
        steps=4,
        model=ModelConfig(str(base), reward=reward, ema_decay=0.9 if ema else None),
        data=DataConfig(("shards",), 4),
        loss=LossConfig(prediction_type=prediction_type),
    )
    stored = UNetConfig.from_dict(json.loads((base / "unet" / "config.json").read_text()))
    unet = Network.of(
        nnx.eval_shape(
            lambda: UNet(
                dataclasses.replace(stored, reward=reward), compute=Compute(), rngs=make_rngs(0)
            )
        )
    )
    random = np.random.default_rng(0)
    initial = {
        name: random.standard_normal(leaf.shape, np.float32) for name, leaf in unet.abstract.items()
    }
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("data",))
    run = RunDirectory(path)
    with run.opened(Identity(config, ("d" * 64,), "i" * 64)):
        checkpoints = Checkpoints(run.checkpoints, every=2, keep=3)
        for step in (2, 4):
            params = {k: v + step for k, v in initial.items()}
            average = {k: v / 2 for k, v in params.items()} if ema else {}
            state = {"step": np.int32(step), "params": params, "ema": average}
            replicated = NamedSharding(mesh, PartitionSpec())
            checkpoints.save(step, jax.device_put(state, replicated), {})
        checkpoints.close()
    return path, initial


@pytest.fixture(autouse=True)
def no_git(monkeypatch):
    monkeypatch.setattr(run_directory, "git_id", lambda: None)


def check_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("format", ["diffusers", "orbax"])
def test_the_newest_average_is_exported(trained, tmp_path, format):
    run, params = trained(PAPER)
    report = export(ExportSpec(run, tmp_path / "model", format=format))
    assert (report.step, report.weights, report.skipped) == (4, "ema", ())
    unet = load_unet(tmp_path / "model")
    check_equal(parameters_of(unet), {name: (array + 4) / 2 for name, array in params.items()})
    assert unet.config.reward == PAPER


@pytest.mark.slow
def test_what_is_exported_edits(trained, tmp_path):
    export(ExportSpec(trained(PAPER)[0], tmp_path / "model"))
    pipeline = EditPipeline.from_pretrained(tmp_path / "model")
    out = pipeline(
        "make it snow",
        Image.new("RGB", (64, 64)),
        num_inference_steps=1,
        reward_scores=(5, 5, 5),
        size="keep",
    )
    assert out.images[0].size == (64, 64)


def test_step_and_raw_weights_can_be_chosen(trained, tmp_path):
    run, params = trained(PAPER)
    report = export(ExportSpec(run, tmp_path / "model", step=2, weights="raw"))
    assert (report.step, report.weights) == (2, "raw")
    found = parameters_of(load_unet(tmp_path / "model"))
    check_equal(found, {name: array + 2 for name, array in params.items()})
    about = json.loads((tmp_path / "model" / "export.json").read_text())
    assert (about["name"], about["step"], about["weights"]) == ("small", 2, "raw")
    assert about["config_hash"] == RunDirectory(run).identity().config.hash


def test_the_rest_is_that_of_the_model_it_began_with(trained, base, tmp_path):
    export(ExportSpec(trained(PAPER)[0], tmp_path / "model"))
    before, after = open_model(base), open_model(tmp_path / "model")
    assert after.files["tokenizer/vocab.json"] == before.files["tokenizer/vocab.json"]
    name = "scheduler/scheduler_config.json"
    assert after.files[name] == before.files[name]
    for part in ("vae", "text_encoder"):
        source = before.components[part].source
        for tensor in source.tensors:
            found = after.components[part].source.read(tensor)
            np.testing.assert_array_equal(found, source.read(tensor))


def test_a_run_without_average_gives_its_weights(trained, tmp_path):
    run, params = trained(PAPER, ema=False)
    assert export(ExportSpec(run, tmp_path / "model")).weights == "raw"
    check_equal(parameters_of(load_unet(tmp_path / "model")), {k: v + 4 for k, v in params.items()})
    with pytest.raises(ConfigError, match="has no ema"):
        export(ExportSpec(run, tmp_path / "other", weights="ema"))
    assert not (tmp_path / "other").exists()


def test_a_plain_run_gives_a_plain_editor(trained, tmp_path):
    export(ExportSpec(trained(None)[0], tmp_path / "plain"))
    config = json.loads((tmp_path / "plain" / "unet" / "config.json").read_text())
    assert "reward" not in config and config["_class_name"] != REWARD_CLASS
    off = dataclasses.replace(PAPER, score=False, text=False)
    export(ExportSpec(trained(off)[0], tmp_path / "off"))  # as Table 4's first row
    assert load_unet(tmp_path / "off").config.reward is None


def test_the_released_form_has_the_released_names(trained, tmp_path):
    run, params = trained(RELEASED)
    export(ExportSpec(run, tmp_path / "model", format="released", weights="raw"))
    file = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as tensors:
        assert "add_embedding.linear_1.weight" in tensors.keys()  # noqa: SIM118  no mapping
    check_equal(parameters_of(load_unet(tmp_path / "model")), {k: v + 4 for k, v in params.items()})


def test_other_forms_have_no_released_names(trained, tmp_path):
    for reward, form in ((PAPER, "the form 'paper'"), (None, "no reward condition")):
        with pytest.raises(ConfigError, match=f"released.*{form}"):
            export(ExportSpec(trained(reward)[0], tmp_path / "model", format="released"))


def test_the_prediction_type_of_the_training_is_written(trained, tmp_path):
    export(ExportSpec(trained(None, prediction_type="v_prediction")[0], tmp_path / "model"))
    written = open_model(tmp_path / "model").files["scheduler/scheduler_config.json"]
    assert NoiseSchedule.from_dict(json.loads(written)).prediction_type == "v_prediction"


def test_another_place_of_the_base_can_be_named(trained, base, tmp_path):
    run, params = trained(PAPER)
    record = json.loads((run / "run.json").read_text())
    record["config"]["model"]["init_from"] = "gone"
    moved = tmp_path / "run"
    moved.mkdir()
    (moved / "run.json").write_text(json.dumps(record))
    (moved / "checkpoints").symlink_to(run / "checkpoints")
    with pytest.raises(DataError, match="gone does not exist"):
        export(ExportSpec(moved, tmp_path / "model"))
    export(ExportSpec(moved, tmp_path / "model", base=base))
    check_equal(
        parameters_of(load_unet(tmp_path / "model")), {k: (v + 4) / 2 for k, v in params.items()}
    )


def test_a_lora_is_merged_into_the_trained_unet(trained, tmp_path):
    run, params = trained(PAPER)
    change = {"lora_unet_conv_out.diff_b": np.full(4, 3.0, np.float32)}
    save_file(change, tmp_path / "style.safetensors")
    report = export(ExportSpec(run, tmp_path / "model", lora=(f"{tmp_path}/style.safetensors:2",)))
    assert len(report.notes) == 1 and "scale 2: 1 layers of unet" in report.notes[0]
    expected = {name: (array + 4) / 2 for name, array in params.items()}
    expected["conv_out.bias"] = expected["conv_out.bias"] + 6
    check_equal(parameters_of(load_unet(tmp_path / "model")), expected)


def test_what_is_not_there_is_named(trained, tmp_path):
    run, _ = trained(PAPER)
    with pytest.raises(ConfigError, match=r"no step 3; it has \[2, 4\]"):
        export(ExportSpec(run, tmp_path / "model", step=3))
    with pytest.raises(DataError, match=r"is no run: it has no run\.json"):
        export(ExportSpec(tmp_path, tmp_path / "model"))
    with pytest.raises(ConfigError, match="format 'onnx'"):
        export(ExportSpec(run, tmp_path / "model", format="onnx"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(DataError, match="not empty"):
        export(ExportSpec(run, tmp_path / "full"))


def test_the_command_says_what_it_wrote(trained, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    export_command.add_arguments(parser)
    arguments = [str(trained(PAPER)[0]), "--out", str(tmp_path / "model"), "--dtype", "bfloat16"]
    assert export_command.run(parser.parse_args(arguments)) == 0
    assert "wrote step 4 (ema weights)" in capsys.readouterr().out
    dtypes = {
        str(variable.dtype)
        for variable in open_model(tmp_path / "model").components["unet"].source.tensors.values()
    }
    assert dtypes == {"bfloat16"}


def test_a_base_of_another_shape_is_refused(trained, tmp_path):
    run, _ = trained(PAPER)
    wider = tmp_path / "wider"
    make_tiny_editor(wider, reward=None)
    config = json.loads((wider / "unet" / "config.json").read_text())
    config["layers_per_block"] += 1
    (wider / "unet" / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="step 4"):
        export(ExportSpec(run, tmp_path / "model", base=wider))
