"""From a batch to what the UNet reads and is asked for: latents, noise, text states, rewards.

Everything an example draws comes from its own key, so that it does not depend on its companions,
on accumulation, or on the number of devices.
"""

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Float32, Int, Key

from mre_jax.data.batches.batch import Batch
from mre_jax.data.batches.device import to_float
from mre_jax.diffusion.noise import normal_per_example
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.models.bim import resized
from mre_jax.models.clip_text import CLIPTextModel
from mre_jax.models.reward import RewardInputs
from mre_jax.models.vae import AutoencoderKL, LatentMoments
from mre_jax.training import losses
from mre_jax.training.config import LossConfig
from mre_jax.training.state import Network, Parameters

OnDevice: TypeAlias = Any
"""A `Batch` whose arrays are JAX's."""


class Draw(enum.IntEnum):
    """The independent uses of an example's key. The values must never change."""

    POSTERIOR = 0
    NOISE = 1
    TIMESTEP = 2
    REWARD = 3
    ADAPTERS = 4
    QFORMER = 5


class Encoders(NamedTuple):
    """The frozen networks; None where cached examples make them unneeded.

    Attributes:
        vae, text_encoder: all but their arrays.
        scaling_factor: factor on the latents, of the VAE's configuration.
    """

    vae: Network | None
    text_encoder: Network | None
    scaling_factor: float


class Frozen(NamedTuple):
    """The arrays a step reads and does not change.

    Attributes:
        vae, text_encoder: parameters, in the compute dtype; empty where `Encoders` has None.
        null_text: the text encoder's states of the empty prompt.
        reference: the UNet's parameters before training, in the compute dtype; None where the loss
            does not ask for them.
        networks: what is not trained of the networks that are differentiated through, by component;
            None where all of them is.
    """

    vae: Parameters
    text_encoder: Parameters
    null_text: Float[Array, "t d"]
    reference: Parameters | None = None
    networks: Mapping[str, Parameters] | None = None


class Inputs(NamedTuple):
    """What the UNet reads, what it should answer, and how much each example counts.

    Attributes:
        sample: noisy latents of the edited picture, then the original's, in the channels.
        text: states of the instruction, or SmartEdit's f'; None where the instruction is in
            prompts, for the step to encode.
        reward: None for a UNet that takes none.
        target: what `schedule` predicts.
        weight: weight of each example in the loss.
        image_features: SmartEdit's v' at the grid of the latents; None of another editor. No draw
            leaves it out.
    """

    sample: Float[Array, "b h w c_in"]
    timesteps: Int[Array, " b"]
    text: Float[Array, "b t d"] | None
    reward: RewardInputs | None
    target: Float[Array, "b h w c"]
    weight: Float32[Array, " b"]
    image_features: Float32[Array, "b h w e"] | None = None


class _Encoded(NamedTuple):
    original: Float[Array, "b h w c"]
    edited: LatentMoments
    text: Float[Array, "b t d"] | None
    reward_states: Float[Array, "b t d"] | None
    reward_pooled: Float[Array, "b d"] | None
    image_features: Float[Array, "b p p e"] | None = None


def make_inputs(
    batch: Batch,
    frozen: Frozen,
    encoders: Encoders,
    schedule: NoiseSchedule,
    loss: LossConfig,
    *,
    with_reward: bool,
) -> Inputs:
    """Encodes a batch, or reads its cache, and draws noise and timesteps.

    The edited picture's latents are drawn from their posterior and scaled; the original's are the
    mode, unscaled, as in InstructPix2Pix.

    Args:
        batch: on the device.
        with_reward: whether the UNet takes rewards.
    """
    on_device: OnDevice = jax.tree.map(jnp.asarray, batch)
    encoded = _encode(on_device, frozen, encoders, with_reward)
    keys = example_keys(on_device)
    shape = encoded.original.shape[1:]
    mean, logvar = (x.astype(jnp.float32) for x in encoded.edited)
    posterior = mean + jnp.exp(0.5 * logvar) * normal_per_example(
        _fold(keys, Draw.POSTERIOR), shape
    )
    latents = posterior * encoders.scaling_factor
    noise = normal_per_example(_fold(keys, Draw.NOISE), shape)
    timesteps = _draw_timesteps(keys, schedule.num_train_timesteps)

    image = where_example(on_device.drop_image, 0, encoded.original.astype(jnp.float32))
    text = encoded.text
    if text is not None:
        text = where_example(on_device.drop_text, frozen.null_text.astype(text.dtype), text)
    reward = _reward(on_device, encoded, keys, loss.reward_dropout) if with_reward else None
    noisy = schedule.add_noise(latents, noise, timesteps)
    return Inputs(
        sample=jnp.concatenate([noisy, image], axis=-1),
        timesteps=timesteps,
        text=text,
        reward=reward,
        target=schedule.target(latents, noise, timesteps),
        weight=losses.weights(
            losses.Weighed(schedule, timesteps, on_device.scores, on_device.present), loss
        ),
        image_features=_at(encoded.image_features, *shape[:2]),
    )


def _encode(batch: OnDevice, frozen: Frozen, encoders: Encoders, with_reward: bool) -> _Encoded:
    original, edited = _latents(batch, frozen, encoders)
    cached = batch.cached
    if cached is not None and cached.instruction_states is not None:
        states, pooled = (
            (cached.reward_states, cached.reward_pooled) if with_reward else (None,) * 2
        )
        if batch.prompts is not None:
            return _Encoded(original, edited, None, states, pooled)
        text, features = cached.instruction_states, cached.image_features
        return _Encoded(original, edited, text, states, pooled, features)
    instruction = [] if batch.prompts is not None else [batch.instruction]
    ids = [*instruction, *([batch.reward_text] if with_reward else [])]
    if not ids:
        return _Encoded(original, edited, None, None, None)
    if encoders.text_encoder is None:
        raise ValueError("the batch holds no text states and there is no text encoder")
    text_encoder: CLIPTextModel = encoders.text_encoder.module(frozen.text_encoder)
    output = text_encoder(rearrange(jnp.stack(ids), "n b t -> (n b) t"))
    states = rearrange(output.last_hidden_state, "(n b) t d -> n b t d", n=len(ids))
    pooled = rearrange(output.pooler_output, "(n b) d -> n b d", n=len(ids))
    text = states[0] if instruction else None
    if not with_reward:
        return _Encoded(original, edited, text, None, None)
    return _Encoded(original, edited, text, states[-1], pooled[-1])


def _latents(
    batch: OnDevice, frozen: Frozen, encoders: Encoders
) -> tuple[Float[Array, "b h w c"], LatentMoments]:
    """The original's mode and the edited picture's moments, unscaled."""
    if batch.cached is not None:
        moments = LatentMoments(batch.cached.edited_mean, batch.cached.edited_logvar)
        return batch.cached.original, moments
    if encoders.vae is None or batch.original is None or batch.edited is None:
        raise ValueError("the batch holds no latents, and pictures or the VAE are missing")
    vae: AutoencoderKL = encoders.vae.module(frozen.vae)
    pictures = jnp.concatenate([to_float(batch.original), to_float(batch.edited)])
    moments = vae.encode(pictures)
    split = len(pictures) // 2
    return moments.mode()[:split], LatentMoments(moments.mean[split:], moments.logvar[split:])


def _reward(
    batch: OnDevice, encoded: _Encoded, keys: Key[Array, " b"], dropout: float
) -> RewardInputs:
    assert encoded.reward_states is not None and encoded.reward_pooled is not None  # noqa: S101
    present = batch.present
    if dropout:
        present &= jax.vmap(jax.random.uniform)(_fold(keys, Draw.REWARD)) >= dropout
    return RewardInputs(batch.scores, encoded.reward_states, encoded.reward_pooled, present)


def example_keys(batch: OnDevice) -> Key[Array, " b"]:
    """The key of each example, for all that it draws."""
    keys: Key[Array, " b"] = jax.random.wrap_key_data(jnp.asarray(batch.key_data))
    return keys


def _at(
    features: Float[Array, "b p p e"] | None, height: int, width: int
) -> Float32[Array, "b h w e"] | None:
    """v' at the grid of the latents; float32, as the cache's dtype would round it once more."""
    return None if features is None else resized(features.astype(jnp.float32), height, width)


def _fold(keys: Key[Array, " b"], draw: Draw) -> Key[Array, " b"]:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, jnp.uint32(draw))


def _draw_timesteps(keys: Key[Array, " b"], count: int) -> Int[Array, " b"]:
    """Uniform in 0 .. count - 1."""
    return jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(_fold(keys, Draw.TIMESTEP))


def where_example(chosen: Bool[Array, " b"], yes: Any, no: Float[Array, "b ..."]) -> Array:
    """`yes` for the examples that are chosen, `no` for the others."""
    chosen_or_not: Array = jnp.where(jnp.expand_dims(chosen, range(1, no.ndim)), yes, no)
    return chosen_or_not
