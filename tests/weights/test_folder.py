"""What a model folder is taken for, and what is said of one that is not."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from mre_jax.errors import DataError
from mre_jax.weights.checkpoint import open_checkpoint
from mre_jax.weights.folder import ModelFolder
from tests.weights import tiny


@pytest.fixture
def folder(pipeline_folder, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(pipeline_folder, tmp_path / "model")


def test_components_and_small_files_are_found(pipeline_folder):
    folder = ModelFolder.open(pipeline_folder)
    assert set(folder.components) == {"unet", "vae", "text_encoder"} and not folder.lone
    files = folder.files()
    for name in ("model_index.json", "tokenizer/vocab.json", "scheduler/scheduler_config.json"):
        assert files[name] == (pipeline_folder / name).read_bytes()
    assert not any("safetensors" in name for name in files)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_a_missing_part_is_named_with_its_folder(folder, component):
    shutil.rmtree(folder / component)
    with pytest.raises(DataError, match=f"{folder} lacks {component}/.*--base"):
        open_checkpoint(folder)


def test_what_is_missing_comes_from_the_base(folder, pipeline_folder):
    shutil.rmtree(folder / "vae")
    shutil.rmtree(folder / "tokenizer")
    model = open_checkpoint(folder, base=pipeline_folder)
    assert model.components["vae"].source.origin.startswith(str(pipeline_folder))
    assert "tokenizer/vocab.json" in model.files
    assert model.notes == (f"vae, tokenizer taken from {pipeline_folder}",)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_a_component_stands_alone(pipeline_folder, component):
    model = open_checkpoint(pipeline_folder / component)
    assert model.lone and list(model.components) == [component] and not model.files


def test_weights_that_are_missing_are_named(folder):
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(DataError, match=r"unet holds no weights .* it has config\.json; wanted"):
        open_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_a_damaged_configuration_is_named(folder, text):
    (folder / "vae/config.json").write_text(text)
    with pytest.raises(DataError, match=r"vae/config\.json (is not readable|does not hold)"):
        open_checkpoint(folder)


def test_a_foreign_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        ModelFolder.open(tmp_path / "none")
    with pytest.raises(DataError, match="holds neither model_index"):
        ModelFolder.open(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "FluxTransformer2DModel"}')
    with pytest.raises(DataError, match="FluxTransformer2DModel; supported are UNet2D"):
        ModelFolder.open(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["T5EncoderModel"]}')
    with pytest.raises(DataError, match="T5EncoderModel; supported are"):
        ModelFolder.open(tmp_path)


def test_the_checkpoint_of_a_training_run_gives_its_average(folder, tmp_path):
    """As the released training code saves: `unet` and `unet_ema` side by side."""
    shutil.copytree(folder / "unet", folder / "unet_ema")
    config = json.loads((folder / "unet_ema/config.json").read_text())
    config |= {"decay": 0.9999, "optimization_step": 10000, "min_decay": 0.0}
    (folder / "unet_ema/config.json").write_text(json.dumps(config))
    for weights, part in ((None, "unet_ema"), ("ema", "unet_ema"), ("raw", "unet")):
        model = open_checkpoint(folder, weights=weights)
        assert model.weights == (weights or "ema")
        assert model.components["unet"].source.origin.split("/")[-2] == part
        model.components["unet"].network()
    shutil.rmtree(folder / "unet_ema")
    with pytest.raises(DataError, match=r"holds no EMA weights; use --weights raw"):
        open_checkpoint(folder, weights="ema")


def stored_tensors(path):
    from mre_jax.weights.source import SafetensorsFile

    source = SafetensorsFile(path)
    return {name: source.read(name) for name in source.tensors}


def test_older_names_are_read(folder):
    """The VAE's query/key/value/proj_attn, and CLIP with its prefix and position numbers."""
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    new = stored_tensors(path)
    swaps = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}
    old = {}
    for name, array in new.items():
        for ours, theirs in swaps.items():
            name = name.replace(f"attentions.0.{ours}", f"attentions.0.{theirs}")
        old[name] = array
    assert len(set(new) - set(old)) == 16
    save_file(old, path)
    text_path = folder / "text_encoder/model.safetensors"
    text = {f"text_model.{name}": array for name, array in stored_tensors(text_path).items()}
    positions = {"text_model.embeddings.position_ids": np.arange(16)[None]}
    save_file({**text, **positions}, text_path)
    model = open_checkpoint(folder)
    assert model.components["vae"].source.tensors.keys() == new.keys()
    assert model.components["text_encoder"].source.tensors.keys() == text.keys()
    save_file({**old, **new}, path)
    with pytest.raises(DataError, match="twice, as"):
        open_checkpoint(folder)


def test_pickled_and_sharded_weights_are_read(folder):
    torch = pytest.importorskip("torch")
    state = stored_tensors(folder / "unet/diffusion_pytorch_model.safetensors")
    torch.save(
        {name: torch.from_numpy(array) for name, array in state.items()},
        folder / "unet/diffusion_pytorch_model.bin",
    )
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    source = open_checkpoint(folder).components["unet"].source
    assert source.origin.endswith(".bin")
    np.testing.assert_array_equal(source.read("conv_in.weight"), state["conv_in.weight"])
    (folder / "unet/diffusion_pytorch_model.bin").unlink()
    unet = tiny.make_unet()
    unet.save_pretrained(folder / "unet", max_shard_size="1MB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    source = open_checkpoint(folder).components["unet"].source
    assert source.tensors.keys() == state.keys()
