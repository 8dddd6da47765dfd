"""The toy editor's UNet and text encoder, trained together on Eq. 1 of the paper."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float32, Int32

from mre_jax.data.batches.order import drop_conditions
from mre_jax.diffusion.loss import min_snr_weight, squared_error
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.models.clip_text import CLIPTextConfig, CLIPTextModel
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.unet import UNet
from mre_jax.models.unet_config import UNetConfig
from mre_jax.toyworld.pretraining.fit import draw_rows, fit, parameters
from mre_jax.toyworld.pretraining.recipe import Recipe
from mre_jax.weights.tokens import Tokenizer

_STAGE = 1


class Latents(NamedTuple):
    """Unscaled modes of all pictures, [plain and mirrored, n, h, w, c]."""

    original: Float32[np.ndarray, "2 n h w c"]
    edited: Float32[np.ndarray, "2 n h w c"]


class _Batch(NamedTuple):
    original: Float32[Array, "b h w c"]
    edited: Float32[Array, "b h w c"]
    ids: Int32[Array, "b t"]
    drop_text: Bool[Array, " b"]
    drop_image: Bool[Array, " b"]


def train_editor(
    recipe: Recipe,
    latents: Latents,
    instructions: list[str],
    tokenizer: Tokenizer,
    vocabulary: int,
    scaling_factor: float,
    folder: Path,
) -> tuple[UNet, CLIPTextModel]:
    """Trains both from random weights.

    Args:
        vocabulary: number of tokens; the last one ends a text.
        scaling_factor: of the autoencoder.
    """
    ids, empty = tokenizer(instructions), tokenizer([""])
    schedule = NoiseSchedule.stable_diffusion()
    unet_graph, unet = parameters(_unet(recipe))
    text_graph, text = parameters(_text_encoder(recipe, vocabulary))

    def loss(params: Any, batch: _Batch, key: Array) -> Float32[Array, ""]:
        unet: UNet = nnx.merge(unet_graph, params["unet"])
        text_encoder: CLIPTextModel = nnx.merge(text_graph, params["text_encoder"])
        for_noise, for_time = jax.random.split(key)
        clean = batch.edited * scaling_factor
        noise = jax.random.normal(for_noise, clean.shape)
        timesteps = jax.random.randint(for_time, clean.shape[:1], 0, schedule.num_train_timesteps)
        image = jnp.where(batch.drop_image[:, None, None, None], 0, batch.original)
        asked = jnp.where(batch.drop_text[:, None], empty, batch.ids)
        noisy = schedule.add_noise(clean, noise, timesteps)
        states = text_encoder(asked).last_hidden_state
        output = unet(jnp.concatenate([noisy, image], axis=-1), timesteps, states)
        errors = squared_error(output, schedule.target(clean, noise, timesteps))
        return jnp.mean(errors * min_snr_weight(schedule, timesteps, recipe.min_snr_gamma))

    def read(step: int) -> _Batch:
        rows, mirror = draw_rows(recipe.seed, _STAGE, step, len(ids), recipe.batch)
        chance = np.random.default_rng((recipe.seed, _STAGE + 1, step)).random(len(rows))
        original, edited = (x[int(mirror), rows] for x in latents)
        dropped: Any = drop_conditions(chance, recipe.dropout)
        return _Batch(original, edited, ids[rows], *dropped)

    trained = fit(
        "editor",
        {"unet": unet, "text_encoder": text},
        loss,
        read,
        steps=recipe.steps,
        rate=recipe.rate,
        ema_decay=recipe.ema_decay,
        seed=recipe.seed,
        folder=folder,
    )
    return (
        nnx.merge(unet_graph, trained["unet"]),
        nnx.merge(text_graph, trained["text_encoder"]),
    )


def _unet(recipe: Recipe) -> UNet:
    deeper = len(recipe.widths) - 1
    config = UNetConfig(
        sample_size=recipe.size // 2 ** (len(recipe.vae_widths) - 1),
        in_channels=2 * recipe.latent_channels,
        out_channels=recipe.latent_channels,
        block_out_channels=recipe.widths,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * deeper),
        up_block_types=(*["CrossAttnUpBlock2D"] * deeper, "UpBlock2D"),
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
