"""What the device does for a batch of edits: encode, denoise under guidance, decode.

It is one program, compiled once per shape, set of guidance branches and number of steps; scales,
rewards, seeds and texts are data. On several devices each runs it on its part of the batch with a
copy of the weights, so no device waits for another.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Float32, Int32, Key, UInt8

from mre_jax.diffusion.guidance import Guidance, combine, stack_branches, tile_branches
from mre_jax.diffusion.noise import initial_latents
from mre_jax.diffusion.sampling import Plan, is_finite, sample
from mre_jax.io.devices import on_parts
from mre_jax.models.clip_text import CLIPTextModel, CLIPTextOutput
from mre_jax.models.reward import RewardInputs
from mre_jax.models.unet import UNet
from mre_jax.models.vae import AutoencoderKL

HostArray = np.ndarray | Array


class Networks(NamedTuple):
    """The three networks of an editor, as modules, graph definitions or states."""

    unet: Any
    vae: Any
    text_encoder: Any

    def split(self) -> "tuple[Networks, Networks]":
        """The static halves of the modules, and their weights as pytrees."""
        graphs, states = zip(*(nnx.split(module) for module in self), strict=True)
        return Networks(*graphs), Networks(*states)


class RewardBatch(NamedTuple):
    """A reward per example, its text as token ids."""

    scores: Float32[HostArray, "b p"]
    text_ids: Int32[HostArray, "b t"]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "pixels",
        "prompt_ids",
        "negative_ids",
        "keys",
        "guidance",
        "latents",
        "reward",
        "low_reward",
    ],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class EditBatch:
    """The inputs of b edits of one size; every leaf has the batch first.

    Attributes:
        keys: the items' keys.
        latents: standard normal noise to start from; None draws it from `keys`.
        reward: None if the UNet takes no reward.
        low_reward: what reward guidance moves away from; None without it.
    """

    pixels: UInt8[HostArray, "b H W 3"]
    prompt_ids: Int32[HostArray, "b t"]
    negative_ids: Int32[HostArray, "b t"]
    keys: Key[Array, " b"]
    guidance: Guidance
    latents: Float32[HostArray, "b h w c"] | None = None
    reward: RewardBatch | None = None
    low_reward: RewardBatch | None = None


class Edited(NamedTuple):
    """What b edits give.

    Attributes:
        images: pixels [b H W 3] in [0, 1], or latents [b h w c].
        finite: whether an edit's numbers were finite in each of its stages: the texts' states, the
            original's latents, the latents after every step, and, where they are decoded, the
            pixels.
    """

    images: Float32[Array, "b ..."]
    finite: Bool[Array, "b stages"]


@functools.partial(jax.jit, static_argnames=("graphs", "decode", "mesh"))
def edit(
    states: Networks,
    batch: EditBatch,
    plan: Plan,
    *,
    graphs: Networks,
    decode: bool = True,
    mesh: Mesh | None = None,
) -> Edited:
    """Runs b edits.

    Args:
        states: weights of `graphs`; on a mesh, replicated.
        batch: on a mesh, of a size that its devices divide.
        plan: from `plan_sampling`.
        graphs: static halves of the networks.
        decode: False returns the latents as they are, in units of the UNet.
        mesh: devices over which the batch is split, from `batch_mesh`; None is one device.
    """
    run: Callable[..., Edited] = functools.partial(_edit, graphs=graphs, decode=decode)
    if mesh is not None:
        run = on_parts(run, mesh, whole=(0, 2))
    return run(states, batch, plan)


def _edit(
    states: Networks,
    batch: EditBatch,
    plan: Plan,
    *,
    graphs: Networks,
    decode: bool,
) -> Edited:
    networks = Networks(*map(nnx.merge, graphs, states))
    unet: UNet = networks.unet
    vae: AutoencoderKL = networks.vae
    text_encoder: CLIPTextModel = networks.text_encoder

    original = vae.encode(jnp.asarray(batch.pixels, jnp.float32) / 127.5 - 1).mode()
    prompt, negative, reward, low_reward = texts = _encode_texts(text_encoder, batch)
    seen = stack_branches(
        batch.guidance,
        text=prompt.last_hidden_state,
        null_text=negative.last_hidden_state,
        image=original,
        high=_reward_inputs(batch.reward, reward),
        low=_reward_inputs(batch.low_reward, low_reward),
    )
    condition = unet.condition(seen.text, seen.reward)

    def denoise(latents: Float[Array, "b h w c"], timestep: Float[Array, ""]) -> Array:
        sample_ = jnp.concatenate([tile_branches(batch.guidance, latents), seen.image], axis=-1)
        timesteps = jnp.broadcast_to(timestep, sample_.shape[:1])
        output = unet.denoise(sample_, timesteps, condition)
        return combine(output, batch.guidance.weights)

    if batch.latents is None:
        _, height, width, channels = original.shape
        noise = initial_latents(batch.keys, (height, width, channels))
    else:
        noise = jnp.asarray(batch.latents)
    latents, steps = sample(denoise, noise, plan, batch.keys)
    stages = [_are_finite(texts), is_finite(original), steps]
    if not decode:
        return Edited(latents, jnp.column_stack(stages))
    pixels = vae.decode(latents / vae.config.scaling_factor).astype(jnp.float32)
    stages.append(is_finite(pixels))  # clipping would hide infinity
    return Edited(jnp.clip(pixels / 2 + 0.5, 0, 1), jnp.column_stack(stages))


def _encode_texts(
    text_encoder: CLIPTextModel, batch: EditBatch
) -> tuple[CLIPTextOutput, CLIPTextOutput, CLIPTextOutput | None, CLIPTextOutput | None]:
    """The prompt, the negative prompt and the texts of both rewards, in one pass."""
    rewards = (batch.reward, batch.low_reward)
    reward_ids = [reward.text_ids for reward in rewards if reward is not None]
    ids = jnp.stack([batch.prompt_ids, batch.negative_ids, *reward_ids])
    encoded = text_encoder(rearrange(ids, "n b t -> (n b) t"))
    parts = jax.tree.map(lambda x: rearrange(x, "(n b) ... -> n b ...", n=len(ids)), encoded)
    texts = iter(jax.tree.map(lambda x, i=i: x[i], parts) for i in range(len(ids)))
    prompt, negative = next(texts), next(texts)
    reward, low_reward = (None if reward is None else next(texts) for reward in rewards)
    return prompt, negative, reward, low_reward


def _are_finite(texts: Any) -> Bool[Array, " b"]:
    """Whether all states of all texts of an example are."""
    return functools.reduce(jnp.logical_and, map(is_finite, jax.tree.leaves(texts)))


def _reward_inputs(reward: RewardBatch | None, text: CLIPTextOutput | None) -> RewardInputs | None:
    if reward is None or text is None:
        return None
    return RewardInputs(
        scores=jnp.asarray(reward.scores),
        text_states=text.last_hidden_state,
        text_pooled=text.pooler_output,
    )
