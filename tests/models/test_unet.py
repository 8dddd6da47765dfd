import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.interpreters import partial_eval as pe

from mre_jax.errors import ConfigError
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.reward import RewardConfig
from mre_jax.models.transformer import BasicTransformerBlock
from mre_jax.models.unet import UNet, UNetConfig
from mre_jax.models.unet_blocks import ResnetBlock
from tests.models.tiny_unet import (
    TINY,
    abstract_unet,
    channels_last,
    make_batch,
    make_unet,
    run,
    tiny_config,
    tiny_reward,
)
from tests.parity import load_torch, randomize_torch, relative_error, torch_shapes

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

CASES = {
    "editor": ({}, (8, 4)),
    "text_to_image_three_levels_odd_size": (
        {
            "in_channels": 4,
            "block_out_channels": [8, 16, 16],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "norm_num_groups": 4,
        },
        (5, 7),
    ),
    "stable_diffusion_2": (
        {
            "use_linear_projection": True,
            "attention_head_dim": [2, 4],
            "upcast_attention": True,
            "norm_eps": 1e-3,
            "flip_sin_to_cos": False,
            "freq_shift": 1,
        },
        (7, 6),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_output_equals_diffusers(case):
    changes, size = CASES[case]
    config = tiny_config(**changes)
    theirs = randomize_torch(diffusers.UNet2DConditionModel(**TINY | changes))
    ours = load_torch(make_unet(config), theirs.state_dict())
    batch = make_batch(config, *size)
    with torch.no_grad():
        expected = channels_last(theirs(*batch.torch).sample)
    assert relative_error(run(ours, *batch.jax[:3]), expected) < 1e-4


def test_resnet_block_equals_diffusers():
    from diffusers.models.resnet import ResnetBlock2D

    theirs = ResnetBlock2D(in_channels=8, out_channels=16, temb_channels=12, groups=4, eps=1e-5)
    randomize_torch(theirs)
    ours = ResnetBlock(8, 16, 12, 4, 1e-5, compute=Compute(), rngs=make_rngs(0))
    load_torch(ours, theirs.state_dict())
    x, time = torch.randn(2, 8, 5, 6), torch.randn(2, 12)
    with torch.no_grad():
        expected = channels_last(theirs(x, time))
    x, time = jnp.asarray(channels_last(x)), jnp.asarray(time)
    assert relative_error(run(ours, x, time), expected) < 1e-5


def test_transformer_block_equals_diffusers():
    from diffusers.models.attention import BasicTransformerBlock as Theirs

    theirs = randomize_torch(Theirs(16, 2, 8, cross_attention_dim=12))
    ours = BasicTransformerBlock(16, 12, 2, compute=Compute(), rngs=make_rngs(0))
    load_torch(ours, theirs.state_dict())
    x, context = torch.randn(2, 9, 16), torch.randn(2, 5, 12)
    with torch.no_grad():
        expected = theirs(x, encoder_hidden_states=context)
    keys = ours.attn2.key_value(jnp.asarray(context))
    assert relative_error(run(ours, jnp.asarray(x), keys), expected) < 1e-5


@pytest.mark.parametrize("in_channels", [4, 8])
def test_full_size_names_and_shapes_equal_diffusers(in_channels):
    config = UNetConfig(in_channels=in_channels)
    with torch.device("meta"):
        theirs = diffusers.UNet2DConditionModel(**config.to_dict())
    ours = abstract_unet(config)
    assert torch_shapes(ours) == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}


def test_denoising_reads_no_weight_that_the_condition_already_used():
    config = tiny_config(tiny_reward())
    graphdef, state = nnx.split(abstract_unet(config))
    sample, timestep, states, reward = make_batch(config).jax
    paths = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(state)]

    def read(function, *args):
        """Names of the parameters that `function` uses."""
        jaxpr = jax.make_jaxpr(lambda s, *a: function(nnx.merge(graphdef, s), *a))(state, *args)
        _, kept = pe.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.out_avals))
        return {path for path, is_used in zip(paths, kept, strict=False) if is_used}

    conditioning = read(UNet.condition, states, reward)
    condition = jax.eval_shape(lambda s: nnx.merge(graphdef, s).condition(states, reward), state)
    denoising = read(UNet.denoise, sample, timestep, condition)
    assert any("attn2.to_k" in name for name in conditioning)
    assert not conditioning & denoising
    assert conditioning | denoising == set(paths)


def test_bfloat16_runs_throughout_and_returns_float32():
    config = tiny_config(tiny_reward(form="released"))
    graphdef, state = nnx.split(abstract_unet(config, dtype=jnp.bfloat16))
    sample, timestep, states, reward = make_batch(config).jax

    def conditioned(state, states, reward):
        return nnx.merge(graphdef, state).condition(states, reward)

    def denoised(state, condition):
        return nnx.merge(graphdef, state).denoise(sample, timestep, condition)

    half = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), state)
    for weights in (state, half):
        condition = jax.eval_shape(conditioned, weights, states, reward)
        dtypes = {x.dtype for x in jax.tree.leaves(condition)}
        assert dtypes == {jnp.dtype(jnp.bfloat16), jnp.dtype(bool)}
        jaxpr = jax.make_jaxpr(denoised)(weights, condition)
        seen = {e.outvars[0].aval.dtype for e in jaxpr.eqns if "conv_general" in str(e.primitive)}
        assert seen == {jnp.dtype(jnp.bfloat16)}
        assert jaxpr.out_avals[0].dtype == jnp.float32


def test_bfloat16_result_is_near_that_of_float32():
    config = tiny_config()
    theirs = randomize_torch(diffusers.UNet2DConditionModel(**TINY))
    ours = load_torch(make_unet(config, dtype=jnp.bfloat16), theirs.state_dict())
    batch = make_batch(config)
    with torch.no_grad():
        expected = channels_last(theirs(*batch.torch).sample)
    assert relative_error(run(ours, *batch.jax[:3]), expected) < 0.05


def test_config_of_stable_diffusion_is_understood():
    published = {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.6.0",
        "act_fn": "silu",
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": False,
        "class_embed_type": None,
        "cross_attention_dim": 768,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 8,
        "layers_per_block": [2, 2, 2, 2],
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "only_cross_attention": [False, False, False, False],
        "out_channels": 4,
        "sample_size": 64,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    }
    assert UNetConfig.from_dict(published) == UNetConfig()


@pytest.mark.parametrize("reward", [None, RewardConfig(form="released", text=False)])
def test_config_survives_json(reward):
    config = UNetConfig(attention_head_dim=(5, 10, 20, 20), reward=reward)
    assert UNetConfig.from_dict(config.to_dict()) == config


def test_config_written_by_diffusers_is_read_with_its_defaults():
    with torch.device("meta"):
        theirs = diffusers.UNet2DConditionModel()
    config = UNetConfig.from_dict(theirs.config)
    assert (config.in_channels, config.cross_attention_dim) == (4, 1280)
    assert UNetConfig.from_dict({}) == config


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"addition_embed_type": "text_time"}, "addition_embed_type 'text_time'"),
        ({"transformer_layers_per_block": [1, 2]}, "transformer_layers_per_block"),
        ({"layers_per_block": [1, 2]}, "layers_per_block"),
        ({"down_block_types": ["AttnDownBlock2D", "DownBlock2D"]}, "AttnDownBlock2D"),
        ({"up_block_types": ["UpBlock2D"]}, "up_block_types"),
        ({"attention_head_dim": [2, 2, 2]}, "attention_head_dim"),
        ({"attention_head_dim": 3}, "attention_head_dim 3 does not divide"),
        ({"attention_head_dim": "8"}, "'8' is not supported; it must be of type int or list"),
        ({"block_out_channels": [16, "32"]}, "block_out_channels .* must be of type list"),
        ({"flip_sin_to_cos": 1}, "flip_sin_to_cos 1 is not supported; it must be of type bool"),
        ({"norm_num_groups": 5}, "norm_num_groups 5 does not divide"),
        ({"norm_num_groups": 0}, "norm_num_groups 0 does not divide"),
        ({"layers_per_block": -1}, "layers_per_block -1 is not supported"),
        ({"cross_attention_dim": "768"}, "cross_attention_dim '768' is not supported"),
        ({"reward": {"num_attention_heads": 3}}, "reward.num_attention_heads 3"),
        ({"reward": {"colour": 3}}, "reward.colour"),
    ],
)
def test_an_unsupported_config_is_named(changes, named):
    with pytest.raises(ConfigError, match=named):
        UNetConfig.from_dict(TINY | changes)
