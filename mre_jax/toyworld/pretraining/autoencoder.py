"""The autoencoder of the toy editor: Stable Diffusion's, with a single halving."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float16, Float32, UInt8

from mre_jax.data.batches.device import to_float
from mre_jax.io.devices import compiler_options
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.vae import AutoencoderKL, VAEConfig
from mre_jax.toyworld.pretraining.fit import fit
from mre_jax.toyworld.pretraining.recipe import Recipe
from mre_jax.training.state import Network, Parameters, parameters_of

_STAGE = 0
_KL = 1e-5
_CHUNK = 250


def train_autoencoder(
    recipe: Recipe, pictures: UInt8[np.ndarray, "n H W 3"], folder: Path
) -> AutoencoderKL:
    """Trains it on pictures and their mirror images.

    The loss is the squared error of pixels and of their differences to the neighbours, since an
    autoencoder that smooths noise away hides from the editor what the quality reward is about.
    """
    config = VAEConfig(
        block_out_channels=recipe.vae_widths,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=8,
        sample_size=recipe.size,
        mid_block_add_attention=False,
    )
    module = AutoencoderKL(config, compute=Compute(), rngs=make_rngs(recipe.seed))
    network = Network.of(module)

    def loss(params: Parameters, batch: UInt8[Array, "b H W 3"], key: Array) -> Float32[Array, ""]:
        vae: AutoencoderKL = network.module(params)
        images = to_float(batch)
        moments = vae.encode(images)
        error = vae.decode(moments.sample(key)) - images
        prior = jnp.square(moments.mean) + jnp.exp(moments.logvar) - 1 - moments.logvar
        return _picture_error(error) + _KL * 0.5 * jnp.mean(prior)

    def read(step: int) -> UInt8[np.ndarray, "b H W 3"]:
        rng = np.random.default_rng((recipe.seed, _STAGE, step))
        chosen = pictures[rng.integers(0, len(pictures), recipe.vae_batch)]
        return chosen[:, :, ::-1] if rng.random() < 0.5 else chosen

    trained = fit(
        "autoencoder",
        parameters_of(module),
        loss,
        read,
        steps=recipe.vae_steps,
        rate=recipe.vae_rate,
        ema_decay=0.99,
        seed=recipe.seed,
        folder=folder,
    )
    vae: AutoencoderKL = network.module(trained.params)
    return vae


def encode(
    vae: AutoencoderKL, pictures: UInt8[np.ndarray, "n H W 3"]
) -> Float16[np.ndarray, "n h w c"]:
    """The modes of the latents, unscaled; their rounding is far below what an edit changes."""
    graph, state = nnx.split(vae)

    def run(state: Any, batch: UInt8[Array, "b H W 3"]) -> Float[Array, "b h w c"]:
        return nnx.merge(graph, state).encode(to_float(batch)).mode().astype(jnp.float16)

    run = jax.jit(run, compiler_options=compiler_options())

    starts = range(0, len(pictures), _CHUNK)
    return np.concatenate([np.asarray(run(state, pictures[i : i + _CHUNK])) for i in starts])


def _picture_error(error: Float[Array, "b H W 3"]) -> Float32[Array, ""]:
    across, down = jnp.diff(error, axis=2), jnp.diff(error, axis=1)
    squares = [jnp.mean(jnp.square(x)) for x in (error, across, down)]
    return squares[0] + 0.5 * (squares[1] + squares[2]) + 0.05 * jnp.mean(jnp.abs(error))
