"""The networks that are loaded are those of the files, and save as the same model."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.errors import ConfigError, DataError
from mre_jax.models.layers import Compute
from mre_jax.weights.digest import weights_hash
from mre_jax.weights.load import load_model, load_text_encoder, load_unet, load_vae
from mre_jax.weights.names.rule import tensors
from mre_jax.weights.opening import open_model
from mre_jax.weights.save import save_model

LOADERS = {"unet": load_unet, "vae": load_vae, "text_encoder": load_text_encoder}


@pytest.mark.parametrize("component", LOADERS)
def test_a_component_loads_from_its_model_or_its_own_folder(pipeline_folder, component):
    source = open_model(pipeline_folder).components[component].source
    for path in (pipeline_folder, pipeline_folder / component):
        loaded = dict(tensors(LOADERS[component](path)))
        assert loaded.keys() == source.tensors.keys()
        for name, array in loaded.items():
            np.testing.assert_array_equal(array, source.read(name))


def test_a_component_loads_from_the_original_layout(original_file):
    raw = load_unet(original_file, weights="raw", compute=Compute(dtype=jnp.bfloat16))
    average = load_unet(original_file, dtype=jnp.bfloat16)
    assert raw.compute.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        (raw.conv_in.kernel[...] * 0.5).astype(jnp.bfloat16), average.conv_in.kernel[...]
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(average))} == {jnp.dtype("bfloat16")}


def test_a_part_of_another_kind_is_refused(pipeline_folder):
    with pytest.raises(DataError, match="lacks vae/"):
        load_vae(pipeline_folder / "unet")


def test_a_model_saves_as_itself(pipeline_folder, tmp_path):
    model = load_model(pipeline_folder)
    assert model.weights == "only" and model.origin == str(pipeline_folder)
    for format in ("diffusers", "orbax"):
        save_model(model, tmp_path / format, format=format)
        assert weights_hash(tmp_path / format) == weights_hash(pipeline_folder)
        again = load_model(tmp_path / format)
        assert again.unet.config == model.unet.config
        assert again.files.keys() == model.files.keys()
        assert again.files["tokenizer/vocab.json"] == model.files["tokenizer/vocab.json"]
    config = json.loads((tmp_path / "diffusers/unet/config.json").read_text())
    theirs = json.loads((pipeline_folder / "unet/config.json").read_text())
    assert config.items() >= {"_class_name": "UNet2DConditionModel"}.items()
    assert config.keys() >= theirs.keys()


def test_a_changed_network_saves_with_its_own_configuration(pipeline_folder, tmp_path):
    model = load_model(pipeline_folder)
    unet = load_unet(pipeline_folder)
    unet.conv_out.bias[...] = jnp.full(4, 7.0)
    unet.config = dataclasses.replace(unet.config, sample_size=32)
    save_model(dataclasses.replace(model, unet=unet), tmp_path / "out")
    assert json.loads((tmp_path / "out/unet/config.json").read_text())["sample_size"] == 32
    assert load_unet(tmp_path / "out").conv_out.bias[0] == 7
    assert weights_hash(tmp_path / "out") != weights_hash(pipeline_folder)


def test_the_hash_sees_every_change(pipeline_folder):
    whole = weights_hash(pipeline_folder)
    assert len(whole) == 64 and whole == weights_hash(str(pipeline_folder))
    assert len({whole, *(weights_hash(pipeline_folder / name) for name in LOADERS)}) == 4


def test_an_unknown_format_is_refused(pipeline_folder, tmp_path):
    with pytest.raises(ConfigError, match="'int4'"):
        save_model(open_model(pipeline_folder), tmp_path / "out", dtype="int4")
