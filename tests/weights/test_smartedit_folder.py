"""A SmartEdit as a model folder: every part loads as the official code holds it, and saves."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from mre_jax.errors import DataError
from mre_jax.models.layers import Compute
from mre_jax.weights.digest import weights_hash
from mre_jax.weights.files import writer
from mre_jax.weights.files.folder import SMARTEDIT
from mre_jax.weights.load import load_component, load_model, parts_of
from mre_jax.weights.names.rule import parameters
from mre_jax.weights.opening import model_at
from mre_jax.weights.save import save_model
from tests.tiny_smartedit import tiny_smartedit


@pytest.fixture(scope="module")
def model():
    return load_model(tiny_smartedit())


def _dtypes(network):
    return {name: str(variable[...].dtype) for name, (_, variable) in parameters(network).items()}


def test_an_editor_has_its_instruction_encoder(model):
    encoder = model.instruction_encoder
    assert encoder.llm.config.vocab_size == encoder.llm.lm_head.kernel.shape[1]
    assert encoder.llm.lora.r == 2
    features = nnx.jit(lambda encoder, *inputs: encoder.features(*inputs))(
        encoder,
        jnp.ones((1, 40), int),
        jnp.array([2]),
        jnp.array([[30, 31, 32, 33]]),
        jnp.zeros((1, 24, 24, 3)),
    )
    assert features.text_states.shape == (1, 77, 32)
    assert features.image_features.shape == (1, 4, 4, 16)


def test_an_instructpix2pix_has_none(pipeline_folder):
    assert load_model(pipeline_folder).instruction_encoder is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_parameter_has_the_official_codes_dtype(dtype):
    """What training changes is float32: a step of 1e-5 would be lost in bfloat16."""
    model = load_model(
        tiny_smartedit(), compute=Compute(dtype=jnp.dtype(dtype)), dtype=jnp.dtype(dtype)
    )
    for name in ("unet", "vae", "text_encoder"):
        assert set(_dtypes(getattr(model, name)).values()) == {dtype}
    parts = parts_of(model.instruction_encoder)
    llm = _dtypes(parts.pop("llm"))
    trained = {name for name, stored in llm.items() if stored == "float32"}
    assert trained == {
        name
        for name in llm
        if "lora_" in name or name in ("model.embed_tokens.weight", "lm_head.weight")
    }
    assert {stored for name, stored in llm.items() if name not in trained} == {"bfloat16"}
    for name, part in parts.items():
        assert set(_dtypes(part).values()) == {"float32"}, name


def test_the_language_model_computes_as_asked_and_the_rest_in_float32():
    compute = Compute(dtype=jnp.bfloat16)
    llm = load_component("llm", tiny_smartedit(), compute=compute)
    assert llm.model.compute.dtype == jnp.bfloat16
    qformer = load_component("qformer", tiny_smartedit(), compute=compute)
    states = jnp.zeros((1, 4, 32), jnp.bfloat16).astype(jnp.float32)
    made = nnx.eval_shape(lambda network: network(states, None, None), qformer)
    assert made.dtype == jnp.float32


@pytest.mark.parametrize("reward", [False, True])
@pytest.mark.parametrize("format", ["diffusers", "orbax"])
def test_it_saves_as_itself_bit_for_bit(tmp_path, reward, format):
    folder = tiny_smartedit(reward)
    model = load_model(folder)
    save_model(model, tmp_path / "out", format=format)
    # Names, dtypes, shapes and bytes of all tensors.
    assert weights_hash(tmp_path / "out") == weights_hash(folder)
    with model_at(tmp_path / "out") as saved, model_at(folder) as before:
        assert saved.components.keys() == before.components.keys()
        assert saved.files.keys() == before.files.keys()
        for name, data in before.files.items():
            assert saved.files[name] == data, name
        for name, part in before.components.items():
            config = saved.components[name].config
            assert {key: config[key] for key in part.config} == part.config


def test_the_language_model_is_saved_in_shards(model, tmp_path, monkeypatch):
    whole = writer.write_weights

    def in_shards(*args):
        return whole(*args, shard_size=50_000)

    monkeypatch.setattr("mre_jax.weights.save.write_weights", in_shards)
    files = save_model(model, tmp_path / "out")
    assert "llm/model.safetensors.index.json" in files
    assert sum(name.startswith("llm/model-0") for name in files) > 1
    assert weights_hash(tmp_path / "out") == weights_hash(tiny_smartedit())
    again = load_model(tmp_path / "out")
    for ours, theirs in zip(
        jax.tree.leaves(nnx.state(again.instruction_encoder)),
        jax.tree.leaves(nnx.state(model.instruction_encoder)),
        strict=True,
    ):
        assert ours.dtype == theirs.dtype and bool((ours == theirs).all())


def test_a_network_in_memory_needs_no_file_to_save_from(model, tmp_path):
    """What a training makes has no config.json yet; adapters are in it all the same."""
    save_model(dataclasses.replace(model, configs={}), tmp_path / "out")
    with model_at(tmp_path / "out") as saved:
        assert saved.components["llm"].config["lora"]["r"] == 2
        assert saved.kind == "smartedit" and set(SMARTEDIT) < set(saved.components)
    assert weights_hash(tmp_path / "out") == weights_hash(tiny_smartedit())


def test_a_lone_component_is_no_editor():
    with pytest.raises(DataError, match="lacks vae/"):
        load_model(tiny_smartedit() / "unet")
