import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.errors import ConfigError
from mre_jax.models.clip import CLIPConfig, CLIPModel
from mre_jax.models.clip_text import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from mre_jax.models.clip_vision import (
    CLIPPatchEncoder,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)
from mre_jax.models.layers import Compute
from tests.parity import load_torch, randomize_torch, relative_error, torch_shapes

TEXT = CLIPTextConfig(
    vocab_size=99,
    hidden_size=32,
    intermediate_size=64,
    projection_dim=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=12,
)
VISION = CLIPVisionConfig(
    hidden_size=32,
    intermediate_size=64,
    projection_dim=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    image_size=16,
    patch_size=4,
)
# The end token 98 is the highest id, and stands twice in the first row, as padding does.
IDS = np.array([[97, 5, 98, 98, 98, 98], [97, 1, 2, 3, 4, 98]])
PIXELS = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)


def _make(model, config, **compute):
    return model(config, compute=Compute(**compute), rngs=nnx.Rngs(0))


def _prefixed(prefix, module):
    """The names of the released files, which PyTorch's own modules have dropped."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def _reference(kind, config):
    """A PyTorch model of transformers with random weights, for our config."""
    transformers = pytest.importorskip("transformers")
    theirs = getattr(transformers, f"{kind}Config")(**config.to_dict())
    return randomize_torch(getattr(transformers, f"{kind}Model")(theirs).eval())


def _run(module, *arrays, **named):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return module(*map(torch.from_numpy, arrays), **named)


def _call(method, inputs):
    return jax.jit(lambda x: method(x))(jnp.asarray(inputs))


def _pixels():
    return PIXELS.transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    "changes",
    [{}, {"eos_token_id": 98, "hidden_act": "gelu", "layer_norm_eps": 1e-3}],
    ids=["stable-diffusion-1", "new-pooling-rule"],
)
def test_text_states_and_pooled_output_are_transformers(changes):
    config = dataclasses.replace(TEXT, **changes)
    reference = _reference("CLIPText", config)
    ours = load_torch(_make(CLIPTextModel, config), _prefixed("text_model", reference))
    theirs, output = _run(reference, IDS), _call(ours, IDS)
    assert relative_error(output.last_hidden_state, theirs.last_hidden_state) < 1e-5
    assert relative_error(output.pooler_output, theirs.pooler_output) < 1e-5


def test_a_text_is_pooled_at_its_first_end_token_by_either_rule():
    for end in (2, 98):
        output = _call(_make(CLIPTextModel, dataclasses.replace(TEXT, eos_token_id=end)), IDS)
        expected = output.last_hidden_state[jnp.arange(2), jnp.array([2, 5])]
        assert jnp.array_equal(output.pooler_output, expected)


def test_a_full_checkpoint_gives_the_features_of_texts_and_images():
    torch = pytest.importorskip("torch")
    config = CLIPConfig(TEXT, VISION, 24)
    reference = _reference("CLIP", config)
    ours = load_torch(_make(CLIPModel, config), reference.state_dict())
    with torch.no_grad():
        texts = reference.get_text_features(torch.from_numpy(IDS)).pooler_output
        images = reference.get_image_features(torch.from_numpy(_pixels())).pooler_output
    assert relative_error(_call(ours.get_text_features, IDS), texts) < 1e-5
    assert relative_error(_call(ours.get_image_features, PIXELS), images) < 1e-5

    towers = {
        CLIPTextModelWithProjection: (TEXT, IDS, "text_embeds", texts),
        CLIPVisionModelWithProjection: (VISION, PIXELS, "image_embeds", images),
    }
    for model, (tower, inputs, name, expected) in towers.items():
        ours = _make(model, tower)
        names = torch_shapes(ours)
        weights = reference.state_dict()
        load_torch(ours, {name: weights[name] for name in names})
        assert relative_error(getattr(_call(ours, inputs), name), expected) < 1e-5


def test_image_states_and_pooled_output_are_transformers():
    reference = _reference("CLIPVision", VISION)
    ours = load_torch(_make(CLIPVisionModel, VISION), _prefixed("vision_model", reference))
    theirs, output = _run(reference, _pixels()), _call(ours, PIXELS)
    assert relative_error(output.last_hidden_state, theirs.last_hidden_state) < 1e-5
    assert relative_error(output.pooler_output, theirs.pooler_output) < 1e-5


def test_patches_are_transformers_layer_before_the_last_without_the_class_token():
    config = dataclasses.replace(VISION, num_hidden_layers=3)
    reference = _reference("CLIPVision", config)
    ours, weights = _make(CLIPPatchEncoder, config), _prefixed("vision_model", reference)
    used = torch_shapes(ours)
    unused = weights.keys() - used.keys()
    assert {name.removeprefix("vision_model.").split(".self_attn")[0] for name in unused} >= {
        "post_layernorm.weight",
        "encoder.layers.2",
    }
    assert not any(".layers.0." in name or ".layers.1." in name for name in unused)
    load_torch(ours, {name: weights[name] for name in used})
    theirs = _run(reference, _pixels(), output_hidden_states=True).hidden_states[-2][:, 1:]
    assert relative_error(_call(ours, PIXELS), theirs) < 1e-5


def test_patches_need_a_layer_before_the_last():
    with pytest.raises(ConfigError, match="num_hidden_layers 1 has no layer before the last"):
        _make(CLIPPatchEncoder, dataclasses.replace(VISION, num_hidden_layers=1))


@pytest.mark.parametrize("preset", ["vit_b_32", "vit_b_16", "vit_l_14"])
def test_released_image_encoders_fit_the_presets(preset):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = getattr(CLIPVisionConfig, preset)()
    with torch.device("meta"):
        theirs = transformers.CLIPVisionModelWithProjection(
            transformers.CLIPVisionConfig(**config.to_dict())
        )
    ours = torch_shapes(nnx.eval_shape(lambda: _make(CLIPVisionModelWithProjection, config)))
    assert ours == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    assert config.patch_size == int(preset.rsplit("_", 1)[1])
    full = getattr(CLIPConfig, preset)()
    assert full.vision_config == config
    assert full.projection_dim == full.text_config.projection_dim == config.projection_dim


def test_the_text_encoder_of_stable_diffusion_has_the_names_of_its_file():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        theirs = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(**CLIPTextConfig().to_dict())
        )
    ours = torch_shapes(nnx.eval_shape(lambda: _make(CLIPTextModel, CLIPTextConfig())))
    assert ours == {k: tuple(v.shape) for k, v in _prefixed("text_model", theirs).items()}
    assert sum(np.prod(shape) for shape in ours.values()) == 123_060_480


@pytest.mark.parametrize("model", [CLIPTextModel, CLIPVisionModel])
def test_bfloat16_compute_stays_close_to_float32(model):
    config, inputs = (TEXT, IDS) if model is CLIPTextModel else (VISION, PIXELS)
    exact = _call(_make(model, config), inputs)
    output = _call(_make(model, config, dtype=jnp.bfloat16), inputs)
    assert output.last_hidden_state.dtype == output.pooler_output.dtype == jnp.bfloat16
    assert relative_error(output.last_hidden_state, exact.last_hidden_state) < 2e-2


def test_rematerialisation_changes_no_gradient():
    def gradient(remat):
        config = dataclasses.replace(TEXT, num_hidden_layers=1)
        graph, state = nnx.split(_make(CLIPTextModel, config, remat=remat))

        def loss(state):
            states = nnx.merge(graph, state)(jnp.asarray(IDS)).last_hidden_state
            return jnp.sum(states[..., 0] ** 2)

        assert ("remat" in str(jax.make_jaxpr(loss)(state))) == remat
        return jax.jit(jax.grad(loss))(state)

    for a, b in zip(*map(jax.tree.leaves, (gradient(True), gradient(False))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_text_longer_than_the_encoder_is_refused():
    with pytest.raises(ConfigError, match=r"13 tokens.*cut it to 12"):
        _make(CLIPTextModel, TEXT)(jnp.zeros((1, 13), int))


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ConfigError, match=r"20x16 pixels.*16x16"):
        _make(CLIPVisionModel, VISION)(jnp.zeros((1, 20, 16, 3)))


@pytest.mark.parametrize("config", [TEXT, VISION, CLIPConfig(TEXT, VISION, 24)])
def test_a_config_survives_config_json(config):
    assert type(config).from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    "cls", [CLIPTextConfig, CLIPVisionConfig, CLIPConfig], ids=lambda cls: cls.__name__
)
def test_absent_keys_mean_what_they_mean_to_transformers(cls):
    transformers = pytest.importorskip("transformers")
    theirs = getattr(transformers, cls.__name__)()
    assert cls.from_dict({}) == cls.from_dict(theirs.to_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "siglip_text_model"}, "model_type 'siglip_text_model'"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'.*quick_gelu or gelu"),
        ({"num_attention_heads": 5}, "num_attention_heads 5 does not divide hidden_size 32"),
        ({"eos_token_id": [1, 2]}, r"eos_token_id \[1, 2\].*of type int"),
    ],
)
def test_configs_of_other_networks_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        CLIPTextConfig.from_dict({**TEXT.to_dict(), **changes})


def test_null_and_harmless_keys_of_a_released_config_are_accepted():
    extra = {"torch_dtype": "float32", "dropout": 0.0, "layer_norm_eps": None}
    assert CLIPTextConfig.from_dict({**TEXT.to_dict(), **extra}) == TEXT
