import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mre_jax.errors import ConfigError
from mre_jax.models.layers import Compute
from mre_jax.models.vae import AutoencoderKL, LatentMoments, VAEConfig
from tests.parity import load_torch, randomize_torch, relative_error, torch_shapes

TINY = VAEConfig(block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, sample_size=16)
# No 1x1 convolutions, no attention, and a level of the same width as the one before.
BARE = dataclasses.replace(
    TINY,
    block_out_channels=(8, 8),
    use_quant_conv=False,
    use_post_quant_conv=False,
    mid_block_add_attention=False,
)


def _make(config, tiling=False, **compute):
    return AutoencoderKL(config, tiling=tiling, compute=Compute(**compute), rngs=nnx.Rngs(0))


def _reference(config):
    """Diffusers' autoencoder with random weights, for our config."""
    diffusers = pytest.importorskip("diffusers")
    return randomize_torch(diffusers.AutoencoderKL(**config.to_dict()).eval())


def _normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _theirs(method, x):
    """Calls a method of the PyTorch module, NHWC to NHWC."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        out = method(torch.from_numpy(x).permute(0, 3, 1, 2))
    out = out.sample if hasattr(out, "sample") else out.latent_dist.parameters
    return out.permute(0, 2, 3, 1)


def _jit(method, x):
    return jax.jit(method)(jnp.asarray(x))


@pytest.mark.parametrize("config", [TINY, BARE], ids=["tiny", "bare"])
def test_latents_and_images_are_diffusers(config):
    reference = _reference(config)
    ours = load_torch(_make(config), reference.state_dict())
    images, latents = _normal(2, 16, 24, 3), _normal(2, 8, 4, 4)
    moments = _jit(ours.encode, images)
    assert relative_error(jnp.concatenate(moments, -1), _theirs(reference.encode, images)) < 1e-4
    assert relative_error(_jit(ours.decode, latents), _theirs(reference.decode, latents)) < 1e-4


def test_tiled_pictures_are_diffusers():
    # Three tiles down and two across, with a narrow last row and column.
    images, latents = _normal(1, 36, 20, 3), _normal(1, 18, 10, 4)
    config = dataclasses.replace(BARE, use_quant_conv=True, use_post_quant_conv=True)
    reference = _reference(config)
    ours = load_torch(_make(config, tiling=True), reference.state_dict())
    whole = _theirs(reference.decode, latents)
    reference.enable_tiling()
    moments, tiled = _jit(ours.encode, images), _theirs(reference.decode, latents)
    assert relative_error(whole, tiled) > 1e-2
    assert relative_error(_jit(ours.decode, latents), tiled) < 1e-4
    assert relative_error(jnp.concatenate(moments, -1), _theirs(reference.encode, images)) < 1e-4


def test_tiling_leaves_a_picture_of_one_tile_as_it_is():
    programs = {
        str(jax.make_jaxpr(_make(BARE, tiling).decode)(jnp.zeros((1, 8, 8, 4))))
        for tiling in (True, False)
    }
    assert len(programs) == 1


def test_tiling_compiles_each_size_of_tile_once():
    model = _make(BARE, tiling=True)
    one = str(jax.make_jaxpr(_make(BARE).decode)(jnp.zeros((1, 8, 8, 4)))).count("conv_general")
    # 5 x 5 tiles: the inside, the right edge, the bottom edge and the corner.
    many = str(jax.make_jaxpr(model.decode)(jnp.zeros((1, 28, 28, 4)))).count("conv_general")
    assert many == 4 * one


def test_stable_diffusions_checkpoint_fits_the_defaults():
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        theirs = diffusers.AutoencoderKL(**VAEConfig().to_dict())
    ours = torch_shapes(nnx.eval_shape(lambda: _make(VAEConfig())))
    assert ours == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    assert sum(np.prod(shape) for shape in ours.values()) == 83_653_863


def test_bfloat16_compute_stays_close_to_float32():
    images, latents = _normal(1, 16, 16, 3), _normal(1, 8, 8, 4)
    exact, rounded = _make(TINY), _make(TINY, dtype=jnp.bfloat16)
    decoded, moments = _jit(rounded.decode, latents), _jit(rounded.encode, images)
    assert decoded.dtype == jnp.bfloat16
    assert moments.mean.dtype == moments.logvar.dtype == jnp.float32
    assert relative_error(decoded, _jit(exact.decode, latents)) < 2e-2
    assert relative_error(moments.mean, _jit(exact.encode, images).mean) < 2e-2


def test_rematerialisation_changes_no_gradient():
    latents = jnp.asarray(_normal(1, 4, 4, 4))

    def gradient(remat):
        model = _make(BARE, remat=remat)
        return jax.jit(jax.grad(lambda x: jnp.sum(model.decode(x) ** 2)))

    assert "remat" in str(jax.make_jaxpr(gradient(True))(latents))
    assert relative_error(gradient(True)(latents), gradient(False)(latents)) < 1e-5


def test_latents_are_drawn_with_the_deviation_the_encoder_gives():
    shape = (1, 64, 64, 4)
    moments = LatentMoments(jnp.full(shape, 3.0), jnp.full(shape, np.log(0.25, dtype=np.float32)))
    drawn = moments.sample(jax.random.key(0))
    assert abs(float(drawn.mean()) - 3) < 0.03 and abs(float(drawn.std()) - 0.5) < 0.02
    assert jnp.array_equal(moments.mode(), moments.mean)


def test_an_extreme_variance_is_limited():
    model = _make(dataclasses.replace(BARE, use_quant_conv=True))
    bias = model.quant_conv.bias
    bias[...] = jnp.array([0.0] * 4 + [1e3, 1e3, -1e3, -1e3])
    logvar = _jit(model.encode, np.zeros((1, 8, 8, 3), np.float32)).logvar
    assert logvar.max() == 20 and logvar.min() == -30


@pytest.mark.parametrize("config", [TINY, BARE, VAEConfig()], ids=["tiny", "bare", "default"])
def test_a_config_survives_config_json(config):
    assert VAEConfig.from_dict(config.to_dict()) == config


def test_absent_and_null_keys_mean_what_they_mean_to_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = dict(diffusers.AutoencoderKL().config)
    assert VAEConfig.from_dict({}) == VAEConfig.from_dict(theirs)
    assert VAEConfig.from_dict({"shift_factor": None, "force_upcast": True}) == VAEConfig(
        block_out_channels=(64,), layers_per_block=1, sample_size=32
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act_fn": "gelu"}, "act_fn 'gelu' is not supported; it must be 'silu'"),
        ({"shift_factor": 0.1}, "shift_factor 0.1"),
        ({"latents_mean": [0.0]}, "latents_mean"),
        ({"down_block_types": ["AttnDownEncoderBlock2D"] * 2}, "AttnDownEncoderBlock2D"),
        ({"scaling_factor": 0.0}, "scaling_factor 0.0 must be above 0"),
        ({"norm_num_groups": 7}, "norm_num_groups 7 does not divide block_out_channels 16"),
        ({"sample_size": [16, 16]}, r"sample_size \[16, 16\].*of type int"),
        ({"use_quant_conv": 1}, "use_quant_conv 1.*of type bool"),
        ({"block_out_channels": 16}, "block_out_channels 16.*of type list"),
    ],
)
def test_configs_of_other_networks_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        VAEConfig.from_dict({**TINY.to_dict(), **changes})
