"""A SmartEdit as a model folder: every part loads as the official code holds it, and saves."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import nnx
from safetensors.numpy import save_file

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.devices import split_longest
from mre_jax.models.layers import Compute
from mre_jax.weights import locate
from mre_jax.weights.convert import ConvertSpec, convert
from mre_jax.weights.digest import weights_hash
from mre_jax.weights.files import writer
from mre_jax.weights.files.folder import SMARTEDIT
from mre_jax.weights.load import load_component, load_model, parts_of
from mre_jax.weights.names.rule import parameters
from mre_jax.weights.opening import model_at
from mre_jax.weights.save import save_model
from tests.tiny_smartedit import IMAGE_TOKENS, tiny_smartedit


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


def test_a_unet_alone_takes_the_rest_of_a_smartedit_from_its_base(tmp_path):
    folder = tiny_smartedit()
    model = load_model(tiny_smartedit(True) / "unet", base=folder)
    assert model.unet.config.reward is not None
    assert model.instruction_encoder is not None and "llm_tokenizer/tokenizer.model" in model.files
    assert model.notes[0].endswith(f"llm_tokenizer, scheduler, tokenizer taken from {folder}")
    save_model(model, tmp_path / "out")
    with model_at(tmp_path / "out") as saved:
        assert saved.kind == "smartedit"


def test_an_editor_with_its_own_text_encoder_takes_no_instruction_encoder(pipeline_folder):
    assert load_model(pipeline_folder, base=tiny_smartedit()).instruction_encoder is None


def test_a_lora_of_the_unet_is_merged(tmp_path, model):
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    weight = model.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k.kernel
    inputs, outputs = weight.shape
    random = np.random.default_rng(0)
    down = random.normal(size=(2, inputs)).astype(np.float32)
    up = random.normal(size=(outputs, 2)).astype(np.float32)
    names = {"lora_A": down, "lora_B": up}
    save_file({f"unet.{layer}.{n}.weight": x for n, x in names.items()}, tmp_path / "a.safetensors")
    merged = load_model(tiny_smartedit(), lora=f"{tmp_path / 'a.safetensors'}:0.5")
    got = merged.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k.kernel
    np.testing.assert_allclose(got[...], weight[...] + 0.5 * (up @ down).T, rtol=1e-5, atol=1e-6)
    assert merged.instruction_encoder is not None
    assert "merged" in merged.notes[0] and "1 layers of unet" in merged.notes[0]


def test_it_loads_from_a_bucket(monkeypatch):
    folder = tiny_smartedit()
    real = epath.Path
    monkeypatch.setattr(
        locate.epath,
        "Path",
        lambda path: real(str(path).replace("gs://bucket", str(folder.parent))),
    )
    assert weights_hash(f"gs://bucket/{folder.name}") == weights_hash(folder)


def test_the_language_model_is_split_as_asked_and_read_once():
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    asked = {}

    def placement(name, leaf):
        asked[name] = split_longest(mesh, leaf.shape, ("fsdp",))
        return asked[name]

    llm = load_component("llm", tiny_smartedit(), placement=placement)
    found = {name: variable[...].sharding for name, (_, variable) in parameters(llm).items()}
    assert found == asked
    # Each of the eight devices has an eighth of every matrix that can be divided.
    gate = llm.model.layers[0].mlp.gate_proj.kernel[...]
    assert {part.data.size for part in gate.addressable_shards} == {gate.size // 8}
    alone = load_component("llm", tiny_smartedit())
    np.testing.assert_array_equal(gate, alone.model.layers[0].mlp.gate_proj.kernel[...])


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(tiny_smartedit(), tmp_path / "copy")


def _changed_config(folder, name, **entries):
    path = folder / name / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.mark.parametrize("part", SMARTEDIT)
def test_a_missing_part_is_named(copy, part):
    shutil.rmtree(copy / part)
    with pytest.raises(DataError, match=f"copy lacks {part}/; take a complete model"):
        load_model(copy)


def test_parts_of_two_sizes_are_named(copy, tmp_path):
    _changed_config(copy, "qformer", encoder_width=48)
    with pytest.raises(DataError, match=r"qformer/\S+ is made for a width of 48, and .*llm/.* 32"):
        load_model(copy)
    with pytest.raises(DataError, match="take all parts from one release"):
        convert(ConvertSpec(copy, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("adapters", "error", "message"),
    [
        ({"r": 3}, DataError, r"llm/\S+ does not fit the model: 8 of another shape.*lora_A"),
        ({"target_modules": ["k_proj"]}, ConfigError, r"llm: target_modules \['k_proj'\] is not"),
    ],
)
def test_adapters_of_another_kind_are_refused(copy, adapters, error, message):
    lora = json.loads((copy / "llm/config.json").read_text())["lora"]
    _changed_config(copy, "llm", lora={**lora, **adapters})
    with pytest.raises(error, match=message):
        load_model(copy)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (None, r"has no llm_tokenizer/tokenizer.model; give the tokenizer.model of vicuna"),
        (b"", r"has 0 pieces and its language model \d+ rows"),
        (b"text", r"tokenizer.model is damaged; give"),
        (3, r"leaves 3 for the tokens that SmartEdit adds, not 4 or more; give"),
    ],
)
def test_a_tokenizer_of_another_vocabulary_is_refused(copy, tmp_path, pieces, message):
    place = copy / "llm_tokenizer/tokenizer.model"
    if pieces is None:
        place.unlink()
    elif isinstance(pieces, bytes):
        place.write_bytes(pieces)
    else:  # one more piece, so that a row less is left
        place.write_bytes(place.read_bytes() + b"\x0a\x00" * (IMAGE_TOKENS + 3 - pieces))
    with pytest.raises(DataError, match=message):
        load_model(copy)
    with pytest.raises(DataError, match=message):
        convert(ConvertSpec(copy, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["llm", "bim"])
def test_a_truncated_file_is_named(copy, part):
    place = copy / part / "model.safetensors"
    place.write_bytes(place.read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"{part}/model.safetensors is not a readable .* again"):
        load_model(copy)
