"""The toy editor's UNet and text encoder, trained together on Eq. 1 of the paper."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float16, Float32, Int, Int32

from mre_jax.data.batches.order import drop_conditions
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.models.clip_text import CLIPTextConfig, CLIPTextModel
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.unet import UNet
from mre_jax.models.unet_config import UNetConfig
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.toyworld.pretraining.fit import Observed, fit
from mre_jax.toyworld.pretraining.recipe import Recipe
from mre_jax.training.state import Network, Parameters, parameters_of
from mre_jax.weights.tokens import Tokenizer

_STAGE = 1
_CHANGED = 0.1  # of a latent's standard deviation


class Latents(NamedTuple):
    """Unscaled modes of all pictures."""

    original: Float16[np.ndarray, "n h w c"]
    target: Float16[np.ndarray, "n h w c"]
    edited: Float16[np.ndarray, "n h w c"]


class _Batch(NamedTuple):
    original: Float16[Array, "b h w c"]
    edited: Float16[Array, "b h w c"]
    ids: Int32[Array, "b t"]
    drop_text: Bool[Array, " b"]
    drop_image: Bool[Array, " b"]


class _Networks(nnx.Module):
    """What is trained together."""

    def __init__(self, unet: UNet, text_encoder: CLIPTextModel):
        self.unet, self.text_encoder = unet, text_encoder


def train_editor(
    recipe: Recipe,
    latents: Latents,
    instructions: list[str],
    tokenizer: Tokenizer,
    vocabulary: int,
    scaling_factor: float,
    folder: Path,
    scores: Callable[[UNet, CLIPTextModel], Observed],
) -> tuple[UNet, CLIPTextModel, list[Observed]]:
    """Trains both from random weights.

    Args:
        vocabulary: number of tokens; the last one ends a text.
        scaling_factor: of the autoencoder.
        scores: of an editor with these networks.

    Returns:
        The networks, and the learning curve: their scores by the number of examples seen.
    """
    ids, empty = tokenizer(instructions), tokenizer([""])
    schedule = noise_schedule(recipe)
    networks = _Networks(_unet(recipe), _text_encoder(recipe, vocabulary))
    network = Network.of(networks)

    def both(params: Parameters) -> tuple[UNet, CLIPTextModel]:
        networks: _Networks = network.module(params)
        return networks.unet, networks.text_encoder

    def loss(params: Parameters, batch: _Batch, key: Array) -> Float32[Array, ""]:
        unet, text_encoder = both(params)
        for_noise, for_time = jax.random.split(key)
        original, edited = (x.astype(jnp.float32) for x in (batch.original, batch.edited))
        clean = edited * scaling_factor
        noise = jax.random.normal(for_noise, clean.shape)
        timesteps = jax.random.randint(for_time, clean.shape[:1], 0, schedule.num_train_timesteps)
        image = jnp.where(batch.drop_image[:, None, None, None], 0, original)
        asked = jnp.where(batch.drop_text[:, None], empty, batch.ids)
        noisy = schedule.add_noise(clean, noise, timesteps)
        states = text_encoder(asked).last_hidden_state
        output = unet(jnp.concatenate([noisy, image], axis=-1), timesteps, states)
        change = jnp.abs(clean - original * scaling_factor).max(-1, keepdims=True)
        weight = 1 + recipe.change_weight * (change > _CHANGED)
        squares = jnp.square(output - schedule.target(clean, noise, timesteps))
        return jnp.mean(jnp.mean(weight * squares, (1, 2, 3)) / jnp.mean(weight, (1, 2, 3)))

    def read(step: int) -> _Batch:
        rng = np.random.default_rng((recipe.seed, _STAGE, step))
        rows = _rows(recipe, rng, len(ids))
        edited = latents.target if step < recipe.clean_steps else latents.edited
        dropped: Any = drop_conditions(rng.random(len(rows)), recipe.dropout)
        return _Batch(latents.original[rows], edited[rows], ids[rows], *dropped)

    def observe(done: int, params: Parameters) -> Observed:
        return {"examples": done * recipe.batch, **scores(*both(params))}

    trained = fit(
        "editor",
        parameters_of(networks),
        loss,
        read,
        steps=recipe.steps,
        rate=recipe.rate,
        ema_decay=recipe.ema_decay,
        seed=recipe.seed,
        folder=folder,
        observe=observe,
        observe_every=recipe.curve_every,
    )
    return *both(trained.params), trained.curve


def noise_schedule(recipe: Recipe) -> NoiseSchedule:
    """Stable Diffusion's, with what the recipe's UNet predicts."""
    return dataclasses.replace(
        NoiseSchedule.stable_diffusion(), prediction_type=recipe.prediction_type
    )


def _rows(recipe: Recipe, rng: np.random.Generator, count: int) -> Int[np.ndarray, " b"]:
    """Which of `count` examples a step reads; example i is of type i mod 7."""
    shares = np.asarray(recipe.type_shares) / sum(recipe.type_shares)
    types = rng.choice(len(EDIT_TYPES), recipe.batch, p=shares)
    rounds = rng.integers(0, count // len(EDIT_TYPES), recipe.batch)
    rows: Int[np.ndarray, " b"] = rounds * len(EDIT_TYPES) + types
    return rows


def _unet(recipe: Recipe) -> UNet:
    levels = len(recipe.widths)
    config = UNetConfig(
        sample_size=recipe.size // 2 ** (len(recipe.vae_widths) - 1),
        in_channels=2 * recipe.latent_channels,
        out_channels=recipe.latent_channels,
        block_out_channels=recipe.widths,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=recipe.text_width,
        norm_num_groups=8,
    )
    return UNet(config, compute=Compute(), rngs=make_rngs(recipe.seed + 1))


def text_config(recipe: Recipe, vocabulary: int) -> CLIPTextConfig:
    """The text encoder's, for a tokenizer of `vocabulary` tokens."""
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.text_width,
        intermediate_size=4 * recipe.text_width,
        projection_dim=recipe.text_width,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=4,
        max_position_embeddings=recipe.tokens,
        eos_token_id=vocabulary - 1,
    )


def _text_encoder(recipe: Recipe, vocabulary: int) -> CLIPTextModel:
    config = text_config(recipe, vocabulary)
    return CLIPTextModel(config, compute=Compute(), rngs=make_rngs(recipe.seed + 2))
